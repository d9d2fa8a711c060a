"""docs/interchange.md: every command in it is run, in its order, and prints what stands below it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from refdesign.formats import conversion
from refdesign.formats.onnx_functions import dithered_sign, periodic_threshold
from tests.formats.pages import run_page
from tests.shared_data import CHECKOUT

pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")

PAGE = (CHECKOUT / "docs" / "interchange.md").read_text(encoding="utf-8")


def test_its_commands_and_samples_run(tmp_path: Path) -> None:
    assert run_page(PAGE, tmp_path) >= 5


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
