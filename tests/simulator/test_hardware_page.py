"""docs/hardware.md: its commands run, its samples print what stands beside them, its tables are the code's."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from simulator.config import Accelerator, StageConfig
from simulator.faults import STRUCTURES
from simulator.memory_files import FORMATS
from simulator.reports import CAUSES
from simulator.rtl.design import FOLDER, MODULES
from simulator.rtl.faults import seeded_faults
from simulator.rtl.synthesis import KERNELS, SIZES, synthesize, text_row
from simulator.units import TRACE_FIELDS
from tests.cli.command_line import good
from tests.shared_data import CHECKOUT
from tests.simulator.rtl_bench import skip_without

PAGE = (CHECKOUT / "docs" / "hardware.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Block:
    """A fenced block of the page, with the comment in front of it."""

    marker: str
    language: str
    body: str


BLOCKS = [Block(*found) for found in re.findall(r"(?:<!-- (\w+) -->\n)?```(\w+)\n(.*?)```", PAGE, re.DOTALL)]


def commands(*, slow: bool) -> list[str]:
    return [
        line.removeprefix("$ ")
        for block in BLOCKS
        if block.language == "console" and (block.marker == "slow") == slow
        for line in block.body.splitlines()
    ]


def table(marker: str) -> list[list[str]]:
    """The cells of the table behind a comment, or behind the first header cell, without its head."""
    start = PAGE.index(f"<!-- {marker} -->\n|") if f"<!-- {marker} -->" in PAGE else PAGE.index(f"| {marker} |")
    lines = PAGE[PAGE.index("|", start) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def names(cells: list[list[str]]) -> list[str]:
    """What stands in backquotes in the first column."""
    return [name for row in cells for name in re.findall(r"`(\w+)`", row[0])]


def run_python(block: Block) -> list[str]:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block.body, "hardware.md", "exec"), {})  # noqa: S102 (the project's own page)
    return printed.getvalue().splitlines()


def test_every_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = next(block.body for block in BLOCKS if block.marker == "show")
    ran = 0
    for command in commands(slow=False):
        program, *arguments = shlex.split(command)
        if program != "refdesign":  # the slow test below
            continue
        text = good(*arguments)
        if "--show" in arguments:
            assert all(line.rstrip() in text for line in shown.splitlines())
        ran += 1
    assert ran >= 10


def test_the_sample_prints_what_stands_beside_it() -> None:
    sample = next(block for block in BLOCKS if block.language == "python" and not block.marker)
    assert run_python(sample) == re.findall(r"print\(.*\)  # (.+)", sample.body)


def test_tables_are_those_of_the_code() -> None:
    assert names(table("cause")) == list(CAUSES)
    assert sorted(names(table("registers"))) == sorted(TRACE_FIELDS)
    assert names(table("field")) == [field.name for field in fields(StageConfig)]
    assert {field.name for field in fields(Accelerator)} - {"stages"} == {"name", "output_fifo_depth"}
    parameters = re.findall(r"^    parameter (\w+)", (FOLDER / "mvtu.sv").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(names(table("parameters"))) == sorted(parameters)
    assert set(names(table("module"))) == {"accelerator", *(file.stem for file in MODULES)}
    assert all(f"`{name}`" in PAGE for name in (*STRUCTURES, *FORMATS))
    assert f"{len(seeded_faults())} such faults" in PAGE


@pytest.mark.slow
def test_the_rtl_samples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    skip_without("verilator")
    monkeypatch.chdir(tmp_path)
    sample = next(block for block in BLOCKS if block.language == "python" and block.marker == "slow")
    assert run_python(sample) == ["0 False", "1 True"]
    for command in commands(slow=True):
        good(*shlex.split(command)[1:])


@pytest.mark.slow
def test_the_whole_digits_network_runs_on_icarus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("iverilog") is None:
        pytest.skip("found no iverilog on the path")
    monkeypatch.chdir(tmp_path)
    block = next(block for block in BLOCKS if "iverilog" in block.body)
    export, _, build, run = (line.removeprefix("$ ") for line in block.body.splitlines())
    good(*shlex.split(export)[1:])
    sources = sorted(file.name for file in Path("accelerator").glob("*.sv"))
    for command in (build, run):
        words = [word for part in shlex.split(command) for word in (sources if part == "*.sv" else [part])]
        ended = subprocess.run(words, cwd="accelerator", capture_output=True, text=True, check=False, timeout=1200)
        assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "all 1 words are right, the last one after 20669 cycles" in ended.stdout


@pytest.mark.slow
@pytest.mark.parametrize("size", ["small", "medium"])
def test_the_synthesis_table_is_what_is_printed(size: str) -> None:
    skip_without("yosys")
    rows = [line for line in PAGE.splitlines() if line.startswith(f"| {size}:")]
    assert rows == [text_row(synthesize(size, rule)) for rule in KERNELS]


def test_every_size_is_in_the_synthesis_table() -> None:
    for size in SIZES:
        assert len([line for line in PAGE.splitlines() if line.startswith(f"| {size}:")]) == 4
