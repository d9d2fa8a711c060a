"""Makes `data/larq.h5.gz` and `data/larq.npz`: a model that Larq itself saved, and what its layers gave.

Larq needs Keras 2, so it is no extra of this project: in an environment of its own, `pip install larq tf_keras
tensorflow-cpu`, then `TF_USE_LEGACY_KERAS=1 python tests/formats/larq_file.py tests/formats/data`. The files there were
made with Larq 0.14.0, tf_keras 2.21.0 and TensorFlow 2.21.0.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path
from typing import Any

import larq
import numpy as np
import tensorflow as tf


def main(folder: Path) -> None:
    """Write both files."""
    tf.random.set_seed(3)
    rng = np.random.default_rng(4)
    layers = tf.keras.layers
    signs: dict[str, Any] = {
        "input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip",
        "use_bias": False,
    }  # fmt: skip
    first = {key: value for key, value in signs.items() if key != "input_quantizer"}
    model = tf.keras.Sequential([
        larq.layers.QuantConv2D(4, 3, input_shape=(8, 7, 2), **first),
        layers.BatchNormalization(momentum=0.9),
        larq.layers.QuantConv2D(6, 3, padding="same", pad_values=1.0, **signs),
        layers.MaxPool2D((2, 1)),
        layers.BatchNormalization(),
        layers.Flatten(),
        larq.layers.QuantDense(5, **signs),
        layers.BatchNormalization(),
        layers.Activation("softmax"),
    ])  # fmt: skip
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            count = layer.gamma.shape[0]
            gamma, beta, mean = rng.normal(size=(3, count))
            layer.set_weights([gamma, beta, 3 * mean, rng.uniform(0.5, 9, count)])
    images = rng.integers(0, 256, (11, 8, 7, 2), dtype=np.uint8)
    given = [tf.keras.Model(model.input, layer.output).predict(images.astype(np.float32)) for layer in model.layers]
    arrays: dict[str, Any] = {"images": images, "logits": given[7]}
    arrays |= {f"sums{number}": given[place].astype(np.int32) for number, place in enumerate((0, 2, 6))}
    for number, place in enumerate((1, 4)):
        arrays[f"bits{number}"] = np.where(given[place] >= 0, 1, -1).astype(np.int8)
    np.savez_compressed(folder / "larq.npz", **arrays)
    model.save(folder / "larq.h5")
    (folder / "larq.h5.gz").write_bytes(gzip.compress((folder / "larq.h5").read_bytes(), mtime=0))
    (folder / "larq.h5").unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
