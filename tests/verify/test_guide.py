"""docs/verify.md: every command in it is run, in its order, and prints what stands below it."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.shared_data import CHECKOUT

GUIDE = (CHECKOUT / "docs" / "verify.md").read_text(encoding="utf-8")
EXAMPLES = CHECKOUT / "examples"
_BLOCK = re.compile(r"(?:<!-- ([^\n]*) -->\n)?```sh\n(.*?)```\n(?:\n```text\n(.*?)```)?", re.DOTALL)


@dataclass(frozen=True)
class Step:
    """A block of commands, what it needs, the status it ends with, and the lines that it prints."""

    commands: str
    needs: tuple[str, ...] = ()
    status: int = 0
    printed: tuple[str, ...] = ()


def _steps() -> list[Step]:
    steps = []
    for comment, commands, printed in _BLOCK.findall(GUIDE):
        marks = dict(part.split(": ", 1) for part in comment.split("; ") if part)
        lines = tuple(line.partition("...")[0].rstrip() for line in printed.splitlines())
        steps.append(Step(commands, tuple(marks.get("needs", "").split()), int(marks.get("status", 0)), lines))
    return steps


def _missing(needs: tuple[str, ...]) -> list[str]:
    return [name for name in needs if shutil.which(name) is None and importlib.util.find_spec(name) is None]


def test_the_guide_has_commands_for_every_door() -> None:
    everything = "".join(step.commands for step in _steps())
    for said in ("--impl port.py:forward", '--pipe "./digits vectors"', "--files results --map map.toml", "run.py"):
        assert said in everything
    assert everything.count("refdesign ") >= 7


def test_the_maps_in_the_guide_are_those_of_the_examples() -> None:
    maps = [tomllib.loads(text) for text in re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL)]
    assert tomllib.loads((EXAMPLES / "hex_files" / "map.toml").read_text()) in maps


def test_the_header_in_the_guide_is_the_protocols() -> None:
    from refdesign.api import pretrained
    from refdesign.verify.doors.protocol import Protocol

    header = Protocol(pretrained("digits"), binary=False).header().decode().splitlines()
    block = re.search(r"```text\nrefdesign 1 text.*?```", GUIDE, re.DOTALL)
    assert block is not None
    said = [re.split(r"\s{3,}", line)[0] for line in block[0].splitlines()[1:-1] if line != "..."]
    assert [line for line in said if line not in header] == []


def test_every_command_does_what_the_guide_says(tmp_path: Path) -> None:
    for folder in EXAMPLES.iterdir():
        if folder.is_dir():
            shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    scripts = tmp_path / "bin"
    scripts.mkdir()
    (scripts / "refdesign").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m refdesign "$@"\n')
    (scripts / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    for script in scripts.iterdir():
        script.chmod(0o755)
    paths = [str(CHECKOUT), *(entry for entry in sys.path if "site-packages" in entry)]
    environment: dict[str, Any] = {
        **os.environ, "PATH": f"{scripts}:{os.environ['PATH']}", "PYTHONPATH": ":".join(paths), "COLUMNS": "1000",
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    left_out = []
    for step in _steps():
        if missing := _missing(step.needs):
            left_out.append(f"{step.commands.splitlines()[0]}: {', '.join(missing)}")
            continue
        result = subprocess.run(
            ["sh", "-e", "-c", step.commands], cwd=tmp_path, env=environment, capture_output=True, text=True,
            check=False, timeout=600,
        )  # fmt: skip
        said = result.stdout + result.stderr
        assert result.returncode == step.status, f"{step.commands}\n{said[-3000:]}"
        for line in step.printed:
            assert line in said, f"{step.commands}\nexpected: {line}\nfound: {said[-3000:]}"
    assert (tmp_path / "report.html").exists()
    assert (tmp_path / "report.xml").exists()
    if left_out:
        pytest.skip(f"all but these: {'; '.join(left_out)}")
