"""The scoreboard, fed as a bench feeds it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from refdesign.errors import RefdesignError
from refdesign.verify.compare import COULD_NOT_RUN, DIFFERENT, EQUAL
from refdesign.verify.doors.scoreboard import Scoreboard
from refdesign.verify.doors.words import WordFormat
from tests.verify.subjects import images_for, under, uneven

NETWORK = uneven()
IMAGES = images_for(NETWORK, 5)
OUTPUTS = NETWORK.run(IMAGES, outputs="all")


def _board() -> Scoreboard:
    board = Scoreboard(NETWORK)
    for image in IMAGES:
        board.expect(image)
    return board


def test_words_from_a_folded_stream_and_whole_logits() -> None:
    board = _board()
    packing = WordFormat(word_bits=4)
    for word in packing.encode(OUTPUTS["second.bits"].reshape(5, 7, 10, 3, 4)):
        board.observe_words("second.bits", [word], packing, "n h w fold pe -> n h w (fold pe)", pe=4)
    for logits in OUTPUTS["logits"]:
        board.observe("logits", logits)
    verdict = board.check()
    assert verdict.status == EQUAL
    assert verdict.values == OUTPUTS["second.bits"].size + OUTPUTS["logits"].size


def test_the_first_difference_and_its_reason_are_raised() -> None:
    board = _board()
    wrong = under(NETWORK, channel_map="repeat")(IMAGES)
    for name in ("first.bits", "second.bits", "logits"):
        board.observe(name, wrong[name])
    with pytest.raises(AssertionError, match=r"(?s)first difference: first.bits, image 0, row.*channel_map=repeat"):
        board.check()


def test_images_without_an_answer() -> None:
    board = _board()
    board.observe("logits", OUTPUTS["logits"][:3])
    board.observe_words("second.bits", [1, 2], WordFormat(word_bits=4))
    verdict = board.verdict()
    assert verdict.status == DIFFERENT
    assert {(finding.kind, finding.output) for finding in verdict.findings} == {
        ("count", "logits"),
        ("count", "second.bits"),
    }
    with pytest.raises(RefdesignError, match="found no images"):
        Scoreboard(NETWORK).verdict()
    with pytest.raises(RefdesignError, match="expected whole cases"):
        board.observe("logits", np.zeros(7))
    with pytest.raises(RefdesignError, match="found 'nope'"):
        board.observe("nope", np.zeros(5))


def test_required_outputs_that_were_never_seen() -> None:
    board = Scoreboard(NETWORK, required=["first.bits"])
    board.expect(IMAGES)
    board.observe("logits", OUTPUTS["logits"])
    assert [finding.output for finding in board.verdict().findings] == ["first.bits"]


def test_undefined_digits_in_words() -> None:
    board, packing = _board(), WordFormat(word_bits=5)
    for logits in OUTPUTS["logits"]:
        board.observe("logits", logits)
    words = [f"{word:05b}" for word in packing.encode(OUTPUTS["fourth.bits"])]
    assert len(words) == 5 * 3
    words[7] = "1x0Z" + words[7][4]
    board.observe_words("fourth.bits", words, packing)
    verdict = board.verdict()
    assert [(finding.kind, finding.output, finding.image) for finding in verdict.findings] == [
        ("undefined", "fourth.bits", 2)
    ]
    assert {6, 8} <= set(np.flatnonzero(verdict.counts["fourth.bits"].by_channel))
    for word in ("0101", "01012", 32):
        with pytest.raises(RefdesignError, match=r"fourth.bits: found the word .*expected 5"):
            board.observe_words("fourth.bits", [word], packing)


def test_a_bench_of_one_unit_is_judged_by_what_it_requires() -> None:
    def seen(values: Any, count: int = 5) -> Scoreboard:
        board = Scoreboard(NETWORK, ["second.bits"], whole=False)
        board.expect(IMAGES)
        if count:
            board.observe("second.bits", values[:count])
        return board

    assert seen(OUTPUTS["second.bits"]).check().status == COULD_NOT_RUN  # which is no verdict on the network
    wrong = OUTPUTS["second.bits"].copy()
    wrong[3, 2, 9, 11] *= -1
    with pytest.raises(AssertionError, match=r"second.bits, image 3, row 2, column 9, channel 11 \(word 0, bit 11\)"):
        seen(wrong).check(diagnosis_time=0)
    for count in (0, 4):
        with pytest.raises(AssertionError, match=f"seen for {count} of 5 images"):
            seen(OUTPUTS["second.bits"], count).check()
    with pytest.raises(RefdesignError, match="found whole=False and nothing required"):
        Scoreboard(NETWORK, whole=False)
