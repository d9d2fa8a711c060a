"""Wrong thresholds, read off the bits that a layer makes of known sums; or weights behind them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from refdesign.fold import Thresholds
from refdesign.network import NetworkData, Stage
from refdesign.ops.dither import phases
from refdesign.paths import thresholds_of
from refdesign.run import run_batch
from refdesign.verify.change import Change, Decision
from refdesign.verify.differences import differ
from refdesign.verify.entries.way import MOST, Array, Bools, Way
from refdesign.verify.entries.weights import behind_bits, summed
from refdesign.verify.verdict import Sample

Cell = tuple[int, int, int]


def of_bits(network: NetworkData, layer: Stage, sample: Sample) -> Iterator[list[Way]]:
    """The ways to read every channel, or phase of it, in which bits differ; an empty list where there is none.

    Args:
        network: the reference.
        layer: one of its layers that fold; all that goes into it agrees.
        sample: images with an implementation's answers.
    """
    output = f"{layer.name}.bits"
    source = f"{layer.name}.{'accumulator' if layer.pool is None else 'pooled'}"
    outputs = run_batch(network, sample.images, "packed", frozenset({output, source}))
    ours, theirs = outputs[output], sample.outputs[output]
    wrong = differ(ours, theirs)
    channels = np.flatnonzero(wrong.reshape(-1, wrong.shape[-1]).any(axis=0))
    if len(channels) > MOST or not (theirs.dtype == np.bool_ or np.isin(theirs, (-1, 1)).all()):
        return
    folded = thresholds_of(network)[layer.name]
    if folded.ternary.any():
        return
    maps = (len(ours), 1, 1, ours.shape[-1]) if ours.ndim == 2 else ours.shape
    known = source in sample.outputs
    decided = _Decided(layer.name, folded, outputs[source].reshape(maps), ((ours > 0) ^ wrong).reshape(maps), known)
    wrong = wrong.reshape(maps)
    # Sums that were not answered may be the ones that are wrong.
    sums = None if known else summed(network, layer, sample, np.asarray(wrong.any(axis=(1, 2, 3))))
    for channel in channels.tolist():
        cells = [cell for cell in decided.cells(channel) if decided.of(wrong, cell).any()]
        ways = [decided.ways(cell, int(decided.of(wrong, cell).sum())) for cell in cells]
        others: list[Way] = [(_decided_as(layer, channel, other),) for other in decided.like(channel)]
        if sums is not None:
            others += behind_bits(
                sums, channel, decided.fires[sums.images][..., channel], partial(decided.by, channel=channel)
            )
        if len(cells) == 1:  # the likeliest is the one threshold
            yield [*ways[0], *others]
        elif others or not known:  # a wrong sum shows in all phases of its channel, too
            yield others
        else:
            yield from ways


@dataclass(frozen=True)
class _Decided:
    """What bits say about the thresholds of a layer.

    Attributes:
        layer: its name.
        folded: the reference's thresholds.
        sums: int (N, H, W, C), as they are compared.
        fires: bool (N, H, W, C), whether the implementation's bit is +1.
        known: whether the implementation answered the sums, and they are these.
    """

    layer: str
    folded: Thresholds
    sums: NDArray[np.int32]
    fires: Bools
    known: bool

    def cells(self, channel: int) -> list[Cell]:
        """Every phase of a channel."""
        m, n, _ = self.folded.shape
        return [(row, column, channel) for row in range(m) for column in range(n)]

    def of(self, maps: Array, cell: Cell) -> Array:
        """What maps (N, H, W, C) hold in one phase of a channel."""
        rows, columns = self._phases()
        return maps[:, rows == cell[0]][:, :, columns == cell[1], cell[2]]

    def ways(self, cell: Cell, wrong: int) -> list[Way]:
        """The outermost rules that decide all sums of a phase and channel so; they have one name."""
        sums, fires = self.of(self.sums, cell), self.of(self.fires, cell)
        direction, right = int(self.folded.direction[cell]), int(self.folded.threshold[cell])
        found = _rules(sums, fires, direction or 1, self.folded.certificate.domain.step)
        if found is None:
            return []
        ours, entry = self.folded.rule(*cell), f"threshold[{cell[0]}, {cell[1]}, {cell[2]}]"
        where = f"phase {cell[:2]} of channel {cell[2]}"
        rests = f"{sums.size:,} sums there were compared, {wrong:,} of their bits differ"
        rests += "" if self.known else "; you did not answer the sums, and a wrong weight can look so, too"
        wrong_so = f" = {found.value} instead of {right}" if found.direction == direction else f": {found}, not {ours}"
        return [
            (
                Change(
                    name=entry + wrong_so,
                    group="entry",
                    says=f"{where} fires at {found}; {rests}",
                    right=f"let {where} {'fire at' if direction else 'be'} {ours}",
                    decide=partial(_spoil, cell=cell, rule=rule),
                ),
            )
            for rule in sorted(found.ends, key=lambda rule: abs(rule[0] - right))
        ]

    def like(self, channel: int) -> list[int]:
        """The other channels with whose thresholds this one's sums are decided so, the nearest first."""
        made = self.by(self.sums[..., channel, np.newaxis])
        fit = (made == self.fires[..., channel, np.newaxis]).all(axis=(0, 1, 2))
        return sorted(np.flatnonzero(fit).tolist(), key=lambda other: abs(other - channel))[:MOST]

    def by(self, sums: Array, channel: int | None = None) -> Bools:
        """Whether sums (N, H, W, C) fire by the thresholds of all channels, or of one."""
        rows, columns = (part.astype(np.intp) for part in self._phases())
        which = slice(None) if channel is None else slice(channel, channel + 1)
        t, d, c = (
            field[rows[:, np.newaxis], columns][..., which]
            for field in (self.folded.threshold, self.folded.direction, self.folded.constant)
        )
        return np.asarray(np.where(d > 0, sums >= t, np.where(d < 0, sums <= t, c > 0)))

    def _phases(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        m, n, _ = self.folded.shape
        origin = self.folded.conventions.kernel_origin
        return phases(self.sums.shape[1], m, origin), phases(self.sums.shape[2], n, origin)


Rule = tuple[int, int, int]
"""Threshold, direction and constant, as in `Thresholds`."""


@dataclass(frozen=True)
class _Rules:
    """The rules that decide some sums in the same way: their thresholds in words, and the outermost of them."""

    value: str
    direction: int
    ends: tuple[Rule, ...]

    def __str__(self) -> str:
        return f"a {'>=' if self.direction > 0 else '<='} {self.value}"


def _rules(sums: NDArray[np.int32], fires: Bools, direction: int, step: int) -> _Rules | None:
    """The rules that decide these sums so; in the other direction only where none does in this one.

    >>> sums = np.array([3, 5, 11])
    >>> print(_rules(sums, sums > 5, 1, 2), _rules(sums, sums > 5, 1, 6), _rules(sums, sums < 5, 1, 2), sep="; ")
    a >= 7 to 11; a >= 11; a <= 3
    >>> print(_rules(sums, sums > 11, 1, 2), _rules(sums, sums > 11, -1, 2), sep="; ")
    a >= 13 or more; a <= 1 or less
    """
    for way in (direction, -direction):
        on, off = way * sums[fires].astype(np.int64), way * sums[~fires].astype(np.int64)
        beyond = ("more", "less")[::way]
        if not on.size:
            end = int(way * (off.max() + step))
            return _Rules(f"{end} or {beyond[0]}", way, ((end, way, 0), (0, 0, -1)))
        if not off.size:
            end = int(way * on.min())
            return _Rules(f"{end} or {beyond[1]}", way, ((end, way, 0), (0, 0, 1)))
        if off.max() < on.min():
            low, high = sorted((int(way * (off.max() + step)), int(way * on.min())))
            value = f"{low}" if low == high else f"{low} {'or' if high - low == step else 'to'} {high}"
            return _Rules(value, way, tuple((end, way, 0) for end in dict.fromkeys((low, high))))
    return None


def _spoil(decision: Decision, cell: Cell, rule: Rule) -> bool:
    decision.threshold[cell], decision.direction[cell], decision.constant[cell] = rule
    return True


def _decided_as(layer: Stage, channel: int, other: int) -> Change:
    def decide(decision: Decision) -> bool:
        for field in (decision.threshold, decision.direction, decision.constant):
            field[..., channel] = field[..., other]
        return True

    return Change(
        name=f"channel {channel} decided by the thresholds of channel {other}",
        group="entry",
        says=f"{layer.name}.threshold[:, :, {channel}] is {layer.name}.threshold[:, :, {other}]",
        right=f"let channel {channel} use its own thresholds",
        decide=decide,
    )
