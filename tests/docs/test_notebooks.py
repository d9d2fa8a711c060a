"""The notebooks run, from the first cell to the last, and become pages."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from docs.generator import live, notebooks

NAMES = [path.stem for path in notebooks.paths()]
needs_marimo = pytest.mark.skipif(importlib.util.find_spec("marimo") is None, reason="needs marimo (extra docs)")


def test_the_course_is_whole() -> None:
    assert len(NAMES) == 7
    assert [name[:2] for name in NAMES] == [f"{number:02}" for number in range(1, 8)]


@needs_marimo
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:marimo")
def test_a_notebook_runs_and_becomes_a_page(name: str) -> None:
    path = notebooks.FOLDER / f"{name}.py"
    page = notebooks.render(path)
    assert page.startswith(f"# {notebooks.title(path)}")
    assert page.count("```") % 2 == 0
    assert "<marimo-" not in page
    assert not re.search(r'(src|href)=["\']https?://', page)


@needs_marimo
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_holds_surprises_or_traps(name: str) -> None:
    text = (notebooks.FOLDER / f"{name}.py").read_text(encoding="utf-8")
    assert re.search(r"surprise|Trap|hypothesis", text)
    assert "assert " in text


def test_an_example_that_fails_stops_the_build() -> None:
    with pytest.raises(RuntimeError, match="here: an example fails: division by zero"):
        live.run("```python run\n1 / 0\n```\n", "here")
    with pytest.raises(RuntimeError, match="found the command 'rm'"):
        live.run("```sh run\nrm -r /\n```\n", "here")
    with pytest.raises(RuntimeError, match="refdesign nonsense: status 2"):
        live.run("```sh run\nrefdesign nonsense\n```\n", "here")


def test_examples_share_their_names_and_show_what_they_print() -> None:
    page = "```python run\na = 3\n```\ntext\n```python run\nprint(a)\n```\n"
    assert live.run(page, "here") == "```python\na = 3\n```\ntext\n```python\nprint(a)\n```\n\n```text\n3\n```\n"
    assert live.run("```python\nprint(1)\n```\n", "here") == "```python\nprint(1)\n```\n"


def test_every_written_page_says_what_it_is_about() -> None:
    for path in sorted((Path(__file__).resolve().parents[2] / "docs").glob("*.md")):
        assert path.read_text(encoding="utf-8").startswith("# "), path.name
