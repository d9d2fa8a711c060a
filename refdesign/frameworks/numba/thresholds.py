"""A layer's thresholds, laid out once for the compiled loops, and how many threads a loop is worth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numba import get_num_threads, set_num_threads
from numpy.typing import NDArray

from refdesign.bits import PackedBits, pack_bool, tail_mask, words_for
from refdesign.fold import Thresholds
from refdesign.frameworks.numba import kernels
from refdesign.ops.dither import phases

Words = NDArray[np.uint64]

_WORTH_THREADS = 1 << 18
"""Words met by weights, below which threads cost more than they gain."""


@contextmanager
def threads_for(work: int) -> Iterator[None]:
    """One thread within the context where there is little to do; otherwise as many as Numba is set to.

    >>> with threads_for(1):
    ...     get_num_threads()
    1
    """
    before = get_num_threads()
    if work < _WORTH_THREADS:
        set_num_threads(1)
    try:
        yield
    finally:
        set_num_threads(before)


class Decision:
    """Thresholds, as the loops compare with them."""

    def __init__(self, thresholds: Thresholds) -> None:
        m, n, channels = thresholds.shape
        self.channels, self.period = channels, (m, n)
        self.origin = thresholds.conventions.kernel_origin
        self.ties = bool(thresholds.ternary.any())
        upwards, downwards = thresholds.direction > 0, thresholds.direction < 0
        never = np.iinfo(np.int32).min
        limit = np.where(upwards, thresholds.threshold, np.where(downwards, thresholds.threshold + 1, never))
        self.flip = pack_bool(downwards | ((thresholds.direction == 0) & (thresholds.constant <= 0))).words
        self.tail = tail_mask(channels)
        self.limit, self.low, self.high = (
            _whole_words(array) for array in (limit, thresholds.zero_low, thresholds.zero_high)
        )

    def phases(self, height: int, width: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The phase of each row and column of a map."""
        return phases(height, self.period[0], self.origin), phases(width, self.period[1], self.origin)

    @property
    def tables(self) -> tuple[Any, Any, bool, Any, Any, Any]:
        """What the loops take: limits, which of them are turned round, and where ties are."""
        return self.limit, self.flip, self.ties, self.low, self.high, self.tail

    def packed(self, words: Words, nonzero: Words) -> PackedBits:
        """What the loops give, as packed bits; without a plane of zeros where nothing ties."""
        if not self.ties or bool((nonzero == self.tail).all()):
            return PackedBits(words, self.channels)
        return PackedBits(words, self.channels, nonzero)

    def apply(self, accumulators: NDArray[np.int32]) -> PackedBits:
        """The bits of accumulators (N, H, W, C) or (N, C), like `Thresholds.apply`."""
        maps = accumulators if accumulators.ndim == 4 else accumulators[:, np.newaxis, np.newaxis]
        with threads_for(maps.size):
            found = kernels.threshold_bits(np.ascontiguousarray(maps), *self.phases(*maps.shape[1:3]), *self.tables)
        shape = (*accumulators.shape[:-1], len(self.tail))
        words, nonzero = (array.reshape(shape) if array.shape[:3] == maps.shape[:3] else array for array in found)
        return self.packed(words, nonzero)


def _whole_words(array: NDArray[Any]) -> NDArray[np.int32]:
    """int32, the last axis filled up to a multiple of 64."""
    m, n, channels = array.shape
    result = np.zeros((m, n, 64 * words_for(channels)), np.int32)
    result[..., :channels] = array
    return result
