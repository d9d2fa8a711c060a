"""Why a threshold is what it is: the attainable neighbours across the boundary, with their z.

z is monotone along the attainable accumulators. So the neighbours on either side of the boundary (of both boundaries
where exact ties stay zero; the domain's ends where the bit never changes) prove a whole channel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from refdesign.boundary import Boundaries, IntegerThresholds, boundaries, program_z
from refdesign.checks import is_whole
from refdesign.conventions import Conventions
from refdesign.domain import AttainableDomain, Int64Array
from refdesign.errors import RefdesignError
from refdesign.ops.dither import phase_thresholds
from refdesign.ops.exact import KERAS_ROUND_EXPONENT, SCALE, ExactBatchNorm
from refdesign.parameters import BatchNorm, Float32Array, ThresholdKernel


@dataclass(frozen=True)
class Neighbour:
    """One attainable accumulator, its z and its bit.

    Attributes:
        accumulator: a.
        bit: -1, 0 or +1.
        z: under a float program, the program's float32 (as a Python float); under `"real"` two rationals that
            enclose the exact z, equal where it is one of them, and never with the boundary strictly between.

    >>> Neighbour(3, 1, (Fraction(1, 2), Fraction(1, 2))).decimal
    0.5
    """

    accumulator: int
    bit: int
    z: float | tuple[Fraction, Fraction]

    @property
    def decimal(self) -> float:
        """z as a float: the program's, or the lower end of the enclosure, rounded."""
        return self.z if isinstance(self.z, float) else float(self.z[0])

    def to_dict(self) -> dict[str, object]:
        """Plain data for JSON: z as a text that loses nothing, and a decimal for the reader.

        >>> Neighbour(3, 1, 0.5).to_dict()
        {'accumulator': 3, 'bit': 1, 'z': '0x1.0000000000000p-1', 'decimal': '0.5'}
        """
        exact: object = self.z.hex() if isinstance(self.z, float) else [str(end) for end in self.z]
        return {"accumulator": self.accumulator, "bit": self.bit, "z": exact, "decimal": f"{self.decimal:.9g}"}


@dataclass(frozen=True)
class Entry:
    """The certificate of one phase and channel.

    Attributes:
        row, column: the phase.
        channel: c.
        domain: (low, high, step) of the attainable accumulators.
        neighbours: in ascending order of the accumulator: the two across the boundary (up to four where exact ties
            stay zero); the domain's ends where the bit never changes.
        agrees: whether the arithmetic that the certificate is compared with gives the same thresholds; None where
            that arithmetic refuses the layer.
        other: when the bit fires under that arithmetic, in words; empty where it agrees or refuses.

    >>> Entry(0, 1, 2, (-3, 3, 2), (Neighbour(-1, -1, -0.5), Neighbour(1, 1, 0.25)), True).neighbours[1].bit
    1
    """

    row: int
    column: int
    channel: int
    domain: tuple[int, int, int]
    neighbours: tuple[Neighbour, ...]
    agrees: bool | None
    other: str = ""

    def to_dict(self) -> dict[str, object]:
        """Plain data for JSON.

        >>> sorted(Entry(0, 1, 2, (-3, 3, 2), (), None).to_dict())
        ['agrees', 'channel', 'column', 'domain', 'neighbours', 'other', 'row']
        """
        return {
            "row": self.row,
            "column": self.column,
            "channel": self.channel,
            "domain": list(self.domain),
            "neighbours": [neighbour.to_dict() for neighbour in self.neighbours],
            "agrees": self.agrees,
            "other": self.other,
        }


@dataclass(frozen=True, eq=False, repr=False)
class Certificate:
    """The certificate of a layer's thresholds (docs/method.md, section 4); entries are made when they are asked for.

    Attributes:
        batch_norm, kernel, conventions: what was folded, and under which choices.
        domain: the attainable accumulators.
        boundaries: where the sign changes.

    >>> from refdesign.fold import fold
    >>> bn = BatchNorm([1.0], [0.0], [0.5], [4.0], 0.0)
    >>> certificate = fold(bn, None, fan_in=3, conventions=Conventions()).certificate
    >>> certificate
    <Certificate (1, 1, 1): arithmetic real, a in -3..3 by 1>
    >>> print(certificate.text())
    arithmetic real, compared with torch: all 1 agree
    phase  channel  domain         a -> z (bit)                     torch
    (0,0)        0  -3..3 by 1     0 -> -0.25 (-1); 1 -> 0.25 (+1)  agrees
    """

    batch_norm: BatchNorm
    kernel: ThresholdKernel
    conventions: Conventions
    domain: AttainableDomain
    boundaries: Boundaries

    def __repr__(self) -> str:
        """In one line; `text()` has the whole table."""
        return f"<Certificate {self.shape}: arithmetic {self.arithmetic}, a in {self.domain.text()}>"

    @property
    def arithmetic(self) -> str:
        """The arithmetic that the thresholds hold for."""
        return self.conventions.arithmetic

    @property
    def compared_with(self) -> str:
        """The other arithmetic: `"real"` for a float program, `"torch"` for `"real"`."""
        return "torch" if self.arithmetic == "real" else "real"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(m, n, C)."""
        m, n, channels = self.boundaries.slope.shape
        return m, n, channels

    @cached_property
    def _comparison(self) -> tuple[NDArray[np.bool_] | None, IntegerThresholds | None, str]:
        other = self.conventions.replace(arithmetic=self.compared_with)
        try:
            found = boundaries(self.batch_norm, self.kernel, other, self.domain)
        except RefdesignError as error:
            return None, None, str(error)
        mine = self.boundaries.integers(self.conventions, self.domain)
        theirs = found.integers(other, self.domain)
        return np.logical_and.reduce([a == b for a, b in zip(mine, theirs, strict=True)]), theirs, ""

    @property
    def agrees(self) -> NDArray[np.bool_] | None:
        """Where the other arithmetic gives the same thresholds, shape (m, n, C); None where it refuses the layer."""
        return self._comparison[0]

    @property
    def refusal(self) -> str:
        """Why the other arithmetic refuses the layer; empty where it does not."""
        return self._comparison[2]

    def place(self, row: int, column: int, channel: int) -> tuple[int, int, int]:
        """A phase and channel as an index into arrays (m, n, C); negative ones do not count from the end.

        Raises:
            RefdesignError: there is no such phase or channel.
        """
        where = (row, column, channel)
        if not all(is_whole(index, 0) and index < extent for index, extent in zip(where, self.shape, strict=True)):
            raise RefdesignError(
                f"certificate: found phase ({row}, {column}) and channel {channel}, expected from 0 to below "
                f"{self.shape}"
            )
        return where

    def entry(self, row: int, column: int, channel: int) -> Entry:
        """The certificate of one phase and channel.

        Raises:
            RefdesignError: there is no such phase or channel.
        """
        where = self.place(row, column, channel)
        low, step = int(self.domain.low[channel]), self.domain.step
        neighbours = tuple(
            Neighbour(low + step * place, self._bit(where, place), self._z(where, low + step * place))
            for place in self._places(where)
        )
        agrees = None if self.agrees is None else bool(self.agrees[where])
        theirs = self._comparison[1]
        other = theirs.rule(where) if theirs is not None and agrees is False else ""
        return Entry(row, column, channel, (low, int(self.domain.high[channel]), step), neighbours, agrees, other)

    def entries(self) -> Iterator[Entry]:
        """The entries of all phases and channels, channels fastest."""
        for row, column, channel in np.ndindex(self.shape):
            yield self.entry(row, column, channel)

    def to_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        return {
            "arithmetic": self.arithmetic,
            "compared_with": self.compared_with,
            "agreeing": None if self.agrees is None else int(self.agrees.sum()),
            "refusal": self.refusal,
            "shape": list(self.shape),
            "conventions": self.conventions.to_dict(),
            "entries": [entry.to_dict() for entry in self.entries()],
        }

    def table(self) -> list[dict[str, object]]:
        """One row for each phase and channel, as texts and numbers for printing."""
        words = {True: "agrees", False: "differs", None: "refuses"}
        rows: list[dict[str, object]] = []
        for entry in self.entries():
            low, high, step = entry.domain
            shown = "; ".join(f"{n.accumulator} -> {n.decimal:.9g} ({n.bit:+d})" for n in entry.neighbours)
            rows.append(
                {
                    "phase": f"({entry.row},{entry.column})",
                    "channel": entry.channel,
                    "domain": f"{low}..{high} by {step}",
                    "a -> z (bit)": shown,
                    self.compared_with: words[entry.agrees] + (f": {entry.other}" if entry.other else ""),
                }
            )
        return rows

    def text(self) -> str:
        """The table as lines of text, under one line that says how many phases and channels agree."""
        rows = self.table()
        head = f"arithmetic {self.arithmetic}, compared with {self.compared_with}: "
        if self.agrees is None:
            head += self.refusal
        elif self.agrees.all():
            head += f"all {self.agrees.size} agree"
        else:
            head += f"{int(self.agrees.sum())} of {self.agrees.size} agree"
        widths = {name: max(len(name), *(len(str(row[name])) for row in rows)) for name in rows[0]}
        lines = [head, "  ".join(name.ljust(width) for name, width in widths.items())]
        for row in rows:
            cells = [
                str(row[name]).rjust(width) if isinstance(row[name], int) else str(row[name]).ljust(width)
                for name, width in widths.items()
            ]
            lines.append("  ".join(cells))
        return "\n".join(line.rstrip() for line in lines)

    @cached_property
    def _cells(self) -> Float32Array:
        return phase_thresholds(self.kernel, self.batch_norm.channels, self.conventions)

    @cached_property
    def _exact(self) -> ExactBatchNorm:
        return ExactBatchNorm(self.batch_norm, self.conventions.threshold_scale, keras_round=self._keras_round)

    @property
    def _keras_round(self) -> bool:
        return self.conventions.sign_rule == "keras_round"

    def _crossings(self, where: tuple[int, int, int]) -> tuple[int, int, int]:
        """In the direction in which z grows: the first place at the boundary, the first above it, and the count."""
        count = int(self.domain.counts[where[2]])
        return count - int(self.boundaries.at_or_above[where]), count - int(self.boundaries.above[where]), count

    def _bit(self, where: tuple[int, int, int], place: int) -> int:
        reached, passed, count = self._crossings(where)
        grown = place if self.boundaries.slope[where] > 0 else count - 1 - place
        if grown >= passed:
            return 1
        return self.conventions.sign_at_zero if grown >= reached else -1

    def _places(self, where: tuple[int, int, int]) -> list[int]:
        """The places in the domain that prove the channel, ascending."""
        reached, passed, count = self._crossings(where)
        firsts = {1: {reached}, -1: {passed}, 0: {reached, passed}}[self.conventions.sign_at_zero]
        changes = [first for first in firsts if 0 < first < count]
        grown = {place for first in changes for place in (first - 1, first)} or {0, count - 1}
        return sorted(grown if self.boundaries.slope[where] > 0 else {count - 1 - place for place in grown})

    @cached_property
    def _program(self) -> tuple[Int64Array, Float32Array]:
        """Under a float program: the places that any entry shows, and their z; arrays (6, m, n, C)."""
        counts = np.broadcast_to(self.domain.counts, self.shape)
        zero = np.zeros_like(counts)
        edges = []
        for count in (self.boundaries.at_or_above, self.boundaries.above):
            first = np.where(self.boundaries.slope > 0, counts - count, count)
            edges += [np.clip(first - 1, 0, counts - 1), np.clip(first, 0, counts - 1)]
        places = np.stack([zero, counts - 1, *edges])
        z = [program_z(self.batch_norm, self._cells, self.conventions, self.domain.at(place)) for place in places]
        return places, np.stack(z)

    def _z(self, where: tuple[int, int, int], accumulator: int) -> float | tuple[Fraction, Fraction]:
        if self.arithmetic != "real":
            places, z = self._program
            place = (accumulator - int(self.domain.low[where[2]])) // self.domain.step
            shown = int(np.argmax(places[(slice(None), *where)] == place))
            return float(z[(shown, *where)])
        cell = float(self._cells[where])
        low, high = self._exact.channel(where[2], cell).enclosure(accumulator << SCALE)
        boundary = Fraction(1, 2**-KERAS_ROUND_EXPONENT) if self._keras_round else Fraction(0)
        return low + boundary, high + boundary
