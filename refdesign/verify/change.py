"""What can be changed in the reference, and where: the data of a hypothesis.

A change acts at one of the places where implementations go wrong: the images, the conventions, a layer's data, its
accumulators, its decision, its real stream, the logits, or how the outputs are written down.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.conventions import Conventions
from refdesign.network import Layer, NetworkData, Stage
from refdesign.ops.dither import first_phase, phases

Integers = NDArray[np.int32]
Real = NDArray[np.float32]


class NotApplicable(Exception):
    """A change that cannot be made in this network."""


@dataclass(frozen=True)
class Place:
    """Where a change of sums is at work: a layer of the network, and the layer's input, bits or pixels."""

    network: NetworkData
    layer: Stage
    inputs: Any


@dataclass(frozen=True)
class Stream:
    """Where a change of the real stream is at work.

    Attributes:
        layer: the layer.
        z: float32 (N, H, W, C), behind batch norm and dither.
        sources: the real streams of earlier layers, by name.
        conventions: those of the layer.
    """

    layer: Stage
    z: Real
    sources: Mapping[str, Real]
    conventions: Conventions


@dataclass
class Decision:
    """How a layer turns accumulators into bits, for a change to spoil.

    Attributes:
        threshold, direction, constant: (m, n, C), as in `Thresholds`.
        zero_low, zero_high: (m, n, C); accumulators between them give 0.
        step: the distance between attainable accumulators.
        rows, columns: (H, W), the phase over every pixel.
        a: int64 (N, H, W, C), the accumulators, after the pool.
        before_pool: the accumulators before it; the same where there is none.
        layer: the layer.
        conventions: those of the layer.
        bits: the outcome where a change decides by itself, int8 (N, H, W, C).
    """

    threshold: NDArray[np.int64]
    direction: NDArray[np.int8]
    constant: NDArray[np.int8]
    zero_low: NDArray[np.int64]
    zero_high: NDArray[np.int64]
    step: int
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    a: NDArray[np.int64]
    before_pool: NDArray[np.int64]
    layer: Stage
    conventions: Conventions
    bits: NDArray[np.int8] | None = None

    @property
    def period(self) -> tuple[int, int]:
        """The kernel's rows and columns, (m, n)."""
        return self.threshold.shape[0], self.threshold.shape[1]

    def decide(self) -> NDArray[np.int8]:
        """The bits, int8 (N, H, W, C)."""
        if self.bits is not None:
            return self.bits
        return self.compare(self.a, self.rows, self.columns)

    def compare(self, a: NDArray[np.int64], rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.int8]:
        """The bits of accumulators (N, H, W, C) under the phases of their pixels, (H, W)."""
        t, d, c = (field[rows, columns] for field in (self.threshold, self.direction, self.constant))
        fires = np.where(d > 0, a >= t, np.where(d < 0, a <= t, c > 0))
        bits = np.where(fires, 1, np.where((d == 0) & (c == 0), 0, -1)).astype(np.int8)
        low, high = self.zero_low[rows, columns], self.zero_high[rows, columns]
        if (low <= high).any():
            bits[(a >= low) & (a <= high)] = 0
        return bits

    def phases(self, height: int, width: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The phase over every pixel of a map of this extent, (H, W) each, as the conventions have it."""
        m, n = self.period
        origin = self.conventions.kernel_origin
        rows, columns = np.meshgrid(phases(height, m, origin), phases(width, n, origin), indexing="ij")
        return rows, columns

    def origin(self) -> tuple[int, int]:
        """The kernel's row and column over the map's first pixel."""
        m, n = self.period
        height, width = self.rows.shape
        origin = self.conventions.kernel_origin
        return first_phase(height, m, origin), first_phase(width, n, origin)


@dataclass(frozen=True, kw_only=True)
class Change:
    """One known way to go wrong, as functions at the places where it acts; None: it does not act there.

    Attributes:
        name: short, as it is printed: `sign_at_zero=-1`.
        group: the class of bug.
        says: one sentence.
        conventions: fields of `Conventions` that are replaced.
        pixels: changes the images, uint8 (N, H, W, C).
        layer: gives the changed layer, or None where it does not apply.
        accumulate: changes accumulators before the pool; None where it does not apply.
        decide: changes the decision in place; false where it does not apply.
        real: gives the real stream, shortcut and clamp included; None where it does not apply.
        logits: gives the logits of the last layer's sums; None where it does not apply.
        write: changes an output as it is written down, by name; None leaves it.
        between: whether its decision needs thresholds at every integer, not only at attainable sums.
        spelling_of: the name of the same mistake as it is more usual; where both explain, only that one is given.
        right: what the reference does there, where the group's own text does not say it.
    """

    name: str
    group: str
    says: str
    conventions: Mapping[str, Any] | None = None
    pixels: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None
    layer: Callable[[Layer, NetworkData], Layer | None] | None = None
    accumulate: Callable[[Integers, Place], Integers | None] | None = None
    decide: Callable[[Decision], bool] | None = None
    real: Callable[[Stream], Real | None] | None = None
    logits: Callable[[NDArray[Any], Stage, Conventions], NDArray[Any] | None] | None = None
    write: Callable[[str, NDArray[Any]], NDArray[Any] | None] | None = None
    between: bool = False
    spelling_of: str = ""
    right: str = ""

    @property
    def by_layer(self) -> bool:
        """Whether it can be in some layers and not in others."""
        places = (self.conventions, self.layer, self.accumulate, self.decide, self.real, self.logits)
        return any(place is not None for place in places)

    @property
    def must_act(self) -> bool:
        """Whether only a run shows that there is something that it applies to."""
        return any(place is not None for place in (self.accumulate, self.decide, self.real, self.logits))


@dataclass(frozen=True)
class Placed:
    """A change with the layers that it is in; `where` is how that is printed.

    Of what is written, `output` is the only one that is changed; empty: all are.
    """

    change: Change
    layers: frozenset[str]
    where: str = "everywhere"
    output: str = ""

    def __str__(self) -> str:
        return self.change.name if self.where == "everywhere" else f"{self.change.name} in {self.where}"

    def to_dict(self) -> dict[str, str]:
        """Plain data for JSON."""
        change = self.change
        return {"name": change.name, "group": change.group, "says": change.says, "where": self.where}
