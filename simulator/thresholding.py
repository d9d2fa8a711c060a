"""What stands behind the accumulators, for all output pixels at once: the pool and the threshold comparators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.memory import StageMemory
from simulator.stage import StageSchedule

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparators:
    """A stage's threshold memory, laid out for arrays of channels.

    Attributes:
        stage: its schedule; it has thresholds.
        limit: int64 (m, n, O).
        flip: bool (m, n, O).
    """

    stage: StageSchedule
    limit: NDArray[np.int64]
    flip: NDArray[np.bool_]

    @classmethod
    def of(cls, stage: StageSchedule, memory: StageMemory) -> Comparators:
        """From the memory's banks."""
        m, n = stage.period
        nf, pe = np.nonzero(stage.channels >= 0)
        order = np.argsort(stage.channels[nf, pe])
        nf, pe = nf[order], pe[order]
        addresses = nf * (m * n) + np.arange(m * n)[:, np.newaxis]
        limit, flip = memory.limit[pe, addresses], memory.flip[pe, addresses]
        return cls(stage=stage, limit=limit.reshape(m, n, -1), flip=flip.reshape(m, n, -1))

    def _over(self, cells: Array, pooled: bool) -> Array:
        """A memory's cells over the map, (H, W, O): behind the pool, or before it."""
        rows, columns = (phases.reshape(self.stage.output_map) for phases in self.stage.phase)
        rows, columns = rows[:, 0], columns[0]
        if pooled:
            (height, width), (down, right) = self.stage.pooled_map, self.stage.pool
            rows, columns = rows[::down][:height], columns[::right][:width]
        over: Array = cells[rows[:, np.newaxis], columns]
        return over

    def over_map(self) -> NDArray[np.bool_]:
        """`flip` over the map before the pool: bool (H', W', O)."""
        flips: NDArray[np.bool_] = self._over(self.flip, False)
        return flips

    def compare(self, sums: Array, *, pooled: bool) -> NDArray[np.bool_]:
        """Output bits of sums (N, H, W, O), behind the pool or before it."""
        fires: NDArray[np.bool_] = sums >= self._over(self.limit, pooled).astype(sums.dtype)
        if self.flip.any():
            fires ^= self._over(self.flip, pooled)
        return fires

    def pool_bits(self, bits: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """OR over each window, AND where `flip`: bool (N, H, W, O) to (N, H // rows, W // columns, O)."""
        views = pool_views(self.stage, bits)
        return np.where(self._over(self.flip, True), views.all(axis=(2, 4)), views.any(axis=(2, 4)))


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
