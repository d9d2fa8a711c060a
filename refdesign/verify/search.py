"""The search for changes, or pairs of changes, of the reference that give an implementation's answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.network import NetworkData
from refdesign.verify.arising import Arising
from refdesign.verify.budget import Budget, TimeOver
from refdesign.verify.change import Change, NotApplicable, Placed
from refdesign.verify.entries import wrong_entries
from refdesign.verify.places import acting, places
from refdesign.verify.prepared import Prepared
from refdesign.verify.scoring import Scorer
from refdesign.verify.variant import Variant
from refdesign.verify.verdict import Sample

_FEW = 3  # images that a change must explain before it is tried on all
_BETTER = 16  # changes that explain something are the first halves of pairs with all others


@dataclass(frozen=True)
class Fit:
    """A variant that explains the whole sample; `exact`: to the last bit of real logits."""

    variant: Variant
    exact: bool


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
        entries: whether wrong entries of a table are looked for, too.

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
        entries: bool = True,
    ) -> None:
        self.network = network
        self.sample = sample
        self.catalogue = catalogue
        self.budget = budget
        self.tolerance = tolerance
        self.tried = 0
        self.late = False
        self._scorer = Scorer(network, sample, tolerance)
        self.names, self.equal = self._scorer.names, self._scorer.equal
        self._arising = Arising(network, self.names)
        self._few = self._scorer.all if coupled else self._scorer.most_telling(_FEW)
        self._few_images = sample.images[self._few]
        self._prepared = Prepared(network, budget.check)
        self._prepared.trace.announce(sample.images)
        self._prepared.trace.announce(self._few_images)
        self._scores: list[_Score] = []
        self._first = self._scorer.base[0]  # the rank of the first output that differs
        self._reads_entries = entries
        self._pinned = "" if self.equal else self._arising.layer(self._first)
        self._written = "" if self.equal else self._written_alone()
        self._alike: dict[bytes, list[Placed]] = {}  # single changes, by what they make of the few images
        self._unchanged = self._key({name: array[self._few] for name, array in self._scorer.reference.items()})

    def singles(self) -> list[Fit]:
        """All single changes that explain everything, of one change the widest; else wrong entries that do."""
        entries = self.entries()  # first: they are few, and the time may be too short for all
        by_name: dict[tuple[str, ...], Fit] = {}
        for fit in entries:
            by_name.setdefault(tuple(map(str, fit.variant.placed)), fit)
        return self._until_late(self._singles()) or list(by_name.values())

    def entries(self) -> list[Fit]:
        """Wrong entries that explain everything; some have one name, and different values that fit."""
        return self._until_late(self._entries()) if self._reads_entries else []

    def pairs(self) -> list[Fit]:
        """The first pairs that explain everything, as long as the budget lasts."""
        return self._until_late(self._pairs())

    def nearest(self) -> str | None:
        """The single change that explains most, where one explains at least half of the first output that differs."""
        rank, distance = self._scorer.base
        best = min(self._scores, default=None)
        most = best is not None and (-best.rank > rank or best.distance <= distance / 2)
        return str(best.variant.placed[0]) if best is not None and most else None

    def _until_late(self, found: Iterable[Fit]) -> list[Fit]:
        fits: list[Fit] = []
        try:
            for fit in found:
                fits.append(fit)
        except TimeOver:
            self.late = True
        return fits

    def _singles(self) -> Iterator[Fit]:
        for number, change in enumerate(self.catalogue):
            self.budget.tell(number, len(self.catalogue))
            yield from self._first_fit((), change, self._first)

    def _entries(self) -> Iterator[Fit]:
        """Wrong entries of the tables of the layer in which the first difference arises."""
        for placed in wrong_entries(self.network, self.sample, self.names[self._first]) if self._pinned else ():
            self.tried += 1
            variant = Variant(self.network, placed, self._prepared)
            outputs = variant.run(self.sample.images, self.names)
            if self._scorer.score(outputs, self._scorer.all) == (len(self.names), 0.0):
                yield Fit(variant, self._scorer.exact(outputs))

    def _pairs(self) -> Iterator[Fit]:
        scores = sorted(self._scores)
        if self._pinned:  # each change once, where it explains most
            best: dict[str, _Score] = {}
            for score in scores:
                best.setdefault(score.variant.placed[0].change.name, score)
            yield from self._pairs_with_all(list(best.values())[:_BETTER])
            return
        ahead = [score for score in scores if -score.rank > self._first]
        level = scores[len(ahead) :]
        for stage in (
            self._pairs_with_all(ahead[:_BETTER]),
            self._pairs_of_alike(level),
            self._pairs_with_all(level[:_BETTER]),
        ):
            found = False
            for fit in stage:
                found = True
                yield fit
            if found:
                return

    def _pairs_of_alike(self, scores: Sequence[_Score]) -> Iterator[Fit]:
        """Pairs of changes that show by themselves; of those that look the same, one stands for all.

        Where layers lie between the first fault and the first answer, hundreds of changes show, and many are alike.
        """
        groups = list(self._alike.values())
        for number, (score, seconds) in enumerate(product(scores, groups)):
            self.budget.tell(number, len(scores) * len(groups))
            first = score.variant.placed[0]
            if self._try_at((first,), seconds[0], self._first)[1] is None:
                continue
            # All that look like the one half or the other, and the other second halves, are to be told apart from it.
            firsts = next((group for group in groups if first in group), [first])
            others = [(first, group[0]) for group in groups[number % len(groups) + 1 :]]
            named: set[tuple[str, str]] = set()
            for one, other in (*product(firsts, seconds), *others):
                names = (one.change.name, other.change.name)
                fit = None if names in named else self._try_at((one,), other, self._first)[1]
                if fit is not None:
                    named.add(names)
                    yield fit
            return

    def _pairs_with_all(self, scores: Sequence[_Score]) -> Iterator[Fit]:
        """The better changes, each beside all of the catalogue."""
        for half, score in enumerate(scores):
            found = False
            for number, change in enumerate(self.catalogue):
                self.budget.tell(half * len(self.catalogue) + number, len(scores) * len(self.catalogue))
                for fit in self._first_fit(score.variant.placed, change, -score.rank):
                    found = True
                    yield fit
            if found:
                return

    def _first_fit(self, given: Sequence[Placed], change: Change, reach: int) -> Iterator[Fit]:
        """The widest place in which a change, beside those that are given, explains everything; or none.

        Where it is known in which layer the first difference arises, the change must explain it there by itself; only
        then it is worth trying whether it is in more layers than this one.
        """
        pinned = self._arising.layer(reach) if change.by_layer else ""
        alone: Fit | None = None
        if pinned:
            rank, alone = self._try_at(given, Placed(change, frozenset({pinned}), pinned), reach)
            if rank <= reach:
                return
        for firsts in self._widened(given, pinned):
            for placed in places(self.network, change, "" if given else self._written):
                known = firsts is given and placed.where == pinned
                found = alone if known else self._try_at(firsts, placed, reach)[1]
                if found is not None:
                    yield self._narrowed(found)
                    return

    def _narrowed(self, fit: Fit) -> Fit:
        """The same fit, without the layers whose data its changes leave as they are."""
        variant = fit.variant
        placed = [acting(self.network, entry, self._prepared) for entry in variant.placed]
        if all(new is old for new, old in zip(placed, variant.placed, strict=True)):
            return fit
        return Fit(Variant(self.network, placed, self._prepared, folded=variant.folded), fit.exact)

    def _widened(self, given: Sequence[Placed], pinned: str) -> Iterator[Sequence[Placed]]:
        """What is given; and, where that is in the layer of the first difference, the same everywhere.

        Beside a second change in that layer, the first half of a pair explains no less in one place than in another.
        """
        yield given
        everywhere = frozenset(layer.name for layer in self.network.layers)
        if pinned and any(placed.where == pinned for placed in given):
            yield [Placed(p.change, everywhere) if p.where == pinned else p for p in given]

    def _try_at(self, given: Sequence[Placed], placed: Placed, reach: int) -> tuple[int, Fit | None]:
        """As `_try`, for a change beside others; (-1, None) where it cannot be, or cannot help."""
        self.budget.check()
        if not self._arising.can_help(placed, reach):
            return -1, None
        if any(other.change is placed.change and other.layers & placed.layers for other in given):
            return -1, None
        return self._try((*given, placed), reach)

    def _try(self, placed: Sequence[Placed], reach: int) -> tuple[int, Fit | None]:
        """How many outputs a variant explains, and the fit if these are all.

        The score of a single change is kept if it explains more than the reference does. `reach` is the rank of the
        first output that is to be explained: a later layer need not be run to see that this one is still wrong.
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

    def _try_decided(self, placed: Sequence[Placed], reach: int, *, folded: bool) -> tuple[int, Fit | None, bool]:
        """As `_try`, by folded thresholds or not; and whether it helps at all."""
        self.tried += 1
        try:
            with np.errstate(all="ignore"):  # what overflows in a wrong computation overflows
                variant = Variant(self.network, placed, self._prepared, folded=folded)
                few = variant.run(self._few_images, self.names[: reach + 1], idle=True)
                rank, distance = self._scorer.score(few, self._few)
                if len(placed) > 1:
                    promising = rank > reach
                else:
                    promising = self._better_in_few(rank, distance, reach)
                    if not folded and self._known(placed[0], few) and rank <= reach:
                        return rank, None, promising
                if not promising:
                    return rank, None, False
                outputs = variant.run(self.sample.images, self.names)
        except NotApplicable:
            return -1, None, False
        rank, distance = self._scorer.score(outputs, self._scorer.all)
        if (rank, distance) == (len(self.names), 0.0):
            return rank, Fit(variant, self._scorer.exact(outputs)), True
        base, far = self._scorer.base
        if len(placed) == 1 and (rank > base or (rank == base and distance < far)):
            self._scores.append(_Score(-rank, distance, self.tried, variant))
        return rank, None, True

    def _better_in_few(self, rank: int, distance: float, reach: int) -> bool:
        """Whether a score in the few images is better than the reference's."""
        return rank > reach or (rank == reach and distance < self._scorer.distance_of_reference(reach, self._few))

    def _known(self, placed: Placed, few: Mapping[str, NDArray[Any]]) -> bool:
        """Whether another single change makes the same of the few images, or nothing; this one is kept beside it.

        It matters where the first difference can have arisen in any layer, so that pairs are many.
        """
        if self._pinned:
            return False
        key = self._key(few)
        if key == self._unchanged:
            return True
        alike = self._alike.setdefault(key, [])
        alike.append(placed)
        return len(alike) > 1

    def _key(self, outputs: Mapping[str, NDArray[Any]]) -> bytes:
        """What stands for the outputs up to the first that differs."""
        digest = blake2b(digest_size=16)
        for name in self.names[: self._first + 1]:
            if name in outputs:
                digest.update(np.ascontiguousarray(outputs[name]).data)
        return digest.digest()

    def _written_alone(self) -> str:
        """The first output that differs, where the next is right: that may be in how it is written; empty: not so."""
        following = self.names[self._first + 1 : self._first + 2]
        scorer = self._scorer
        wrong = any(scorer.distance(name, scorer.reference[name], scorer.all) for name in following)
        return "" if wrong or len(self.names) == 1 else self.names[self._first]
