"""Diagnosis: which single change of the reference, or which pair, gives what the implementation answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.network import BinaryDense, Convolution, NetworkData, Stage
from refdesign.run import run_batch
from refdesign.verify.compare import Sample
from refdesign.verify.differences import differ
from refdesign.verify.fresh import fresh_images
from refdesign.verify.hypotheses import CATALOGUE
from refdesign.verify.implementation import Answer, Images
from refdesign.verify.variant import Change, NotApplicable, Placed, Prepared, Variant

Ask = Callable[[Images], Answer]
_FEW = 3  # images that a change must explain before it is tried on all
_BETTER = 16  # changes that explain something are the first halves of pairs
_ROUNDS = 4  # of fresh images


@dataclass(frozen=True)
class Explanation:
    """Changes of the reference that make everything equal.

    Attributes:
        changes: one or two, with the layers that they are in.
        images: how many images they explain, bit for bit, in every output that was answered.
        fresh: how many of them were made for the diagnosis.
    """

    changes: tuple[Placed, ...]
    images: int
    fresh: int = 0

    def __str__(self) -> str:
        return " and ".join(str(placed) for placed in self.changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "changes": [
                {"name": p.change.name, "group": p.change.group, "says": p.change.says, "where": p.where}
                for p in self.changes
            ],
            "images": self.images,
            "fresh_images": self.fresh,
        }


@dataclass
class Diagnosis:
    """What explains the answers.

    Attributes:
        explanations: all that still fit, best first; they cannot be told apart by what was seen.
        confirmed: whether fresh images were answered as the first explanation says.
        tried: how many changes and pairs were run.
        seconds: how long that took.
        complete: whether all singles were tried, or the time was over.
        nearest: where nothing fits, the single change that explains most.
    """

    explanations: tuple[Explanation, ...] = ()
    confirmed: bool = False
    tried: int = 0
    seconds: float = 0.0
    complete: bool = True
    nearest: str | None = None

    @property
    def verdict(self) -> str:
        """One line."""
        if not self.explanations:
            near = f"; nearest is {self.nearest}" if self.nearest else ""
            return f"no known change or pair explains it ({self.tried:,} tried{near})"
        sure = "confirmed on fresh images" if self.confirmed else "unconfirmed: the implementation was not asked again"
        return f"matches bit for bit with {self.explanations[0]} ({sure})"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "verdict": self.verdict,
            "explanations": [explanation.to_dict() for explanation in self.explanations],
            "confirmed": self.confirmed,
            "tried": self.tried,
            "seconds": round(self.seconds, 3),
            "complete": self.complete,
            "nearest": self.nearest,
        }


def diagnose(
    network: NetworkData,
    sample: Sample,
    ask: Ask | None = None,
    *,
    seconds: float = 50.0,
    catalogue: Sequence[Change] = CATALOGUE,
    seed: int = 0,
) -> Diagnosis:
    """Find which known changes of the reference give an implementation's answers.

    Every change is tried in all layers, in all of a kind, and in each one; then pairs whose first half explains
    something. All that fit are told apart by fresh images, chosen so that they differ, where the implementation can
    be asked again.

    Args:
        network: the reference.
        sample: images with the implementation's answers, some of which differ from the reference's.
        ask: asks the implementation about images of our choice; None: it cannot be asked.
        seconds: when to stop looking for pairs.
        catalogue: the changes to try.
        seed: of the fresh images.

    Returns:
        The diagnosis; empty where the sample does not differ from the reference at all.

    >>> from refdesign.api import pretrained
    >>> digits = pretrained("digits")
    >>> from refdesign.datasets import load
    >>> images = load("digits", "test")[0][:4]
    >>> from refdesign.api import Network
    >>> wrong = Network(name="wrong", input_shape=digits.input_shape, layers=digits.layers,
    ...     conventions=digits.conventions.replace(channel_map="repeat"))
    >>> found = diagnose(digits, Sample(np.arange(4), images, dict(wrong.run(images))))
    >>> print(found.explanations[0])
    channel_map=repeat
    """
    search = _Search(network, sample, catalogue, seconds)
    if search.equal:
        return Diagnosis()
    fits = search.singles() or search.pairs()
    diagnosis = Diagnosis(tried=search.tried, complete=not search.late, nearest=search.nearest())
    if fits:
        found = [_Candidate(variant, len(sample.images)) for variant in fits]
        found, diagnosis.confirmed = _tell_apart(network, search.names, found, ask, seed)
        diagnosis.explanations = tuple(
            Explanation(c.variant.placed, c.images + c.fresh, c.fresh) for c in _widest_first(found)
        )
    diagnosis.seconds = time.monotonic() - search.started
    return diagnosis


@dataclass
class _Candidate:
    variant: Variant
    images: int
    fresh: int = 0


@dataclass(order=True)
class _Score:
    """How well a variant explains the sample: fewer is better, the first differing output counts first."""

    rank: int
    differing: int
    order: int
    variant: Variant = field(compare=False)


class _Search:
    """The variants of one network, tried on one sample."""

    def __init__(self, network: NetworkData, sample: Sample, catalogue: Sequence[Change], seconds: float) -> None:
        self.started = time.monotonic()
        self.deadline = self.started + seconds
        self.network = network
        self.sample = sample
        self.catalogue = catalogue
        self.names = tuple(name for name in network.output_names if name in sample.outputs)
        self.prepared = Prepared(network)
        self.tried = 0
        self.late = False
        uncertain = tuple(name for name in network.output_names if name.endswith(".uncertain"))
        self.reference = run_batch(network, sample.images, "packed", frozenset((*self.names, *uncertain)))
        self.base = self._score(self.reference, len(sample.images))
        self.scores: list[_Score] = []
        self.equal = self.base == (len(self.names), 0)

    def _score(self, outputs: dict[str, NDArray[Any]], images: int) -> tuple[int, int]:
        """(-equal outputs before the first differing one, differing values there), negated ranks sorting first."""
        for rank, name in enumerate(self.names):
            if name not in outputs:
                return rank, 0
            if outputs[name].shape[1:] != self.sample.outputs[name].shape[1:]:
                return rank, self.sample.outputs[name].size
            where = differ(outputs[name], self.sample.outputs[name][:images])
            open_ = self.reference.get(f"{name.rpartition('.')[0]}.uncertain") if name.endswith(".bits") else None
            if open_ is not None:
                where &= ~open_[:images]
            count = int(where.sum())
            if count:
                return rank, count
        return len(self.names), 0

    def _layer(self, rank: int) -> str:
        """The layer of an output by its rank; empty where it can be any, because no earlier output was answered."""
        first = self.network.layers[0].name
        if rank == 0 and not self.names[0].startswith(f"{first}."):
            return ""
        name = self.names[rank]
        answered = {output.rpartition(".")[0] for output in self.names}
        layer = self.network.layers[-1].name if name == "logits" else name.rpartition(".")[0]
        position = [entry.name for entry in self.network.layers].index(layer)
        before = self.network.layers[position - 1].name
        return layer if position == 0 or before in answered else ""

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

    def _differing_in_few(self, rank: int) -> int:
        """How many values of an output differ from the plain reference in the first images."""
        name = self.names[rank]
        return int(differ(self.reference[name][:_FEW], self.sample.outputs[name][:_FEW]).sum())

    def _try(self, placed: Sequence[Placed], reach: int) -> Variant | None:
        """The variant if it explains everything; its score is kept if it explains more than the reference does.

        `reach` is the rank of the first output that is to be explained: a later layer need not be run to see that
        this one is still wrong.
        """
        self.tried += 1
        images = self.sample.images
        try:
            with np.errstate(all="ignore"):  # what overflows in a wrong computation overflows
                variant = Variant(self.network, placed, self.prepared)
                few = variant.run(images[:_FEW], self.names[: reach + 1])
                rank, differing = self._score(few, len(images[:_FEW]))
                if rank < reach or (rank == reach and differing >= self._differing_in_few(reach)):
                    return None
                rank, differing = self._score(variant.run(images, self.names), len(images))
        except NotApplicable:
            return None
        if (rank, differing) == (len(self.names), 0):
            return variant
        if rank > self.base[0] or (rank == self.base[0] and differing < self.base[1]):
            self.scores.append(_Score(-rank, differing, self.tried, variant))
        return None

    def singles(self) -> list[Variant]:
        """All single changes that explain everything; of one change, the widest."""
        fits: list[Variant] = []
        for change in self.catalogue:
            for placed in _places(self.network, change):
                if not self._can_help(placed, self.base[0]):
                    continue
                if time.monotonic() > self.deadline:
                    self.late = True
                    return fits
                found = self._try((placed,), self.base[0])
                if found is not None:
                    fits.append(found)
                    break
        return fits

    def pairs(self) -> list[Variant]:
        """The first pairs that explain everything, as long as there is time."""
        best: dict[str, _Score] = {}
        for score in sorted(self.scores):  # each change once, where it explains most
            best.setdefault(score.variant.placed[0].change.name, score)
        for score, change in product(list(best.values())[:_BETTER], self.catalogue):
            better = score.variant.placed[0]
            fits: list[Variant] = []
            for placed in _places(self.network, change):
                if time.monotonic() > self.deadline:
                    self.late = True
                    return fits
                if change is better.change and placed.layers & better.layers:
                    continue
                if not self._can_help(placed, -score.rank):
                    continue
                found = self._try((better, placed), -score.rank)
                if found is not None:
                    fits.append(found)
                    break
            if fits:
                return fits + self._equivalent_seconds(score, change)
        return []

    def _equivalent_seconds(self, score: _Score, found: Change) -> list[Variant]:
        """Other second halves that fit with the same first half: they must be told apart."""
        better = score.variant.placed[0]
        later = self.catalogue[self.catalogue.index(found) + 1 :]
        fits: list[Variant] = []
        for change in later:
            for placed in _places(self.network, change):
                if time.monotonic() > self.deadline:
                    return fits
                if not self._can_help(placed, -score.rank):
                    continue
                variant = self._try((better, placed), -score.rank)
                if variant is not None:
                    fits.append(variant)
                    break
        return fits

    def nearest(self) -> str | None:
        """The single change that explains most, where one explains anything."""
        singles = [score for score in sorted(self.scores) if len(score.variant.placed) == 1]
        return str(singles[0].variant.placed[0]) if singles else None


def _places(network: NetworkData, change: Change) -> Iterator[Placed]:
    """Where a change can be: everywhere, in all layers of a kind, in all but the first, in each one."""
    stages = [layer for layer in network.layers if isinstance(layer, Stage)]
    everywhere = frozenset(layer.name for layer in network.layers)
    yield Placed(change, everywhere)
    if not change.by_layer:
        return
    wide: dict[str, list[Stage]] = {
        "the convolutions": [layer for layer in stages if isinstance(layer, Convolution)],
        "the dense layers": [layer for layer in stages if isinstance(layer, BinaryDense)],
        "the layers with a pool": [layer for layer in stages if layer.pool is not None],
        "the layers without a pool": [layer for layer in stages if layer.pool is None],
        "all layers but the first": stages[1:],
    }
    for where, layers in wide.items():
        if 1 < len(layers) < len(stages):
            yield Placed(change, frozenset(layer.name for layer in layers), where)
    for layer in network.layers:
        yield Placed(change, frozenset({layer.name}), layer.name)


def _widest_first(candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """Changes that are wrong everywhere before those in one layer; otherwise in the catalogue's order."""
    return sorted(candidates, key=lambda c: [placed.where != "everywhere" for placed in c.variant.placed])


def _tell_apart(
    network: NetworkData, names: Sequence[str], candidates: list[_Candidate], ask: Ask | None, seed: int
) -> tuple[list[_Candidate], bool]:
    """Ask about fresh images in which the candidates differ; returns those that still fit, and whether it was asked."""
    if ask is None:
        return candidates, False
    random = np.random.default_rng(seed)
    confirmed = False
    for number in range(_ROUNDS):
        images = _most_telling(candidates, names, fresh_images(network, random, 96), 24)
        if images is None:
            if confirmed or number == _ROUNDS - 1:
                break
            images = fresh_images(network, random, 24)
        answer = ask(images)
        if any(name not in answer.outputs or name in answer.answered for name in names):
            break
        left = []
        for candidate in candidates:
            predicted = candidate.variant.run(images, names)
            if all(not differ(predicted[name], answer.outputs[name]).any() for name in names):
                candidate.fresh += len(images)
                left.append(candidate)
        if not left:  # nothing in the catalogue is what it does: the sample alone was too kind
            return [], False
        candidates, confirmed = left, True
        if not answer.goes_on:
            break
    return candidates, confirmed


def _most_telling(candidates: Sequence[_Candidate], names: Sequence[str], images: Images, count: int) -> Images | None:
    """The images in which most candidates differ from the first; None where none differ."""
    if len(candidates) < 2:
        return None
    telling = np.zeros(len(images), dtype=np.int64)
    first = candidates[0].variant.run(images, names)
    for candidate in candidates[1:]:
        other = candidate.variant.run(images, names)
        differs = np.zeros(len(images), dtype=np.bool_)
        for name in names:
            differs |= differ(first[name], other[name]).reshape(len(images), -1).any(axis=1)
        telling += differs
    if not telling.any():
        return None
    return images[np.sort(np.argsort(-telling, kind="stable")[:count])]
