"""The SystemVerilog design against the simulator: every register of every unit in every cycle, and seeded faults."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from refdesign.errors import RefdesignError
from simulator.rtl import tools
from simulator.rtl.design import FOLDER, MODULES
from simulator.rtl.faults import seeded_faults
from simulator.rtl.simulation import Bench
from simulator.units import TRACE_FIELDS
from tests.simulator.rtl_bench import Design, running, skip_without

QUICK = (1, 6)
"""A chain of two stages, and one of three with groups, ragged folds and stalls; together under 30 s to build."""
FAULTY = tuple(range(8))
"""Pipelines of which every seeded fault changes at least one."""
MANY = (tuple(range(8, 16)), tuple(range(16, 24)), tuple(range(24, 32)))
"""Twenty-four more pipelines, in three builds."""


@pytest.fixture(scope="module")
def quick() -> Design:
    skip_without("verilator")
    return Design.of(running(QUICK))


@pytest.mark.parametrize("stalls", [True, False])
def test_registers_equal_in_every_cycle(quick: Design, stalls: bool, tmp_path: Path) -> None:
    assert quick.differences(tmp_path, stalls=stalls) == [[], []]


@pytest.mark.parametrize("fault", ["FOLD_ORDER_SWAPPED", "ACCUMULATOR_KEPT_AFTER_STALL", "LINE_FREED_TOO_EARLY"])
def test_a_seeded_fault_is_caught(quick: Design, fault: str, tmp_path: Path) -> None:
    assert any(quick.differences(tmp_path, fault=seeded_faults()[fault]))


def test_the_recording_has_all_fields_of_the_contract(quick: Design) -> None:
    for simulator in quick.simulators:
        for stage in simulator.stages:
            from simulator.rtl.design import registers

            assert tuple(field.name for field in registers(stage)) == TRACE_FIELDS


def test_absent_tools_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RefdesignError, match=r"icarus: found no iverilog on the path|cocotb is not installed"):
        Bench([], "icarus")


def test_a_tool_that_fails_is_reported_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(RefdesignError, match="^listing: ls ended with status") as caught:
        tools.run(["ls", tmp_path / "absent"], tmp_path, "listing")
    assert "\n" not in str(caught.value)


def test_an_interrupted_build_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REFDESIGN_CACHE", str(tmp_path))

    def build(folder: Path) -> None:
        (folder / "half").touch()
        raise RefdesignError("interrupted")

    with pytest.raises(RefdesignError, match="interrupted"):
        tools.cached("test", ["inputs"], build)
    assert list((tmp_path / "rtl").iterdir()) == []


@pytest.mark.parametrize("macro", [[], ["-DFAULTS"], ["-DADDER_TREE"], ["-DTRACE"]])
def test_the_design_is_clean_to_verilators_linter(macro: list[str]) -> None:
    skip_without("verilator")
    quiet = ["-Wno-DECLFILENAME", "-Wno-GENUNNAMED", "-Wno-UNUSEDSIGNAL", "-Wno-UNUSEDPARAM", "-Wno-MULTITOP"]
    command = ["verilator", "--lint-only", "-Wall", *quiet, *macro, f"-I{FOLDER}", *(str(file) for file in MODULES)]
    done = subprocess.run(command, env=tools.environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture(scope="module")
def faulty() -> Design:
    skip_without("verilator")
    return Design.of(running(FAULTY))


@pytest.mark.slow
def test_pipelines_without_a_fault_agree(faulty: Design, tmp_path: Path) -> None:
    assert faulty.differences(tmp_path) == [[] for _ in FAULTY]
    assert faulty.differences(tmp_path, stalls=False) == [[] for _ in FAULTY]


@pytest.mark.slow
@pytest.mark.parametrize("fault", seeded_faults())
def test_every_seeded_fault_is_caught(faulty: Design, fault: str, tmp_path: Path) -> None:
    assert any(faulty.differences(tmp_path, fault=seeded_faults()[fault]))


@pytest.mark.slow
@pytest.mark.parametrize("seeds", MANY)
def test_registers_equal_in_many_configurations(seeds: tuple[int, ...], tmp_path: Path) -> None:
    skip_without("verilator")
    design = Design.of(running(seeds), adder_tree=seeds is MANY[0])
    assert design.differences(tmp_path) == [[] for _ in seeds]
    assert design.differences(tmp_path, stalls=False) == [[] for _ in seeds]
