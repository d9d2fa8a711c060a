"""How long a diagnosis may take, and who is told how far it has come."""

from __future__ import annotations

import time
from collections.abc import Callable

_KEPT = 0.1  # of the time, for questions to the implementation about what the search has found


class TimeOver(Exception):
    """The time is over; what was found so far counts."""


class Budget:
    """The seconds that a diagnosis has.

    It is asked before each layer that is run, so that it holds whatever a network's size.

    Args:
        seconds: as many, by the clock; a tenth is kept back until `release`.
        clock: seconds from anywhere; processor time of this thread, so that a machine's load does not count.
        progress: called with (changes tried, changes to try), stage by stage.

    >>> Budget(60.0).check()
    >>> Budget(0.0).check()
    Traceback (most recent call last):
    refdesign.verify.budget.TimeOver
    """

    def __init__(
        self,
        seconds: float,
        clock: Callable[[], float] = time.thread_time,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._clock = clock
        self._started = clock()
        self._seconds = seconds
        self._limit = (1 - _KEPT) * seconds
        self._progress = progress

    @property
    def spent(self) -> float:
        """Seconds since it was made."""
        return self._clock() - self._started

    def check(self) -> None:
        """Go on only while there is time.

        Raises:
            TimeOver: there is none.
        """
        if self.spent >= self._limit:
            raise TimeOver

    def release(self) -> None:
        """Let what was kept back be spent, too."""
        self._limit = self._seconds

    def tell(self, done: int, total: int) -> None:
        """Say how far a stage of the search has come."""
        if self._progress is not None:
            self._progress(done, total)
