"""Planted bugs: each is noticed as handed out, and mended ones are not; nothing gives them away."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from refdesign.errors import RefdesignError
from refdesign.learn import bugs
from refdesign.verify.mutants.catalogue import FILES, catalogue, subject_source

SOME = ("counting/words", "counting/windows", "padding/zeros", "dither/phase", "batch norm/real")


def write(folder: Path, sources: dict[str, str]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in sources.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def right() -> dict[str, str]:
    return {
        f"{file}.py": re.sub(r"from refdesign\.verify\.mutants\.subject\.", "from .", subject_source(file))
        for file in FILES
    }


def test_every_bug_has_one_number() -> None:
    assert {bugs.bug(number).name for number in range(1, bugs.count() + 1)} == {entry.name for entry in catalogue()}


def test_the_mended_implementation_is_solved(tmp_path: Path) -> None:
    verdict = bugs.judged(bugs.load(write(tmp_path, right())), examples=3)
    assert verdict.failed == {}
    assert len(verdict.agreed) > 50


@pytest.mark.parametrize("name", ["bits-big-endian", "matches-only", "padding-swapped"])
def test_a_planted_bug_is_noticed_and_hinted_at(tmp_path: Path, name: str) -> None:
    number = next(n for n in range(1, bugs.count() + 1) if bugs.bug(n).name == name)
    verdict = bugs.judged(bugs.load(write(tmp_path, bugs.sources(number))), examples=4, cases=SOME)
    assert verdict.failed
    hints = bugs.hints(number, verdict)
    assert len(hints) == 4
    assert not any(name in hint or bugs.bug(number).what in hint for hint in hints)


def test_what_is_handed_out_does_not_name_the_bug() -> None:
    for number in range(1, bugs.count() + 1):
        text = "\n".join(bugs.sources(number).values())
        planted = bugs.bug(number)
        assert planted.what not in text
        assert planted.name not in text
        assert "verify.mutants" not in text


def test_two_folders_are_kept_apart(tmp_path: Path) -> None:
    number = next(n for n in range(1, bugs.count() + 1) if bugs.bug(n).name == "matches-only")
    wrong = bugs.load(write(tmp_path / "wrong", bugs.sources(number)))
    fine = bugs.load(write(tmp_path / "fine", right()))
    assert bugs.judged(wrong, examples=2, cases=SOME[:1]).failed
    assert not bugs.judged(fine, examples=2, cases=SOME[:1]).failed


def test_unreadable_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(RefdesignError, match=r"found no sums\.py"):
        bugs.load(tmp_path)
    write(tmp_path, right() | {"sums.py": "1/0"})
    with pytest.raises(RefdesignError, match=r"sums\.py: does not run: ZeroDivisionError"):
        bugs.load(tmp_path)
    write(tmp_path, right() | {"forward.py": ""})
    with pytest.raises(RefdesignError, match="found no class Implementation"):
        bugs.load(tmp_path)
    with pytest.raises(RefdesignError, match="expected 1 to"):
        bugs.bug(0)
