"""Explanations that all fit what was seen, told apart by images made for the purpose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.network import NetworkData
from refdesign.verify.budget import Budget, TimeOver
from refdesign.verify.differences import differ
from refdesign.verify.fresh import fresh_images
from refdesign.verify.implementation import Answer, Images
from refdesign.verify.variant import Variant

Ask = Callable[[Images], Answer]
"""Asks the implementation about images of our choice."""

_ROUNDS = 4  # of fresh images
_CONFIRMATIONS = 2  # batches that must agree: what is left from one shows in the next


@dataclass
class Candidate:
    """A variant that fits: how many images it explains, and how many fresh ones besides."""

    variant: Variant
    images: int
    fresh: int = 0


def in_order(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Changes that are wrong everywhere before those in one layer; otherwise in the catalogue's order.

    Of a mistake's spellings that give the same, the usual one is kept.
    """
    usual = {_known_as(c) for c in candidates if not any(p.change.spelling_of for p in c.variant.placed)}
    kept = [
        c for c in candidates if _known_as(c) not in usual or not any(p.change.spelling_of for p in c.variant.placed)
    ]
    return sorted(kept, key=lambda c: [placed.where != "everywhere" for placed in c.variant.placed])


def _known_as(candidate: Candidate) -> tuple[tuple[str, str], ...]:
    return tuple((p.change.spelling_of or p.change.name, p.where) for p in candidate.variant.placed)


class Telling:
    """Candidates that fit the sample, told apart by fresh images.

    Args:
        network: the reference.
        names: the outputs that were answered.
        candidates: those that fit the sample.
        count: images of a round.
        seed: of the images.
        tolerance: how far real logits may be off, by class; None: not at all.

    Attributes:
        candidates: those that still fit.
        confirmed: whether fresh images were answered as they say.
        refuting: the images that refuted the last ones, with their answers.
    """

    def __init__(
        self,
        network: NetworkData,
        names: Sequence[str],
        candidates: list[Candidate],
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

    def ask(self, ask: Ask, budget: Budget) -> bool:
        """Ask about images in which the candidates differ, until one is left or none differ; false: time was over."""
        try:
            self._ask(ask, budget)
        except TimeOver:  # the rounds that were finished count
            return False
        return True

    def _ask(self, ask: Ask, budget: Budget) -> None:
        for number in range(_ROUNDS):
            budget.check()
            images = self.most_telling(fresh_images(self.network, self.random, 4 * self.count))
            if images is None:
                if self.confirmed and number >= _CONFIRMATIONS:
                    return
                images = fresh_images(self.network, self.random, self.count)
            answer = ask(images)
            if any(name not in answer.outputs or name in answer.answered for name in self.names):
                return
            left = [candidate for candidate in self.candidates if self._fits(candidate, images, answer)]
            for candidate in left:
                candidate.fresh += len(images)
            self.candidates, self.confirmed = left, bool(left)
            if not left:  # nothing in the catalogue is what it does: the sample alone was too kind
                self.refuting = images, {name: answer.outputs[name].copy() for name in self.names}
                return
            if not answer.goes_on:
                return

    def _fits(self, candidate: Candidate, images: Images, answer: Answer) -> bool:
        predicted = candidate.variant.run(images, self.names, idle=True)
        for name in self.names:
            tolerance = self.tolerance if name == "logits" else None
            if differ(predicted[name], answer.outputs[name], tolerance).any():
                return False
        return True

    def most_telling(self, images: Images) -> Images | None:
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
