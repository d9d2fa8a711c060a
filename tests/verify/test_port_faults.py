"""The guide's port with faults that a newcomer makes: what `refdesign verify` says of each."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refdesign.api import pretrained
from refdesign.datasets import load
from refdesign.verify.binding import load_target
from refdesign.verify.compare import DIFFERENT, EQUAL, compare
from refdesign.verify.diagnosis import Diagnosis, diagnose
from refdesign.verify.doors.callable import CallableDoor
from refdesign.verify.vectors import write_vectors
from tests.shared_data import CHECKOUT

DIGITS = pretrained("digits-2d")
IMAGES = load("digits", "test")[0][:60]
PORT = (CHECKOUT / "examples" / "python_port" / "port.py").read_text()

FAULTS: dict[str, tuple[str, str, str]] = {
    # The port has folded thresholds: sums that zero padding leaves between the attainable ones meet these.
    "zero padding": ('mode="edge"', 'mode="constant"', "padding_mode=zeros, decided by the folded thresholds"),
    "phases swapped": ("[rows, columns]", "[columns, rows]", "phase rows and columns swapped"),
    "channels reversed": (
        "        if layer in POOLED:",
        "        a = a[..., ::-1] if layer == 'conv3' else a\n        if layer in POOLED:",
        "weights' outputs reversed in conv3",
    ),
    # In float64, so that no logit is the reference's own to the last bit.
    "no shift": (' + parameter(layer, "c")', "", "mean ignored in dense2 and beta ignored in dense2"),
    "first of the pool": (".max(axis=(2, 4))", "[:, :, 0, :, 0]", "pool takes the first"),
}

PAIR = (
    ("a >= direction[0, 0] * t", "a > direction[0, 0] * t"),
    ("a >= (direction * t)", "a > (direction * t)"),
    ("np.arange(a.shape[1])[:, np.newaxis] %", "(np.arange(a.shape[1])[:, np.newaxis] + 1) %"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ports")
    write_vectors(DIGITS, path / "vectors", count=1)
    return path


def _port(folder: Path, name: str, source: str, monkeypatch: pytest.MonkeyPatch) -> CallableDoor:
    file = folder / f"port_{re.sub('[^a-z]', '_', name)}.py"
    file.write_text(source)
    monkeypatch.chdir(folder)
    forward: Any = load_target(f"{file}:forward")
    return CallableDoor(forward, DIGITS)


def test_the_port_itself_is_equal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert compare(DIGITS, _port(folder, "right", PORT, monkeypatch), IMAGES).status == EQUAL


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_and_named(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right, wrong, expected = FAULTS[name]
    assert right in PORT
    door = _port(folder, name, PORT.replace(right, wrong), monkeypatch)
    verdict = compare(DIGITS, door, IMAGES)
    assert verdict.status == DIFFERENT
    assert verdict.sample is not None
    found = diagnose(DIGITS, verdict.sample, door.ask, seconds=60, clock=time.thread_time)
    assert found.confirmed
    assert expected in [str(explanation) for explanation in found.explanations], found.verdict
    assert ("but for the rounding of logits" in found.verdict) == (name == "no shift")


def test_two_faults_that_are_everywhere_are_found_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each alone leaves the first layer wrong, so that neither says by itself in how many layers it is."""
    source = PORT
    for right, wrong in PAIR:
        assert source.count(right) == 1
        source = source.replace(right, wrong)
    door = _port(folder, "pair", source, monkeypatch)
    sample = compare(DIGITS, door, IMAGES).sample
    assert sample is not None
    found = diagnose(DIGITS, sample, door.ask, seconds=60, clock=time.thread_time)
    assert found.confirmed, found.verdict
    pairs = ["phase shifted by (1, 0)", "fires above the threshold, not at it (attainable sums)"]
    assert sorted(map(str, found.explanations[0].changes)) == sorted(pairs)


@pytest.mark.slow
def test_from_logits_alone_that_are_rounded_otherwise(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user of a framework has: one fault, no layer in sight, and other roundings."""
    door = _port(folder, "logits", PORT.replace('mode="edge"', 'mode="constant"'), monkeypatch)
    whole = door.ask(IMAGES).outputs["logits"]

    def logits_only(given: Any) -> Any:
        return door.ask(given).outputs["logits"]

    verdict = compare(DIGITS, CallableDoor(logits_only, DIGITS), IMAGES)
    assert verdict.sample is not None
    np.testing.assert_array_equal(whole[verdict.sample.numbers], verdict.sample.outputs["logits"])
    ask = CallableDoor(logits_only, DIGITS).ask
    found: Diagnosis = diagnose(DIGITS, verdict.sample, ask, seconds=60, clock=time.thread_time)
    assert str(found.explanations[0]) == "padding_mode=zeros, decided by the folded thresholds"
    assert found.besides == "logits"
