"""Keeping some images with an implementation's answers, for the diagnosis, in memory that does not grow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.verify.implementation import Answer, Images
from refdesign.verify.undefined import defined
from refdesign.verify.verdict import Sample

SAMPLE_IMAGES = 24
"""How many images, with their answers, are kept for the diagnosis: differing ones first."""


@dataclass(frozen=True)
class _Kept:
    """One image: its number, what was answered for it, and the outputs in which that differs."""

    number: int
    image: Images
    outputs: dict[str, NDArray[Any]]
    wrong: tuple[str, ...]


class Keeper:
    """Keeps differing images before equal ones, and of each kind the first."""

    def __init__(self) -> None:
        self._kept: list[_Kept] = []

    def add(self, start: int, images: Images, answer: Answer, differing: Mapping[str, NDArray[np.bool_]]) -> None:
        """See what is worth keeping of a batch.

        Args:
            start: the number of its first image.
            images: uint8 (N, H, W, C).
            answer: to them.
            differing: by output, which images differ in it, (N,); only outputs in which some do.
        """
        full = sum(bool(entry.wrong) for entry in self._kept) >= SAMPLE_IMAGES
        if full or (len(self._kept) >= SAMPLE_IMAGES and not differing):
            return
        some = np.any([np.zeros(len(images), dtype=np.bool_), *differing.values()], axis=0)
        for row in [*np.flatnonzero(some)[:SAMPLE_IMAGES], *np.flatnonzero(~some)[:SAMPLE_IMAGES]]:
            answers = answered_row(answer, int(row))
            if set(answers) == set(answer.outputs):
                wrong = tuple(name for name, where in differing.items() if where[row])
                self._kept.append(_Kept(start + int(row), images[row].copy(), answers, wrong))
        self._kept.sort(key=lambda entry: (not entry.wrong, entry.number))
        del self._kept[SAMPLE_IMAGES:]

    def sample(self, names: Sequence[str]) -> Sample | None:
        """What was kept, in these outputs where all have them; None where no number in it differs."""
        if not self._kept:
            return None
        numbers = np.array([entry.number for entry in self._kept])
        names = [name for name in names if all(name in entry.outputs for entry in self._kept)]
        outputs = {name: np.stack([entry.outputs[name] for entry in self._kept]) for name in names}
        kept, rows = defined(outputs, len(numbers))
        if (len(kept), len(rows)) != (len(names), len(numbers)):
            left = {name for row in rows for name in self._kept[row].wrong}
            if not left.intersection(kept):
                return None
        images = np.stack([entry.image for entry in self._kept])[rows]
        return Sample(numbers[rows], images, {name: outputs[name][rows] for name in kept})


def answered_row(answer: Answer, row: int) -> dict[str, NDArray[Any]]:
    """One image's answers, copied.

    >>> outputs = {"logits": np.zeros((2, 3)), "conv1.bits": np.ones((2, 4))}
    >>> answer = Answer(outputs, answered={"logits": np.array([True, False])})
    >>> list(answered_row(answer, 0)), list(answered_row(answer, 1))
    (['logits', 'conv1.bits'], ['conv1.bits'])
    """
    rows = {name: mask[row] for name, mask in answer.answered.items()}
    return {name: array[row].copy() for name, array in answer.outputs.items() if rows.get(name, True)}
