"""Measured figures: what stands in the pages is what their data say, and every data file says where it comes from."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from docs.generator import generated, measured
from docs.generator.blocks import BLOCKS
from refdesign.cli.faults import percent
from simulator.estimates import Estimate


@pytest.mark.parametrize("page", measured.pages(), ids=lambda page: page.name)
def test_a_page_says_what_the_data_say(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert measured.written(text) == text
    assert text.count("<!-- measured: ") == text.count("<!-- end -->")


def test_every_block_stands_in_a_page_and_every_data_file_has_a_command() -> None:
    everything = "\n".join(page.read_text(encoding="utf-8") for page in measured.pages())
    assert set(re.findall(r"<!-- measured: (\S+) -->", everything)) == set(BLOCKS)
    assert {path.stem for path in measured.FOLDER.glob("*.json")} == set(measured.SOURCES)
    for name, source in measured.SOURCES.items():
        kept = measured.kept(name)
        assert kept["command"] == source.command
        assert re.fullmatch(r"[0-9a-f]{7,}", kept["commit"])
        assert kept["machine"]["cpu"]
        assert "/work/" not in json.dumps(kept)
        assert f"measured/{name}.json" in generated.data_files()


def test_a_block_is_written_anew_between_its_markers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BLOCKS, "memory", lambda: "12 MB\n")
    assert measured.written("a <!-- measured: memory -->9 MB<!-- end --> b") == (
        "a <!-- measured: memory -->12 MB<!-- end --> b"
    )
    assert measured.written("<!-- measured: memory -->\n<!-- end -->\n") == (
        "<!-- measured: memory -->\n12 MB\n<!-- end -->\n"
    )
    with pytest.raises(ValueError, match="block: found 'nonsense'"):
        measured.written("<!-- measured: nonsense --><!-- end -->")


def test_a_share_with_its_interval() -> None:
    assert percent(Estimate(0.125, 0.1, 0.15, 9)) == "12.50% (10.00% to 15.00%)"
    assert percent(Estimate(-0.00002, float("nan"), float("nan"), 1)) == "0.00%"


def test_finished_contrasts_are_those_of_the_results() -> None:
    """A block that is done does not change any more, whatever else is being run."""
    pytest.importorskip("torch", reason="the report of an experiment needs PyTorch (extra train)")
    from refdesign.training.experiment import Results
    from refdesign.training.grid import read_grid
    from refdesign.training.report import report

    grid = measured.ROOT / "docs" / "experiments" / "cifar10.toml"
    rows = Results(grid.with_suffix(".results.jsonl")).rows
    found = {part.block.name: part for part in report(read_grid(grid), rows)}
    finished = [block for block in measured.result("experiment") if block["complete"]]
    assert finished
    for block in finished:
        if block["images"] != found[block["block"]].scored_on:
            continue  # it has been measured on the test images since
        arms = found[block["block"]].arms
        assert [arm["scores"] for arm in block["arms"]] == [{str(n): s for n, s in arm.scores.items()} for arm in arms]


def test_figures_are_drawn_from_the_data() -> None:
    pytest.importorskip("matplotlib", reason="figures need Matplotlib (extra plot)")
    from docs import design_plots

    pictures = design_plots.pictures(measured.result("kernels")["figures"])
    shown = re.findall(r"figures/design_(\w+)\.png", (measured.ROOT / "docs" / "design.md").read_text(encoding="utf-8"))
    assert set(pictures) == set(shown)
    assert all(picture.startswith(b"\x89PNG") for picture in pictures.values())
