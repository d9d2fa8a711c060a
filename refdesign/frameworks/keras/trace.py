"""What a Keras model computes layer by layer, under the names of the reference."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.frameworks.keras.export import leaves, split
from refdesign.frameworks.keras.parameters import array_of


def layer_outputs(model: keras.Sequential, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """Run a sequential binary model by `predict` and keep what every layer gives.

    The mapping is that of `Network.run(images, outputs="all")` for the exported network, so both can be compared
    name by name.

    Args:
        model: what `to_network` accepts.
        images: uint8, (N, H, W, C).

    Returns:
        `<layer>.accumulator` and `<layer>.pooled` (int32), `<layer>.bits` (int8) and `logits` (float32; int32 without
        a last batch norm), NHWC.

    Raises:
        RefdesignError: images of another dtype or number of axes, or accumulators that are no integers.

    >>> from refdesign.frameworks.keras import BinaryConv2D, PixelInput
    >>> model = keras.Sequential([keras.Input((4, 5, 1)), PixelInput(), BinaryConv2D(2, (3, 3), name="conv")])
    >>> {name: array.shape for name, array in layer_outputs(model, np.zeros((3, 4, 5, 1), np.uint8)).items()}
    {'conv.accumulator': (3, 2, 3, 2), 'logits': (3, 2, 3, 2)}
    """
    if images.dtype != np.uint8 or images.ndim != 4:
        raise RefdesignError(f"images: found {images.dtype} of shape {images.shape}, expected uint8 (N, H, W, C)")
    flat = _flat(model)
    names = [part.product.name for part in split(model)[1]]
    parts = split(flat)[1]
    kept: dict[str, Any] = {}
    for name, part in zip(names, parts, strict=True):
        kept[f"{name}.accumulator"] = part.product.output
        if part.pool is not None:
            kept[f"{name}.pooled"] = part.pool.output
        if part.sign is not None:
            kept[f"{name}.bits"] = part.sign.output
    kept["logits"] = flat.outputs[0]
    found = keras.Model(flat.inputs, list(kept.values())).predict(images, verbose=0)
    outputs = {}
    for name, value in zip(kept, found, strict=True):
        array = np.array(value)
        if name != "logits" or parts[-1].batch_norm is None:
            integers = array.astype(np.int8 if name.endswith(".bits") else np.int32)
            if np.any(integers != array):
                raise RefdesignError(f"output {name!r}: found values that are no integers")
            array = integers
        outputs[name] = array
    return outputs


def _flat(model: keras.Sequential) -> keras.Sequential:
    """A copy without models inside it, whose layers' outputs can be asked for together."""
    copies = []
    for number, layer in enumerate(leaves(model)):
        config = {**layer.get_config(), "name": f"layer{number}"}
        copies.append(type(layer).from_config(config))
    flat = keras.Sequential([keras.Input(model.input_shape[1:]), *copies])
    for copy, layer in zip(copies, leaves(model), strict=True):
        copy.set_weights([array_of(variable) for variable in layer.weights])
    return flat
