"""How well outputs of a changed reference agree with what an implementation answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.network import NetworkData
from refdesign.run import run_batch
from refdesign.verify.differences import differ
from refdesign.verify.verdict import Sample

Rows = NDArray[np.intp]
"""The numbers of some of the sample's images."""

_NOT_A_NUMBER = 1e9  # how far a value is off that is infinite or none at all


class Scorer:
    """Compares outputs with the answers in a sample.

    Args:
        network: the reference.
        sample: images with an implementation's answers.
        tolerance: how far real logits may be off, by class, and still agree; None: not at all.

    Attributes:
        names: the outputs that were answered, in order of execution.
        reference: the reference's own outputs for the sample.
        base: their score.
    """

    def __init__(self, network: NetworkData, sample: Sample, tolerance: NDArray[np.float64] | None) -> None:
        self.sample = sample
        self.tolerance = tolerance
        self.names = tuple(name for name in network.output_names if name in sample.outputs)
        uncertain = tuple(name for name in network.output_names if name.endswith(".uncertain"))
        self.reference = run_batch(network, sample.images, "packed", frozenset((*self.names, *uncertain)))
        self.all = np.arange(len(sample.images))
        self.base = self.score(self.reference, self.all)

    @property
    def equal(self) -> bool:
        """Whether the reference by itself agrees."""
        return self.base == (len(self.names), 0.0)

    def score(self, outputs: Mapping[str, NDArray[Any]], images: Rows) -> tuple[int, float]:
        """How many outputs agree before the first that does not, and how far that one is off.

        Args:
            outputs: of these images; one that is missing ends the count.
            images: which of the sample's.
        """
        for rank, name in enumerate(self.names):
            if name not in outputs:
                return rank, 0.0
            distance = self.distance(name, outputs[name], images)
            if distance:
                return rank, distance
        return len(self.names), 0.0

    def distance(self, name: str, ours: NDArray[Any], images: Rows) -> float:
        """The sum of all differences in an output, those that the reference leaves open left out."""
        theirs = self.sample.outputs[name]
        if ours.shape[1:] != theirs.shape[1:]:
            return _NOT_A_NUMBER * theirs.size
        theirs = theirs[images]
        where = self._differ(name, ours, theirs)
        open_ = self.reference.get(f"{name.rpartition('.')[0]}.uncertain") if name.endswith(".bits") else None
        if open_ is not None:
            where &= ~open_[images]
        if not where.any():
            return 0.0
        with np.errstate(all="ignore"):
            off = np.abs(ours[where].astype(np.float64) - theirs[where].astype(np.float64))
        off = np.minimum(np.nan_to_num(off, nan=_NOT_A_NUMBER, posinf=_NOT_A_NUMBER), _NOT_A_NUMBER)
        return float(np.maximum(off, np.finfo(np.float32).tiny).sum())

    def distance_of_reference(self, rank: int, images: Rows) -> float:
        """How far an output of the plain reference is off in some of the images."""
        name = self.names[rank]
        return self.distance(name, self.reference[name][images], images)

    def most_telling(self, count: int) -> Rows:
        """The first images in which the first differing output differs, at most so many."""
        rank, distance = self.base
        if not distance:
            return self.all[:count]
        name = self.names[rank]
        where = self._differ(name, self.reference[name], self.sample.outputs[name])
        return np.flatnonzero(where.reshape(len(self.all), -1).any(axis=1))[:count]

    def exact(self, outputs: Mapping[str, NDArray[Any]]) -> bool:
        """Whether logits of all images agree to the last bit, too."""
        return self.tolerance is None or not differ(outputs["logits"], self.sample.outputs["logits"]).any()

    def _differ(self, name: str, ours: NDArray[Any], theirs: NDArray[Any]) -> NDArray[np.bool_]:
        return differ(ours, theirs, self.tolerance if name == "logits" else None)
