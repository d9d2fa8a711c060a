"""Sums of products as ONNX nodes that no order of summation and no optimiser can change.

Integers are summed in float32, which every runtime's convolution is fast on, and are exact there because no partial
sum leaves 2**24; weights that are too large for that are split into digits. Real sums are unrolled in their named
order, in float64. Maps are (N, C, H, W) throughout.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import PackedBits, unpack
from refdesign.errors import RefdesignError
from refdesign.formats.onnx_graph import GraphBuilder
from refdesign.network import (
    BinaryConv2d,
    BinaryDense,
    CombinedConv2d,
    Convolution,
    MaxPool,
    PixelConv2d,
    RealConv2d,
    RealDense,
    Stage,
)
from refdesign.ops.padding import FILLS, source_index

_EXACT = 2**24
_LARGEST_UNROLLED = 1024


def signs(weights: PackedBits | NDArray[np.int32]) -> NDArray[np.int64]:
    """A layer's weights as integers."""
    return (unpack(weights) if isinstance(weights, PackedBits) else weights).astype(np.int64)


def padded(builder: GraphBuilder, layer: Convolution, x: str, shape: tuple[int, ...]) -> str:
    """The map with what stands outside of it; zeros are left to the convolution."""
    if layer.padding == (0, 0) or layer.padding_mode == "zeros":
        return x
    rows, columns = layer.padding
    if layer.padding_mode in FILLS:
        pads = builder.constant([0, 0, rows, columns, 0, 0, rows, columns], f"{layer.name}/pads")
        fill = builder.constant(np.float32(FILLS[layer.padding_mode]), f"{layer.name}/fill")
        return builder.op("Pad", x, pads, fill, name=f"{layer.name}/padded", mode="constant")
    for axis in (0, 1):
        index = source_index(shape[axis], layer.padding[axis], layer.padding_mode)
        source = builder.constant(index.astype(np.int64), f"{layer.name}/source{axis}")
        x = builder.op("Gather", x, source, name=f"{layer.name}/padded{axis}", axis=axis + 2)
    return x


def integer_sums(builder: GraphBuilder, layer: Stage, x: str, shape: tuple[int, ...]) -> tuple[list[str], float]:
    """The accumulators of every basis, int32 (N, O, H', W'), and how large they can be.

    Args:
        builder: takes the nodes.
        layer: one with integer accumulators, or several bases.
        x: float32 (N, I, H, W), or (N, I) before a dense layer behind another.
        shape: of the layer's input without the batch, (H, W, I) or (I,).
    """
    if isinstance(layer, BinaryDense):
        return [_dense_sums(builder, layer, x, shape)], layer.fan_in
    if not isinstance(layer, (PixelConv2d, BinaryConv2d, CombinedConv2d)):
        raise RefdesignError(f"layer {layer.name!r}: has no integer accumulator")
    bases = layer.weights if isinstance(layer, CombinedConv2d) else (layer.weights,)
    largest = 1
    if isinstance(layer, PixelConv2d):
        largest = max(abs(layer.offset), abs(255 * layer.multiplier + layer.offset), 1)
        x = pixel_values(builder, layer, x)
    x = padded(builder, layer, x, shape)
    sums, heaviest = [], 0
    for basis in bases:
        weights = signs(basis)
        heaviest = max(heaviest, int(np.abs(weights).sum(axis=(1, 2, 3)).max()))
        sums.append(_convolutions(builder, layer, x, weights, largest))
    return sums, float(largest * heaviest)


def pixel_values(builder: GraphBuilder, layer: PixelConv2d, x: str) -> str:
    """The values that a first layer sees of pixels, multiplier*p + offset."""
    if max(abs(layer.multiplier) * 255, abs(layer.offset)) > _EXACT:
        raise RefdesignError(
            f"layer {layer.name!r}, multiplier and offset: found {layer.multiplier} and {layer.offset}, expected "
            "pixel values within 2**24, which float32 holds"
        )
    if layer.multiplier != 1:
        multiplier = builder.constant(np.float32(layer.multiplier), f"{layer.name}/multiplier")
        x = builder.op("Mul", x, multiplier, name=f"{layer.name}/scaled")
    if layer.offset != 0:
        offset = builder.constant(np.float32(layer.offset), f"{layer.name}/offset")
        x = builder.op("Add", x, offset, name=f"{layer.name}/shifted")
    return x


def _convolutions(builder: GraphBuilder, layer: Convolution, x: str, weights: NDArray[np.int64], largest: int) -> str:
    """One convolution for each digit of the weights, together int32."""
    total = ""
    for place, digits in _digits(weights, largest, layer.name):
        pads = list(layer.padding * 2) if layer.padding_mode == "zeros" else [0, 0, 0, 0]
        kernel = builder.constant(digits.astype(np.float32).transpose(0, 3, 1, 2), f"{layer.name}/weights")
        product = builder.op(
            "Conv", x, kernel, name=f"{layer.name}/product", strides=list(layer.stride), pads=pads,
            dilations=list(layer.dilation), group=layer.groups, kernel_shape=list(digits.shape[1:3]),
        )  # fmt: skip
        part = builder.cast(product, np.int32, f"{layer.name}/sums")
        if place != 1:
            unit = builder.constant(np.int32(place), f"{layer.name}/place")
            part = builder.op("Mul", part, unit, name=f"{layer.name}/part")
        total = builder.op("Add", total, part, name=f"{layer.name}/sums") if total else part
    return total


def _digits(weights: NDArray[np.int64], largest: int, layer: str) -> list[tuple[int, NDArray[np.int64]]]:
    """Weights as a sum of place * digits, such that no partial sum of pixels and digits leaves 2**24."""
    taps = int(np.prod(weights.shape[1:]))
    base = int(_EXACT // (largest * taps))
    if int(np.abs(weights).sum(axis=(1, 2, 3)).max()) * largest <= _EXACT:
        return [(1, weights)]
    if base < 2:
        raise RefdesignError(
            f"layer {layer!r}, weights: sums of {taps} pixel values up to {largest} are not exact in float32, "
            "expected fewer or smaller ones"
        )
    parts, place = [], 1
    while weights.any():
        quotient = np.trunc(weights / base).astype(np.int64)
        parts.append((place, weights - quotient * base))
        weights, place = quotient, place * base
    return parts


def _dense_sums(builder: GraphBuilder, layer: BinaryDense, x: str, shape: tuple[int, ...]) -> str:
    if layer.fan_in > _EXACT:
        raise RefdesignError(f"layer {layer.name!r}: found {layer.fan_in} inputs, expected at most 2**24 (float32)")
    weights = signs(layer.weights)
    if len(shape) == 3:  # from (row, column, channel) to ONNX's order of a flattened map
        weights = weights.reshape(-1, *shape).transpose(0, 3, 1, 2).reshape(weights.shape)
        x = builder.op("Flatten", x, name=f"{layer.name}/flat", axis=1)
    matrix = builder.constant(weights.T.astype(np.float32), f"{layer.name}/weights")
    product = builder.op("MatMul", x, matrix, name=f"{layer.name}/product")
    return builder.cast(product, np.int32, f"{layer.name}/sums")


def max_pool(builder: GraphBuilder, layer: str, pool: MaxPool, x: str, bound: float | None) -> str:
    """A max pool over int32 sums of at most `bound`, or over float32 where that is None."""
    if bound is not None:
        # ONNX pools no int32; float32 where it holds the sums, float64 otherwise.
        x = builder.cast(x, np.float32 if bound <= _EXACT else np.float64, f"{layer}/unpooled")
    x = builder.op("MaxPool", x, name=f"{layer}/pool", kernel_shape=list(pool.size), strides=list(pool.stride))
    return x if bound is None else builder.cast(x, np.int32, f"{layer}/pooled")


def real_sums(builder: GraphBuilder, layer: RealConv2d, x: str, shape: tuple[int, ...]) -> str:
    """float32 sums of a real first layer, in float64 over rows, columns, channels, rounded once."""
    out, rows, columns, depth = layer.weight_shape
    taps = rows * columns * depth
    if taps > _LARGEST_UNROLLED:
        raise RefdesignError(
            f"layer {layer.name!r}, weights: found {taps} products in a sum of real numbers, expected at most "
            f"{_LARGEST_UNROLLED}: ONNX names no order of summation, so each product is a node of its own"
        )
    for kind, parameter in (("Mul", layer.scale), ("Add", layer.shift)):
        factor = builder.constant(parameter.reshape(-1, 1, 1), f"{layer.name}/{kind.lower()}")
        x = builder.op(kind, x, factor, name=f"{layer.name}/normalised")
    x = padded(builder, layer, x, shape)
    if layer.pads_with_zeros:
        pads = [0, 0, *layer.padding, 0, 0, *layer.padding]
        x = builder.op("Pad", x, builder.constant(pads, f"{layer.name}/pads"), name=f"{layer.name}/padded")
    x = builder.cast(x, np.float64, f"{layer.name}/wide")
    group = np.arange(out) // (out // layer.groups) * depth
    total = ""
    for i, j, c in np.ndindex(rows, columns, depth):
        term = _tap(builder, layer, x, shape, (i, j))
        term = builder.op(
            "Gather", term, builder.constant(group + c, f"{layer.name}/inputs"), name=f"{layer.name}/input", axis=1
        )
        weight = layer.weights[:, i, j, c].astype(np.float64).reshape(-1, 1, 1)
        term = builder.op("Mul", term, builder.constant(weight, f"{layer.name}/w"), name=f"{layer.name}/product")
        total = builder.op("Add", total, term, name=f"{layer.name}/sum") if total else term
    return builder.cast(total, np.float32, f"{layer.name}/sums")


def _tap(builder: GraphBuilder, layer: RealConv2d, x: str, shape: tuple[int, ...], tap: tuple[int, int]) -> str:
    """What a window's tap meets, for every window: (N, I, H', W')."""
    starts, ends = [], []
    for axis in (0, 1):
        span = layer.dilation[axis] * (layer.weight_shape[axis + 1] - 1) + 1
        count = (shape[axis] + 2 * layer.padding[axis] - span) // layer.stride[axis] + 1
        starts.append(tap[axis] * layer.dilation[axis])
        ends.append(starts[-1] + (count - 1) * layer.stride[axis] + 1)
    return sliced(builder, layer.name, x, starts, ends, list(layer.stride))


def sliced(builder: GraphBuilder, layer: str, x: str, starts: list[int], ends: list[int], steps: list[int]) -> str:
    """Every so many rows and columns of a map."""
    limits = [
        builder.constant(values, f"{layer}/{name}")
        for name, values in (("starts", starts), ("ends", ends), ("axes", [2, 3]), ("steps", steps))
    ]
    return builder.op("Slice", x, *limits, name=f"{layer}/view")


def average_pool(builder: GraphBuilder, layer: str, x: str, shape: tuple[int, ...], size: tuple[int, int]) -> str:
    """Means in float32: sums row by row, then one division; `shape` is (H, W, C)."""
    height, width = shape[0] // size[0], shape[1] // size[1]
    total = ""
    for i, j in np.ndindex(*size):
        ends = [i + (height - 1) * size[0] + 1, j + (width - 1) * size[1] + 1]
        view = sliced(builder, layer, x, [i, j], ends, list(size))
        total = builder.op("Add", total, view, name=f"{layer}/total") if total else view
    count = builder.constant(np.float32(size[0] * size[1]), f"{layer}/count")
    return builder.op("Div", total, count, name=f"{layer}/mean")


def real_dense(builder: GraphBuilder, layer: RealDense, flat: str) -> str:
    """float32 sums of a real dense layer on (N, I), in float64 in input order; a running sum names that order."""
    wide = builder.cast(flat, np.float64, f"{layer.name}/wide")
    wide = builder.op("Unsqueeze", wide, builder.constant([1], f"{layer.name}/axis"), name=f"{layer.name}/column")
    weights = builder.constant(layer.weights.astype(np.float64), f"{layer.name}/weights")
    products = builder.op("Mul", wide, weights, name=f"{layer.name}/products")
    axis = builder.constant(np.int64(2), f"{layer.name}/along")
    running = builder.op("CumSum", products, axis, name=f"{layer.name}/running")
    last = builder.constant(np.int64(layer.weights.shape[1] - 1), f"{layer.name}/last")
    total = builder.op("Gather", running, last, name=f"{layer.name}/total", axis=2)
    if layer.bias is not None:
        bias = builder.constant(layer.bias.astype(np.float64), f"{layer.name}/bias")
        total = builder.op("Add", total, bias, name=f"{layer.name}/biased")
    return builder.cast(total, np.float32, f"{layer.name}/rounded")
