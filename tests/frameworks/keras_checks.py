"""What `test_keras.py` runs in a process of its own, once for each backend: python -m tests.frameworks.keras_checks."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import ops
from numpy.typing import NDArray

from refdesign.conventions import LARQ, PAPER, RELEASED_KERAS, RELEASED_TORCH
from refdesign.frameworks.keras import (
    ESTIMATORS,
    PROGRAMS,
    BatchNormDeSign,
    BinaryConv2D,
    BinaryDense,
    DeSign,
    PixelInput,
    compile,
    read_batch_norm,
    straight_through_sign,
    to_network,
)
from refdesign.network import NetworkData
from refdesign.ops.batch_norm import batch_norm, dithered_batch_norm, fused_multiply_add
from refdesign.ops.padding import Windows
from refdesign.ops.sign import dithered_sign, sign
from refdesign.parameters import ThresholdKernel
from refdesign.verify import strategies
from tests.frameworks import closed_forms, keras_networks
from tests.frameworks.closed_forms import NEAR_TIES, POINTS, ReleasedBlock
from tests.properties.engines import assert_equals_reference

RANDOM = np.random.default_rng(7)
KERNEL = ThresholdKernel((RANDOM.integers(0, 9, (3, 2, 2)) / 4).astype(np.float32))
BACKEND = keras.backend.backend()


def numpy(tensor: Any) -> NDArray[Any]:
    return np.asarray(ops.convert_to_numpy(tensor))


def gradient(function: Callable[[Any], Any], at: NDArray[np.float32], arriving: NDArray[np.float32]) -> NDArray[Any]:
    """The gradient of sum(arriving * function(z)), asked for in the backend's own way."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        z = tf.constant(at)
        with tf.GradientTape() as tape:
            tape.watch(z)
            loss = ops.sum(function(z) * arriving)
        return numpy(tape.gradient(loss, z))
    if BACKEND == "jax":
        import jax

        return numpy(jax.grad(lambda z: ops.sum(function(z) * arriving))(at))
    import torch

    z = torch.tensor(at, requires_grad=True)
    torch.autograd.backward(function(z), torch.tensor(arriving))
    assert z.grad is not None
    return z.grad.numpy()


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
    found = numpy(DeSign(KERNEL, RELEASED_KERAS)(y))
    m, n, g = KERNEL.shape
    tiled = np.tile(KERNEL.values, (-(-16 // m), -(-7 // n), 4 // g))
    top, left = (tiled.shape[0] - 16) // 2, (tiled.shape[1] - 7) // 2
    z = y - tiled[top : top + 16, left : left + 7]
    released = 2 * np.round(np.clip((z + np.float32(1)) / np.float32(2), 0, 1)) - 1
    np.testing.assert_array_equal(found, released)
    np.testing.assert_array_equal(found, dithered_sign(y, KERNEL, RELEASED_KERAS))
    assert (z == 0).any()


def the_released_block() -> None:
    """The authors' PyTorch block from the spec: gamma-scaled thresholds, exact ties give 0, in training and after."""
    block = ReleasedBlock()
    bn, a = block.batch_norm, block.accumulators
    z = dithered_batch_norm(a.astype(np.int32), bn, block.kernel, RELEASED_TORCH)
    np.testing.assert_array_equal(sign(z, RELEASED_TORCH), block.bits)
    mean, gamma, beta = (ops.convert_to_tensor(array) for array in (bn.mean, bn.gamma, bn.beta))
    released = gamma * ((ops.convert_to_tensor(a) - mean) / ops.sqrt(ops.convert_to_tensor(bn.variance))) + beta
    np.testing.assert_array_equal(numpy(DeSign(block.kernel, RELEASED_TORCH)(released, gamma=gamma)), block.bits)
    # Keras's own batch norm is another program; where all of its steps are exact they agree.
    layer = BatchNormDeSign(block.kernel, RELEASED_TORCH, "polynomial", epsilon=2.0**-50)
    layer.build(a.shape)
    exact = bn.variance.copy()
    exact[4] = 4
    layer.set_weights([bn.gamma, bn.beta, bn.mean, exact])
    expected = block.signs(block.normalised(exact))
    np.testing.assert_array_equal(numpy(layer(a)), expected)
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(numpy(again(a)), expected)
    assert layer.get_config() == again.get_config()


def gradients_are_the_closed_form() -> None:
    z, arriving = POINTS, np.arange(1, POINTS.size + 1, dtype=np.float32)
    for estimator in ESTIMATORS:
        for conventions in (PAPER, PAPER.replace(sign_at_zero=0), RELEASED_KERAS):
            found = gradient(lambda z, e=estimator, c=conventions: straight_through_sign(z, e, c), z, arriving)  # type: ignore[misc]
            np.testing.assert_array_equal(found, arriving * closed_forms.ESTIMATORS[estimator](z), err_msg=estimator)
    kernel = ThresholdKernel(np.array([[2.0, -0.5]], np.float32))
    y = np.array([1.75, 0.25, 2.5], np.float32).reshape(1, 1, 3, 1)
    found = gradient(DeSign(kernel, PAPER, "polynomial"), y, np.ones_like(y))
    assert found.ravel().tolist() == [1.5, 0.5, 1.0]  # around the shifted threshold


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
        groups = 2 if mode in ("edge", "ones") else 1
        layer = BinaryConv2D(
            4, (2, 3), strides=(2, 1), padding=(1, 2), padding_mode=mode, dilation=(2, 1), groups=groups
        )
        x = RANDOM.choice([-1.0, 1.0], (2, 7, 9, 6)).astype(np.float32)
        found = numpy(layer(x))
        bits = np.where(numpy(layer.latent) >= 0, 1, -1)
        windows = Windows.of((7, 9), (2, 3), stride=(2, 1), padding=(1, 2), padding_mode=mode, dilation=(2, 1))
        padded = windows.pad(x, {"ones": 1, "minus_ones": -1}.get(mode, 0))
        depth, part = 6 // groups, 4 // groups
        expected = np.concatenate([
            sum(padded[:, windows.reach(0, i), windows.reach(1, j), g * depth : (g + 1) * depth]
                @ bits[i, j, :, g * part : (g + 1) * part] for i, j in np.ndindex(2, 3))
            for g in range(groups)
        ], axis=-1)  # fmt: skip
        np.testing.assert_array_equal(found, expected, err_msg=mode)


def bits_are_exact_and_ties_follow() -> None:
    """Called and compiled, in every type of number; subnormal numbers have signs of their own too."""
    for conventions in (*(PAPER.replace(sign_at_zero=tie) for tie in (1, -1, 0)), RELEASED_KERAS):
        layer = DeSign(None, conventions)
        expected = sign(NEAR_TIES, conventions)
        np.testing.assert_array_equal(numpy(layer(NEAR_TIES[None]))[0], expected)
        predicted = keras.Sequential([keras.Input(NEAR_TIES.shape), layer]).predict(NEAR_TIES[None], verbose=0)
        np.testing.assert_array_equal(np.asarray(predicted)[0], expected)
        for half in ("float16", "bfloat16"):
            bits = straight_through_sign(ops.cast(np.array([-2, -0.0, 0, 3], np.float32), half), "clipped", conventions)
            zero = -1 if conventions == RELEASED_KERAS else conventions.sign_at_zero
            assert numpy(ops.cast(bits, "float32")).tolist() == [-1, zero, zero, 1]


def latent_weights_may_be_subnormal() -> None:
    """A latent weight's sign is the network's bit, whatever the number, and its gradient goes through."""
    model = keras.Sequential([keras.Input((5, 4, 1)), PixelInput(), BinaryConv2D(3, (2, 3), name="only")])
    latent = np.resize(NEAR_TIES, (2, 3, 1, 3))
    model.set_weights([latent])
    images = RANDOM.integers(0, 256, (2, 5, 4, 1)).astype(np.uint8)
    network = to_network(model, name="subnormal")
    expected = network.run(images)["logits"]
    np.testing.assert_array_equal(numpy(model(images)), expected)
    np.testing.assert_array_equal(np.asarray(model.predict(images, verbose=0)), expected)


def random_batch_norm(channels: int) -> keras.layers.BatchNormalization:
    layer = keras.layers.BatchNormalization(epsilon=1e-4)
    layer.build((None, channels))
    values = [RANDOM.normal(size=channels), RANDOM.normal(size=channels), 5 * RANDOM.normal(size=channels),
              20 * RANDOM.random(channels)]  # fmt: skip
    layer.set_weights([value.astype(np.float32) for value in values])
    return layer


def subnormal_numbers_are_lost_where_documented() -> None:
    layer = keras.layers.BatchNormalization(epsilon=1e-4)
    layer.build((None, 3))
    layer.set_weights([np.full(3, value, np.float32) for value in (1e-40, 0, 0, 1)])
    kept = numpy(layer(np.full((1, 3), 64, np.float32)))[0, 0] != 0
    assert kept == (BACKEND == "torch")


def the_float_program_is_as_documented() -> None:
    """y of the backend's batch norm on all accumulators of a layer, eager and in `predict` (docs/arithmetic.md)."""
    channels = 5003
    layer = random_batch_norm(channels)
    a = np.repeat(np.arange(-64, 65, dtype=np.int32)[:, None], channels, axis=1)
    x = a.astype(np.float32)
    eager = numpy(layer(x))
    model = keras.Sequential([keras.Input((channels,)), layer])
    compiled = np.asarray(model.predict(x, verbose=0))
    gamma, beta, mean, variance = (numpy(ops.convert_to_tensor(v)) for v in layer.weights)
    shifted = variance + np.float32(1e-4)
    root = numpy(ops.rsqrt(ops.convert_to_tensor(shifted)))
    correct = (1 / np.sqrt(shifted.astype(np.float64))).astype(np.float32)
    assert np.mean(root != correct) > 0.05  # every backend's reciprocal square root is its own
    if BACKEND == "torch":
        assert BACKEND not in PROGRAMS
        expected = (x - mean) * (gamma * root) + beta
        np.testing.assert_array_equal(eager, expected)
        np.testing.assert_array_equal(compiled, expected)
        return
    known = read_batch_norm(layer)
    np.testing.assert_array_equal(known.k, gamma * root)
    np.testing.assert_array_equal(eager, batch_norm(a, known, "keras"))
    np.testing.assert_array_equal(compiled, batch_norm(a, known, PROGRAMS[BACKEND]))
    if BACKEND == "jax":
        assert known.k is not None
        fused = fused_multiply_add(x, known.k, fused_multiply_add(-mean, known.k, beta))
        np.testing.assert_array_equal(compiled, fused)
        assert np.mean(eager != compiled) > 0.1
        return
    import tensorflow as tf

    np.testing.assert_array_equal(np.asarray(tf.function(lambda x: layer(x, training=False))(x)), eager)
    assert np.mean(np.asarray(tf.function(lambda x: layer(x, training=False), jit_compile=True)(x)) != eager) > 0.1
    assert LARQ.arithmetic == RELEASED_KERAS.arithmetic == "keras"


if __name__ == "__main__":
    engine_equals_the_reference(int(sys.argv[1]))
    the_released_layer()
    the_released_block()
    gradients_are_the_closed_form()
    convolutions_are_exact()
    bits_are_exact_and_ties_follow()
    latent_weights_may_be_subnormal()
    a_model_saved_is_the_same_loaded()
    subnormal_numbers_are_lost_where_documented()
    the_float_program_is_as_documented()
    keras_networks.check(max(2, int(sys.argv[1]) // 3))
    print("all held on", BACKEND)
