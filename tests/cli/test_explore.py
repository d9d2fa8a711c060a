"""`refdesign explore`."""

from __future__ import annotations

import csv
import json
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from simulator import explore
from tests.cli.command_line import call, good, refused
from tests.simulator.rtl_bench import skip_without


def test_the_front_as_table_csv_json_and_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    table, plot = tmp_path / "front.csv", tmp_path / "front.png"
    text = good("explore", "digits", "--csv", table, "--plot", plot)
    assert "21,701.4            4,608  1,377" in text  # 64 pixels, 9 taps, 8 planes, all 64 channels at once
    assert "Thresholds take 22,528 bits in each of them; one a channel, as under plain Sign, takes 7,936." in text
    with Image.open(plot) as picture:
        assert picture.size == (960, 600)
    rows = json.loads(good("explore", "digits", "--json"))["accelerators"]
    assert [{name: str(value) for name, value in row.items()} for row in rows] == list(
        csv.DictReader(table.read_text().splitlines())
    )


def test_an_accelerator_for_a_rate_runs(tmp_path: Path) -> None:
    file = tmp_path / "small.json"
    text = good("explore", "digits", "--rate", "1000", "--clock", "80", "--save-accelerator", file)
    assert "an image every 73,728.0 cycles, 1,085.1 a second; the first" in text
    facts = json.loads(good("explore", "digits", "--rate", "1000", "--clock", "80", "--json"))
    ran = json.loads(good("simulate", "digits", "digits:test", "--accelerator", file, "--json"))
    assert ran["total"]["steady_state_interval"] == facts["interval_cycles"] == 73728
    assert ran["total"]["weight_block_rams"] == facts["weight_block_rams"]
    assert [(row["pe"], row["simd"]) for row in ran["layers"]] == [(row["pe"], row["simd"]) for row in facts["layers"]]


def test_a_rate_that_stalls_keep_away_ends_with_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without a spare row in the line buffers, a stage waits while the next one reads.
    monkeypatch.setattr(explore, "accelerator_for", partial(explore.accelerator_for, extra_rows=0))
    result = call("explore", "digits", "--rate", "1300", "--json")
    facts = json.loads(result.stdout)
    assert (result.exit_code, facts["reached"], facts["interval_cycles"]) == (1, False, 82806)
    assert "1,207.6 a second: too slow; " in call("explore", "digits", "--rate", "1300").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--rate", "50000"), "layer 'conv1': found 2,000 cycles an image, expected at least 4,608"),
        (("--block-rams", "3"), "block RAMs: found 3, expected at least 13.5 for the weights"),
        (("--synthesize",), "--synthesize: found no --rate"),
        (("--save-accelerator", "x.json"), "--save-accelerator: found no --rate"),
        (("--rate", "9", "--plot", "x.png"), "--plot: found --rate beside it"),
        (("--clock", "0"), "Invalid value for '--clock'"),
    ],
)
def test_what_cannot_be_used_is_refused(arguments: tuple[str, ...], message: str) -> None:
    assert message in refused("explore", "digits", *arguments)


@pytest.mark.slow
def test_yosys_counts_what_the_dither_adds(tmp_path: Path) -> None:
    skip_without("yosys")
    table, counted = tmp_path / "layers.csv", []
    for name in ("digits-sign", "digits"):
        arguments = ("explore", name, "--rate", "1000", "--synthesize")
        facts = json.loads(good(*arguments, "--csv", table, "--json"))
        rows = list(csv.DictReader(table.read_text().splitlines()))
        assert sum(int(row["luts"]) for row in rows) == facts["luts"] > 0
        assert facts["brams"] <= facts["weight_block_rams"]
        assert f"total {facts['luts']:,} " in " ".join(good(*arguments).split())
        counted.append(facts)
    plain, dithered = counted
    assert plain["luts"] < dithered["luts"]
    assert plain["brams"] == dithered["brams"]
    assert [row["lut_ram"] for row in plain["layers"]] == [row["lut_ram"] for row in dithered["layers"]]
