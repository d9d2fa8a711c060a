"""Dot products of many packed rows with many packed rows: XOR, popcount, sum."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

BLOCK = 1 << 15
"""Words that are worked on at a time: they stay in the second-level cache."""


def dot_words(x: Words, w: Words, length: int, nonzero: Words | None = None) -> NDArray[np.int32]:
    """All dot products of the rows of x with the rows of w.

    Args:
        x: uint64, shape (P, words).
        w: uint64, shape (O, words).
        length: the number of elements in a row.
        nonzero: uint64, shape (P, words): where it is 0 the element of x is 0; None for ±1 throughout.

    Returns:
        int32, shape (P, O).

    >>> one = np.array([[0b101]], dtype=np.uint64)
    >>> dot_words(one, one, 3)
    array([[3]], dtype=int32)
    """
    result = np.empty((x.shape[0], w.shape[0]), dtype=np.int32)
    step = max(1, BLOCK // max(1, w.size))
    for start in range(0, x.shape[0], step):
        rows = slice(start, start + step)
        differ = x[rows, np.newaxis] ^ w
        valid: NDArray[np.int32] | int = length
        if nonzero is not None:
            differ &= nonzero[rows, np.newaxis]
            valid = np.bitwise_count(nonzero[rows]).sum(axis=-1, dtype=np.int32)[:, np.newaxis]
        result[rows] = valid - 2 * np.bitwise_count(differ).sum(axis=-1, dtype=np.int32)
    return result
