"""The search for changes, or pairs of changes, of the reference that give an implementation's answers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.network import BinaryDense, Convolution, NetworkData, Stage
from refdesign.run import run_batch
from refdesign.verify.change import Change, NotApplicable, Placed
from refdesign.verify.compare import Sample
from refdesign.verify.differences import differ
from refdesign.verify.variant import Prepared, Variant

Rows = NDArray[np.intp]
"""The numbers of some of the sample's images."""

_FEW = 3  # images that a change must explain before it is tried on all
_BETTER = 16  # changes that explain something are the first halves of pairs
_NOT_A_NUMBER = 1e9  # how far a value is off that is infinite or none at all


class Budget:
    """How long to search: seconds of this thread's processor time, so that a machine's load does not count.

    Args:
        seconds: as many.

    >>> Budget(60.0).over, Budget(0.0).over
    (False, True)
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.thread_time() + seconds

    @property
    def over(self) -> bool:
        """Whether it is spent."""
        return time.thread_time() >= self._end


def places(network: NetworkData, change: Change) -> Iterator[Placed]:
    """Where a change can be: everywhere, in all layers of a kind, in all but the first or the last, in each one.

    >>> from refdesign.api import pretrained
    >>> change = Change(name="weights inverted", group="polarity", says="", layer=lambda layer, network: None)
    >>> [placed.where for placed in places(pretrained("digits"), change)][:3]
    ['everywhere', 'the convolutions', 'the binary convolutions']
    """
    everywhere = frozenset(layer.name for layer in network.layers)
    yield Placed(change, everywhere)
    if not change.by_layer:
        return
    seen = {everywhere}
    for where, names in _kinds(network).items():
        if names and names not in seen:
            seen.add(names)
            yield Placed(change, names, where)


def _kinds(network: NetworkData) -> dict[str, frozenset[str]]:
    """Layers that go wrong together, by what they are called; those with one layer have that layer's name."""
    stages = [layer for layer in network.layers if isinstance(layer, Stage)]
    convolutions = [layer for layer in stages if isinstance(layer, Convolution)]
    padded = [layer for layer in convolutions if layer.padding != (0, 0)]
    kinds: dict[str, list[Stage]] = {
        "the convolutions": list(convolutions),
        "the binary convolutions": [layer for layer in convolutions if layer.takes == "bits"],
        "the dense layers": [layer for layer in stages if isinstance(layer, BinaryDense)],
        "the layers with a pool": [layer for layer in stages if layer.pool is not None],
        "the layers without a pool": [layer for layer in stages if layer.pool is None],
        "all layers but the first": stages[1:],
        "all layers but the last": stages[:-1],
        **{
            f"the layers padded as {mode}": [layer for layer in padded if layer.padding_mode == mode]
            for mode in dict.fromkeys(layer.padding_mode for layer in padded)
        },
    }
    named = {where: frozenset(layer.name for layer in layers) for where, layers in kinds.items() if len(layers) > 1}
    return named | {layer.name: frozenset({layer.name}) for layer in network.layers}


@dataclass(order=True)
class _Score:
    """How well a variant explains the sample: fewer is better, the first differing output counts first."""

    rank: int
    distance: float
    order: int
    variant: Variant = field(compare=False)


class Search:
    """The variants of one network, tried on one sample.

    Args:
        network: the reference.
        sample: images with an implementation's answers.
        catalogue: the changes to try.
        budget: when to stop.
        tolerance: how far real logits may be off, by class, and still be explained; None: not at all.
        coupled: whether the images' answers depend on each other, so that they are run all together.

    Attributes:
        names: the outputs that were answered, in order of execution.
        equal: whether the reference explains the sample by itself.
        tried: how many variants were run.
        late: whether the budget was spent before all was tried.
    """

    def __init__(
        self,
        network: NetworkData,
        sample: Sample,
        catalogue: Sequence[Change],
        budget: Budget,
        tolerance: NDArray[np.float64] | None = None,
        coupled: bool = False,
    ) -> None:
        self.network = network
        self.sample = sample
        self.catalogue = catalogue
        self.budget = budget
        self.tolerance = tolerance
        self.names = tuple(name for name in network.output_names if name in sample.outputs)
        self.tried = 0
        self.late = False
        self._prepared = Prepared(network)
        self._prepared.trace.announce(sample.images)
        uncertain = tuple(name for name in network.output_names if name.endswith(".uncertain"))
        self._reference = run_batch(network, sample.images, "packed", frozenset((*self.names, *uncertain)))
        self._all = np.arange(len(sample.images))
        self._few = self._all[:_FEW]
        self._base = self._score(self._reference, self._all)
        self._few = self._all if coupled else self._most_telling()
        self._few_images = sample.images[self._few]
        self._prepared.trace.announce(self._few_images)
        self._scores: list[_Score] = []
        self.equal = self._base == (len(self.names), 0.0)

    def singles(self) -> list[Variant]:
        """All single changes that explain everything; of one change, the widest."""
        fits: list[Variant] = []
        for change in self.catalogue:
            fits += self._first_fit((), change, self._base[0])
            if self.late:
                break
        return fits

    def pairs(self) -> list[Variant]:
        """The first pairs that explain everything, as long as the budget lasts."""
        best: dict[str, _Score] = {}
        for score in sorted(self._scores):  # each change once, where it explains most
            best.setdefault(score.variant.placed[0].change.name, score)
        halves = list(best.values())[:_BETTER]
        for number, (score, change) in enumerate(product(halves, self.catalogue)):
            fits = self._first_fit(score.variant.placed, change, -score.rank)
            if self.late:
                return fits
            if fits:  # other second halves that fit with the same first half must be told apart from this one
                for later in self.catalogue[number % len(self.catalogue) + 1 :]:
                    fits += self._first_fit(score.variant.placed, later, -score.rank)
                return fits
        return []

    def nearest(self) -> str | None:
        """The single change that explains most, where one explains anything."""
        singles = [score for score in sorted(self._scores) if len(score.variant.placed) == 1]
        return str(singles[0].variant.placed[0]) if singles else None

    def _first_fit(self, given: Sequence[Placed], change: Change, reach: int) -> list[Variant]:
        """The widest place in which a change, beside those that are given, explains everything; or none.

        Where it is known in which layer the first difference arises, the change must explain it there by itself; only
        then it is worth trying whether it is in more layers than this one.
        """
        pinned = self._layer(reach) if change.by_layer else ""
        alone: Variant | None = None
        if pinned:
            rank, alone = self._try_at(given, Placed(change, frozenset({pinned}), pinned), reach)
            if rank <= reach:
                return []
        for placed in places(self.network, change):
            if self.late:
                return []
            if placed.where == pinned:
                found = alone
            else:
                _, found = self._try_at(given, placed, reach)
            if found is not None:
                return [found]
        return []

    def _try_at(self, given: Sequence[Placed], placed: Placed, reach: int) -> tuple[int, Variant | None]:
        """As `_try`, for a change beside others; (-1, None) where it cannot be, or cannot help."""
        self.late = self.late or self.budget.over
        if self.late or not self._can_help(placed, reach):
            return -1, None
        if any(other.change is placed.change and other.layers & placed.layers for other in given):
            return -1, None
        return self._try((*given, placed), reach)

    def _try(self, placed: Sequence[Placed], reach: int) -> tuple[int, Variant | None]:
        """How many outputs a variant explains, and the variant if these are all.

        Its score is kept if it explains more than the reference does. `reach` is the rank of the first output that
        is to be explained: a later layer need not be run to see that this one is still wrong.
        """
        before = len(self._scores)
        rank, found, helps = self._try_decided(placed, reach, folded=False)
        sums = any(p.change.accumulate is not None or p.change.layer is not None for p in placed)
        if found is not None or not sums or not helps or len(placed) > 1:  # pairs are many as it is
            return rank, found
        # Changed sums may lie between the attainable ones, where folded thresholds and batch norm decide otherwise.
        other, found, _ = self._try_decided(placed, reach, folded=True)
        self._scores[before:] = sorted(self._scores[before:])[:1]  # the better half of a pair
        return max(rank, other), found

    def _try_decided(self, placed: Sequence[Placed], reach: int, *, folded: bool) -> tuple[int, Variant | None, bool]:
        """As `_try`, by folded thresholds or not; and whether it helps at all."""
        self.tried += 1
        try:
            with np.errstate(all="ignore"):  # what overflows in a wrong computation overflows
                variant = Variant(self.network, placed, self._prepared, folded=folded)
                few = variant.run(self._few_images, self.names[: reach + 1], idle=True)
                rank, distance = self._score(few, self._few)
                if rank < reach or (rank == reach and distance >= self._distance_in_few(reach)):
                    return rank, None, False
                rank, distance = self._score(variant.run(self.sample.images, self.names), self._all)
        except NotApplicable:
            return -1, None, False
        if (rank, distance) == (len(self.names), 0.0):
            return rank, variant, True
        if rank > self._base[0] or (rank == self._base[0] and distance < self._base[1]):
            self._scores.append(_Score(-rank, distance, self.tried, variant))
        return rank, None, True

    def _most_telling(self) -> Rows:
        """The first images in which the first differing output differs."""
        rank, distance = self._base
        if not distance or rank == len(self.names):
            return self._few
        name = self.names[rank]
        where = self._differ(name, self._reference[name], self.sample.outputs[name])
        return np.flatnonzero(where.reshape(len(self._all), -1).any(axis=1))[:_FEW]

    def _score(self, outputs: dict[str, NDArray[Any]], images: Rows) -> tuple[int, float]:
        """How many outputs are equal before the first differing one, and how far that one is off."""
        for rank, name in enumerate(self.names):
            if name not in outputs:
                return rank, 0.0
            distance = self._distance(name, outputs[name], images)
            if distance:
                return rank, distance
        return len(self.names), 0.0

    def _distance(self, name: str, ours: NDArray[Any], images: Rows) -> float:
        """The sum of all differences in an output, those that the reference leaves open left out."""
        theirs = self.sample.outputs[name]
        if ours.shape[1:] != theirs.shape[1:]:
            return _NOT_A_NUMBER * theirs.size
        theirs = theirs[images]
        where = self._differ(name, ours, theirs)
        open_ = self._reference.get(f"{name.rpartition('.')[0]}.uncertain") if name.endswith(".bits") else None
        if open_ is not None:
            where &= ~open_[images]
        if not where.any():
            return 0.0
        with np.errstate(all="ignore"):
            off = np.abs(ours[where].astype(np.float64) - theirs[where].astype(np.float64))
        off = np.minimum(np.nan_to_num(off, nan=_NOT_A_NUMBER, posinf=_NOT_A_NUMBER), _NOT_A_NUMBER)
        return float(np.maximum(off, np.finfo(np.float32).tiny).sum())

    def _differ(self, name: str, ours: NDArray[Any], theirs: NDArray[Any]) -> NDArray[np.bool_]:
        return differ(ours, theirs, self.tolerance if name == "logits" else None)

    def _distance_in_few(self, rank: int) -> float:
        """How far an output of the plain reference is off in the first images."""
        name = self.names[rank]
        return self._distance(name, self._reference[name][self._few], self._few)

    def _layer(self, rank: int) -> str:
        """The layer in which an output arises, by its rank; empty where it can be in any before it, too.

        What a layer makes is decided in it where its input was answered, bits and real streams.
        """
        first = self.network.layers[0].name
        if rank == 0 and not self.names[0].startswith(f"{first}."):
            return ""
        name = self.names[rank]
        answered = {output.rpartition(".")[0] for output in self.names}
        layer = self.network.layers[-1].name if name == "logits" else name.rpartition(".")[0]
        position = [entry.name for entry in self.network.layers].index(layer)
        if position == 0:
            return layer
        earlier = {entry.name for entry in self.network.layers[:position]}
        reals = {f"{source}.real" for source in self.network.real_sources & earlier}
        known = self.network.layers[position - 1].name in answered and reals <= set(self.names)
        return layer if known else ""

    def _can_help(self, placed: Placed, rank: int) -> bool:
        """Whether a change can move the first difference, which is in the output of this rank.

        Where all before it was answered, the change must be at work in that layer, and at that place in it: sums do
        not depend on decisions, and decisions go wrong on right sums by themselves.
        """
        layer, change = self._layer(rank), placed.change
        if not layer or change.write is not None or change.pixels is not None:
            return True
        part = self.names[rank].rpartition(".")[2]
        if part == "accumulator" and change.accumulate is None and change.layer is None:
            return False
        summed = any(f"{layer}.{sums}" in self.names for sums in ("accumulator", "pooled"))
        if part == "bits" and summed and change.accumulate is not None:
            return False
        return not change.by_layer or layer in placed.layers
