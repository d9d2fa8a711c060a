"""What stands behind the accumulators, for all output pixels at once: the pool and the threshold comparators."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.memory import StageMemory
from simulator.stage import StageSchedule

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparators:
    """A stage's threshold words laid out over the map before the pool; all pixels of a pool's window have the same.

    Attributes:
        stage: its schedule; it has thresholds.
        limit: int64 (H', W', O).
        flip: bool (H', W', O).
    """

    stage: StageSchedule
    limit: NDArray[np.int64]
    flip: NDArray[np.bool_]

    @classmethod
    def of(cls, stage: StageSchedule, memory: StageMemory, phases: tuple[Array, Array] | None = None) -> Comparators:
        """From the memory's banks.

        Args:
            stage, memory: the stage and what its memories hold.
            phases: the phase of every row (H',) and of every column (W',); None are those of the counters. An address
                beyond the memory wraps.
        """
        m, n = stage.period
        if phases is None:
            rows, columns = (phase.reshape(stage.output_map) for phase in stage.phase)
            phases = rows[:, 0], columns[0]
        nf, pe = np.nonzero(stage.channels >= 0)
        order = np.argsort(stage.channels[nf, pe])
        nf, pe = nf[order], pe[order]
        cell = phases[0][:, np.newaxis, np.newaxis] * n + phases[1][:, np.newaxis]
        address = (nf * (m * n) + cell) % memory.limit.shape[1]
        return cls(stage=stage, limit=memory.limit[pe, address], flip=memory.flip[pe, address])

    def _behind_pool(self, over: Array) -> Array:
        (height, width), (down, right) = self.stage.pooled_map, self.stage.pool
        return over[::down, ::right][:height, :width]

    @cached_property
    def _limits(self) -> dict[type[np.signedinteger[Any]], Array]:
        """The limits in the types that sums come in; a limit that int32 does not hold is beyond all int32 sums."""
        least, most = np.iinfo(np.int32).min, np.iinfo(np.int32).max
        return {np.int64: self.limit, np.int32: np.clip(self.limit, least, most).astype(np.int32)}

    @cached_property
    def _flips(self) -> bool:
        return bool(self.flip.any())

    def compare(self, sums: Array, *, pooled: bool) -> NDArray[np.bool_]:
        """Output bits of sums (int32 or int64, (N, H, W, O)), behind the pool or before it."""
        limit, flip = self._limits[sums.dtype.type], self.flip
        if pooled:
            limit, flip = self._behind_pool(limit), self._behind_pool(flip)
        fires: NDArray[np.bool_] = sums >= limit
        if self._flips:
            fires ^= flip
        return fires

    def pool_bits(self, bits: NDArray[np.bool_], flip: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
        """The bits of each window, one after the other: OR, AND where `flip`; bool (N, H, W, O) to (N, H', W', O).

        Args:
            bits: before the pool.
            flip: over the map before the pool, (H, W, O); None is that of the memory.
        """
        flips = pool_views(self.stage, (self.flip if flip is None else flip)[np.newaxis])
        views = pool_views(self.stage, bits)
        held = views[:, :, 0, :, 0].copy()
        for row, column in np.ndindex(*self.stage.pool):
            if row or column:
                new = views[:, :, row, :, column]
                held = np.where(flips[:, :, row, :, column], held & new, held | new)
        return held


def pool_views(stage: StageSchedule, values: Array) -> Array:
    """The pool's windows: (N, H', W', O) to (N, H'//rows, rows, W'//columns, columns, O); the rest is cut off."""
    (height, width), (down, right) = stage.pooled_map, stage.pool
    cut = values[:, : height * down, : width * right]
    return cut.reshape(len(values), height, down, width, right, values.shape[-1])


def before_in_window(stage: StageSchedule, values: Array, flip: Array | None) -> Array:
    """What the pool's memory holds when each pixel comes: the pool over the pixels of its window before it.

    Args:
        stage: the stage.
        values: (N, H', W', O): accumulators, or bits.
        flip: None for accumulators (maximum); for bits, bool (H', W', O), AND where it is set, OR elsewhere.

    Returns:
        The same shape and dtype. At the first pixel of a window, and where pixels are dropped, the pixel's own value.

    >>> from refdesign.models import binarynet
    >>> from simulator.schedule import fit, schedule
    >>> network = binarynet(input_shape=(4, 4, 1), width=1 / 64, widths=(64, 64))
    >>> stage = schedule(network, fit(network))[1]
    >>> before_in_window(stage, np.arange(16).reshape(1, 4, 4, 1)[:, ::-1], None)[0, :2, :2, 0].tolist()
    [[12, 12], [13, 13]]
    """
    result = values.copy()
    (height, width), (down, right) = stage.pooled_map, stage.pool
    inside = np.s_[:, : height * down, : width * right]
    views = pool_views(stage, values)
    kept = pool_views(stage, result[inside].copy())
    flips = None if flip is None else pool_views(stage, flip[np.newaxis])
    held = views[:, :, 0, :, 0].copy()
    for row in range(down):
        for column in range(right):
            if row or column:
                kept[:, :, row, :, column] = held
                new = views[:, :, row, :, column]
                if flips is None:
                    held = np.maximum(held, new)
                else:
                    held = np.where(flips[:, :, row, :, column], held & new, held | new)
    result[inside] = kept.reshape(result[inside].shape)
    return result
