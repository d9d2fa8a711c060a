"""The exercises: right solutions pass, typical mistakes stop at the step that is about them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from refdesign.errors import RefdesignError
from refdesign.learn import checks, exercises
from tests.learn import solutions


@pytest.mark.parametrize("one", exercises.EXERCISES, ids=lambda one: one.name)
def test_a_right_solution_passes_every_step(one: exercises.Exercise) -> None:
    marking = exercises.mark(getattr(solutions, one.function), one.checks)
    assert marking.failed is None, f"{marking.failed}: {marking.fault}"
    assert marking.passed == tuple(check.name for check in one.checks)


@pytest.mark.parametrize(
    ("name", "wrong", "step"),
    [
        ("count", solutions.dot_without_tails, "vectors that do not fill their word"),
        ("count", solutions.dot_of_the_first_word, "more than one word"),
        ("fold", solutions.fold_by_division, "gamma below zero"),
        ("fold", solutions.fold_strictly, "boundaries on an accumulator"),
        ("fold", solutions.fold_in_floats, "boundaries next to an accumulator"),
        ("dither", solutions.threshold_map_running, "maps that are no multiple of the period"),
        ("dither", solutions.threshold_map_swapped, "kernels that are not square"),
        ("dither", solutions.threshold_map_repeated, "slices"),
        ("pool", solutions.pool_bits_with_or, "channels that fire below"),
        ("layer", solutions.layer_with_unpooled_phase, "with dither"),
    ],
)
def test_a_typical_mistake_stops_at_its_step(name: str, wrong: Callable[..., Any], step: str) -> None:
    marking = exercises.mark(wrong, exercises.exercise(name).checks)
    assert marking.failed == step
    assert marking.fault
    assert marking.hints


@pytest.mark.parametrize("one", exercises.EXERCISES, ids=lambda one: one.name)
def test_what_is_handed_out_is_no_solution(one: exercises.Exercise, tmp_path: Path) -> None:
    file = tmp_path / f"{one.name}.py"
    file.write_text(one.starter(), encoding="utf-8")
    marking = exercises.mark(exercises.load(file, one.function), one.checks)
    assert marking.failed == one.checks[0].name
    assert marking.fault == "it raised NotImplementedError: yours to write"


def test_near_boundaries_are_nearer_than_float64_can_tell() -> None:
    for gamma, mean, beta, threshold in checks.NEAR:
        assert abs((gamma * mean) ** 2 - 2 * (beta - threshold) ** 2) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("def other(): pass", "found no function 'fold'"),
        ("1/0", "does not run: ZeroDivisionError"),
        ("fold = 3", "found no function 'fold'"),
        ("def fold(:", "does not run: SyntaxError"),
    ],
)
def test_unreadable_solutions_are_named(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "fold.py"
    file.write_text(content)
    with pytest.raises(RefdesignError, match=message):
        exercises.load(file, "fold")


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ((9, -1, 0), "which gives 1 at a = -9, expected -1"),
        ((0, 0, -1), "which gives -1 at a = 3, expected 1"),
        ((2, 1, 0), "which gives the right bits, expected them in the task's form (t attainable, direction 0"),
        ((3, 1, 1), "which gives the right bits, expected them in the task's form (t attainable, direction 0"),
    ],
)
def test_a_wrong_rule_is_answered_by_an_accumulator(wrong: tuple[int, int, int], fault: str) -> None:
    tie = (1.0, 0.0, 3.0, 4.0, 0.0, -9, 9, 2)
    assert checks.reference_fold(tie) == (3, 1, 0)
    found = checks.fold_ties(lambda *case: wrong if case == tie else checks.reference_fold(case))
    assert found is not None
    assert fault in found


def test_wrong_kinds_of_answers_are_faults() -> None:
    fold = exercises.exercise("fold").checks
    for answer in (None, 3, (1, 2)):
        assert exercises.mark(lambda *_, answer=answer: answer, fold).failed == fold[0].name


def test_unknown_exercises_are_refused() -> None:
    with pytest.raises(RefdesignError, match="expected one of count, fold"):
        exercises.exercise("unfold")
