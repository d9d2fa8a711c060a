"""Waveform files, read back by readers that others wrote: pyvcd's own for VCD, wellen (Surfer's) and libfst for FST."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refdesign.errors import RefdesignError
from simulator.run import Simulator
from simulator.trace import Tracer
from simulator.waves import PERIOD, Wave, terminal, waves, write
from tests.simulator.pipelines import random_pipeline

START, STOP = 20, 75


def traced() -> tuple[Tracer, list[Wave]]:
    pipeline = random_pipeline(11)
    tracer = Tracer(Simulator(pipeline.network, pipeline.accelerator), pipeline.images, pipeline.stalls)
    layers = [layer.name for layer in pipeline.network.layers]
    return tracer, waves(tracer, layers, START, STOP)


def expected_values(signals: list[Wave]) -> dict[str, list[int]]:
    return {".".join((*signal.scope, signal.name)): [int(value) for value in signal.values] for signal in signals}


def sampled(changes: list[tuple[int, int]]) -> list[int]:
    """A signal's value in every cycle of the window, from its (time, value) changes."""
    times = np.array([time for time, _ in changes])
    cycles = np.arange(START, STOP) * PERIOD
    return [changes[index][1] for index in np.searchsorted(times, cycles, side="right") - 1]


def test_vcd_holds_every_value(tmp_path: Path) -> None:
    reader = pytest.importorskip("vcd.reader")
    _, signals = traced()
    write(tmp_path / "run.vcd", signals, START)
    scopes: list[str] = []
    names: dict[str, str] = {}
    changes: dict[str, list[tuple[int, int]]] = {}
    time = 0
    with (tmp_path / "run.vcd").open("rb") as file:
        for token in reader.tokenize(file):
            kind = token.kind.name
            if kind == "SCOPE":
                scopes.append(token.scope.ident)
            elif kind == "UPSCOPE":
                scopes.pop()
            elif kind == "VAR":
                names[token.var.id_code] = ".".join((*scopes, token.var.reference))
            elif kind == "CHANGE_TIME":
                time = token.time_change
            elif kind in ("CHANGE_SCALAR", "CHANGE_VECTOR"):
                change = token.scalar_change if kind == "CHANGE_SCALAR" else token.vector_change
                changes.setdefault(names[change.id_code], []).append((time, int(change.value)))
    found = {name: sampled(given) for name, given in changes.items() if not name.endswith(".clk")}
    assert found == expected_values(signals)


@pytest.mark.parametrize("ending", ["vcd", "fst"])
def test_surfers_reader_reads_every_value(tmp_path: Path, ending: str) -> None:
    pywellen = pytest.importorskip("pywellen")
    pytest.importorskip("pylibfst")
    _, signals = traced()
    file = tmp_path / f"run.{ending}"
    write(file, signals, START)
    waveform = pywellen.Waveform(str(file))
    found: dict[str, list[int]] = {}
    for var in waveform.all_vars():
        if not var.full_name.endswith(".clk"):
            cycles = range(START, STOP)
            found[var.full_name] = [int(var.signal.value_at(cycle * PERIOD)) for cycle in cycles]
    assert found == expected_values(signals)


def test_fst_is_read_by_libfst(tmp_path: Path) -> None:
    library = pytest.importorskip("pylibfst")
    _, signals = traced()
    write(tmp_path / "run.fst", signals, START)
    context = library.lib.fstReaderOpen(str(tmp_path / "run.fst").encode())
    _, found = library.get_scopes_signals2(context)
    names = set(found.by_name)
    library.lib.fstReaderClose(context)
    assert {name.removesuffix(".clk") for name in names} >= set(expected_values(signals))


def test_only_changes_are_written(tmp_path: Path) -> None:
    _, signals = traced()
    for signal in signals:
        values = [int(value) for value in signal.values]
        cycles = [cycle for cycle, _ in signal.changes()]
        assert cycles[0] == 0
        assert all(values[cycle] != values[cycle - 1] for cycle in cycles[1:])


def test_terminal_waveforms_keep_one_column_a_cycle() -> None:
    _, signals = traced()
    lines = terminal(signals[:6], START, cell=5).splitlines()
    assert len(lines) == 7
    assert lines[0].split()[:3] == ["cycle", "20", "21"]


@pytest.mark.parametrize("window", [(5, 5), (-1, 4), (0, 10**9)])
def test_windows_outside_the_run_are_refused(window: tuple[int, int]) -> None:
    tracer, _ = traced()
    with pytest.raises(RefdesignError, match="expected a window within 0 to"):
        tracer.stage("conv0", *window)


def test_unwritable_files_and_unknown_endings_are_refused(tmp_path: Path) -> None:
    _, signals = traced()
    for name in ("run.txt", "missing/run.vcd", "missing/run.fst"):
        with pytest.raises(RefdesignError):
            write(tmp_path / name, signals, START)


def test_pieces_are_the_whole(tmp_path: Path) -> None:
    tracer, _ = traced()
    whole = tracer.stage("conv0").fields
    pieces: list[Any] = list(tracer.chunks("conv0", chunk=37))
    for field, values in whole.items():
        assert np.array_equal(np.concatenate([piece.fields[field] for piece in pieces]), values), field
