"""The shapes of a network's maps, and the checks that its layers fit each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from refdesign.checks import is_whole, shown
from refdesign.errors import RefdesignError
from refdesign.layer_checks import check_fields
from refdesign.layers import (
    AveragePool,
    BinaryDense,
    Convolution,
    Layer,
    RealDense,
    Shortcut,
    Stage,
)


@dataclass(frozen=True, kw_only=True)
class LayerShapes:
    """The shapes of one layer's maps without the batch axis: (H, W, C), or (C,) after a dense layer."""

    input: tuple[int, ...]
    accumulator: tuple[int, ...]
    output: tuple[int, ...]


def fitted(name: str, input_shape: tuple[int, int, int], layers: Sequence[Layer]) -> dict[str, LayerShapes]:
    """Every layer's shapes; raises `RefdesignError`, naming layer and field, where something does not fit."""
    where = f"network {name!r}"
    if not is_shape(input_shape):
        raise RefdesignError(f"{where}, input_shape: found {shown(input_shape)}, expected (H, W, C), all positive")
    if not layers:
        raise RefdesignError(f"{where}, layers: found none, expected at least one")
    shapes: dict[str, LayerShapes] = {}
    shape: tuple[int, ...] = tuple(input_shape)
    for index, layer in enumerate(layers):
        if not isinstance(layer, Layer):
            raise RefdesignError(f"{where}, layers: found a {type(layer).__name__} as layer {index}, expected a Layer")
        if not _is_name(layer.name) or layer.name in shapes:
            raise RefdesignError(
                f"layer {layer.name!r}, name: expected a name of its own in print without '.' and '/', and not 'logits'"
            )
        if (layer.takes == "pixels") != (index == 0):
            raise RefdesignError(
                f"layer {layer.name!r}: reads {layer.takes} as layer {index}; only the first layer reads pixels"
            )
        check_fields(layer)
        before = layers[index - 1]
        if layer.takes == "bits" and not isinstance(before, Stage):
            raise RefdesignError(f"layer {layer.name!r}: reads bits, but layer {before.name!r} leaves none")
        shapes[layer.name] = _layer_shapes(layer, shape, shapes)
        shape = shapes[layer.name].output
    return shapes


def is_shape(value: object) -> bool:
    """Whether a value is the shape (H, W, C) of a map.

    >>> is_shape((8, 8, 1)), is_shape((8, 8)), is_shape((8, 0, 1)), is_shape(None)
    (True, False, False, False)
    """
    return isinstance(value, (tuple, list)) and len(value) == 3 and all(is_whole(extent, 1) for extent in value)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value not in ("", "logits") and value.isprintable() and not {".", "/"} & {*value}


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
        normalised = layer.input_batch_norm if isinstance(layer, RealDense) else None
        if normalised is not None and normalised.channels != inputs:
            raise RefdesignError(
                f"layer {layer.name!r}, input_batch_norm: found {normalised.channels} channels, expected {inputs}"
            )
    elif isinstance(layer, AveragePool):
        if len(shape) != 3 or shape[0] < layer.size[0] or shape[1] < layer.size[1]:
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
    out, _, _, depth = layer.weight_shape
    if out % layer.groups or depth * layer.groups != shape[2]:
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


def _after_stage(layer: Stage, accumulator: tuple[int, ...], earlier: Mapping[str, LayerShapes]) -> tuple[int, ...]:
    where = f"layer {layer.name!r}"
    output = accumulator
    if layer.pool is not None:
        if len(accumulator) != 3:
            raise RefdesignError(f"{where}, pool: needs a map (H, W, C), found {accumulator}")
        size = []
        for axis in (0, 1):
            kernel, stride = layer.pool.size[axis], layer.pool.stride[axis]
            if kernel > accumulator[axis]:
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
    pooled = tuple(extent // shortcut.average_pool for extent in source[:2])
    arrives = (*pooled, source[2] + sum(shortcut.channel_padding))
    if arrives != output:
        raise RefdesignError(f"{where}: {shortcut.source!r} arrives as {arrives}, expected {output}")
