"""From a golden network back to a Keras model that computes the same and can be trained on."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from refdesign.bits import PackedBits, unpack
from refdesign.conventions import Conventions
from refdesign.errors import RefdesignError
from refdesign.frameworks.keras.design import BatchNormDeSign, DeSign
from refdesign.frameworks.keras.export import check_precision, check_that_keras_follows, split
from refdesign.frameworks.keras.layers import BinaryConv2D, BinaryDense, PixelInput
from refdesign.frameworks.keras.parameters import program, read_batch_norm
from refdesign.network import BinaryConv2d, Layer, NetworkData, PixelConv2d, Stage
from refdesign.network import BinaryDense as BinaryDenseData
from refdesign.ops.batch_norm import scale_and_shift
from refdesign.parameters import BatchNorm


def from_network(network: NetworkData, *, estimator: str = "clipped", exact: bool = True) -> keras.Sequential:
    """The Keras model of a binary network; the inverse of `to_network`.

    Latent weights start at the network's bits, ±1. The bits and logits of `model.predict` on the CPU are the
    network's.

    Args:
        network: plain binary layers, without alpha, shortcuts and real ends.
        estimator: the gradient of all signs, one of `estimators.ESTIMATORS`.
        exact: whether a network is refused that this backend computes otherwise, in its arithmetic, in its precision
            or in a k.
            False copies the parameters as they are, to be trained on.

    Returns:
        A `keras.Sequential` of `PixelInput` and of the network's layers, whose products have the layers' names.

    Raises:
        RefdesignError: a layer, parameter or arithmetic that these layers do not follow, naming it.

    >>> from refdesign.models import binarynet
    >>> tiny = binarynet(input_shape=(4, 5, 1), classes=3, widths=(2, 4), dense=())
    >>> [layer.name for layer in from_network(tiny, exact=False).layers if layer.name[0] in "cd"][::2]
    ['conv1', 'conv2', 'dense1']
    """
    arithmetic = network.conventions.arithmetic
    normalised = any(isinstance(layer, Stage) and layer.batch_norm is not None for layer in network.layers)
    if exact and normalised and arithmetic != program(None):
        raise RefdesignError(
            f"from_network, network {network.name!r}, arithmetic: found {arithmetic!r}, expected {program(None)!r}, "
            f"which Keras computes on {keras.backend.backend()!r}"
        )
    if exact and normalised:
        check_that_keras_follows(network)
    made: list[Any] = [keras.Input(network.input_shape)]
    for layer in network.layers:
        made += _product(layer, network.shapes[layer.name].input, estimator)
        made += _behind(layer, network.conventions, estimator, last=layer is network.layers[-1])
    model = keras.Sequential(made, name=_name(network.name))
    if exact:
        check_precision("from_network", model, "exact=False")
    for part, layer in zip(split(model)[1], network.layers, strict=True):
        assert isinstance(layer, (PixelConv2d, BinaryConv2d, BinaryDenseData))
        part.product.set_weights([_latent(layer)])
        if layer.batch_norm is not None:
            _copy(layer.name, layer.batch_norm, part.batch_norm, arithmetic if exact else None)
    return model


def _name(text: str) -> str:
    return text.replace("/", "_") or "network"


def _product(layer: Layer, shape: tuple[int, ...], estimator: str) -> list[Any]:
    """The Keras layers of a product, without weights, with what stands before it and the pool behind it."""
    plain = isinstance(layer, (PixelConv2d, BinaryConv2d, BinaryDenseData)) and isinstance(layer.weights, PackedBits)
    if not isinstance(layer, Stage) or not plain or layer.shortcut is not None or layer.hardtanh:
        raise RefdesignError(
            f"from_network, layer {layer.name!r}: found {layer.kind}, expected weights of ±1 without a shortcut or "
            "hardtanh"
        )
    made: list[Any] = [PixelInput(layer.multiplier, layer.offset)] if isinstance(layer, PixelConv2d) else []
    if isinstance(layer, BinaryDenseData):
        made += [keras.layers.Flatten()] if len(shape) == 3 else []
        made.append(BinaryDense(layer.out_channels, estimator, name=layer.name))
    elif isinstance(layer, (PixelConv2d, BinaryConv2d)):
        made.append(
            BinaryConv2D(
                layer.out_channels, layer.weight_shape[1:3], layer.stride, layer.padding, layer.padding_mode,
                layer.dilation, layer.groups, estimator, name=layer.name,
            )
        )  # fmt: skip
    if layer.pool is not None:
        made.append(keras.layers.MaxPooling2D(layer.pool.size, layer.pool.stride))
    return made


def _behind(layer: Layer, conventions: Conventions, estimator: str, *, last: bool) -> list[Any]:
    """The batch norm and the sign of a layer, without weights."""
    assert isinstance(layer, Stage)
    choices: list[Any] = [] if last else [layer.kernel, conventions, estimator]
    if layer.batch_norm is None:
        if choices and layer.kernel is not None and conventions.threshold_scale == "gamma":
            raise RefdesignError(
                f"from_network, layer {layer.name!r}: found thresholds scaled by gamma without a batch norm"
            )
        return [DeSign(*choices)] if choices else []
    for field in ("alpha", "affine"):
        if getattr(layer.batch_norm, field) is not None:
            raise RefdesignError(
                f"from_network, layer {layer.name!r}, batch_norm: found {field}, which Keras's has not"
            )
    epsilon = float(layer.batch_norm.epsilon)
    if choices and conventions.threshold_scale == "gamma":
        return [BatchNormDeSign(*choices, epsilon=epsilon)]
    return [keras.layers.BatchNormalization(epsilon=epsilon), *([DeSign(*choices)] if choices else [])]


def _copy(name: str, norm: BatchNorm, layer: Any, arithmetic: str | None) -> None:
    """Give a Keras batch norm its parameters; it must then compute the k and c of the named arithmetic."""
    layer.set_weights([norm.gamma, norm.beta, norm.mean, norm.variance])
    if arithmetic is None:
        return
    for field, ours, theirs in zip(
        ("k", "c"), scale_and_shift(norm, arithmetic), scale_and_shift(read_batch_norm(layer), arithmetic), strict=True
    ):
        wrong = np.flatnonzero(ours != theirs)
        if wrong.size:
            raise RefdesignError(
                f"from_network, layer {name!r}, batch_norm, {field}: found {ours[wrong[0]]} in channel {wrong[0]}, "
                f"expected {theirs[wrong[0]]}, which Keras computes on {keras.backend.backend()!r}"
            )


def _latent(layer: PixelConv2d | BinaryConv2d | BinaryDenseData) -> NDArray[np.float32]:
    assert isinstance(layer.weights, PackedBits)
    bits = unpack(layer.weights).astype(np.float32)
    return bits.T if isinstance(layer, BinaryDenseData) else bits.transpose(1, 2, 3, 0)
