"""Running a case: examples are drawn, judged, and, where one is wrong, shrunk to the smallest that still is."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as with_seed
from hypothesis.errors import Flaky, Unsatisfiable

from refdesign.verify.conformance.capabilities import Capabilities
from refdesign.verify.conformance.cases import Case
from refdesign.verify.conformance.drawing import Example, examples
from refdesign.verify.conformance.judging import Judgement, Make, judge

EXAMPLES = 25
"""Examples of a case, times its effort."""


@dataclass
class CaseResult:
    """What became of a case.

    Attributes:
        case: its name.
        examples: how many were judged, while it was looked for a failure and while one was shrunk.
        values: how many values were compared, by output's kind (`bits`, `accumulator`, ..., `logits`).
        skipped: why it was not run; None: it was.
        fault: what is wrong with the smallest failing example; None: nothing.
        failing: that example.
    """

    case: str
    examples: int = 0
    values: int = 0
    outputs: Counter[str] = field(default_factory=Counter)
    skipped: str | None = None
    fault: str | None = None
    failing: Example | None = None

    @property
    def status(self) -> str:
        """`"passed"`, `"failed"` or `"skipped"`."""
        return "skipped" if self.skipped is not None else "passed" if self.fault is None else "failed"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without the example itself."""
        return {
            "case": self.case,
            "status": self.status,
            "examples": self.examples,
            "values": self.values,
            "outputs": dict(self.outputs),
            "skipped": self.skipped,
            "fault": self.fault,
        }


class _Mismatch(Exception):
    """An example that an implementation gets wrong."""


def run_case(
    case: Case,
    make: Make,
    capabilities: Capabilities | None = None,
    *,
    examples_per_case: int = EXAMPLES,
    seed: int = 0,
    shrink: bool = True,
    time_limit: float | None = None,
) -> CaseResult:
    """Run one case on an implementation.

    Args:
        case: the case.
        make: binds the implementation to a network.
        capabilities: what the implementation lacks; None: nothing.
        examples_per_case: how many examples, times the case's effort.
        seed: which ones; the same seed draws the same.
        shrink: whether a failing example is made as small as can be.
        time_limit: seconds for an example; None waits for ever.

    >>> from refdesign.verify.conformance.cases import case
    >>> from refdesign.verify.mutants.catalogue import mutant
    >>> wrong = run_case(case("counting/words"), mutant("matches-only").implementation, examples_per_case=5)
    >>> wrong.status, wrong.failing.images.shape
    ('failed', (1, 1, 1, 1))
    """
    declared = capabilities or Capabilities()
    result = CaseResult(case.name)
    missing = declared.missing(case.needs)
    if missing:
        result.skipped = f"declared as lacking: {', '.join(missing)}"
        return result

    @with_seed(seed)
    @settings(
        max_examples=examples_per_case * case.effort,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        print_blob=False,
    )
    @given(examples(case, declared))
    def every_example_agrees(example: Example) -> None:
        judgement = judge(example, make, repeat=case.repeat, time_limit=time_limit)
        _note(result, judgement)
        if judgement.fault is not None:
            result.fault, result.failing = judgement.fault, example
            raise _Mismatch

    try:
        every_example_agrees()
    except _Mismatch:
        pass
    except Unsatisfiable:
        result.skipped = "declared as lacking: some part of every network that it draws"
    except Flaky:
        result.fault = f"not repeatable: the same example was right once and wrong once: {result.fault}"
    return result


def _note(result: CaseResult, judgement: Judgement) -> None:
    result.examples += 1
    result.values += judgement.values
    result.outputs.update({name.rpartition(".")[2] for name in judgement.outputs})


def drawn(case: Case, *, examples_per_case: int = EXAMPLES, seed: int = 0) -> list[Example]:
    """The examples that `run_case` judges, as long as none of them is wrong.

    >>> from refdesign.verify.conformance.cases import case
    >>> len(drawn(case("counting/words"), examples_per_case=3))
    3
    """
    kept: list[Example] = []
    declared = Capabilities()

    @with_seed(seed)
    @settings(
        max_examples=examples_per_case * case.effort,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(examples(case, declared))
    def keep(example: Example) -> None:
        kept.append(example)

    keep()
    return kept
