"""Measuring the diagnosis: by which change of the reference it names a mutant, on networks on which that shows."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.verify.compare import compare
from refdesign.verify.diagnosis import diagnose
from refdesign.verify.doors.callable import CallableDoor
from refdesign.verify.mutants.catalogue import Mutant, mutant
from refdesign.verify.mutants.grounds import GROUNDS, ground

SECONDS = 30.0
"""How long the diagnosis may search, in processor time."""


@dataclass(frozen=True)
class Naming:
    """What the diagnosis says about a mutant on one network.

    Attributes:
        mutant: its name.
        ground: the network's.
        shows: whether any value differs there.
        found: the changes that it names, best first, each with its place; a pair is joined by "and".
        first: whether the first of them is one that the catalogue lists for the mutant, and no pair.
        listed: whether any of them is.
        confirmed: whether fresh images were answered as the first says.
        depends_on: as in `Diagnosis`.
        findings: what the comparison reports besides differing values, by kind.
        seconds: processor time of the diagnosis, the mutant's own answers included.
    """

    mutant: str
    ground: str
    shows: bool
    found: tuple[str, ...] = ()
    first: bool = False
    listed: bool = False
    confirmed: bool = False
    depends_on: str | None = None
    findings: tuple[str, ...] = ()
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "mutant": self.mutant, "network": self.ground, "shows": self.shows, "found": list(self.found),
            "named_first": self.first, "named": self.listed, "confirmed": self.confirmed,
            "depends_on": self.depends_on, "findings": list(self.findings), "seconds": round(self.seconds, 2),
        }  # fmt: skip


def name_on(wrong: Mutant, where: str, *, logits_only: bool = False, seconds: float = SECONDS) -> Naming:
    """Diagnose a mutant on one network.

    Args:
        wrong: the mutant.
        where: one of `GROUNDS`.
        logits_only: whether the mutant answers the last layer only.
        seconds: how long the diagnosis may search.

    >>> found = name_on(mutant("slices-other-map"), "digits")
    >>> found.found, found.first, found.confirmed
    (('channel_map=repeat',), True, True)
    """
    chosen = ground(where)
    try:
        bound = wrong.implementation(chosen.network)
    except Exception as error:  # some wrong parameters cannot be made at all
        return Naming(wrong.name, where, shows=False, findings=(f"raised: {type(error).__name__}",))

    def last(images: NDArray[np.uint8]) -> NDArray[Any]:
        return bound(images)["logits"]

    door = CallableDoor(last if logits_only else bound, chosen.network, repeat=False)
    verdict = compare(chosen.network, door, chosen.images, exact=True)
    findings = tuple(dict.fromkeys(finding.kind for finding in verdict.findings if finding.fault))
    if not verdict.differing or verdict.sample is None:
        return Naming(wrong.name, where, shows=False, findings=findings)
    started = time.process_time()
    diagnosis = diagnose(chosen.network, verdict.sample, door.ask, seconds=seconds, clock=time.thread_time)
    spent = time.process_time() - started
    listed = [
        len(explanation.changes) == 1 and explanation.changes[0].change.name in wrong.named
        for explanation in diagnosis.explanations
    ]
    return Naming(
        wrong.name, where, True, tuple(map(str, diagnosis.explanations)), listed[:1] == [True], any(listed),
        diagnosis.confirmed, diagnosis.depends_on, findings, spent,
    )  # fmt: skip


def name_all(
    mutants: Sequence[Mutant],
    grounds: Sequence[str] = GROUNDS,
    *,
    logits_only: bool = False,
    seconds: float = SECONDS,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[Naming]:
    """Diagnose many mutants on many networks, in processes side by side: in the order of the mutants, then networks.

    Args:
        mutants: which.
        grounds: the networks' names.
        logits_only, seconds: as in `name_on`.
        workers: processes.
        progress: called with (diagnoses done, diagnoses in all).
    """
    jobs = [(entry.name, where, logits_only, seconds) for entry in mutants for where in grounds]
    found: list[Naming] = []
    if workers == 1:
        for job in jobs:
            found.append(_name_one(job))
            if progress is not None:
                progress(len(found), len(jobs))
        return found
    # Started afresh, not forked: a fork of a process with threads can hang.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for naming in pool.map(_name_one, jobs, chunksize=len(grounds)):
            found.append(naming)
            if progress is not None:
                progress(len(found), len(jobs))
    return found


def _name_one(job: tuple[str, str, bool, float]) -> Naming:
    name, where, logits_only, seconds = job
    return name_on(mutant(name), where, logits_only=logits_only, seconds=seconds)
