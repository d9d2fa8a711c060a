"""When the source offers words and the sink takes them: stalls from outside the pipeline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError


@dataclass(frozen=True, eq=False)
class Stalls:
    """Two patterns over the cycles, each repeated without end; True: no stall.

    Attributes:
        source: bool, whether the source offers its next word in a cycle.
        sink: bool, whether the sink takes a word in a cycle.

    Raises:
        RefdesignError: a pattern that is empty, not bool, or never True.

    >>> stalls = Stalls(source=np.array([True, False]), sink=np.array([True]))
    >>> stalls.offers(2), stalls.offers(3), stalls.takes(3)
    (True, False, True)
    """

    source: NDArray[np.bool_]
    sink: NDArray[np.bool_]

    def __post_init__(self) -> None:
        for name in ("source", "sink"):
            pattern = getattr(self, name)
            if not isinstance(pattern, np.ndarray) or pattern.dtype != np.bool_ or pattern.ndim != 1:
                raise RefdesignError(f"stalls, {name}: expected a bool array with one axis")
            if not pattern.any():
                raise RefdesignError(f"stalls, {name}: found no cycle without a stall, expected at least one")

    @classmethod
    def random(cls, seed: int, share: float = 0.3, period: int = 997) -> Stalls:
        """Random patterns of `period` cycles in which about `share` of the cycles are stalls, on either side.

        Raises:
            RefdesignError: a share outside [0, 1).

        >>> 0.2 < 1 - float(Stalls.random(1, 0.25).source.mean()) < 0.3
        True
        """
        if not 0 <= share < 1 or period < 1:
            raise RefdesignError(f"stalls: found share {share} and period {period}, expected 0 to below 1, at least 1")
        rng = np.random.default_rng(seed)
        source, sink = rng.random((2, period)) >= share
        source[0] = sink[0] = True
        return cls(source, sink)

    def offers(self, cycle: int) -> bool:
        """Whether the source offers in this cycle."""
        return bool(self.source[cycle % self.source.size])

    def takes(self, cycle: int) -> bool:
        """Whether the sink takes in this cycle."""
        return bool(self.sink[cycle % self.sink.size])


NO_STALLS = Stalls(np.ones(1, np.bool_), np.ones(1, np.bool_))
"""The source always offers, the sink always takes."""
