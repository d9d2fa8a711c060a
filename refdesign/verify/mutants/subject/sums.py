"""From bits or pixels to accumulators: windows, packing, xor and count, max pool."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from refdesign.bits import PackedBits, unpack
from refdesign.network import BinaryDense, Convolution, MaxPool, PixelConv2d

Array = NDArray[Any]
WORD = 64
OUTSIDE = -1
FILL = {"zeros": 0, "ones": 1, "minus_ones": -1}


def to_words(flags: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Pack flags along the last axis: element c is bit c mod 64 of word c div 64; the rest is 0."""
    length = flags.shape[-1]
    padded = np.zeros((*flags.shape[:-1], -(-length // WORD) * WORD), dtype=np.bool_)
    padded[..., :length] = flags
    octets = np.packbits(padded, axis=-1, bitorder="little")
    return octets.view("<u8").astype(np.uint64)


def dot_products(x: Array, weights: NDArray[np.uint64]) -> NDArray[np.int32]:
    """Sums of x*w: x int8 (..., taps, I) in {-1, 0, +1}, weights packed (O, taps, words)."""
    ones = to_words(x > 0)[..., np.newaxis, :, :]
    valid = to_words(x != 0)[..., np.newaxis, :, :]
    differing = (ones ^ weights) & valid
    count = np.bitwise_count(valid).sum(axis=(-2, -1), dtype=np.int32)
    return np.asarray(count - 2 * np.bitwise_count(differing).sum(axis=(-2, -1), dtype=np.int32))


def source(position: int, extent: int, mode: str) -> int:
    """The position on the map that a position on the padded axis shows."""
    if 0 <= position < extent:
        return position
    if mode == "edge":
        return min(max(position, 0), extent - 1)
    if mode == "circular":
        return position % extent
    if mode == "symmetric":
        return -position - 1 if position < 0 else 2 * extent - 1 - position
    if mode == "reflect":
        return -position if position < 0 else 2 * extent - 2 - position
    return OUTSIDE


def reach(layer: Convolution, extent: int, axis: int) -> NDArray[np.intp]:
    """Which positions each window's taps meet along an axis: (windows, taps)."""
    kernel = layer.weight_shape[1 + axis]
    stride, padding, dilation = layer.stride[axis], layer.padding[axis], layer.dilation[axis]
    windows = (extent + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    taps = [[start * stride + tap * dilation - padding for tap in range(kernel)] for start in range(windows)]
    return np.array([[source(position, extent, layer.padding_mode) for position in row] for row in taps])


def gather(x: Array, layer: Convolution) -> Array:
    """The windows of a map (N, H, W, C): (N, H', W', taps, C)."""
    rows = reach(layer, x.shape[1], 0)
    columns = reach(layer, x.shape[2], 1)
    windows = x[:, rows[:, np.newaxis, :, np.newaxis], columns[np.newaxis, :, np.newaxis, :]]
    outside = (rows[:, np.newaxis, :, np.newaxis] < 0) | (columns[np.newaxis, :, np.newaxis, :] < 0)
    windows[:, outside] = FILL.get(layer.padding_mode, 0)
    n, height, width, kernel_rows, kernel_columns, channels = windows.shape
    return windows.reshape(n, height, width, kernel_rows * kernel_columns, channels)


def grouped(windows: Array, layer: Convolution) -> list[Array]:
    """The input channels of each group."""
    depth = layer.weight_shape[3]
    return [windows[..., group * depth : (group + 1) * depth] for group in range(layer.groups)]


def binary_sums(x: Array, layer: Convolution, weights: PackedBits) -> NDArray[np.int32]:
    """The accumulators of a binary convolution."""
    outputs = layer.out_channels // layer.groups
    words = weights.words.reshape(layer.out_channels, -1, weights.words.shape[-1])
    parts = grouped(gather(x, layer), layer)
    sums = [dot_products(part, words[g * outputs : (g + 1) * outputs]) for g, part in enumerate(parts)]
    return np.concatenate(sums, axis=-1)


def pixel_sums(images: Array, layer: PixelConv2d) -> NDArray[np.int32]:
    """The accumulators of a first layer on pixels."""
    x = layer.multiplier * images.astype(np.int64) + layer.offset
    outputs = layer.out_channels // layer.groups
    weights = unpack(layer.weights) if isinstance(layer.weights, PackedBits) else layer.weights
    flat = weights.astype(np.int64).reshape(layer.out_channels, -1, layer.weight_shape[3])
    sums = []
    for g, part in enumerate(grouped(gather(x, layer), layer)):
        sums.append(np.einsum("nhwtc,otc->nhwo", part, flat[g * outputs : (g + 1) * outputs]))
    return np.concatenate(sums, axis=-1).astype(np.int32)


def dense_sums(x: Array, layer: BinaryDense) -> NDArray[np.int32]:
    """The accumulators of a dense layer on bits, flattened as (row, column, channel)."""
    flat = x.reshape(len(x), -1)
    return dot_products(flat[:, np.newaxis, :], layer.weights.words[:, np.newaxis, :])


def max_pool(a: Array, pool: MaxPool) -> Array:
    """The largest number under each window."""
    windows = sliding_window_view(a, pool.size, axis=(1, 2))
    rows, columns = pool.stride
    return np.asarray(windows[:, ::rows, ::columns].max(axis=(-2, -1)))
