"""`refdesign learn`: exercises are listed, handed out and marked."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest

from refdesign.learn import bugs
from refdesign.learn.exercises import EXERCISES
from refdesign.verify.mutants.catalogue import Edit
from tests.cli.command_line import call, good, refused
from tests.learn import solutions


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_list_names_every_exercise() -> None:
    listed = good("learn")
    for one in EXERCISES:
        assert one.name in listed
        assert one.title in listed
    assert f"bug-1 ... bug-{bugs.count()}" in listed
    assert json.loads(good("learn", "list", "--json"))["bugs"] == bugs.count()


def test_an_exercise_is_started_failed_hinted_and_solved() -> None:
    assert "refdesign learn check count count.py" in good("learn", "start", "count")
    result = call("learn", "check", "count")
    assert result.exit_code == 1
    assert "0 of 3 steps agree" in result.stdout
    assert "hint 1" not in result.stdout
    result = call("learn", "check", "count", "--hint")
    assert "hint 1:" in result.stdout
    assert "(1 hint left: --hint)" in result.stdout
    Path("count.py").write_text(f"import numpy as np\nArray = np.ndarray\n{inspect.getsource(solutions.dot)}")
    assert good("learn", "check", "count") == "count: solved, all 3 steps agree with the reference\n"
    assert json.loads(good("learn", "check", "count", "--json"))["solved"]


def test_nothing_is_overwritten() -> None:
    Path("fold.py").write_text("mine")
    assert "found something there" in refused("learn", "start", "fold")
    Path("bug-3").mkdir()
    Path("bug-3/notes").touch()
    assert "expected no folder or an empty one" in refused("learn", "start", "bug-3")
    assert Path("fold.py").read_text() == "mine"


def test_a_bug_is_handed_out_and_solved_when_it_is_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bugs, "EXAMPLES", 2)
    number = next(n for n in range(1, bugs.count() + 1) if bugs.bug(n).name == "matches-only")
    good("learn", "start", f"bug-{number}", "here")
    result = call("learn", "check", f"bug-{number}", "here", "--hint", "--hint", "--hint", "--hint", "--hint")
    assert result.exit_code == 1
    assert "first that does not: counting/words" in result.stdout
    assert "hint 4" in result.stdout
    edit: Edit = bugs.bug(number).edits[0]
    file = Path("here", f"{edit.file}.py")
    file.write_text(file.read_text().replace(edit.new, edit.old))
    assert "solved, all" in good("learn", "check", f"bug-{number}", "here")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("start",), "found no exercise"),
        (("start", "unfold"), "found 'unfold', expected one of count"),
        (("check", "fold"), "fold.py: found no such file"),
        (("start", "bug-0"), "found number 0"),
        (("check", "bug-9999"), "found number 9999"),
        (("check", "bug-5"), "bug-5: found no sums.py"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_line(arguments: tuple[str, ...], message: str) -> None:
    assert message in refused("learn", *arguments)
