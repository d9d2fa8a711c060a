"""`digits` as users of frameworks would write it, with nothing of this project but its parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

from refdesign.api import Network, pretrained
from refdesign.bits import unpack
from refdesign.network import BinaryDense, NetworkData, PixelConv2d, Stage
from refdesign.ops.dither import threshold_map
from refdesign.verify.binding import load_target
from tests.shared_data import CHECKOUT

DIGITS = pretrained("digits")


def weights_of(layer: Any) -> Any:
    """Weights of ±1 as float32: OHWI, or (O, I)."""
    return unpack(layer.weights).astype(np.float32)


def thresholds(network: NetworkData, layer: Stage) -> Any:
    """T over the layer's map, (H, W, C), zeros where it has none."""
    shape = network.shapes[layer.name].output
    if layer.kernel is None:
        return np.zeros(shape, np.float32)
    height, width, channels = shape
    return threshold_map(layer.kernel, height, width, channels, network.conventions)


def torch_module(network: Network = DIGITS, *, names: bool = True) -> Any:
    """The example's plain module in NCHW; its layers are called as in the network, or by numbers."""
    from torch import nn

    made: Any = load_target(f"{CHECKOUT / 'examples' / 'torch_module' / 'module.py'}:digits")
    module = made(network)
    if not names:
        for number, (name, child) in enumerate(list(module.named_children())):
            delattr(module, name)
            module.add_module(f"block{number}", child)
    assert isinstance(module, nn.Module)
    return module


def keras_model(network: Network = DIGITS) -> Any:
    """A functional Keras model, NHWC."""
    import keras

    @keras.saving.register_keras_serializable(package="tests")
    class Sign(keras.layers.Layer):  # type: ignore[misc]
        def __init__(self, cells: Any, **settings: Any) -> None:
            super().__init__(**settings)
            self.cells = np.asarray(cells, np.float32)

        def call(self, y: Any) -> Any:
            return keras.ops.where(y - self.cells >= 0, 1.0, -1.0)

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "cells": self.cells.tolist()}

    inputs = x = keras.Input(network.input_shape)
    x = keras.layers.Rescaling(2, -255)(x)
    for layer in network.layers:
        assert isinstance(layer, Stage)
        weights: Any = weights_of(layer)
        if isinstance(layer, BinaryDense):
            x = keras.layers.Flatten()(x) if len(x.shape) == 4 else x
            product: Any = keras.layers.Dense(len(weights), use_bias=False, name=layer.name)
            kernel = weights.T
        else:
            x = keras.layers.Lambda(lambda v: keras.ops.pad(v, ((0, 0), (1, 1), (1, 1), (0, 0)), "symmetric"))(x)
            product = keras.layers.Conv2D(len(weights), 3, use_bias=False, name=layer.name)
            kernel = weights.transpose(1, 2, 3, 0)
        x = product(x)
        product.set_weights([kernel])
        x = keras.layers.MaxPool2D(2, name=f"{layer.name}.pool")(x) if layer.pool is not None else x
        bn = layer.batch_norm
        assert bn is not None
        norm = keras.layers.BatchNormalization(epsilon=float(bn.epsilon))
        x = norm(x)
        norm.set_weights([bn.gamma, bn.beta, bn.mean, bn.variance])
        if layer is not network.layers[-1]:
            x = Sign(thresholds(network, layer), name=f"{layer.name}.bits")(x)
    return keras.Model(inputs, x, name="digits")


def jax_function(network: Network = DIGITS) -> Any:
    """A compiled function; its mapping is nested."""
    import jax
    import jax.numpy as jnp

    def forward(images: Any) -> Any:
        found: dict[str, Any] = {}
        x = images.astype(jnp.float32)
        for layer in network.layers:
            assert isinstance(layer, Stage)
            weights = weights_of(layer)
            if isinstance(layer, PixelConv2d):
                x = layer.multiplier * x + layer.offset
            if isinstance(layer, BinaryDense):
                a = x.reshape(len(x), -1) @ weights.T
            else:
                x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="symmetric")
                a = jax.lax.conv_general_dilated(
                    x, weights.transpose(1, 2, 3, 0), (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
                )
            if layer.pool is not None:
                a = jnp.max(a.reshape(len(a), a.shape[1] // 2, 2, a.shape[2] // 2, 2, -1), axis=(2, 4))
            bn = layer.batch_norm
            assert bn is not None
            k = bn.gamma / jnp.sqrt(bn.variance + np.float32(bn.epsilon))
            y = k * (a - bn.mean) + bn.beta
            if layer is network.layers[-1]:
                return {**found, "logits": y}
            x = jnp.where(y - thresholds(network, layer) >= 0, 1.0, -1.0)
            found[layer.name] = {"bits": x.astype(jnp.int8)}
        raise AssertionError("a network has a last layer")

    return jax.jit(forward)
