"""The conformance suite's parts: what is drawn, how it is judged, shrunk, kept and replayed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refdesign.api import Network, pretrained
from refdesign.errors import RefdesignError
from refdesign.verify.conformance import replay
from refdesign.verify.conformance.capabilities import SWITCHES, TRAITS, VALUES, Capabilities, traits
from refdesign.verify.conformance.cases import CASES, case
from refdesign.verify.conformance.drawing import Example, examples
from refdesign.verify.conformance.execution import drawn, run_case
from refdesign.verify.conformance.judging import judge
from refdesign.verify.conformance.session import Session
from refdesign.verify.mutants.catalogue import mutant
from refdesign.verify.mutants.subject.forward import Implementation

DIGITS = Example(pretrained("digits"), np.arange(3 * 64, dtype=np.uint8).reshape(3, 8, 8, 1))


class Chip:
    """A model that has no call of its own."""

    def __init__(self, network: Network) -> None:
        self.wrong = mutant("matches-only").implementation(network)


def faults_of(answer: Any) -> str | None:
    return judge(DIGITS, lambda network: answer, repeat=True, time_limit=20).fault


def test_bad_behaviour_is_a_fault_of_its_own_kind() -> None:
    logits = DIGITS.network.run(DIGITS.images)["logits"]
    calls = iter(range(100))

    def overwrites(images: Any) -> Any:
        images[...] = 0
        return logits

    def sleeps(images: Any) -> Any:
        time.sleep(3)
        return logits

    kinds = {
        "raised": lambda images: 1 / 0,
        "shape": lambda images: logits[:, :9],
        "count": lambda images: logits[:2],
        "dtype": lambda images: np.full(logits.shape, "yes"),
        "inputs changed": overwrites,
        "not repeatable": lambda images: logits + next(calls),
        "missing": lambda images: {"conv1.bits": DIGITS.network.run(images, outputs="conv1.bits")["conv1.bits"]},
    }
    for kind, answer in kinds.items():
        found = faults_of(answer)
        assert found is not None, kind
        assert found.startswith(kind), found
    found = judge(DIGITS, lambda network: sleeps, time_limit=0.2).fault
    assert found is not None
    assert found.startswith("hung")


def test_an_implementation_that_cannot_be_made_is_at_fault() -> None:
    def make(network: Network) -> Any:
        raise ZeroDivisionError("no chip")

    assert judge(DIGITS, make).fault == "raised when it was made: ZeroDivisionError: no chip"


def test_nothing_but_the_logits_is_enough_and_one_wrong_value_in_them_is_seen() -> None:
    logits = DIGITS.network.run(DIGITS.images)["logits"]
    judged = judge(DIGITS, lambda network: lambda images: logits)
    assert (judged.fault, judged.outputs, judged.values) == (None, ("logits",), 30)
    wrong = logits.copy()
    wrong[2, 7] = np.nextafter(wrong[2, 7], np.float32(np.inf))
    fault = judge(DIGITS, lambda network: lambda images: wrong).fault
    assert fault is not None
    assert fault.startswith("logits: 1 of 30 values differ, the first at image 2, channel 7: ")


def test_a_failure_is_shrunk_to_a_network_that_shows_nothing_else() -> None:
    result = run_case(case("windows/stride"), mutant("stride-swapped").implementation, examples_per_case=10)
    assert result.status == "failed"
    assert result.failing is not None
    network, images = result.failing.network, result.failing.images
    special = network.layer("special")
    assert special.stride[0] != special.stride[1]  # type: ignore[attr-defined]
    assert network.input_shape[2] == 1
    assert images.shape[0] == 2
    assert judge(result.failing, mutant("stride-swapped").implementation).fault == result.fault
    assert judge(result.failing, Implementation).fault is None


def test_the_same_seed_draws_the_same_examples() -> None:
    first, again, other = (drawn(case("dither/phase"), examples_per_case=3, seed=seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a.images, b.images) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a.images, b.images) for a, b in zip(first, other, strict=True))


def test_an_implementation_that_is_right_once_and_wrong_once_is_not_repeatable() -> None:
    calls = iter(range(10**6))

    def make(network: Network) -> Any:
        return lambda images: network.run(images)["logits"] + (next(calls) == 3)

    result = run_case(case("counting/words"), make, examples_per_case=5)
    assert result.fault is not None
    assert result.fault.startswith("not repeatable")


@given(st.data())
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
def test_nothing_is_drawn_that_an_implementation_lacks(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(("padding", "sign_at_zero", "arithmetic", "channel_map")))
    kept = data.draw(st.sampled_from(VALUES[kind]))
    lacks = data.draw(st.lists(st.sampled_from(sorted(SWITCHES)), max_size=2))
    declared = Capabilities.from_data({"lacks": lacks, "only": {kind: [kept]}})
    entry = data.draw(st.sampled_from([entry for entry in CASES if not declared.missing(entry.needs)]))
    example = data.draw(examples(entry, declared))
    assert declared.missing(traits(example.network, len(example.images))) == ()


def test_what_is_declared_as_lacking_is_skipped_with_the_trait_as_the_reason() -> None:
    declared = Capabilities.from_data({"lacks": ["stride"]})
    skipped = run_case(case("windows/stride"), Implementation, declared)
    assert (skipped.status, skipped.skipped) == ("skipped", "declared as lacking: stride")
    assert skipped.examples == 0


def test_a_case_of_which_nothing_is_left_is_skipped_too() -> None:
    declared = Capabilities.from_data({"lacks": ["layer:pixel_conv2d"]})
    skipped = run_case(case("counting/words"), Implementation, declared, examples_per_case=2)
    assert skipped.status == "skipped"


def test_an_implementation_of_one_arithmetic_still_meets_the_other_cases() -> None:
    declared = Capabilities.from_data({"only": {"arithmetic": ["torch"]}})
    result = run_case(case("dither/phase"), Implementation, declared, examples_per_case=3)
    assert (result.status, result.examples) == ("passed", 6)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"has": []}, "cap.toml: found 'has', expected lacks or only"),
        ({"lacks": "groups"}, "cap.toml, lacks: found 'groups', expected a list of traits"),
        ({"lacks": [1]}, "cap.toml, lacks: found [1], expected a list of traits"),
        ({"lacks": ["strides"]}, "cap.toml, lacks: found 'strides', expected some of layer:binary_conv2d, "),
        ({"only": []}, "cap.toml, only: found [], expected a table"),
        ({"only": {"pad": ["zeros"]}}, "cap.toml, only: found 'pad', expected one of layer, padding, "),
        ({"only": {"padding": ["zero"]}}, "cap.toml, only, padding: found 'zero', expected some of zeros, "),
    ],
)
def test_wrong_capabilities_are_refused(data: dict[str, Any], message: str) -> None:
    with pytest.raises(RefdesignError) as refused:
        Capabilities.from_data(data, "cap.toml")
    assert str(refused.value).startswith(message)


def test_patterns_and_only_say_what_is_lacking(tmp_path: Path) -> None:
    path = tmp_path / "cap.toml"
    path.write_text('lacks = ["layer:real_*", "dilation"]\n[only]\nsign_at_zero = [1, -1]\n')
    lacks = Capabilities.read(path).lacks
    assert lacks == {"layer:real_conv2d", "layer:real_dense", "dilation", "sign_at_zero:0"}
    assert lacks <= set(TRAITS)
    path.write_text("lacks = [")
    with pytest.raises(RefdesignError, match="found no TOML"):
        Capabilities.read(path)
    with pytest.raises(RefdesignError, match="No such file"):
        Capabilities.read(tmp_path / "none.toml")


def test_a_failing_example_is_explained_kept_and_replayed(tmp_path: Path) -> None:
    session = Session(mutant("phase-runs-on").implementation, "port:make", Capabilities(), 10, failures=tmp_path)
    entry = case("dither/phase")
    result = session.run(entry)
    text = session.explain(entry, result)
    assert text.splitlines()[0] == f"dither/phase: {result.fault}"
    assert "   diagnosis: matches bit for bit with phase runs on over row ends" in text
    assert "      to mend: over pixel (row, column) of the layer's output" in text
    folder = tmp_path / "dither-phase"
    assert f"refdesign conformance --impl port:make --replay {folder}" in text
    example = replay.read(folder)
    assert judge(example, mutant("phase-runs-on").implementation).fault == result.fault
    about = json.loads((folder / replay.ABOUT).read_text())
    assert about["case"] == "dither/phase"
    assert about["fault"] == result.fault


def test_what_is_no_callable_by_itself_is_adapted() -> None:
    made = Session.of(f"{__name__}:Chip", adapt=lambda found, network: getattr(found, "wrong", None))
    result = made.run(case("counting/words"))
    assert (result.status, result.fault is not None and result.fault[:20]) == ("failed", "special.accumulator:")


def test_a_folder_that_is_no_example_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefdesignError, match=r"network\.safetensors"):
        replay.read(tmp_path)
    folder = replay.write(DIGITS, {"case": "none", "fault": "none"}, tmp_path / "kept")
    with (folder / replay.IMAGES).open("wb") as stream:
        np.savez(stream, images=DIGITS.images)
    with pytest.raises(RefdesignError, match="found an archive, expected an array"):
        replay.read(folder)
    np.save(folder / replay.IMAGES, DIGITS.images[:, :7])
    with pytest.raises(RefdesignError, match=r"images\.npy: found uint8 of shape \(3, 7, 8, 1\)"):
        replay.read(folder)
    (folder / replay.IMAGES).write_bytes(b"no array")
    with pytest.raises(RefdesignError, match="found no array"):
        replay.read(folder)
