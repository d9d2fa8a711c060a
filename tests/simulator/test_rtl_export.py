"""The exported SystemVerilog runs in a plain simulator, without this project, and its test bench finds faults."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from refdesign.errors import RefdesignError
from simulator.memory_files import load
from simulator.rtl import tools
from simulator.rtl.design import MODULES
from simulator.rtl.export import export_rtl
from simulator.rtl.faults import seeded_faults
from simulator.run import Simulator
from tests.simulator.pipelines import random_pipeline
from tests.simulator.rtl_bench import skip_without

ICARUS = ["iverilog", "-g2012", "-s", "testbench", "-o", "testbench.vvp"]


def exported(folder: Path, seed: int = 6) -> int:
    """Export a pipeline of three stages; the cycles that the reference takes up to the last word."""
    pipeline = random_pipeline(seed, exact=True, images=2)
    simulator = Simulator(pipeline.network, pipeline.accelerator)
    files = export_rtl(folder, simulator, pipeline.images)
    assert sorted(file.name for file in files) == sorted(file.name for file in folder.iterdir())
    assert {file.name for file in MODULES} < {file.name for file in files}
    read = load(folder, simulator.stages, "readmemh")
    assert all(np.array_equal(a.weights, b.weights) for a, b in zip(read, simulator.memories, strict=True))
    return int(simulator.times(2).finished[-1])


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=tools.environment(), capture_output=True, text=True, check=False, timeout=900
    )


def sources(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.glob("*.sv"))


def test_the_test_bench_passes_on_icarus_and_finds_a_fault(tmp_path: Path) -> None:
    if shutil.which("iverilog") is None:
        pytest.skip("found no iverilog on the path")
    cycles = exported(tmp_path)
    assert run([*ICARUS, *sources(tmp_path)], tmp_path).returncode == 0
    ended = run(["vvp", "testbench.vvp"], tmp_path)
    assert (ended.returncode, f"the last one after {cycles} cycles" in ended.stdout) == (0, True)
    assert run([*ICARUS, "-DFAULTS", *sources(tmp_path)], tmp_path).returncode == 0
    broken = run(["vvp", "testbench.vvp", f"+fault={seeded_faults()['POPCOUNT_LOSES_LAST_LANE']}"], tmp_path)
    assert broken.returncode == 1
    assert "expected" in broken.stdout


@pytest.mark.slow
def test_the_test_bench_passes_on_verilator(tmp_path: Path) -> None:
    skip_without("verilator")
    cycles = exported(tmp_path)
    options = ["--binary", "--timing", "-Wno-fatal", "--top-module", "testbench", "-CFLAGS", "-std=c++20 -O0"]
    built = run(["verilator", *options, *sources(tmp_path)], tmp_path)
    assert built.returncode == 0, built.stderr
    ended = run([str(tmp_path / "obj_dir" / "Vtestbench")], tmp_path)
    assert (ended.returncode, f"the last one after {cycles} cycles" in ended.stdout) == (0, True)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RefdesignError, match="file"):
        exported(tmp_path / "file")
