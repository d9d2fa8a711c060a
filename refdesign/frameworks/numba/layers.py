"""A layer's weights and borders, laid out once for the compiled loops."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import get_num_threads
from numpy.typing import NDArray

from refdesign.bits import PackedBits, tail_mask, unpack, words_for
from refdesign.frameworks.numba import kernels
from refdesign.frameworks.numba.kernels import LANES, Plan, Pool
from refdesign.frameworks.numba.thresholds import Decision, Words, threads_for
from refdesign.network import Convolution, MaxPool, PixelConv2d
from refdesign.ops.columns import split_groups, weight_columns
from refdesign.ops.conv import outside_sums
from refdesign.ops.padding import FILLS, Windows

Arguments = tuple[Words, Words, bool, Any, Words, Any, Plan]
"""What the loops take: words, masks, whether they count, offsets, weights, base and plan."""

_MERGED = 32
"""Up to so many channels, the taps of a window share words."""
_ITEMS = 4
"""Pieces of work for each thread, where the rows of a batch alone give fewer."""
_BATCH_ROW = 8
"""Inputs of a dense layer that stand side by side, as the columns of a map."""


def _blocks(columns: list[Words]) -> Words:
    """Weights (K, O/groups) of each group as (blocks, K, LANES), each group's last block filled up."""
    made = []
    for column in columns:
        count, outputs = column.shape
        padded = np.zeros((count, -(-outputs // LANES) * LANES), np.uint64)
        padded[:, :outputs] = column
        made.append(padded.reshape(count, -1, LANES).transpose(1, 0, 2))
    return np.ascontiguousarray(np.concatenate(made))


def _in_lanes(base: NDArray[np.int32], groups: int) -> NDArray[np.int32]:
    """A base (rows, columns, O) with each group's channels filled up to whole blocks."""
    rows, columns, outputs = base.shape
    per_group = outputs // groups
    padded = np.zeros((rows, columns, groups, -(-per_group // LANES) * LANES), np.int32)
    padded[..., :per_group] = base.reshape(rows, columns, groups, per_group)
    return padded.reshape(rows, columns, -1)


def _chunk(blocks: int, groups: int, items: int) -> int:
    """Blocks for one piece of work: all of them, or fewer so that every thread has `_ITEMS` pieces."""
    whole = 64 // LANES
    wanted = -(-_ITEMS * get_num_threads() // max(1, items))
    if groups > 1 or wanted == 1 or blocks <= whole:
        return blocks
    return max(whole, blocks // wanted // whole * whole)


class PackedConv:
    """A convolution of packed bits or of pixels with weights of ±1.

    Args:
        layer: the layer.
        weights: its weights, or those of one of its bases.
        extent: rows and columns of its maps.
    """

    def __init__(self, layer: Convolution, weights: PackedBits, extent: tuple[int, int]) -> None:
        self.outputs, _, _, self.depth = weights.shape
        self.groups = layer.groups
        self.pixels = isinstance(layer, PixelConv2d)
        self.windows = Windows.of_layer(layer, extent)
        self.merged = self.depth <= _MERGED
        per_group = self.outputs // self.groups
        parts = [weights.words[first : first + per_group] for first in range(0, self.outputs, per_group)]
        if self.merged:
            self.weights = _blocks([weight_columns(part, self.depth) for part in parts])
        else:
            self.weights = _blocks([part.reshape(per_group, -1).T for part in parts])
        self.multiplier, base = self._base(layer, unpack(weights).reshape(self.outputs, -1, self.depth))
        self.base = _in_lanes(base.astype(np.int32), self.groups)  # sums fit; what they are made of may wrap round
        self._lay_out_words()

    def _base(self, layer: Convolution, weights: NDArray[np.int8]) -> tuple[int, NDArray[np.int64]]:
        """What popcounts are multiplied with, and what they are taken from.

        Pixels p = 255/2 + (sum over planes of 2**plane * s)/2 with s = ±1 give
        sum(p*w) = 255 * (number of weights +1) - sum over planes of 2**plane * popcount(plane xor w).
        """
        taps = weights.sum(axis=2, dtype=np.int64)
        fill = FILLS.get(layer.padding_mode)
        if isinstance(layer, PixelConv2d):
            sums = taps.sum(axis=1)
            plus = (sums + weights[0].size) // 2
            base = (255 * layer.multiplier * plus + layer.offset * sums)[np.newaxis, np.newaxis]
            if fill is not None:  # the planes show 0 outside the map, so that x is the offset there
                base = base + (fill - layer.offset) * outside_sums(self.windows, taps)
            return layer.multiplier, base
        whole = np.full((1, 1, self.outputs), weights[0].size, np.int64)
        # Outside the map the words are 0, as if every element were -1.
        return 2, whole + outside_sums(self.windows, taps) if fill == 0 else whole

    def _lay_out_words(self) -> None:
        windows = self.windows
        self.sources = windows.source(0).astype(np.int64), windows.source(1).astype(np.int64)
        rows, columns = np.indices(windows.kernel).reshape(2, -1)
        self.taps = np.stack([rows * windows.dilation[0], columns * windows.dilation[1]], axis=1).astype(np.int64)
        if self.merged:
            self.offsets = np.arange(self.weights.shape[1], dtype=np.int64)
            return
        words = words_for(self.depth)
        width = len(self.sources[1])
        first = (self.taps[:, 0] * width + self.taps[:, 1]) * words * self.groups
        self.offsets = (first[:, np.newaxis] + np.arange(words)).ravel()

    def _words(self, x: PackedBits | NDArray[np.uint8]) -> tuple[Words, Words, bool]:
        """The maps as the windows see them, padded and perhaps merged, and their masks."""
        if isinstance(x, np.ndarray):
            planes = self._merge(kernels.pixel_planes(np.ascontiguousarray(x), *self.sources, self.depth))
            return planes, planes, False
        fill = FILLS.get(self.windows.padding_mode, 0)
        words = self._padded(x.words, x.length, fill == 1)
        if x.nonzero is None:
            return words, words, False
        return words, self._padded(x.nonzero, x.length, fill != 0), True

    def _padded(self, words: Words, length: int, ones_outside: bool) -> Words:
        split = split_groups(words, length, self.groups)
        per_pixel = self.groups * words_for(self.depth)
        maps = np.ascontiguousarray(split).reshape(len(words), 1, *self.windows.extent, per_pixel)
        if self.windows.padding != (0, 0):
            inside = tail_mask(self.depth) if ones_outside else np.zeros(words_for(self.depth), np.uint64)
            maps = kernels.pad_words(maps, *self.sources, np.tile(inside, self.groups))
        return self._merge(maps)

    def _merge(self, padded: Words) -> Words:
        if not self.merged:
            return padded
        stride, extent = (np.array(pair, np.int64) for pair in (self.windows.stride, self.windows.output))
        merged: Words = kernels.merge_windows(padded, self.taps, stride, extent, self.depth)
        return merged

    def _plan(self, words: Words, items: int) -> Plan:
        _, planes, height, width, count = words.shape
        down, right = (1, 1) if self.merged else self.windows.stride
        blocks = len(self.weights)
        return Plan(
            rows=self.windows.output[0],
            columns=self.windows.output[1],
            image_step=planes * height * width * count,
            plane_step=height * width * count,
            row_step=down * width * count,
            column_step=right * count,
            group_step=count // self.groups,
            planes=planes,
            outputs=self.outputs,
            per_group=self.outputs // self.groups,
            multiplier=self.multiplier,
            chunk=_chunk(blocks, self.groups, items),
        )

    def _work(self, x: PackedBits | NDArray[np.uint8]) -> int:
        planes = 8 if self.pixels else 1
        height, width = self.windows.output
        return x.shape[0] * planes * height * width * self.weights.size // self.groups

    def _run(self, x: PackedBits | NDArray[np.uint8], rows: int) -> Arguments:
        words, mask, ternary = self._words(x)
        plan = self._plan(words, len(words) * rows)
        return words, mask, ternary, self.offsets, self.weights, self.base, plan

    def __call__(self, x: PackedBits | NDArray[np.uint8]) -> NDArray[np.int32]:
        """The accumulators: int32, (N, H', W', O)."""
        with threads_for(self._work(x)):
            result: NDArray[np.int32] = kernels.accumulators(*self._run(x, self.windows.output[0]))
        return result

    def bits(self, x: PackedBits | NDArray[np.uint8], decision: Decision, pool: MaxPool | None) -> PackedBits:
        """Accumulators, pool and thresholds at once: packed bits, (N, H'', W'', O)."""
        size, stride = ((1, 1), (1, 1)) if pool is None else (pool.size, pool.stride)
        rows, columns = ((self.windows.output[axis] - size[axis]) // stride[axis] + 1 for axis in (0, 1))
        pooled = (Pool(*size, *stride), *decision.phases(rows, columns), *decision.tables)
        with threads_for(self._work(x)):
            found = kernels.layer_bits(*self._run(x, rows), *pooled)
        return decision.packed(*found)


class PackedDense:
    """A dense layer on packed bits: inputs stand side by side, like the pixels of a map.

    Args:
        weights: packed, (O, I).
    """

    def __init__(self, weights: PackedBits) -> None:
        self.outputs, self.inputs = weights.shape
        self.weights = _blocks([weights.words.T])
        self.base = _in_lanes(np.full((1, 1, self.outputs), self.inputs, np.int32), 1)
        self.offsets = np.arange(words_for(self.inputs), dtype=np.int64)

    def _run(self, x: PackedBits) -> Arguments:
        count = len(x.words)
        columns = max(1, min(count, _BATCH_ROW))
        rows = -(-count // columns)
        width = x.words.shape[1]

        def as_map(words: Words) -> Words:
            full = np.zeros((rows * columns, width), np.uint64)
            full[:count] = words
            return full.reshape(1, 1, rows, columns, width)

        words = as_map(x.words)
        mask = words if x.nonzero is None else as_map(x.nonzero)
        plan = Plan(
            rows=rows,
            columns=columns,
            image_step=0,
            plane_step=0,
            row_step=columns * width,
            column_step=width,
            group_step=0,
            planes=1,
            outputs=self.outputs,
            per_group=self.outputs,
            multiplier=2,
            chunk=_chunk(len(self.weights), 1, rows),
        )
        return words, mask, x.nonzero is not None, self.offsets, self.weights, self.base, plan

    def __call__(self, x: PackedBits) -> NDArray[np.int32]:
        """The accumulators of packed inputs (N, I): int32, (N, O)."""
        with threads_for(len(x.words) * self.weights.size):
            result: NDArray[np.int32] = kernels.accumulators(*self._run(x)).reshape(-1, self.outputs)
        return result[: len(x.words)]

    def bits(self, x: PackedBits, decision: Decision) -> PackedBits:
        """Accumulators and thresholds at once: packed bits, (N, O)."""
        with threads_for(len(x.words) * self.weights.size):
            arguments = self._run(x)
            plan = arguments[-1]
            row, column = decision.phases(1, 1)  # every input is a map of one pixel
            phase = np.repeat(row, plan.rows), np.repeat(column, plan.columns)
            found = kernels.layer_bits(*arguments, Pool(1, 1, 1, 1), *phase, *decision.tables)
        words, nonzero = (array.reshape(-1, array.shape[-1])[: len(x.words)] for array in found)
        return decision.packed(words, nonzero)


class IntegerConv:
    """A first layer whose weights are int32: a fixed-point grid."""

    def __init__(self, layer: PixelConv2d, weights: NDArray[np.int32], extent: tuple[int, int]) -> None:
        outputs, rows, columns, depth = weights.shape
        self.layer = layer
        self.windows = Windows.of_layer(layer, extent)
        grouped = weights.reshape(layer.groups, outputs // layer.groups, rows, columns, depth)
        self.weights = np.ascontiguousarray(grouped.transpose(0, 2, 3, 4, 1))

    def __call__(self, x: NDArray[np.uint8]) -> NDArray[np.int32]:
        """The accumulators of uint8 pixels (N, H, W, I): int32, (N, H', W', O)."""
        values = (x.astype(np.int64) * self.layer.multiplier + self.layer.offset).astype(np.int32)
        padded = np.ascontiguousarray(self.windows.pad(values, FILLS.get(self.windows.padding_mode, 0)))
        stride, dilation, extent = (
            np.array(pair, np.int64) for pair in (self.windows.stride, self.windows.dilation, self.windows.output)
        )
        with threads_for(len(x) * int(np.prod(self.windows.output)) * self.weights.size):
            result: NDArray[np.int32] = kernels.integer_sums(padded, self.weights, stride, dilation, extent)
        return result
