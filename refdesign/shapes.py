"""The shapes of a network's maps, and the checks that its layers fit each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import PackedBits
from refdesign.errors import RefdesignError
from refdesign.layers import (
    PADDING_MODES,
    AveragePool,
    BinaryDense,
    CombinedConv2d,
    Convolution,
    Layer,
    PixelConv2d,
    RealConv2d,
    RealDense,
    Shortcut,
    Stage,
    accumulator_domain,
)


@dataclass(frozen=True, kw_only=True)
class LayerShapes:
    """The shapes of one layer's maps without the batch axis: (H, W, C), or (C,) after a dense layer."""

    input: tuple[int, ...]
    accumulator: tuple[int, ...]
    output: tuple[int, ...]


def fitted(name: str, input_shape: tuple[int, int, int], layers: Sequence[Layer]) -> dict[str, LayerShapes]:
    """Every layer's shapes; raises `RefdesignError`, naming layer and field, where something does not fit."""
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise RefdesignError(f"network {name!r}, input_shape: found {input_shape}, expected (H, W, C), all positive")
    if not layers:
        raise RefdesignError(f"network {name!r}, layers: found none, expected at least one")
    shapes: dict[str, LayerShapes] = {}
    shape: tuple[int, ...] = tuple(input_shape)
    for index, layer in enumerate(layers):
        if not layer.name or "." in layer.name or "/" in layer.name or layer.name in shapes or layer.name == "logits":
            raise RefdesignError(
                f"layer {layer.name!r}, name: expected a name of its own without '.' and '/', and not 'logits'"
            )
        if (layer.takes == "pixels") != (index == 0):
            raise RefdesignError(
                f"layer {layer.name!r}: reads {layer.takes} as layer {index}; only the first layer reads pixels"
            )
        before = layers[index - 1]
        if layer.takes == "bits" and not isinstance(before, Stage):
            raise RefdesignError(f"layer {layer.name!r}: reads bits, but layer {before.name!r} leaves none")
        shapes[layer.name] = _layer_shapes(layer, shape, shapes)
        shape = shapes[layer.name].output
    return shapes


def _layer_shapes(layer: Layer, shape: tuple[int, ...], earlier: Mapping[str, LayerShapes]) -> LayerShapes:
    accumulator: tuple[int, ...]
    if isinstance(layer, Convolution):
        accumulator = _convolved(layer, shape)
    elif isinstance(layer, (BinaryDense, RealDense)):
        inputs = int(np.prod(shape))
        expected = layer.weights.shape[1] if len(layer.weights.shape) == 2 else None
        if expected != inputs:
            raise RefdesignError(
                f"layer {layer.name!r}, weights: found shape {layer.weights.shape}, expected (O, {inputs})"
            )
        accumulator = (layer.out_channels,)
        if isinstance(layer, RealDense):
            _check_real_dense(layer, inputs)
    elif isinstance(layer, AveragePool):
        if len(shape) != 3 or shape[0] < layer.size[0] or shape[1] < layer.size[1] or min(layer.size) < 1:
            raise RefdesignError(f"layer {layer.name!r}, size: found {layer.size} for a map {shape}")
        pooled = (shape[0] // layer.size[0], shape[1] // layer.size[1], shape[2])
        return LayerShapes(input=shape, accumulator=pooled, output=pooled)
    else:
        raise RefdesignError(f"layer {layer.name!r}: unknown kind {type(layer).__name__}")
    output = accumulator
    if isinstance(layer, Stage):
        output = _after_stage(layer, accumulator, earlier)
    return LayerShapes(input=shape, accumulator=accumulator, output=output)


def _convolved(layer: Convolution, shape: tuple[int, ...]) -> tuple[int, ...]:
    _check_geometry(layer, shape)
    _, rows, columns, _ = layer.weight_shape
    size = []
    for axis, extent, kernel in ((0, shape[0], rows), (1, shape[1], columns)):
        reach = layer.dilation[axis] * (kernel - 1) + 1
        span = extent + 2 * layer.padding[axis] - reach
        if span < 0:
            raise RefdesignError(
                f"layer {layer.name!r}, weights: the window spans {reach} pixels, "
                f"the padded map has {extent + 2 * layer.padding[axis]}"
            )
        size.append(span // layer.stride[axis] + 1)
    return (*size, layer.out_channels)


def _check_geometry(layer: Convolution, shape: tuple[int, ...]) -> None:
    where = f"layer {layer.name!r}"
    if len(shape) != 3:
        raise RefdesignError(f"{where}: a convolution reads a map (H, W, C), found {shape}")
    for name, least in (("stride", 1), ("padding", 0), ("dilation", 1)):
        pair = getattr(layer, name)
        if len(pair) != 2 or not all(isinstance(v, int) and v >= least for v in pair):
            raise RefdesignError(f"{where}, {name}: found {pair}, expected two integers, at least {least}")
    if layer.padding_mode not in PADDING_MODES:
        raise RefdesignError(
            f"{where}, padding_mode: found {layer.padding_mode!r}, expected one of {', '.join(PADDING_MODES)}"
        )
    out, _, _, depth = layer.weight_shape
    if layer.groups < 1 or out % layer.groups or depth * layer.groups != shape[2]:
        raise RefdesignError(
            f"{where}, weights: found {out} outputs of {depth} channels in {layer.groups} groups, "
            f"expected {shape[2]} input channels and outputs divisible by the groups"
        )
    for axis in (0, 1):
        limit = {"symmetric": shape[axis], "reflect": shape[axis] - 1, "circular": shape[axis]}
        if layer.padding[axis] > limit.get(layer.padding_mode, layer.padding[axis]):
            raise RefdesignError(
                f"{where}, padding: found {layer.padding[axis]}, expected at most "
                f"{limit[layer.padding_mode]} with {layer.padding_mode!r} on a map of {shape[axis]} pixels"
            )
    _check_weights(layer)


def _check_weights(layer: Convolution) -> None:
    where = f"layer {layer.name!r}"
    channels = layer.weight_shape[3] * layer.groups
    if isinstance(layer, PixelConv2d):
        if not isinstance(layer.weights, PackedBits) and layer.weights.dtype != np.int32:
            raise RefdesignError(f"{where}, weights: found {layer.weights.dtype}, expected int32 or packed bits")
        # In float64 first: int64, which the exact bounds are taken in, could overflow itself.
        value = max(abs(layer.offset), abs(255 * layer.multiplier + layer.offset), 1)
        largest = 1.0
        if not isinstance(layer.weights, PackedBits):
            largest = float(np.abs(layer.weights.astype(np.float64)).max(initial=0))
        if value * largest * layer.fan_in >= 2**62:
            raise RefdesignError(f"{where}, weights: sums could reach 2**62, expected less than 2**31 (int32)")
        low, high, _ = accumulator_domain(layer)
        widest = int(max(high.max(), -low.min()))
        if widest >= 2**31:
            raise RefdesignError(f"{where}, weights: sums reach {widest}, expected less than 2**31 (int32)")
    if isinstance(layer, RealConv2d):
        for name, shape in (("weights", layer.weight_shape), ("scale", (channels,)), ("shift", (channels,))):
            _check_float32(layer.name, name, getattr(layer, name), shape)
    if isinstance(layer, CombinedConv2d):
        _check_float32(layer.name, "scales", layer.scales, (len(layer.weights), layer.out_channels))
        for basis in layer.weights:
            if basis.shape != layer.weight_shape:
                raise RefdesignError(f"{where}, weights: found bases of shapes {layer.weight_shape} and {basis.shape}")


def _check_real_dense(layer: RealDense, inputs: int) -> None:
    _check_float32(layer.name, "weights", layer.weights, (layer.out_channels, inputs))
    if layer.bias is not None:
        _check_float32(layer.name, "bias", layer.bias, (layer.out_channels,))
    if layer.input_batch_norm is not None and layer.input_batch_norm.channels != inputs:
        raise RefdesignError(
            f"layer {layer.name!r}, input_batch_norm: found {layer.input_batch_norm.channels} channels, "
            f"expected {inputs}"
        )


def _check_float32(layer: str, field_name: str, array: NDArray[np.float32], shape: tuple[int, ...]) -> None:
    if array.dtype != np.float32 or array.shape != shape or not np.isfinite(array).all():
        raise RefdesignError(
            f"layer {layer!r}, {field_name}: found {array.dtype} of shape {array.shape}, "
            f"expected finite float32 of shape {shape}"
        )


def _after_stage(layer: Stage, accumulator: tuple[int, ...], earlier: Mapping[str, LayerShapes]) -> tuple[int, ...]:
    where = f"layer {layer.name!r}"
    output = accumulator
    if layer.pool is not None:
        if len(accumulator) != 3:
            raise RefdesignError(f"{where}, pool: needs a map (H, W, C), found {accumulator}")
        size = []
        for axis in (0, 1):
            kernel, stride = layer.pool.size[axis], layer.pool.stride[axis]
            if kernel < 1 or stride < 1 or kernel > accumulator[axis]:
                raise RefdesignError(
                    f"{where}, pool: found size {kernel} and stride {stride} for {accumulator[axis]} pixels"
                )
            size.append((accumulator[axis] - kernel) // stride + 1)
        output = (*size, accumulator[2])
    channels = accumulator[-1]
    if layer.batch_norm is not None and layer.batch_norm.channels != channels:
        raise RefdesignError(f"{where}, batch_norm: found {layer.batch_norm.channels} channels, expected {channels}")
    if layer.kernel is not None and channels % layer.kernel.shape[2]:
        raise RefdesignError(
            f"{where}, kernel: found g = {layer.kernel.shape[2]} slices, expected a divisor of {channels} channels"
        )
    if layer.shortcut is not None:
        _check_shortcut(layer, layer.shortcut, output, earlier)
    return output


def _check_shortcut(
    layer: Stage, shortcut: Shortcut, output: tuple[int, ...], earlier: Mapping[str, LayerShapes]
) -> None:
    where = f"layer {layer.name!r}, shortcut"
    if shortcut.source not in earlier:
        raise RefdesignError(f"{where}: found source {shortcut.source!r}, expected the name of an earlier layer")
    source = earlier[shortcut.source].output
    if len(source) != 3:
        raise RefdesignError(f"{where}: source {shortcut.source!r} leaves {source}, expected a map (H, W, C)")
    if shortcut.average_pool < 1 or min(shortcut.channel_padding) < 0:
        raise RefdesignError(f"{where}: found {shortcut}, expected a positive pool and no negative padding")
    pooled = tuple(extent // shortcut.average_pool for extent in source[:2])
    arrives = (*pooled, source[2] + sum(shortcut.channel_padding))
    if arrives != output:
        raise RefdesignError(f"{where}: {shortcut.source!r} arrives as {arrives}, expected {output}")
