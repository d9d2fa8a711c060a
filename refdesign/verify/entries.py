"""Wrong entries of one layer's tables, read off its answers: thresholds, and weights.

A network has too many entries to try each. But where the layers before agree, so that a layer's sums are known, its
bits say between which sums each of its thresholds lies, and a sum that is off says which of its products have the
wrong sign. What is read so is a guess: like every known change it counts only if it explains all that was answered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.fold import Thresholds
from refdesign.network import BinaryConv2d, BinaryDense, Convolution, NetworkData, PixelConv2d, Stage
from refdesign.ops.dither import phases
from refdesign.paths import thresholds_of
from refdesign.run import run_batch
from refdesign.verify.change import Change, Decision, Place, Placed
from refdesign.verify.differences import differ
from refdesign.verify.hypotheses.weights import reweighted
from refdesign.verify.hypotheses.windows import weights_of, windows_of
from refdesign.verify.verdict import Sample

Bools = NDArray[np.bool_]
Cell = tuple[int, int, int]
Way = tuple[Change, ...]
"""One way to read what is wrong in one channel, or in one phase of it."""

_MOST = 8  # entries that are named, and ways to read one of them
_READINGS = 16  # of all entries that are wrong
_DEEP = 3  # inverted weights in one channel
_BROAD = 4  # of the weights that come nearest, as many are tried
_SUMS = 4096  # of a channel are enough to tell its weights apart


def wrong_entries(network: NetworkData, sample: Sample, output: str) -> list[tuple[Placed, ...]]:
    """The wrong entries that can be behind the first difference, the likeliest first.

    Args:
        network: the reference.
        sample: images with an implementation's answers.
        output: the first that differs; all that goes into its layer agrees.

    Returns:
        Some readings, each of all entries that are wrong by it; none where so few entries cannot be behind it.
    """
    name, _, part = output.rpartition(".")
    layer = network.layer(name) if name else None
    if not isinstance(layer, Stage):
        return []
    units = list(_of_bits(network, layer, sample)) if part == "bits" and layer.folds else []
    if part == "accumulator":
        units = list(_of_sums(network, layer, sample))
    if not units or not all(units):
        return []
    first = [ways[0] for ways in units]
    others = [(number, way) for number, ways in enumerate(units) for way in ways[1:]]
    readings = [first, *([*first[:number], way, *first[number + 1 :]] for number, way in others)]
    return [
        tuple(Placed(change, frozenset({name}), name) for way in reading for change in way)
        for reading in readings[:_READINGS]
        if sum(map(len, reading)) <= _MOST
    ]


def _of_bits(network: NetworkData, layer: Stage, sample: Sample) -> Iterator[list[Way]]:
    """The ways to read every channel, or phase of it, in which bits differ; an empty list where there is none."""
    output = f"{layer.name}.bits"
    source = f"{layer.name}.{'accumulator' if layer.pool is None else 'pooled'}"
    outputs = run_batch(network, sample.images, "packed", frozenset({output, source}))
    ours, theirs = outputs[output], sample.outputs[output]
    wrong = differ(ours, theirs)
    channels = np.flatnonzero(wrong.reshape(-1, wrong.shape[-1]).any(axis=0))
    if len(channels) > _MOST or not (theirs.dtype == np.bool_ or np.isin(theirs, (-1, 1)).all()):
        return
    folded = thresholds_of(network)[layer.name]
    if folded.ternary.any():
        return
    maps = (len(ours), 1, 1, ours.shape[-1]) if ours.ndim == 2 else ours.shape
    known = source in sample.outputs
    decided = _Decided(layer.name, folded, outputs[source].reshape(maps), ((ours > 0) ^ wrong).reshape(maps), known)
    wrong = wrong.reshape(maps)
    for channel in channels.tolist():
        cells = [cell for cell in decided.cells(channel) if decided.of(wrong, cell).any()]
        ways = [decided.ways(cell, int(decided.of(wrong, cell).sum())) for cell in cells]
        others: list[Way] = [(_decided_as(layer, channel, other),) for other in decided.like(channel)]
        if len(cells) > 1 and others:
            yield others
        elif len(cells) > 1 and not known:  # a wrong sum shows in all phases of its channel, too
            yield []
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

    def of(self, maps: NDArray[Any], cell: Cell) -> NDArray[Any]:
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
        rows, columns = (part.astype(np.intp) for part in self._phases())
        sums, fires = self.sums[..., channel, np.newaxis], self.fires[..., channel, np.newaxis]
        t, d, c = (
            field[rows[:, np.newaxis], columns]
            for field in (self.folded.threshold, self.folded.direction, self.folded.constant)
        )
        fit = (np.where(d > 0, sums >= t, np.where(d < 0, sums <= t, c > 0)) == fires).all(axis=(0, 1, 2))
        return sorted(np.flatnonzero(fit).tolist(), key=lambda other: abs(other - channel))[:_MOST]

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


def _of_sums(network: NetworkData, layer: Stage, sample: Sample) -> Iterator[list[Way]]:
    """The ways to read every channel in which sums differ; an empty list where there is none."""
    if not isinstance(layer, (PixelConv2d, BinaryConv2d, BinaryDense)):
        return
    output, source = f"{layer.name}.accumulator", f"{network.layers[network.layers.index(layer) - 1].name}.bits"
    needed = {output} if isinstance(layer, PixelConv2d) else {output, source}
    outputs = run_batch(network, sample.images, "packed", frozenset(needed))
    ours = outputs[output].astype(np.float64)
    theirs = sample.outputs[output].astype(np.float64)
    wrong = differ(ours, theirs)
    channels = np.flatnonzero(wrong.reshape(-1, wrong.shape[-1]).any(axis=0))
    if len(channels) > _MOST:
        return
    few = np.flatnonzero(wrong.reshape(len(wrong), -1).any(axis=1))[: -(-_SUMS // int(np.prod(ours.shape[1:-1])))]
    place = Place(network, layer, sample.images[few])
    if isinstance(layer, PixelConv2d):
        x: NDArray[Any] = place.inputs.astype(np.int64) * layer.multiplier + layer.offset
    else:
        x = outputs[source][few]
    x = windows_of(place, layer, x) if isinstance(layer, Convolution) else x.reshape(len(few), -1)
    weights = weights_of(place)
    for channel in channels.tolist():
        others = np.flatnonzero((ours == theirs[..., channel, np.newaxis]).reshape(-1, ours.shape[-1]).all(axis=0))
        if len(others):
            yield [(_filtered_as(layer, channel, other),) for other in others.tolist()[:_MOST]]
            continue
        w = weights[channel]
        group = channel // (len(weights) // getattr(layer, "groups", 1))
        met = x[..., group * w.shape[-1] : (group + 1) * w.shape[-1]].reshape(-1, w.size)
        kind = np.float32 if met.dtype == np.int8 else np.float64  # either is exact
        off = (theirs - ours)[few][..., channel].reshape(-1).astype(kind)
        taps = _inverted(-2 * met.astype(kind) * w.reshape(-1).astype(kind), off, _DEEP) if _small(off, met) else []
        alike = f"; {len(taps)} weights of the channel look the same" if len(taps) > _MOST else ""
        yield [
            tuple(
                _weight_inverted(layer, (channel, *(int(i) for i in np.unravel_index(tap, w.shape))), alike)
                for tap in way
            )
            for way in taps[:_MOST]
        ]


def _small(off: NDArray[Any], met: NDArray[Any]) -> bool:
    """Whether so few products can be behind differences at all."""
    return bool(np.isfinite(off).all()) and float(np.abs(off).max()) <= 2.0 * _DEEP * int(np.abs(met).max())


def _inverted(effect: NDArray[Any], off: NDArray[Any], deep: int) -> list[tuple[int, ...]]:
    """Which products, inverted, explain differences of sums; of one, all that do; of several, the first found.

    Args:
        effect: (sums, products), what inverting each product adds to each sum.
        off: (sums,), by how much the sums are off.
        deep: how many products at most.

    >>> effect = np.array([[2.0, -2.0, 2.0], [2.0, 2.0, -2.0], [-2.0, 2.0, 2.0]])
    >>> _inverted(effect, np.array([-2.0, 2.0, 2.0]), 2), _inverted(effect, np.array([4.0, 0.0, 0.0]), 2)
    ([(1,)], [(0, 2)])
    """
    left = off @ off - (2 * (off @ effect) - (effect * effect).sum(axis=0))  # squares, behind each product
    alone = np.flatnonzero(left == 0)
    if len(alone) or deep == 1:
        return [(int(product),) for product in alone]
    for product in np.argsort(left, kind="stable")[:_BROAD].tolist():
        rest = _inverted(effect, off - effect[:, product], deep - 1)
        if rest:
            return [tuple(sorted((product, *rest[0])))]
    return []


def _weight_inverted(layer: Stage, index: Sequence[int], alike: str) -> Change:
    entry = f"weights[{', '.join(map(str, index))}]"

    def inverted(w: NDArray[Any]) -> NDArray[Any]:
        changed = w.copy()
        changed[tuple(index)] *= -1
        return changed

    return Change(
        name=f"{entry} inverted",
        group="entry",
        says=f"{layer.name}.{entry} has the other sign, in every sum of channel {index[0]} that it is in{alike}",
        right=f"give {entry} the sign that it has in the network",
        layer=partial(reweighted, change=inverted),
    )


def _filtered_as(layer: Stage, channel: int, other: int) -> Change:
    def exchanged(w: NDArray[Any]) -> NDArray[Any]:
        changed = w.copy()
        changed[channel] = w[other]
        return changed

    return Change(
        name=f"channel {channel} summed with the weights of channel {other}",
        group="entry",
        says=f"{layer.name}.weights[{channel}] is {layer.name}.weights[{other}]",
        right=f"let channel {channel} use its own weights",
        layer=partial(reweighted, change=exchanged),
    )
