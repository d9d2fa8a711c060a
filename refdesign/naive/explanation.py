"""What `explain` returns: one output bit with everything between its window and its value."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from refdesign.conventions import Conventions


@dataclass(frozen=True)
class Tap:
    """One position of a window: what is multiplied there.

    Attributes:
        place: (row, column) in the input map that the values are read from, or None outside of it.
        x: the input's values, channel by channel: +1, -1 (0 where padding or a tie counts for nothing), or in a
            pixel layer multiplier*p + offset.
        w: the weights.
    """

    place: tuple[int, int] | None
    x: tuple[int, ...]
    w: tuple[int, ...]

    @property
    def agree(self) -> tuple[int, ...]:
        """The XNOR of a binary layer: 1 where x and w are equal, 0 where they differ or x counts for nothing."""
        return tuple(int(x == w) for x, w in zip(self.x, self.w, strict=True))


@dataclass(frozen=True)
class Window:
    """One accumulator.

    Attributes:
        place: (row, column) in the map of accumulators, before any pool.
        taps: row by row of the kernel.
        accumulator: a = sum x*w.
    """

    place: tuple[int, int]
    taps: tuple[Tap, ...]
    accumulator: int

    @property
    def valid(self) -> int:
        """How many positions count: those whose x is not 0."""
        return sum(x != 0 for tap in self.taps for x in tap.x)

    @property
    def popcount(self) -> int:
        """How many x equal their weight. In a binary layer a = 2*popcount - valid."""
        return sum(bit for tap in self.taps for bit in tap.agree)


@dataclass(frozen=True)
class Fold:
    """The integer threshold that this place of this channel folds into.

    Attributes:
        direction: +1: fires at a >= threshold; -1: fires at a <= threshold; 0: one bit for every accumulator.
        threshold: the attainable accumulator nearest the boundary on the firing side; None where none fires or
            the bit is constant.
        constant: the bit of a constant channel, else None.
        ties: lowest and highest accumulator whose bit is 0 (`sign_at_zero=0`), or None. Ties do not fire.
        low, high, step: the attainable accumulators.
    """

    direction: int
    threshold: int | None
    constant: int | None
    ties: tuple[int, int] | None
    low: int
    high: int
    step: int


@dataclass(frozen=True)
class Step:
    """One intermediate result: its name, how it came about, and its value as float32 or as an exact fraction."""

    name: str
    formula: str
    value: float | Fraction


@dataclass(frozen=True)
class Explanation:
    """Everything between a window and its bit.

    Attributes:
        layer: the layer's name.
        kind: its kind.
        index: (row, column, channel) of the bit, or (channel,) in a dense layer.
        conventions: the choices that hold.
        binary: whether x are ±1, so that XNOR and popcount mean something.
        windows: the window of the bit; with a max pool every window under it.
        pooled: the accumulator that is thresholded, the largest of the windows' ones.
        steps: batch norm and dither in the named arithmetic, in order; the last one is z.
        phase: (row, column, slice) in the threshold kernel.
        threshold: T there, as float32.
        enclosure: two fractions around the exact z of exact arithmetic, equal where it is rational and short.
        margin: how far z lies above the boundary at which the bit fires (negative: below): of the exact z under
            `"real"` arithmetic (the end of the enclosure nearer to it), otherwise of the float program's z.
        fold: the integer threshold; None for a layer with a residual addition.
        bit: +1, -1 or 0.
    """

    layer: str
    kind: str
    index: tuple[int, ...]
    conventions: Conventions
    binary: bool
    windows: tuple[Window, ...]
    pooled: int
    steps: tuple[Step, ...]
    phase: tuple[int, int, int]
    threshold: float
    enclosure: tuple[Fraction, Fraction]
    margin: Fraction
    fold: Fold | None
    bit: int
