"""The time that a diagnosis has: it holds to the layer, by whatever clock."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from refdesign.run import run_batch
from refdesign.verify.budget import Budget, TimeOver
from refdesign.verify.diagnosis import Diagnosis, diagnose
from refdesign.verify.hypotheses import CATALOGUE
from refdesign.verify.implementation import Answer
from refdesign.verify.verdict import Sample
from tests.verify.port import Port
from tests.verify.subjects import images_for, uneven

NETWORK = uneven()
IMAGES = images_for(NETWORK, 9)
WRONG = Port(NETWORK, "no dither")


class Clock:
    """Stands still until it was read so many times; then an hour has passed."""

    def __init__(self, readings: int) -> None:
        self.left = readings
        self.later = 0

    def __call__(self) -> float:
        self.left -= 1
        self.later += self.left < 0
        return 0.0 if self.left >= 0 else 3600.0


def _diagnosis(clock: Clock, answers: dict[str, Any], ask: Any = None) -> Diagnosis:
    return diagnose(NETWORK, Sample(np.arange(len(IMAGES)), IMAGES, answers), ask, seconds=60.0, clock=clock)


@pytest.mark.parametrize("readings", [1, 2, 7, 100, 2000])
def test_no_layer_is_run_after_the_time_is_over(readings: int) -> None:
    """The clock is read before every layer: each stage that is left reads it once and ends."""
    clock = Clock(readings)
    noise = np.random.default_rng(1).integers(-11, 12, (len(IMAGES), 5))
    found = _diagnosis(clock, {"logits": noise})
    assert (found.explanations, found.complete) == ((), False)
    assert found.tried <= readings
    assert clock.later <= 3


def test_the_clock_is_read_before_every_layer() -> None:
    clock = Clock(10**9)
    found = _diagnosis(clock, dict(WRONG(IMAGES)))
    assert found.complete
    readings = 10**9 - clock.left
    assert readings > 2 * found.tried


def test_what_was_found_before_the_time_was_over_is_said_and_is_unconfirmed() -> None:
    def ask(images: Any) -> Answer:
        return Answer(dict(WRONG(images)))

    whole = Clock(10**9)
    assert _diagnosis(whole, dict(WRONG(IMAGES)), ask).confirmed
    # The last readings are those of telling apart: an hour passes just before they begin, or amid them.
    found = _diagnosis(Clock(10**9 - whole.left - 3), dict(WRONG(IMAGES)), ask)
    assert str(found.explanations[0]) == "no dither"
    assert not found.complete


def test_a_tenth_is_kept_for_questions() -> None:
    now = 0.0
    budget = Budget(50.0, lambda: now)
    now = 44.0
    budget.check()
    now = 46.0
    with pytest.raises(TimeOver):
        budget.check()
    budget.release()
    budget.check()
    assert budget.spent == 46.0
    now = 50.0
    with pytest.raises(TimeOver):
        budget.check()


def test_progress_is_told_change_by_change() -> None:
    told: list[tuple[int, int]] = []
    answers = run_batch(NETWORK, IMAGES, "packed", frozenset({"logits"}))
    wrong = {"logits": answers["logits"] + np.arange(5)}
    diagnose(
        NETWORK, Sample(np.arange(len(IMAGES)), IMAGES, wrong), seconds=60.0, clock=Clock(15_000),
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert told[:200] == [(number, len(CATALOGUE)) for number in range(200)]
