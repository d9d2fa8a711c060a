"""The compiled loops: padding, merging, convolving and thresholding of packed bits.

Activations are uint64 words, (images, planes, rows, columns, words): the planes are the bits of pixels from the
highest down, or one. A window's words lie at offsets from its first one. Nothing is checked here; `layers` does.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import prange

from refdesign.frameworks.numba.compiled import compiled
from refdesign.frameworks.numba.vectors import WIDTH, at_least, tile_of

PIXELS = 4
"""Neighbouring pixels that share each load of weights."""

LANES = 2 * WIDTH
"""Output channels of a block of weights."""

_several = tile_of(PIXELS, 2, ternary=False)
_single = tile_of(1, 2, ternary=False)
_single_ternary = tile_of(1, 2, ternary=True)

Array = Any


class Plan(NamedTuple):
    """Where a layer's words lie, in words, and how many accumulators there are."""

    rows: int
    columns: int
    image_step: int
    plane_step: int
    row_step: int
    column_step: int
    group_step: int
    planes: int
    outputs: int
    per_group: int
    multiplier: int
    chunk: int
    """Blocks of channels that one thread works on at a time: all, or with one group a multiple of 64 channels."""


class Pool(NamedTuple):
    """A max pool: rows and columns of a window, and the distances between windows."""

    rows: int
    columns: int
    down: int
    right: int


@compiled()
def _address(array: Array) -> int:
    return np.int64(array.ctypes.data)  # type: ignore[return-value]  # signed, as are the steps


@compiled(parallel=True)
def pad_words(words: Array, row_source: Array, column_source: Array, fill: Array) -> Array:
    """(images, planes, rows, columns, words) with positions shown, or `fill` (words,) where the source is -1."""
    images, planes, _, _, count = words.shape
    height, width = len(row_source), len(column_source)
    padded = np.empty((images, planes, height, width, count), np.uint64)
    for item in prange(images * height):
        image, row = item // height, item % height
        for plane in range(planes):
            for column in range(width):
                from_row, from_column = row_source[row], column_source[column]
                for word in range(count):
                    if from_row < 0 or from_column < 0:
                        padded[image, plane, row, column, word] = fill[word]
                    else:
                        padded[image, plane, row, column, word] = words[image, plane, from_row, from_column, word]
    return padded


@compiled(parallel=True)
def pixel_planes(pixels: Array, row_source: Array, column_source: Array, depth: int) -> Array:
    """Padded uint8 pixels as eight planes of packed bits, every group of `depth` channels in words of its own."""
    images, _, _, channels = pixels.shape
    height, width, per_group = len(row_source), len(column_source), (depth + 63) // 64
    planes = np.zeros((images, 8, height, width, channels // depth * per_group), np.uint64)
    for item in prange(images * height):
        image, row = item // height, item % height
        if row_source[row] >= 0:
            for column in range(width):
                if column_source[column] >= 0:
                    for channel in range(channels):
                        value = np.uint64(pixels[image, row_source[row], column_source[column], channel])
                        word = channel // depth * per_group + channel % depth // 64
                        place = np.uint64(channel % depth % 64)
                        for plane in range(8):
                            bit = (value >> np.uint64(7 - plane)) & np.uint64(1)
                            planes[image, plane, row, column, word] |= bit << place
    return planes


@compiled(parallel=True)
def merge_windows(padded: Array, taps: Array, stride: Array, extent: Array, depth: int) -> Array:
    """Windows whose taps hold few channels, several taps to a word, as `ops.columns.weight_columns` has them.

    Args:
        padded: (images, planes, rows, columns, groups), one word a group.
        taps: int64 (taps, 2), rows and columns of the taps from a window's first position.
        stride, extent: int64 (2,): the distance between windows, and how many there are.
        depth: channels in a word, at most 32.
    """
    images, planes, _, _, groups = padded.shape
    together = 64 // depth
    count = (len(taps) + together - 1) // together
    merged = np.zeros((images, planes, extent[0], extent[1], groups * count), np.uint64)
    for item in prange(images * extent[0]):
        image, row = item // extent[0], item % extent[0]
        for plane in range(planes):
            for column in range(extent[1]):
                for tap in range(len(taps)):
                    from_row, from_column = row * stride[0] + taps[tap, 0], column * stride[1] + taps[tap, 1]
                    place = np.uint64(tap % together * depth)
                    for group in range(groups):
                        word = padded[image, plane, from_row, from_column, group]
                        merged[image, plane, row, column, group * count + tap // together] |= word << place
    return merged


@compiled()
def _line(
    words: int, mask: int, ternary: bool, offsets: Array, weights: Array, base: Array, plan: Plan, row: int,
    first: int, last: int, line: int, width: int,
) -> None:  # fmt: skip
    """The accumulators of one row of windows for the blocks from first to last, into int32 (columns, width).

    A block writes all of its lanes: those beyond its group are written over by the next one, the last ones lie in
    what `width` has beyond the channels.
    """
    blocks = len(weights) * plan.per_group // plan.outputs
    start = _address(offsets)
    lanes = base.shape[2]
    on_row, on_column = min(row, base.shape[0] - 1), np.int64(base.shape[1] > 1)
    for block in range(first, last):
        group, inside = block // blocks, block % blocks
        channel = group * plan.per_group + (inside - first) * LANES
        seen = 8 * (row * plan.row_step + group * plan.group_step)
        lane = _address(base) + 4 * (on_row * base.shape[1] * lanes + block * LANES)
        weight = _address(weights) + 8 * block * weights.shape[1] * LANES
        if ternary:
            for column in range(plan.columns):
                there = seen + 8 * column * plan.column_step
                _single_ternary(
                    words + there, mask + there, start, len(offsets), plan.column_step, plan.planes, plan.plane_step,
                    weight, lane, 0, plan.multiplier, line + 4 * (column * width + channel), width,
                )  # fmt: skip
        elif plan.columns < PIXELS:
            for column in range(plan.columns):
                _single(
                    words + seen + 8 * column * plan.column_step, 0, start, len(offsets), plan.column_step,
                    plan.planes, plan.plane_step, weight, lane + 4 * on_column * column * lanes, 0, plan.multiplier,
                    line + 4 * (column * width + channel), width,
                )  # fmt: skip
        else:
            for number in range((plan.columns + PIXELS - 1) // PIXELS):
                column = min(number * PIXELS, plan.columns - PIXELS)  # the last tile overlaps
                _several(
                    words + seen + 8 * column * plan.column_step, 0, start, len(offsets), plan.column_step,
                    plan.planes, plan.plane_step, weight, lane + 4 * on_column * column * lanes, on_column * lanes,
                    plan.multiplier, line + 4 * (column * width + channel), width,
                )  # fmt: skip


@compiled(parallel=True)
def accumulators(
    words: Array, mask: Array, ternary: bool, offsets: Array, weights: Array, base: Array, plan: Plan
) -> Array:
    """The accumulators, int32 (images, rows, columns, outputs).

    Args:
        words, mask: where the windows' words lie; the mask counts only if ternary.
        offsets: int64, from a window's first word to each of its words.
        weights: uint64, (blocks, words, LANES).
        base: int32, (rows or 1, columns or 1, LANES * blocks).
    """
    images, blocks = len(words), len(weights)
    chunks = (blocks + plan.chunk - 1) // plan.chunk
    rows, columns, outputs = plan.rows, plan.columns, plan.outputs
    result = np.empty((images, rows, columns, outputs), np.int32)
    for item in prange(images * rows * chunks):
        image, row, chunk = item // (rows * chunks), item // chunks % rows, item % chunks
        first, last = chunk * plan.chunk, min(blocks, (chunk + 1) * plan.chunk)
        channel = first * LANES
        channels = outputs if chunks == 1 else min(outputs - channel, (last - first) * LANES)
        line = np.empty((columns, channels + LANES), np.int32)
        skipped = 8 * image * plan.image_step
        _line(
            _address(words) + skipped, _address(mask) + skipped, ternary, offsets, weights, base, plan, row, first,
            last, _address(line), channels + LANES,
        )  # fmt: skip
        for column in range(columns):
            for offset in range(channels):
                result[image, row, column, channel + offset] = line[column, offset]
    return result


@compiled()
def _decide(
    values: int, limit: int, flip: Array, ties: bool, low: int, high: int, tail: Array, words: Array, nonzero: Array
) -> None:
    """The words of one pixel from its int32 values at an address; 64 values are read for every word."""
    for word in range(len(words)):
        there = 4 * 64 * word
        bits = (at_least(values + there, limit + there) ^ flip[word]) & tail[word]
        if ties:
            above = at_least(values + there, low + there)
            below = at_least(high + there, values + there)
            nonzero[word] = ~(above & below) & tail[word]
            bits &= nonzero[word]
        words[word] = bits


@compiled(parallel=True)
def layer_bits(
    words: Array, mask: Array, ternary: bool, offsets: Array, weights: Array, base: Array, plan: Plan, pool: Pool,
    row_phase: Array, column_phase: Array, limit: Array, flip: Array, ties: bool, low: Array, high: Array, tail: Array,
) -> tuple[Array, Array]:  # fmt: skip
    """A whole layer: accumulators, max pool and thresholds; words and the plane of nonzero elements.

    Args:
        words, mask, ternary, offsets, weights, base, plan: as in `accumulators`.
        pool: the max pool, or windows of one pixel.
        row_phase, column_phase: the thresholds' phase of each row and column behind the pool.
        limit, low, high: int32, (m, n, channels in whole words); flip: uint64, (m, n, words).
        ties: whether an accumulator can tie; only then the second result means something.
        tail: uint64, (words,): ones where a channel stands.
    """
    images, blocks, count = len(words), len(weights), len(tail)
    chunks = (blocks + plan.chunk - 1) // plan.chunk
    rows, columns = len(row_phase), len(column_phase)
    result = np.empty((images, rows, columns, count), np.uint64)
    nonzero = np.empty((images, rows, columns, count) if ties else (1, 1, 1, count), np.uint64)
    per_chunk = (plan.chunk * LANES + 63) // 64 if chunks > 1 else count
    width = 64 * per_chunk + LANES
    for item in prange(images * rows * chunks):
        image, row, chunk = item // (rows * chunks), item // chunks % rows, item % chunks
        first, last = chunk * plan.chunk, min(blocks, (chunk + 1) * plan.chunk)
        start, end = chunk * per_chunk, min(count, (chunk + 1) * per_chunk)
        lines = np.empty((pool.rows, plan.columns, width), np.int32)
        skipped = 8 * image * plan.image_step
        for number in range(pool.rows):
            _line(
                _address(words) + skipped, _address(mask) + skipped, ternary, offsets, weights, base, plan,
                row * pool.down + number, first, last, _address(lines) + 4 * number * plan.columns * width, width,
            )  # fmt: skip
        best = np.empty(width, np.int32)
        for column in range(columns):
            values = _address(lines) + 4 * column * pool.right * width
            if pool.rows > 1 or pool.columns > 1:
                for offset in range(width):
                    best[offset] = lines[0, column * pool.right, offset]
                for number in range(1, pool.rows * pool.columns):
                    other = lines[number // pool.columns, column * pool.right + number % pool.columns]
                    for offset in range(width):
                        best[offset] = max(best[offset], other[offset])
                values = _address(best)
            m, n = row_phase[row], column_phase[column]
            there = 4 * ((m * limit.shape[1] + n) * limit.shape[2] + 64 * start)
            _decide(
                values, _address(limit) + there, flip[m, n, start:end], ties, _address(low) + there,
                _address(high) + there, tail[start:end], result[image, row, column, start:end],
                nonzero[image * ties, row * ties, column * ties, start:end],
            )  # fmt: skip
    return result, nonzero


@compiled(parallel=True)
def threshold_bits(
    values: Array, row_phase: Array, column_phase: Array, limit: Array, flip: Array, ties: bool, low: Array,
    high: Array, tail: Array,
) -> tuple[Array, Array]:  # fmt: skip
    """Thresholds on int32 accumulators (images, rows, columns, channels); results as of `layer_bits`."""
    images, rows, columns, channels = values.shape
    count = len(tail)
    result = np.empty((images, rows, columns, count), np.uint64)
    nonzero = np.empty((images, rows, columns, count) if ties else (1, 1, 1, count), np.uint64)
    for item in prange(images * rows):
        image, row = item // rows, item % rows
        line = np.zeros(64 * count, np.int32)
        for column in range(columns):
            for channel in range(channels):
                line[channel] = values[image, row, column, channel]
            m, n = row_phase[row], column_phase[column]
            there = 4 * (m * limit.shape[1] + n) * limit.shape[2]
            _decide(
                _address(line), _address(limit) + there, flip[m, n], ties, _address(low) + there,
                _address(high) + there, tail, result[image, row, column],
                nonzero[image * ties, row * ties, column * ties],
            )  # fmt: skip
    return result, nonzero


@compiled(parallel=True)
def integer_sums(padded: Array, weights: Array, stride: Array, dilation: Array, extent: Array) -> Array:
    """Sums of int32 values times int32 weights, which the caller knows to fit; int32 (images, rows, columns, O).

    Args:
        padded: int32, (images, rows, columns, I).
        weights: int32, (groups, kernel rows, kernel columns, I/groups, O/groups).
        stride, dilation, extent: int64 (2,); how far windows and taps are apart, and how many windows there are.
    """
    groups, rows, columns, depth, per_group = weights.shape
    images = len(padded)
    result = np.zeros((images, extent[0], extent[1], groups * per_group), np.int32)
    for item in prange(images * extent[0]):
        image, row = item // extent[0], item % extent[0]
        for column in range(extent[1]):
            for i in range(rows):
                for j in range(columns):
                    at_row, at_column = row * stride[0] + i * dilation[0], column * stride[1] + j * dilation[1]
                    for channel in range(groups * depth):
                        group = channel // depth
                        value = padded[image, at_row, at_column, channel]
                        for output in range(per_group):
                            result[image, row, column, group * per_group + output] += (
                                value * weights[group, i, j, channel % depth, output]
                            )
    return result
