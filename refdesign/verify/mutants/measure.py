"""Measuring the conformance suite: which of its cases notice which mutant."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

from refdesign.verify.conformance.cases import CASES
from refdesign.verify.conformance.drawing import Example
from refdesign.verify.conformance.execution import EXAMPLES, drawn
from refdesign.verify.conformance.judging import Golden, golden, judge
from refdesign.verify.mutants.catalogue import Mutant, mutant

Corpus = dict[str, list[tuple[Example, Golden]]]
"""By case, its examples with the reference's answers."""


@dataclass(frozen=True)
class Kills:
    """Which cases notice a mutant.

    Attributes:
        mutant: its name.
        by: by case that notices it, the number of the first example that does, from 1.
        first_fault: what the first of these cases says.
    """

    mutant: str
    by: dict[str, int]
    first_fault: str | None

    @property
    def killed(self) -> bool:
        """Whether any case notices it."""
        return bool(self.by)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"mutant": self.mutant, "killed": self.killed, "by": self.by, "first_fault": self.first_fault}


@cache
def corpus(examples_per_case: int = EXAMPLES, seed: int = 0, cases: tuple[str, ...] | None = None) -> Corpus:
    """The examples of all cases (or of some), drawn once for all mutants: those that the suite draws.

    >>> len(corpus(2, cases=("counting/words",))["counting/words"])
    2
    """
    return {
        case.name: [
            (example, golden(example)) for example in drawn(case, examples_per_case=examples_per_case, seed=seed)
        ]
        for case in CASES
        if cases is None or case.name in cases
    }


def kills(wrong: Mutant, examples: Corpus, *, stop: bool = False) -> Kills:
    """Which cases notice a mutant.

    Args:
        wrong: the mutant.
        examples: by case.
        stop: at the first case that notices it.

    >>> kills(mutant("matches-only"), corpus(2, cases=("counting/words",))).by
    {'counting/words': 1}
    """
    repeated = {case.name for case in CASES if case.repeat}
    by: dict[str, int] = {}
    fault: str | None = None
    for name, entries in examples.items():
        for number, (example, expected) in enumerate(entries, start=1):
            found = judge(example, wrong.implementation, expected=expected, repeat=name in repeated).fault
            if found is not None:
                by[name] = number
                fault = fault or f"{name}: {found}"
                break
        if stop and by:
            break
    return Kills(wrong.name, by, fault)


def measure(
    mutants: Sequence[Mutant],
    *,
    examples_per_case: int = EXAMPLES,
    seed: int = 0,
    stop: bool = False,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[Kills]:
    """Measure many mutants, in processes side by side.

    Args:
        mutants: which.
        examples_per_case, seed: as the suite's own.
        stop: whether to stop at the first case that notices a mutant, or to go through all.
        workers: processes.
        progress: called with (mutants done, mutants in all).
    """
    jobs = [(entry.name, examples_per_case, seed, stop) for entry in mutants]
    found: list[Kills] = []
    for result in _results(jobs, workers):
        found.append(result)
        if progress is not None:
            progress(len(found), len(mutants))
    return found


def _results(jobs: list[tuple[str, int, int, bool]], workers: int) -> Iterator[Kills]:
    if workers == 1:
        yield from map(_measure_one, jobs)
        return
    # Started afresh, not forked: a fork of a process with threads can hang.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_measure_one, jobs)


def _measure_one(job: tuple[str, int, int, bool]) -> Kills:
    name, examples_per_case, seed, stop = job
    return kills(mutant(name), corpus(examples_per_case, seed), stop=stop)
