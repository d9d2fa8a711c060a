"""The accumulator of one PE."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.units.width import Width


@dataclass
class Accumulator:
    """A register that sums one output's terms, synapse fold by synapse fold.

    Attributes:
        width: of the register, two's complement.
        value: what it holds.

    >>> accumulator = Accumulator(Width(4, True, "error"))
    >>> accumulator.clock(accumulator.sum(scale=1, popcount=3, valid=4, first=True))
    >>> accumulator.sum(scale=1, popcount=0, valid=4, first=False)
    -2
    """

    width: Width
    value: int = 0

    def sum(self, *, scale: int, popcount: int, valid: int, first: bool) -> int:
        """This cycle's sum: `popcount` of `valid` lanes agree (+1 each), the others do not (-1 each).

        Args:
            scale: what a lane counts.
            popcount: lanes that agree.
            valid: lanes that count.
            first: whether this is the sum's first term.
        """
        return self.width.hold((0 if first else self.value) + scale * (2 * popcount - valid))

    def clock(self, value: int) -> None:
        """The rising edge: take the sum over."""
        self.value = value
