"""The MVTU's counters: fold, pixel, pool window and phase, all counted, nothing divided."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class AxisCounter:
    """Position along one axis of the output map, with its place in the pool's window and the dither's phase.

    Attributes:
        extent: pixels of the convolution's output along the axis.
        pool: pixels of a pool's window; 1 without a pool.
        period: the dither's.
        origin: the first pixel's phase.

    >>> axis = AxisCounter(extent=5, pool=2, period=3, origin=1)
    >>> states = []
    >>> for _ in range(6):
    ...     states.append((axis.position, axis.in_window, axis.window, axis.phase))
    ...     wrapped = axis.advance()
    >>> states
    [(0, 0, 0, 1), (1, 1, 0, 1), (2, 0, 1, 2), (3, 1, 1, 2), (4, 0, 2, 0), (0, 0, 0, 1)]
    """

    extent: int
    pool: int
    period: int
    origin: int

    def __post_init__(self) -> None:
        self._restart()

    def _restart(self) -> None:
        self.position = 0
        self.in_window = 0
        self.window = 0
        self.phase = self.origin

    @property
    def dropped(self) -> bool:
        """Whether the position lies behind the last whole window of the pool."""
        return (self.window + 1) * self.pool > self.extent

    @property
    def begins(self) -> bool:
        """Whether this is the first position of a window."""
        return self.in_window == 0

    @property
    def ends(self) -> bool:
        """Whether this is the last position of a window."""
        return self.in_window == self.pool - 1

    def advance(self) -> bool:
        """One position on; whether the axis began anew."""
        self.position += 1
        if self.position == self.extent:
            self._restart()
            return True
        self.in_window += 1
        if self.in_window == self.pool:
            self.in_window = 0
            self.window += 1
            self.phase += 1
            if self.phase == self.period:
                self.phase = 0
        return False


@dataclass
class FoldCounter:
    """Channel fold and synapse fold; the synapse fold runs faster.

    >>> fold = FoldCounter(channel_folds=2, synapse_folds=1)
    >>> fold.advance(), (fold.nf, fold.sf), fold.advance(), (fold.nf, fold.sf)
    (False, (1, 0), True, (0, 0))
    """

    channel_folds: int
    synapse_folds: int
    nf: int = 0
    sf: int = 0

    @property
    def last_synapse(self) -> bool:
        """Whether a sum ends in this cycle."""
        return self.sf == self.synapse_folds - 1

    def advance(self) -> bool:
        """One cycle on; whether the pixel is done."""
        self.sf += 1
        if self.sf < self.synapse_folds:
            return False
        self.sf = 0
        self.nf += 1
        if self.nf < self.channel_folds:
            return False
        self.nf = 0
        return True
