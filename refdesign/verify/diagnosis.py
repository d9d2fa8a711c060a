"""Diagnosis: which single change of the reference, or which pair, gives what the implementation answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.network import NetworkData
from refdesign.run import run_batch
from refdesign.verify.budget import Budget, TimeOver
from refdesign.verify.change import Change
from refdesign.verify.compare import Sample
from refdesign.verify.explanation import Diagnosis, Explanation
from refdesign.verify.fresh import fresh_images
from refdesign.verify.hypotheses import CATALOGUE
from refdesign.verify.implementation import Images, others
from refdesign.verify.mending import mend
from refdesign.verify.rounding import exact_logits, source_of_logits
from refdesign.verify.scoring import Scorer
from refdesign.verify.search import Fit, Search
from refdesign.verify.telling import Ask, Candidate, Telling, in_order

__all__ = ["Diagnosis", "Explanation", "diagnose"]

_SEARCHES = 4  # each with the fresh images that refuted the one before; the last looks for no wrong entries
_SHARPENINGS = 4  # rounds of images that tell wrong entries apart
_TOGETHER = 8  # images that are asked again by themselves
_ALONE = 3  # and so many of them one by one
_FRESH = 24


def diagnose(
    network: NetworkData,
    sample: Sample,
    ask: Ask | None = None,
    *,
    seconds: float = 50.0,
    clock: Callable[[], float] = time.thread_time,
    progress: Callable[[int, int], None] | None = None,
    catalogue: Sequence[Change] = CATALOGUE,
    seed: int = 0,
) -> Diagnosis:
    """Find which known changes of the reference give an implementation's answers.

    Every change is tried in all layers, in all of a kind, and in each one; where none fits, a few wrong entries of a
    layer's tables, as its answers show them; then pairs whose first half explains something. All that fit are told
    apart by fresh images, chosen so that they differ, where the implementation can be asked again; a change that
    fresh images refute is never named, and the search goes on with them.

    Args:
        network: the reference.
        sample: images with the implementation's answers, some of which differ from the reference's.
        ask: asks the implementation about images of our choice; None: it cannot be asked.
        seconds: when to stop; a question to the implementation, and a layer that is being run, come to their end.
        clock: by which; processor time of this thread, so that a loaded machine tries as many changes as a quiet one.
        progress: called with (changes tried, changes to try), stage by stage.
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
    budget = Budget(seconds, clock, progress)
    diagnosis = Diagnosis()
    if ask is not None:
        sample, diagnosis.depends_on = _asked_again(sample, ask)
        diagnosis.right_alone = diagnosis.depends_on == "batch" and _right_alone(network, sample, ask)
    if ask is not None and diagnosis.depends_on is None:
        sample = _sharpened(network, sample, ask, budget, seed)
    for left in reversed(range(_SEARCHES)):
        diagnosis.besides = None
        search, fits = _searched(network, sample, catalogue, budget, diagnosis, entries=left > 0)
        if search.equal:
            break
        diagnosis.complete = not search.late
        diagnosis.nearest = search.nearest()
        exactly = [fit for fit in fits if fit.exact]
        if fits and not exactly:
            diagnosis.besides = "logits"
        tolerance = None if exactly else search.tolerance
        given = int((sample.numbers >= 0).sum())
        candidates = [Candidate(fit.variant, given, len(sample.images) - given) for fit in exactly or fits]
        count = _TOGETHER if diagnosis.depends_on == "batch" else _FRESH
        telling = Telling(network, search.names, candidates, count, seed, tolerance)
        if ask is not None and fits:
            budget.release()
            diagnosis.complete &= telling.ask(ask, budget)
        if telling.candidates or telling.refuting is None:
            diagnosis.confirmed = telling.confirmed
            diagnosis.explanations = tuple(
                _explanation(candidate, network) for candidate in in_order(telling.candidates)
            )
            break
        sample = _with(sample, *telling.refuting)
    diagnosis.seconds = budget.spent
    return diagnosis


def _sharpened(network: NetworkData, sample: Sample, ask: Ask, budget: Budget, seed: int) -> Sample:
    """The sample with images that tell wrong entries apart, where it shows which these are but not their values."""
    random = np.random.default_rng(seed)
    try:
        for _ in range(_SHARPENINGS):
            search = Search(network, sample, (), budget, _tolerance(network, sample))
            candidates = [] if search.equal else [Candidate(fit.variant, 0) for fit in search.entries()]
            telling = Telling(network, search.names, candidates, _FRESH, seed, search.tolerance)
            images = telling.most_telling(fresh_images(network, random, 4 * _FRESH)) if len(candidates) > 1 else None
            outputs = None if images is None else _answered(images, ask, search.names)
            if images is None or outputs is None:
                break
            sample = _with(sample, images, outputs)
    except TimeOver:
        pass  # the search will say so
    return sample


def _searched(
    network: NetworkData, sample: Sample, catalogue: Sequence[Change], budget: Budget, diagnosis: Diagnosis, *,
    entries: bool,
) -> tuple[Search, list[Fit]]:  # fmt: skip
    """One search: single changes, those of integers beside logits that are rounded otherwise, pairs."""
    coupled = diagnosis.depends_on == "batch"
    search = Search(network, sample, catalogue, budget, _tolerance(network, sample), coupled=coupled, entries=entries)
    if search.equal and search.tolerance is not None:  # what differs is rounding, which is to be explained then
        search = Search(network, sample, catalogue, budget, coupled=coupled, entries=entries)
    if search.equal:
        return search, []
    fits = search.singles()
    integers = None if fits or search.late else _without_rounding(network, sample)
    if integers is not None:
        beside = Search(network, integers, catalogue, budget, coupled=coupled, entries=entries)
        if not beside.equal:
            diagnosis.tried += search.tried
            diagnosis.besides, search = "logits", beside
            fits = search.singles()
    fits = fits or search.pairs()
    diagnosis.tried += search.tried
    return search, fits


def _explanation(candidate: Candidate, network: NetworkData) -> Explanation:
    placed = candidate.variant.placed
    mends = tuple(mend(entry, network) for entry in placed)
    images = candidate.images + candidate.fresh
    return Explanation(placed, mends, images, candidate.fresh, candidate.variant.folded)


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


def _right_alone(network: NetworkData, sample: Sample, ask: Ask) -> bool:
    """Whether some images are answered as by the reference, each asked by itself."""
    for row in range(min(_ALONE, len(sample.images))):
        image = sample.images[row : row + 1]
        outputs = _answered(image, ask, tuple(sample.outputs))
        if outputs is None:
            return False
        alone = Sample(sample.numbers[row : row + 1], image, outputs)
        if not Scorer(network, alone, _tolerance(network, alone)).equal:
            return False
    return True


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


def _tolerance(network: NetworkData, sample: Sample) -> NDArray[np.float64] | None:
    """How far the rounding of a last layer may put real logits off, by class; None where they are no such."""
    source, logits = source_of_logits(network), sample.outputs.get("logits")
    if source is None or logits is None or logits.dtype.kind != "f":
        return None
    outputs = run_batch(network, sample.images, "packed", frozenset({source}))
    bound: NDArray[np.float64] = exact_logits(network, outputs[source]).bound(logits.dtype).max(axis=0)
    return bound


def _alike(found: dict[str, NDArray[Any]], expected: dict[str, NDArray[Any]]) -> bool:
    return not any(others(array, expected[name][: len(array)]).any() for name, array in found.items())


def _with(sample: Sample, images: Images, outputs: dict[str, NDArray[Any]]) -> Sample:
    """The sample with more images, which have no numbers of their own: they get -1."""
    numbers = np.concatenate([sample.numbers, np.full(len(images), -1)])
    joined = {name: np.concatenate([array, outputs[name]]) for name, array in sample.outputs.items()}
    return Sample(numbers, np.concatenate([sample.images, images]), joined)
