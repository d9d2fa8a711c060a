"""docs/interchange.md: every command in it is run, in its order, and prints what stands below it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from refdesign.formats import conversion
from refdesign.formats.onnx_functions import dithered_sign, periodic_threshold
from tests.shared_data import CHECKOUT

pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")

PAGE = (CHECKOUT / "docs" / "interchange.md").read_text(encoding="utf-8")
_BLOCK = re.compile(r"(?:<!-- status: (\d) -->\n)?```(sh|python)\n(.*?)```\n(?:\n```text\n(.*?)```)?", re.DOTALL)


def test_its_commands_and_samples_run(tmp_path: Path) -> None:
    folder = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(CHECKOUT)}
    blocks = _BLOCK.findall(PAGE)
    assert sum(language == "sh" for _, language, _, _ in blocks) >= 5
    for status, language, commands, printed in blocks:
        program = ["sh", "-e", "-c", commands] if language == "sh" else [sys.executable, "-c", commands]
        ran = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
        assert ran.returncode == int(status or 0), ran.stderr
        found = (ran.stdout + ran.stderr).splitlines()
        for line in printed.splitlines():
            assert any(other.startswith(line) for other in found), (line, found)


def test_its_table_names_every_ending() -> None:
    named = set(re.findall(r"`(\.\w+)`", PAGE))
    assert named >= set(conversion.writable())
    assert named <= set(conversion.readable()) | set(conversion.writable())


@pytest.mark.parametrize("function", [dithered_sign(), periodic_threshold()], ids=lambda function: function.name)
def test_its_tables_are_the_functions_schema(function: object) -> None:
    part = PAGE[PAGE.index(f"`{function.name}`") :]  # type: ignore[attr-defined]
    rows = re.findall(r"^\| (input|attribute) \| ([^|]*) \|", part, re.MULTILINE)
    ends = next((index for index, row in enumerate(rows[1:], 1) if row == ("input", "x")), len(rows))
    names = [(kind, name) for kind, text in rows[:ends] for name in text.strip().split(", ")]
    assert [name for kind, name in names if kind == "input"] == list(function.input)  # type: ignore[attr-defined]
    assert [name for kind, name in names if kind == "attribute"] == list(function.attribute)  # type: ignore[attr-defined]
