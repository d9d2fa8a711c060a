"""Dot products of many packed columns with many packed weights: XOR, popcount, sum.

The sum is what takes the time in a packed network, so it is written for the machine: XOR of a vector with a
number broadcast over it, into a buffer that stays in the second-level cache; popcounts as bytes; three of them
summed as bytes, because three words hold at most 192 ones; only then widened.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import WORD

Words = NDArray[np.uint64]
Counts = NDArray[np.unsignedinteger]

_BLOCK = 1 << 15
"""Words in the buffer of differences."""

_SPAN = 1024
"""The longest inner loop: longer ones are no faster, and leave fewer rows to a block."""

_LONG = 512
"""An inner loop of this length is long enough to hide what it costs to start."""


def count_differences(columns: Words, weights: Words, nonzero: Words | None = None) -> Counts:
    """How many bits differ between each column and each weight: sum over k of popcount(column[k] xor weight[k]).

    Args:
        columns: uint64, shape (K, P): K words at each of P places.
        weights: uint64, shape (K, O).
        nonzero: uint64, shape (K, P): only the bits set in it count; None for all.

    Returns:
        uint8, uint16 or uint32, the narrowest that holds 64*K, shape (P, O). Not always contiguous: it is laid
        out either way round, with the longer of the two axes last.

    >>> column, weight = np.array([[0b1100]], dtype=np.uint64), np.array([[0b1010, 0b0011]], dtype=np.uint64)
    >>> count_differences(column, weight)
    array([[2, 4]], dtype=uint8)
    """
    wide = np.min_scalar_type(columns.shape[0] * WORD)
    places, out = columns.shape[1], weights.shape[1]
    if out >= _LONG or out >= places:
        result = np.empty((places, out), dtype=wide)
        _count(columns, weights, nonzero, None, result)
        return result
    # Rows whose distance is a power of two would fall into the same cache lines when the result is transposed.
    transposed = np.empty((out, places + 8), dtype=wide)[:, :places]
    _count(weights, columns, None, nonzero, transposed)
    return transposed.T


def _count(outer: Words, inner: Words, outer_mask: Words | None, inner_mask: Words | None, result: Counts) -> None:
    """result[r, s] = sum over k of popcount((outer[k, r] xor inner[k, s]) & masks), block by block."""
    rows, length = result.shape
    span = max(1, min(length, _SPAN))
    height = max(1, min(rows, _BLOCK // span))
    whole_words = height * span >= _BLOCK // 4
    scratch = _Scratch(_BLOCK if whole_words else max(_BLOCK, 3 * height * span), result.dtype)
    with _short_buffers():
        for top in range(0, rows, height):
            for left in range(0, length, span):
                r, s = slice(top, top + height), slice(left, left + span)
                a, b = outer[:, r, np.newaxis], inner[:, np.newaxis, s]
                masks = [
                    mask
                    for mask in (
                        None if outer_mask is None else outer_mask[:, r, np.newaxis],
                        None if inner_mask is None else inner_mask[:, np.newaxis, s],
                    )
                    if mask is not None
                ]
                (_count_by_word if whole_words else _count_by_threes)(a, b, masks, result[r, s], scratch)


class _Scratch:
    """The buffers of one product."""

    def __init__(self, words: int, wide: np.dtype[np.unsignedinteger]) -> None:
        self.differ = np.empty(words, dtype=np.uint64)
        self.ones = np.empty(words, dtype=np.uint8)
        self.more_ones = np.empty(words, dtype=np.uint8)
        self.widened = np.empty(words, dtype=wide)


def _count_by_word(a: Words, b: Words, masks: list[Words], total: Counts, scratch: _Scratch) -> None:
    """Write the sums of the differences of a (K, r, 1) and b (K, 1, s) to the total (r, s): one word at a time."""
    shape, size = total.shape, total.size
    differ, sums, ones, widened = (
        array[:size].reshape(shape) for array in (scratch.differ, scratch.ones, scratch.more_ones, scratch.widened)
    )
    last = len(a) - 1
    for k in range(len(a)):
        np.bitwise_xor(a[k], b[k], out=differ)
        for mask in masks:
            np.bitwise_and(differ, mask[k], out=differ)
        if k % 3 == 0:
            np.bitwise_count(differ, out=sums)
        else:
            np.bitwise_count(differ, out=ones)
            np.add(sums, ones, out=sums)
        if k % 3 != 2 and k != last:
            continue
        if k < 3:
            np.copyto(total, sums)
        else:
            # Two steps: np.add(total, sums, out=total) would cast through the small buffers.
            np.copyto(widened, sums)
            np.add(total, widened, out=total)


def _count_by_threes(a: Words, b: Words, masks: list[Words], total: Counts, scratch: _Scratch) -> None:
    """The same for small totals, many words at a time, so that no call works on a few elements only."""
    total[...] = 0
    depth = max(3, scratch.differ.size // total.size // 3 * 3)
    for first in range(0, len(a), depth):
        some = slice(first, first + depth)
        words = len(a[some])
        differ = scratch.differ[: words * total.size].reshape(words, *total.shape)
        np.bitwise_xor(a[some], b[some], out=differ)
        for mask in masks:
            np.bitwise_and(differ, mask[some], out=differ)
        ones = np.bitwise_count(differ, out=scratch.ones[: differ.size].reshape(differ.shape))
        third = -(-words // 3)
        sums = ones[:third]
        for start in (third, 2 * third):
            part = ones[start : start + third]
            np.add(sums[: len(part)], part, out=sums[: len(part)])
        widened = scratch.widened[: sums.size].reshape(sums.shape)
        np.copyto(widened, sums)
        for layer in widened:
            np.add(total, layer, out=total)


@contextmanager
def _short_buffers() -> Iterator[None]:
    """Let ufuncs read broadcast operands in place: NumPy copies rows that are shorter than its buffer (8192)."""
    before = np.setbufsize(128)
    try:
        yield
    finally:
        np.setbufsize(before)
