"""Mutated files: a short run of `python -m refdesign.verify.fuzz`, and that the command finds what is wrong."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")

from refdesign.errors import RefdesignError
from refdesign.verify.fuzz import campaign
from refdesign.verify.fuzz.__main__ import main
from refdesign.verify.fuzz.campaign import try_files
from refdesign.verify.fuzz.targets import TARGETS, good_files

COUNTS = [pytest.param(250, id="quick"), pytest.param(20_000, id="long", marks=pytest.mark.slow)]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # mutated parameters overflow
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("kind", ["native", "onnx", "qonnx"])
def test_mutated_files_are_refused_or_read(kind: str, count: int) -> None:
    tally = try_files(kind, count, seed=count)
    assert 0.5 * count < tally.refused <= count
    assert kind == "native" or tally.refused < count


@pytest.mark.parametrize("kind", ["native", "onnx", "qonnx"])
def test_good_files_are_read_before_they_are_mutated(kind: str) -> None:
    for number, data in enumerate(good_files(kind)):
        try:
            TARGETS[kind].read(data)
        except RefdesignError as error:
            pytest.fail(f"{kind}, good file {number}: {error}")


def broken(kind: str, monkeypatch: pytest.MonkeyPatch, reader: Any) -> None:
    monkeypatch.setitem(TARGETS, kind, replace(TARGETS[kind], read=reader))


def fails(data: bytes) -> None:
    raise IndexError("out of range")


def dies(data: bytes) -> None:
    os._exit(9)


def refuses_badly(data: bytes) -> None:
    raise RefdesignError("")


@pytest.mark.parametrize(
    ("reader", "message"),
    [
        (fails, "native, seed 0, file 0: IndexError: out of range"),
        (dies, "native, seed 0, file 0: the process ended with 9"),
        (refuses_badly, "native, seed 0, file 0: a refusal without a reason"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_reader_that_fails_is_found_and_its_file_kept(
    reader: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken("native", monkeypatch, reader)
    kept = tmp_path / "kept.bin"
    assert main(["--count", "3", "--formats", "native", "--keep", str(kept)]) == 1
    assert kept.stat().st_size > 100
    assert message in capsys.readouterr().err


def waits(data: bytes) -> None:
    time.sleep(600)


def computes(data: bytes) -> None:
    begun = time.process_time()
    while time.process_time() < begun + 0.6:
        pass


@pytest.mark.parametrize(
    ("reader", "limit", "message"),
    [(waits, "PATIENCE", "took more than 0.5 s"), (computes, "SECONDS", "took 1 s of processor time")],
)
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_reader_that_hangs_is_found(
    reader: Any, limit: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    broken("native", monkeypatch, reader)
    monkeypatch.setattr(campaign, limit, 0.5)
    assert main(["--count", "3", "--formats", "native", "--keep", str(tmp_path / "kept.bin")]) == 1
    assert f"native, seed 0, file 0: {message}" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_log_is_gone_on_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log.jsonl"
    assert main(["--count", "30", "--formats", "native", "--log", str(log)]) == 0
    assert main(["--count", "70", "--formats", "native", "--log", str(log), "--jobs", "2"]) == 0
    assert "native: 70 files" in capsys.readouterr().out
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["first"], line["tried"]) for line in lines] == [(0, 30), (30, 40)]
    assert main(["--count", "70", "--formats", "native", "--log", str(log), "--json"]) == 0
    (total,) = json.loads(capsys.readouterr().out)
    assert (total["files"], total["refused"]) == (70, sum(line["refused"] for line in lines))
    log.write_text("something else")
    assert main(["--count", "70", "--formats", "native", "--log", str(log)]) == 2
