"""What an implementation can do wrong, each a finding with its own message."""

from __future__ import annotations

import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refdesign.errors import RefdesignError
from refdesign.verify.binding import bind, load_target
from refdesign.verify.doors.callable import CallableDoor
from refdesign.verify.implementation import FINDINGS, Answer, Finding, ask, check_answer
from tests.verify.subjects import exits, images_for, uneven

NETWORK = uneven()
IMAGES = images_for(NETWORK, 3)


def _kinds(implementation: Any, **options: Any) -> list[str]:
    return [finding.kind for finding in ask(implementation, NETWORK, IMAGES, **options).findings]


def test_a_right_implementation_has_no_findings() -> None:
    answer = ask(lambda images: NETWORK.run(images, outputs="all"), NETWORK, IMAGES, repeat=True)
    assert answer.findings == ()
    assert set(answer.outputs) == set(NETWORK.output_names)
    np.testing.assert_array_equal(answer.outputs["logits"], NETWORK.run(IMAGES)["logits"])


def test_an_exception_is_a_finding_that_says_where() -> None:
    def broken(images: Any) -> Any:
        raise KeyError("weights")

    (finding,) = ask(broken, NETWORK, IMAGES).findings
    assert finding.kind == "raised"
    assert "KeyError" in finding.message
    assert "test_implementation.py line" in finding.message


def test_the_implementation_cannot_end_the_interpreter() -> None:
    assert _kinds(exits) == ["raised"]


def test_a_hang_is_a_finding_and_it_is_not_asked_again() -> None:
    calls = []

    def hangs(images: Any) -> Any:
        calls.append(len(images))
        time.sleep(1.5)

    answer = ask(hangs, NETWORK, IMAGES, time_limit=0.05, repeat=True)
    assert [finding.kind for finding in answer.findings] == ["hung"]
    assert not answer.goes_on
    assert calls == [3]


def test_a_wrong_count_shape_and_dtype() -> None:
    right = NETWORK.run(IMAGES, outputs="all")
    assert _kinds(lambda images: right["logits"][:2]) == ["count"]
    assert _kinds(lambda images: right["logits"][:, :4]) == ["shape"]
    assert _kinds(lambda images: {"logits": right["logits"].astype("U5")}) == ["dtype"]
    assert _kinds(lambda images: {"logits": np.array([{}, {}, {}])}) == ["dtype"]
    nchw = right["first.bits"].transpose(0, 3, 1, 2)
    (finding,) = ask(lambda images: {"first.bits": nchw}, NETWORK, IMAGES).findings
    assert "NCHW" in finding.message


def test_no_output_is_a_fault_and_a_foreign_name_a_note() -> None:
    assert _kinds(lambda images: {}) == ["missing"]
    assert _kinds(lambda images: None) == ["dtype"]
    more: Any = lambda images: {**NETWORK.run(images), "probabilities": 1}  # noqa: E731
    answer = ask(more, NETWORK, IMAGES)
    assert [(finding.kind, finding.fault) for finding in answer.findings] == [("names", False)]


def test_a_misspelt_name_is_told_from_a_foreign_one() -> None:
    all_ = NETWORK.run(IMAGES, outputs="all")
    given: Any = {"first.bit" if name == "first.bits" else name: array for name, array in all_.items()}
    answer = ask(lambda images: {**given, "probabilities": 1}, NETWORK, IMAGES)
    assert [str(finding) for finding in answer.findings] == [
        "misnamed: found 'first.bit' (did you mean 'first.bits'?), not used"
    ]
    wrong: Any = {"logit": 1, 2: 3}
    (missing,) = [f for f in ask(lambda images: wrong, NETWORK, IMAGES).findings if f.fault]
    assert missing.message.startswith("found 'logit' (did you mean 'logits'?), 2, expected some of first.accumulator,")


def test_changed_inputs_are_a_finding_and_do_not_reach_the_reference() -> None:
    def careless(images: Any) -> Any:
        logits = NETWORK.run(images)["logits"]
        images[0] = 0
        return logits

    kept = IMAGES.copy()
    assert _kinds(careless) == ["inputs changed"]
    np.testing.assert_array_equal(kept, IMAGES)


def test_an_answer_that_differs_from_run_to_run() -> None:
    calls: list[int] = []

    def drifting(images: Any) -> Any:
        calls.append(1)
        return NETWORK.run(images)["logits"] + len(calls)

    (finding,) = ask(drifting, NETWORK, IMAGES, repeat=True).findings
    assert finding.kind == "not repeatable"
    assert "15 of 15" in finding.message


def test_what_is_wrong_with_the_second_answer_alone_is_said() -> None:
    def asked_again(then: Any) -> list[Finding]:
        calls: list[int] = []

        def implementation(images: Any) -> Any:
            calls.append(1)
            return NETWORK.run(images, outputs="all") if len(calls) == 1 else then(images)

        return list(ask(implementation, NETWORK, IMAGES, repeat=True).findings)

    (raised,) = asked_again(lambda images: 1 / 0)
    assert (raised.kind, raised.fault) == ("raised", True)
    assert "ZeroDivisionError" in raised.message
    missing = asked_again(NETWORK.run)
    assert {(finding.kind, finding.message) for finding in missing} == {
        ("not repeatable", "asked again, it is not answered")
    }
    assert [finding.output for finding in missing] == [name for name in NETWORK.output_names if name != "logits"]


def test_one_buffer_for_all_answers_is_repeatable() -> None:
    buffer = np.zeros((3, 5), np.int32)

    def thrifty(images: Any) -> Any:
        buffer[...] = NETWORK.run(images)["logits"]
        return buffer

    assert _kinds(thrifty, repeat=True) == []


def test_binding_every_kind_of_callable() -> None:
    class Made:
        def __init__(self, network: Any) -> None:
            self.network = network

        def __call__(self, images: Any) -> Any:
            return self.network.run(images)

    expected = NETWORK.run(IMAGES)["logits"]
    for target in (
        NETWORK.run,
        lambda images: NETWORK.run(images),
        lambda network, images: network.run(images),
        lambda network: lambda images: network.run(images),
        Made,
    ):
        np.testing.assert_array_equal(
            check_answer(NETWORK, bind(target, NETWORK)(IMAGES), 3).outputs["logits"], expected
        )


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (3, "expected a callable"),
        (lambda a, b, c: a, "found the required parameters a, b, c"),
        (lambda network: 5, "its factory returned int"),
        (lambda network: 1 / 0, "its factory raised ZeroDivisionError"),
        (lambda network: sys.exit(0), "its factory raised SystemExit: 0"),
        (lambda network: os._exit(0), r"its factory raised SystemExit: os\._exit\(0\)"),
    ],
)
def test_what_cannot_be_bound(target: Any, message: str) -> None:
    with pytest.raises(RefdesignError, match=message):
        bind(target, NETWORK)


def test_loading_from_the_users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_port_of_it.py").write_text("class Port:\n    run = staticmethod(len)\n")
    (tmp_path / "my_broken_port.py").write_text("import nowhere_at_all\n")
    (tmp_path / "my_leaving_port.py").write_text("import os\nrun = len\nos._exit(0)\n")
    (tmp_path / "my_ending_port.py").write_text("import sys\nrun = len\nsys.exit(0)\n")
    monkeypatch.setattr("sys.path", ["/nowhere"])
    assert load_target("my_port_of_it:Port.run", tmp_path) is len
    for text, message in (
        ("my_port_of_it:Other", "found no 'Other'"),
        ("my_broken_port:run", "No module named 'nowhere_at_all'"),
        ("my_leaving_port:run", r"cannot be imported: SystemExit: os\._exit\(0\)"),
        ("my_ending_port:run", "cannot be imported: SystemExit: 0"),
        ("my_port_of_it", "expected package.module:name"),
    ):
        with pytest.raises(RefdesignError, match=message):
            load_target(text, tmp_path)


def test_an_implementation_that_ends_its_process_does_not_end_ours() -> None:
    def leaves(images: Any) -> Any:
        os._exit(0)

    def forks(images: Any) -> Any:
        with warnings.catch_warnings():  # of a fork beside threads
            warnings.simplefilter("ignore")
            child = os.fork()
        if child == 0:
            os._exit(5)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
        return NETWORK.run(images)

    kinds = {run: [str(f) for f in CallableDoor(run, NETWORK).ask(IMAGES).findings] for run in (leaves, forks)}
    (left,) = kinds[leaves]
    assert left.startswith("raised: SystemExit: os._exit(0), in test_implementation.py line ")
    assert kinds[forks] == []
    assert os._exit.__name__ == "_exit"


def test_every_kind_of_finding_is_named() -> None:
    assert Answer({}).findings == ()
    with pytest.raises(RefdesignError, match="expected one of"):
        Finding("odd", "")
    assert all(text for text in FINDINGS.values())
