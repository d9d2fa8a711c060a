"""`refdesign mutants`: the kill matrix and the page of it."""

from __future__ import annotations

import json
from pathlib import Path

from refdesign.verify.conformance.cases import CASES
from refdesign.verify.mutants.catalogue import catalogue
from refdesign.verify.mutants.grounds import GROUNDS
from tests.cli.command_line import good, refused
from tests.shared_data import CHECKOUT


def test_the_matrix_says_which_cases_notice_a_mutant(tmp_path: Path) -> None:
    page = tmp_path / "mutants.md"
    names = ("phase-runs-on", "last-batch-lost")
    wanted = ("--markdown", page, "--commit", "0123abc", "--json")
    report = json.loads(good("mutants", *names, "--examples", 2, "--workers", 1, *wanted))
    phase, batch = report["mutants"]
    assert report["survivors"] == []
    assert "dither/phase" in phase["by"]
    assert list(batch["by"]) == ["batch/many"]
    text = page.read_text()
    assert "in one run at commit 0123abc:" in text
    assert "2 of 2 mutants are noticed" in text
    assert "| `last-batch-lost` |" in text
    assert "| batch/many | more images than a batch of 16 holds | 1 | 1 |" in text


def test_the_diagnosis_is_measured_beside_it(tmp_path: Path) -> None:
    page = tmp_path / "mutants.md"
    report = json.loads(
        good("mutants", "popcount-narrow", "--examples", 1, "--workers", 1, "--diagnosis", "--markdown", page, "--json")
    )
    shown = [entry for entry in report["diagnosis"] if entry["shows"]]
    assert shown
    assert all(entry["named_first"] and entry["confirmed"] for entry in shown)
    assert {entry["network"] for entry in report["diagnosis"]} == set(GROUNDS)
    text = page.read_text()
    assert "The diagnosis can name 1 of 1 mutants, of which 1 show on these networks." in text
    assert "It names 1 of them first on every network on which they show (100 %)." in text
    assert "| `popcount-narrow` | counter of differing bits too narrow for N |" in text


def test_the_list_holds_every_mutant() -> None:
    text = good("mutants", "--list")
    assert all(entry.name in text for entry in catalogue())
    assert len(json.loads(good("mutants", "--list", "--json"))) == len(catalogue())


def test_an_unknown_mutant_is_refused() -> None:
    assert refused("mutants", "nosuch").startswith("mutant: found 'nosuch', expected one of bits-big-endian, ")


def test_the_page_in_the_docs_is_about_this_catalogue_and_has_no_survivor() -> None:
    text = (CHECKOUT / "docs" / "mutants.md").read_text(encoding="utf-8")
    assert f"{len(catalogue())} of {len(catalogue())} mutants are noticed" in text
    assert all(f"| `{entry.name}` | " in text for entry in catalogue())
    assert all(f"| {case.name} | " in text for case in CASES)
