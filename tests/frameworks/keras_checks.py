"""What `test_keras.py` runs in a process of its own, once for each backend: python -m tests.frameworks.keras_checks."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import ops

from refdesign.conventions import LARQ, PAPER, RELEASED_KERAS
from refdesign.frameworks.keras import BinaryConv2D, BinaryDense, DeSign, compile, read_batch_norm
from refdesign.frameworks.keras.layers import ESTIMATORS
from refdesign.network import NetworkData
from refdesign.ops.batch_norm import batch_norm
from refdesign.ops.padding import Windows
from refdesign.ops.sign import dithered_sign
from refdesign.parameters import ThresholdKernel
from refdesign.verify import strategies
from tests.properties.engines import assert_equals_reference

RANDOM = np.random.default_rng(7)
KERNEL = ThresholdKernel((RANDOM.integers(0, 9, (3, 2, 2)) / 4).astype(np.float32))


def engine_equals_the_reference(examples: int) -> None:
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(strategies.networks(), st.data())
    def agree(network: NetworkData, data: st.DataObject) -> None:
        images = data.draw(strategies.images((2, *network.input_shape)))
        assert_equals_reference(compile(network), network, images, "all")

    agree()


def the_released_layer() -> None:
    """Phases by centre crop on odd sizes, -1 at ties and up to 2**-24 above: against the released expression."""
    y = RANDOM.choice(np.array([0, 0.25, 1, 2.0**-24, 2.0**-23, -1], np.float32), (2, 16, 7, 4))
    y += RANDOM.choice(KERNEL.values.ravel(), y.shape)
    found = np.asarray(ops.convert_to_numpy(DeSign(KERNEL, RELEASED_KERAS)(y)))
    m, n, g = KERNEL.shape
    tiled = np.tile(KERNEL.values, (-(-16 // m), -(-7 // n), 4 // g))
    top, left = (tiled.shape[0] - 16) // 2, (tiled.shape[1] - 7) // 2
    z = y - tiled[top : top + 16, left : left + 7]
    released = 2 * np.round(np.clip((z + np.float32(1)) / np.float32(2), 0, 1)) - 1
    np.testing.assert_array_equal(found, released)
    np.testing.assert_array_equal(found, dithered_sign(y, KERNEL, RELEASED_KERAS))
    assert (z == 0).any()


def a_model_saved_is_the_same_loaded() -> None:
    model = keras.Sequential(
        [
            keras.Input((9, 7, 3)), BinaryConv2D(8, (3, 3), padding=(1, 1), padding_mode="symmetric"),
            keras.layers.MaxPooling2D(2), keras.layers.BatchNormalization(epsilon=1e-4),
            DeSign(KERNEL, RELEASED_KERAS, "polynomial"), keras.layers.Flatten(), BinaryDense(5),
        ]
    )  # fmt: skip
    images = RANDOM.integers(-255, 256, (4, 9, 7, 3)).astype(np.float32)
    before = np.asarray(model.predict(images, verbose=0))
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.keras")
        again = keras.saving.load_model(Path(folder) / "model.keras")
    np.testing.assert_array_equal(np.asarray(again.predict(images, verbose=0)), before)
    weights = [np.array(variable) for variable in model.get_weights()]
    model.compile("sgd", "squared_hinge")
    model.fit(images, RANDOM.choice([-1.0, 1.0], (4, 5)).astype(np.float32), epochs=1, verbose=0)
    assert all(np.isfinite(array).all() for array in model.get_weights())
    assert np.any(model.get_weights()[0] != weights[0])


def convolutions_are_exact() -> None:
    for mode in ("zeros", "ones", "minus_ones", "symmetric", "reflect", "edge", "circular"):
        layer = BinaryConv2D(4, (2, 3), strides=(2, 1), padding=(1, 2), padding_mode=mode, dilation=(2, 1))
        x = RANDOM.choice([-1.0, 1.0], (2, 7, 9, 5)).astype(np.float32)
        found = np.asarray(ops.convert_to_numpy(layer(x)))
        bits = np.where(np.asarray(ops.convert_to_numpy(layer.latent)) >= 0, 1, -1)
        windows = Windows.of((7, 9), (2, 3), stride=(2, 1), padding=(1, 2), padding_mode=mode, dilation=(2, 1))
        padded = windows.pad(x, {"ones": 1, "minus_ones": -1}.get(mode, 0))
        expected = sum(
            padded[:, windows.reach(0, i), windows.reach(1, j)] @ bits[i, j] for i, j in np.ndindex(2, 3)
        )
        np.testing.assert_array_equal(found, expected, err_msg=mode)


def bits_are_exact_and_ties_follow() -> None:
    z = np.array([-2, -0.3, -1e-8, 0, 1e-8, 0.3, 0.7, 2], np.float32)
    for estimator in ESTIMATORS:
        for at_zero in (1, -1, 0):
            layer = DeSign(None, PAPER.replace(sign_at_zero=at_zero), estimator)
            expected = np.where(z == 0, at_zero, np.sign(z))
            np.testing.assert_array_equal(np.asarray(ops.convert_to_numpy(layer(z[None])))[0], expected)


def tensorflow_is_the_program() -> None:
    """k read out of TensorFlow, y of its eager and graph execution: the program `keras`, subnormals included."""
    import tensorflow as tf

    channels = 5003
    layer = keras.layers.BatchNormalization(epsilon=1e-4)
    layer.build((None, channels))
    values = [RANDOM.normal(size=channels), RANDOM.normal(size=channels), 5 * RANDOM.normal(size=channels),
              20 * RANDOM.random(channels)]  # fmt: skip
    values[0][:7] = [0, 1e-40, -1e-42, 1, -1, 1e-30, -1e-30]
    layer.set_weights([value.astype(np.float32) for value in values])
    known = read_batch_norm(layer)
    a = np.repeat(np.arange(-64, 65, dtype=np.int32)[:, None], channels, axis=1)
    expected = batch_norm(a, known, "keras")
    for run in (layer, tf.function(lambda x: layer(x, training=False))):
        np.testing.assert_array_equal(np.asarray(run(a.astype(np.float32))), expected)
    correct = (1 / np.sqrt(known.variance.astype(np.float64) + np.float32(1e-4))).astype(np.float32)
    assert known.k is not None
    assert np.mean(known.k != known.gamma * correct) > 0.05  # TensorFlow's root is its own
    assert LARQ.arithmetic == RELEASED_KERAS.arithmetic == "keras"


if __name__ == "__main__":
    engine_equals_the_reference(int(sys.argv[1]))
    the_released_layer()
    convolutions_are_exact()
    bits_are_exact_and_ties_follow()
    a_model_saved_is_the_same_loaded()
    if keras.backend.backend() == "tensorflow":
        tensorflow_is_the_program()
    print("all held on", keras.backend.backend())
