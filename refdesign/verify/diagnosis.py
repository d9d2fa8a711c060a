"""Diagnosis: which single change of the reference, or which pair, gives what the implementation answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.network import NetworkData
from refdesign.run import run_batch
from refdesign.verify.change import Change, Placed
from refdesign.verify.compare import Sample
from refdesign.verify.differences import differ
from refdesign.verify.fresh import fresh_images
from refdesign.verify.hypotheses import CATALOGUE
from refdesign.verify.implementation import Answer, Images
from refdesign.verify.rounding import exact_logits, source_of_logits
from refdesign.verify.search import Budget, Search
from refdesign.verify.variant import Variant

Ask = Callable[[Images], Answer]
_ROUNDS = 4  # of fresh images
_CONFIRMATIONS = 2  # batches that must agree: what is left from one shows in the next
_SEARCHES = 3  # each with the fresh images that refuted the one before
_TOGETHER = 8  # images that are asked again by themselves
_FRESH = 24


@dataclass(frozen=True)
class Explanation:
    """Changes of the reference that make everything equal.

    Attributes:
        changes: one or two, with the layers that they are in.
        images: how many images they explain, bit for bit, in every output that was answered.
        fresh: how many of them were made for the diagnosis.
        folded: whether it fits only where the changed sums meet the reference's own integer thresholds.
    """

    changes: tuple[Placed, ...]
    images: int
    fresh: int = 0
    folded: bool = False

    def __str__(self) -> str:
        changes = " and ".join(str(placed) for placed in self.changes)
        return f"{changes}, decided by the folded thresholds" if self.folded else changes

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "changes": [placed.to_dict() for placed in self.changes],
            "images": self.images,
            "fresh_images": self.fresh,
            "folded_thresholds": self.folded,
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
        depends_on: what an image's answer depends on besides the image: `"batch"`, the images that are asked
            together with it; `"run"`, anything else; None: nothing that showed.
        besides: an output that is left out: logits that are right but for their rounding, where that is not explained.
    """

    explanations: tuple[Explanation, ...] = ()
    confirmed: bool = False
    tried: int = 0
    seconds: float = 0.0
    complete: bool = True
    nearest: str | None = None
    depends_on: str | None = None
    besides: str | None = None

    @property
    def verdict(self) -> str:
        """One line."""
        depends = {
            "batch": "an image's answer depends on the others that are asked with it; ",
            "run": "the same images are answered otherwise when they are asked again; ",
        }.get(self.depends_on or "", "")
        if not self.explanations:
            near = f"; nearest is {self.nearest}" if self.nearest else ""
            return f"{depends}no known change or pair explains it ({self.tried:,} tried{near})"
        sure = "confirmed on fresh images" if self.confirmed else "unconfirmed: the implementation was not asked again"
        besides = "" if self.besides is None else f", but for the rounding of {self.besides},"
        return f"{depends}matches bit for bit{besides} with {self.explanations[0]} ({sure})"

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
            "depends_on": self.depends_on,
            "besides": self.besides,
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
    be asked again; a change that fresh images refute is never named, and the search goes on with them.

    Args:
        network: the reference.
        sample: images with the implementation's answers, some of which differ from the reference's.
        ask: asks the implementation about images of our choice; None: it cannot be asked.
        seconds: when to stop looking, in processor time of this thread; the load of the machine does not count.
        catalogue: the changes to try.
        seed: of the fresh images.

    Returns:
        The diagnosis; without explanations where the sample does not differ from the reference at all.

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
    started, budget = time.monotonic(), Budget(seconds)
    diagnosis = Diagnosis()
    if ask is not None:
        sample, diagnosis.depends_on = _asked_again(sample, ask)
    coupled = diagnosis.depends_on == "batch"
    for _ in range(_SEARCHES):
        search = Search(network, sample, catalogue, budget, coupled=coupled)
        if search.equal:
            break
        fits = search.singles()
        integers = None if fits or diagnosis.besides else _without_rounding(network, sample)
        if integers is not None:
            rounded = Search(network, integers, catalogue, budget, coupled=coupled)
            if not rounded.equal:
                diagnosis.tried += search.tried
                diagnosis.besides, sample, search = "logits", integers, rounded
                fits = search.singles()
        tolerance = None if fits or diagnosis.besides else _tolerance(network, sample)
        if tolerance is not None:
            rounded = Search(network, sample, catalogue, budget, tolerance, coupled=coupled)
            if not rounded.equal:
                diagnosis.tried += search.tried
                search = rounded
                fits = search.singles()
        fits = fits or search.pairs()
        if fits and search.tolerance is not None and not _exactly(fits[0], sample):
            diagnosis.besides = "logits"
        diagnosis.tried += search.tried
        diagnosis.complete = not search.late
        diagnosis.nearest = search.nearest()
        count = _TOGETHER if coupled else _FRESH
        candidates = [_Candidate(fit, len(sample.images)) for fit in fits]
        telling = _Telling(network, search.names, candidates, count, seed, search.tolerance)
        if ask is not None and fits:
            telling.ask(ask)
        if telling.candidates or telling.refuting is None:
            diagnosis.confirmed = telling.confirmed
            diagnosis.explanations = tuple(
                Explanation(c.variant.placed, c.images + c.fresh, c.fresh, c.variant.folded)
                for c in _in_order(telling.candidates)
            )
            break
        sample = _with(sample, *telling.refuting)
    diagnosis.seconds = time.monotonic() - started
    return diagnosis


def _asked_again(sample: Sample, ask: Ask) -> tuple[Sample, str | None]:
    """Ask about some of the sample's images by themselves; what they are answered then is what can be explained."""
    images = sample.images[:_TOGETHER]
    first = _answered(images, ask, tuple(sample.outputs))
    if first is None or _alike(first, sample.outputs):
        return sample, None
    second = _answered(images, ask, tuple(sample.outputs))
    if second is None or not _alike(second, first):
        return sample, "run"
    return Sample(sample.numbers[: len(images)], images, first), "batch"


def _answered(images: Images, ask: Ask, names: Sequence[str]) -> dict[str, NDArray[Any]] | None:
    """What the implementation answers for these outputs; None where it leaves some out."""
    answer = ask(images)
    if any(name not in answer.outputs or name in answer.answered for name in names):
        return None
    return {name: answer.outputs[name].copy() for name in names}


def _without_rounding(network: NetworkData, sample: Sample) -> Sample | None:
    """The sample without logits that are what its own last layer gives, but for rounding; None where they are not."""
    source, logits = source_of_logits(network), sample.outputs.get("logits")
    if source not in sample.outputs or logits is None or logits.dtype.kind != "f":
        return None
    exact = exact_logits(network, sample.outputs[source])
    if (np.abs(logits.astype(np.float64) - exact.values) > exact.bound(logits.dtype)).any():
        return None
    kept = {name: array for name, array in sample.outputs.items() if name != "logits"}
    return Sample(sample.numbers, sample.images, kept)


def _exactly(variant: Variant, sample: Sample) -> bool:
    """Whether a variant gives the sample's logits to the last bit."""
    logits = variant.run(sample.images, ("logits",), idle=True)["logits"]
    return not differ(logits, sample.outputs["logits"]).any()


def _tolerance(network: NetworkData, sample: Sample) -> NDArray[np.float64] | None:
    """How far the rounding of a last layer may put real logits off, by class; None where they are no such."""
    source, logits = source_of_logits(network), sample.outputs.get("logits")
    if source is None or logits is None or logits.dtype.kind != "f":
        return None
    outputs = run_batch(network, sample.images, "packed", frozenset({source}))
    bound: NDArray[np.float64] = exact_logits(network, outputs[source]).bound(logits.dtype).max(axis=0)
    return bound


def _alike(found: dict[str, NDArray[Any]], expected: dict[str, NDArray[Any]]) -> bool:
    return not any(differ(array, expected[name][: len(array)]).any() for name, array in found.items())


def _with(sample: Sample, images: Images, outputs: dict[str, NDArray[Any]]) -> Sample:
    """The sample with more images, which have no numbers of their own: they get -1."""
    numbers = np.concatenate([sample.numbers, np.full(len(images), -1)])
    joined = {name: np.concatenate([array, outputs[name]]) for name, array in sample.outputs.items()}
    return Sample(numbers, np.concatenate([sample.images, images]), joined)


@dataclass
class _Candidate:
    variant: Variant
    images: int
    fresh: int = 0


def _in_order(candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """Changes that are wrong everywhere before those in one layer; otherwise in the catalogue's order.

    Of a mistake's spellings that give the same, the usual one is kept.
    """
    usual = {_known_as(c) for c in candidates if not any(p.change.spelling_of for p in c.variant.placed)}
    kept = [
        c for c in candidates if _known_as(c) not in usual or not any(p.change.spelling_of for p in c.variant.placed)
    ]
    return sorted(kept, key=lambda c: [placed.where != "everywhere" for placed in c.variant.placed])


def _known_as(candidate: _Candidate) -> tuple[tuple[str, str], ...]:
    return tuple((p.change.spelling_of or p.change.name, p.where) for p in candidate.variant.placed)


class _Telling:
    """Candidates that fit the sample, told apart by fresh images.

    Attributes:
        candidates: those that still fit.
        confirmed: whether fresh images were answered as they say.
        refuting: the images that refuted the last ones, with their answers.
    """

    def __init__(
        self,
        network: NetworkData,
        names: Sequence[str],
        candidates: list[_Candidate],
        count: int,
        seed: int,
        tolerance: NDArray[np.float64] | None,
    ) -> None:
        self.network = network
        self.names = names
        self.candidates = candidates
        self.count = count
        self.random = np.random.default_rng(seed)
        self.tolerance = tolerance
        self.confirmed = False
        self.refuting: tuple[Images, dict[str, NDArray[Any]]] | None = None

    def ask(self, ask: Ask) -> None:
        """Ask about images in which the candidates differ, until one is left or none differ."""
        for number in range(_ROUNDS):
            images = self._most_telling(fresh_images(self.network, self.random, 4 * self.count))
            if images is None:
                if self.confirmed and number >= _CONFIRMATIONS:
                    return
                images = fresh_images(self.network, self.random, self.count)
            answer = ask(images)
            if any(name not in answer.outputs or name in answer.answered for name in self.names):
                return
            left = [candidate for candidate in self.candidates if self._fits(candidate, images, answer)]
            self.candidates, self.confirmed = left, bool(left)
            if not left:  # nothing in the catalogue is what it does: the sample alone was too kind
                self.refuting = images, {name: answer.outputs[name].copy() for name in self.names}
                return
            if not answer.goes_on or number == _ROUNDS - 1:
                return

    def _fits(self, candidate: _Candidate, images: Images, answer: Answer) -> bool:
        predicted = candidate.variant.run(images, self.names, idle=True)
        for name in self.names:
            tolerance = self.tolerance if name == "logits" else None
            if differ(predicted[name], answer.outputs[name], tolerance).any():
                return False
        candidate.fresh += len(images)
        return True

    def _most_telling(self, images: Images) -> Images | None:
        """The images in which most candidates differ from the first; None where none differ."""
        if len(self.candidates) < 2:
            return None
        telling = np.zeros(len(images), dtype=np.int64)
        first = self.candidates[0].variant.run(images, self.names, idle=True)
        for candidate in self.candidates[1:]:
            other = candidate.variant.run(images, self.names, idle=True)
            differs = np.zeros(len(images), dtype=np.bool_)
            for name in self.names:
                differs |= differ(first[name], other[name]).reshape(len(images), -1).any(axis=1)
            telling += differs
        if not telling.any():
            return None
        return images[np.sort(np.argsort(-telling, kind="stable")[: self.count])]
