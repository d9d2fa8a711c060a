"""Comparison: what it counts, what it finds first, and when it says equal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from refdesign.api import pretrained
from refdesign.errors import RefdesignError
from refdesign.verify.compare import COULD_NOT_RUN, DIFFERENT, EQUAL, Verdict, compare
from refdesign.verify.differences import differ
from refdesign.verify.doors.callable import CallableDoor
from refdesign.verify.reports.data import sentence
from tests.verify.subjects import images_for, under, uneven

NETWORK = uneven()
IMAGES = images_for(NETWORK, 11)


def _verdict(implementation: Any, images: Any = IMAGES, **options: Any) -> Verdict:
    return compare(NETWORK, CallableDoor(implementation, NETWORK), images, **options)


def _all(images: Any) -> dict[str, Any]:
    return dict(NETWORK.run(images, outputs="all"))


def test_equal_in_every_output_and_in_batches_of_any_size() -> None:
    whole = _verdict(_all)
    pieces = _verdict(_all, batch_size=4)
    assert whole.status == pieces.status == EQUAL
    assert whole.values == pieces.values == sum(array.size for array in _all(IMAGES).values())
    assert list(whole.counts) == list(NETWORK.output_names)
    assert f"{len(NETWORK.output_names)} of {len(NETWORK.output_names)} outputs" in sentence(NETWORK, whole)


def test_other_dtypes_are_compared_as_numbers() -> None:
    def floats(images: Any) -> Any:
        return {name: array.astype(np.float64) for name, array in _all(images).items()}

    def booleans(images: Any) -> Any:
        return {name: array > 0 if name.endswith("bits") else array for name, array in _all(images).items()}

    assert _verdict(floats).status == EQUAL
    assert _verdict(booleans).status == EQUAL
    assert _verdict(lambda images: NETWORK.run(images)["logits"] + 0.25).status == DIFFERENT


def test_signs_in_place_of_numbers_are_no_numbers() -> None:
    """True stands for +1 and False for -1: for no other number of that sign, and not for a tie's 0."""
    verdict = _verdict(lambda images: {name: array > 0 for name, array in _all(images).items()})
    assert verdict.status == DIFFERENT
    wrong = {name for name, count in verdict.counts.items() if count.differing}
    assert wrong == {name for name, array in _all(IMAGES).items() if (np.abs(array) != 1).any()}
    assert {"first.accumulator", "logits"} <= wrong
    said = {finding.output: finding.message for finding in verdict.findings if finding.kind == "values"}
    assert said == dict.fromkeys(wrong, "found booleans, expected numbers")
    ties = np.array([-1, 0, 1, 0], np.int8)
    found = differ(ties, np.array([False, False, True, True]))
    np.testing.assert_array_equal(found, [False, True, False, True])


@pytest.mark.parametrize("batch_size", [1, 4, 11])
def test_the_first_difference_is_explained(batch_size: int) -> None:
    image, row, column, channel = 6, 4, 7, 9

    def planted(images: Any) -> Any:
        answer = _all(images)
        for number, pixels in enumerate(images):
            if np.array_equal(pixels, IMAGES[image]):
                answer["second.bits"] = answer["second.bits"].copy()
                answer["second.bits"][number, row, column, channel] *= -1
        return answer

    verdict = _verdict(planted, batch_size=batch_size)
    first, count = verdict.first, verdict.counts["second.bits"]
    assert first is not None
    assert verdict.differing == 1
    assert (first.layer, first.image, first.row, first.column, first.channel) == ("second", image, row, column, channel)
    assert first.phase == (row % 2, column % 3)
    assert first.theirs == -first.ours
    assert count.first == (image, row, column, channel)
    assert count.by_position is not None
    assert count.by_position[row, column] == count.by_channel[channel] == count.by_position.sum() == 1
    assert count.by_phase is not None
    assert np.argwhere(count.by_phase).tolist() == [[row % 2, column % 3]]
    assert first.accumulator == _all(IMAGES)["second.accumulator"][image, row, column, channel]
    assert first.threshold is not None
    assert first.accumulator is not None
    assert first.margin is not None
    fires = first.accumulator >= first.threshold if first.direction == 1 else first.accumulator <= first.threshold
    assert (first.ours == 1) == fires == (first.margin >= 0)
    assert first.inputs_agree is True
    assert verdict.sample is not None
    assert verdict.sample.numbers[0] == image


def test_a_fault_in_two_layers_does_not_hide_the_second() -> None:
    def two_faults(images: Any) -> Any:
        answer = under(NETWORK, kernel_origin="center_crop")(images)
        return dict(answer)

    verdict = _verdict(two_faults)
    assert verdict.first is not None
    assert verdict.first.layer == verdict.layers_at_fault[0]
    assert len(verdict.layers_at_fault) > 1
    # The dense layers are right on their own inputs, though their outputs differ.
    assert not {"fourth", "fifth"} & set(verdict.layers_at_fault)
    assert verdict.counts["logits"].differing


def test_the_last_layer_decides() -> None:
    verdict = _verdict(lambda images: {"first.bits": _all(images)["first.bits"]})
    assert verdict.differing == 0
    assert verdict.status == COULD_NOT_RUN
    assert "logits" in verdict.not_compared
    assert "not compared" in sentence(NETWORK, verdict)


def test_values_that_an_output_cannot_have_are_said_once() -> None:
    def odd(images: Any) -> Any:
        answer = _all(images)
        answer["first.bits"] = (answer["first.bits"] > 0).astype(np.int32)
        answer["second.accumulator"] = answer["second.accumulator"] / 4
        answer["logits"] = np.full(answer["logits"].shape, np.inf)
        return answer

    verdict = _verdict(odd, batch_size=3)
    assert {finding.output: finding.message for finding in verdict.findings if finding.kind == "values"} == {
        "first.bits": "found 0 and 1, expected -1 and 1 (or bool)",
        "second.accumulator": next(f.message for f in verdict.findings if f.output == "second.accumulator"),
        "logits": f"found inf in all 5 channels, in all {len(IMAGES)} images, expected finite numbers",
    }
    assert [finding.output for finding in verdict.findings if finding.fault] == ["logits"]
    assert len(verdict.findings) == 3


def test_the_integers_behind_the_logits_stand_for_them() -> None:
    """Hardware often ends with the last layer's sums."""
    digits = pretrained("digits")
    images = images_for(digits, 3)

    def sums(given: Any) -> Any:
        return digits.run(given, outputs=("dense1.bits", "dense2.accumulator"))

    assert compare(digits, CallableDoor(sums, digits), images).status == EQUAL
    bits = compare(digits, CallableDoor(lambda given: digits.run(given, outputs="dense1.bits"), digits), images)
    assert bits.status == COULD_NOT_RUN
    assert "(logits or dense2.accumulator) was not compared" in bits.findings[0].message


def test_an_implementation_that_always_raises_is_different_and_compared_in_nothing() -> None:
    verdict = _verdict(lambda images: 1 / 0)
    assert verdict.status == DIFFERENT
    assert verdict.values == 0
    assert "nothing" in sentence(NETWORK, verdict)


def test_an_implementation_that_raises_once_is_compared_in_the_rest() -> None:
    calls: list[int] = []

    def flaky(images: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise MemoryError("full")
        return NETWORK.run(images)

    verdict = _verdict(flaky, batch_size=4)
    assert verdict.status == DIFFERENT
    assert [finding.kind for finding in verdict.findings] == ["raised"]
    assert verdict.findings[0].image == 4
    assert verdict.counts["logits"].values == 7 * 5


def test_no_images_are_refused() -> None:
    with pytest.raises(RefdesignError, match="found none"):
        _verdict(_all, IMAGES[:0])
    with pytest.raises(RefdesignError, match="expected a uint8 array"):
        _verdict(_all, IMAGES.astype(np.int16))


def test_nan_and_infinite_logits_differ() -> None:
    def broken(images: Any) -> Any:
        logits = NETWORK.run(images)["logits"].astype(np.float32)
        logits[0, 0] = np.nan
        logits[1, 1] = np.inf
        return logits

    verdict = _verdict(broken)
    assert verdict.counts["logits"].differing == 2


def test_nan_is_a_finding_and_nothing_to_explain() -> None:
    def broken(images: Any) -> Any:
        answer = _all(images)
        answer["logits"] = np.where(np.arange(5) == 3, np.nan, answer["logits"])
        return answer

    verdict = _verdict(broken, batch_size=2)
    assert [str(finding) for finding in verdict.findings] == [
        f"values (logits): found nan in channel 3, in all {len(IMAGES)} images, expected finite numbers"
    ]
    assert verdict.sample is None


def test_what_differs_beside_nan_is_left_for_the_diagnosis() -> None:
    def broken(images: Any) -> Any:
        answer = dict(_all(images))
        answer["logits"] = np.where(np.arange(5) == 3, np.nan, answer["logits"])
        answer["first.bits"] = -answer["first.bits"]
        answer["second.accumulator"] = answer["second.accumulator"].astype(np.float32)
        answer["second.accumulator"][1] = np.nan
        return answer

    sample = _verdict(broken).sample
    assert sample is not None
    assert 1 not in sample.numbers
    assert len(sample.numbers) == len(IMAGES) - 1
    assert "logits" not in sample.outputs
    assert {"first.bits", "second.accumulator"} < set(sample.outputs)


@pytest.mark.parametrize("batch_size", [None, 11])
def test_a_state_between_calls_is_found(batch_size: int | None) -> None:
    calls: list[int] = []

    def drifting(images: Any) -> Any:
        calls.append(len(images))
        return _all(images ^ 1 if len(calls) % 3 == 0 else images)

    verdict = _verdict(drifting, batch_size=batch_size)
    assert calls == [11, 11, batch_size or 3]
    (finding,) = verdict.findings
    assert (finding.kind, finding.fault, verdict.status) == ("not repeatable", True, DIFFERENT)
    assert finding.message.startswith(f"{batch_size or 3} images, asked again by themselves: ")
    assert finding.message.endswith(" values are others, first in first.accumulator")


def test_what_takes_one_number_of_images_only_is_no_fault() -> None:
    def fixed(images: Any) -> Any:
        if len(images) != len(IMAGES):
            raise ValueError("compiled for 11")
        return _all(images)

    verdict = _verdict(fixed)
    (finding,) = verdict.findings
    assert (finding.kind, finding.fault, verdict.status) == ("raised", False, EQUAL)
    assert finding.message.startswith("3 images, asked again by themselves: ValueError: compiled for 11, in ")


def test_isolated_layers_get_the_references_inputs() -> None:
    class Layered:
        """Right in every layer but the third, and of use only layer by layer."""

        def __call__(self, images: Any) -> Any:
            return NETWORK.run(images)

        def run_layer(self, layer: str, inputs: Any) -> Any:
            from refdesign.run import run_layer

            found = run_layer(NETWORK, NETWORK.layer(layer), inputs)  # type: ignore[arg-type]
            if layer == "third":
                found["third.bits"] = -found["third.bits"]
            return found

    verdict = _verdict(Layered(), isolated=True)
    assert verdict.layers_at_fault == ("third",)
    assert verdict.status == DIFFERENT
    with pytest.raises(RefdesignError, match="run_layer"):
        _verdict(NETWORK.run, isolated=True)


def test_memory_does_not_grow_with_the_number_of_images() -> None:
    def many() -> Any:
        for seed in range(40):
            yield images_for(NETWORK, 50, seed)

    verdict = compare(NETWORK, CallableDoor(under(NETWORK, kernel_origin="center_crop"), NETWORK), many())
    assert verdict.images == 2000
    assert verdict.sample is not None
    assert len(verdict.sample.images) == 24
    assert all(len(count.first_images) <= 20 for count in verdict.counts.values())


def test_a_process_that_flushes_small_numbers_is_said_to() -> None:
    torch = pytest.importorskip("torch")
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor has no such mode")
    try:
        verdict = compare(NETWORK, CallableDoor(NETWORK.run, NETWORK), IMAGES)
    finally:
        torch.set_flush_denormal(False)
    assert [(finding.kind, finding.fault) for finding in verdict.findings] == [("flushed", False)]
    assert verdict.status == EQUAL
