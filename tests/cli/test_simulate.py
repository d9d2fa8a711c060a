"""`refdesign simulate` and `refdesign faults`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refdesign.models import resnet20
from tests.cli.command_line import call, good, refused


def test_the_table_says_what_was_compared() -> None:
    text = good("simulate", "digits", "digits:test", "--first", "2")
    assert "All outputs equal those of the packed path, bit for bit." in text
    assert "conv4" in text


def test_json_has_the_report_and_the_predictions(tmp_path: Path) -> None:
    csv = tmp_path / "report.csv"
    arguments = ("simulate", "digits-2d", "digits:test", "--first", "3", "--stalls", "0.4", "--csv", csv, "--json")
    facts = json.loads(good(*arguments))
    assert facts["differing_outputs"] == []
    assert facts["images"] == len(facts["predictions"]) == 3
    assert all(check["holds"] for check in facts["checks"])
    assert len(csv.read_text().splitlines()) == 1 + len(facts["layers"])


def test_an_accelerator_goes_through_its_file(tmp_path: Path) -> None:
    file = tmp_path / "small.json"
    first = good("simulate", "digits", "digits:test", "--first", "1", "--pe", "8", "--save-accelerator", file, "--json")
    again = good("simulate", "digits", "digits:test", "--first", "1", "--accelerator", file, "--json")
    assert first == again


def test_options_change_every_layer_of_a_file(tmp_path: Path) -> None:
    file, changed = tmp_path / "small.json", tmp_path / "changed.json"
    good("simulate", "digits", "--first", "1", "--pe", "8", "--save-accelerator", file)
    options = ("--fifo-depth", "5", "--pool", "bits", "--accumulator-width", "14", "--overflow", "saturate")
    good("simulate", "digits", "--first", "1", "--accelerator", file, *options, "--save-accelerator", changed)
    old, new = json.loads(file.read_text()), json.loads(changed.read_text())
    asked = {"fifo_depth": 5, "pool": "bits", "accumulator_width": 14, "overflow": "saturate"}
    assert new == {**old, "output_fifo_depth": 5, "stages": [{**stage, **asked} for stage in old["stages"]]}
    message = refused("simulate", "digits", "--accelerator", file, "--simd", "8")
    assert message == "--simd: found --accelerator beside it, whose file says that of every layer"


def test_narrow_accumulators_that_saturate_lose_some_predictions() -> None:
    arguments = ("simulate", "digits", "digits:test", "--first", "40", "--overflow", "saturate", "--json")
    right = []
    for width in ("13", "10", "9"):
        result = call(*arguments, "--accumulator-width", width)
        facts = json.loads(result.stdout)
        assert result.exit_code == (1 if facts["differing_outputs"] else 0)
        right.append(facts["correct"])
    assert right[0] > right[1] > right[2]
    assert "synapse fold" in refused("simulate", "digits", "digits:test", "--accumulator-width", "9")


def test_images_are_made_where_none_are_given() -> None:
    facts, again, other = (json.loads(good("simulate", "digits", "--json", "--seed", seed)) for seed in ("3", "3", "4"))
    measured = json.loads(good("simulate", "digits", "digits:test", "--json"))
    assert facts == again
    assert facts["layers"] == other["layers"] == measured["layers"]
    assert "correct" not in facts
    assert len(facts["predictions"]) == 4


def test_widths_that_wrap_end_with_status_1(tmp_path: Path) -> None:
    file = tmp_path / "narrow.json"
    good("simulate", "digits", "digits:test", "--first", "1", "--save-accelerator", file)
    data = json.loads(file.read_text())
    data["stages"][1].update(accumulator_width=5, overflow="wrap")
    file.write_text(json.dumps(data))
    result = call("simulate", "digits", "digits:test", "--first", "1", "--accelerator", file)
    assert result.exit_code == 1
    assert "first in conv2.accumulator" in result.stdout
    assert "1 image, " in result.stdout
    assert "weight bits read" in result.stdout
    data["stages"][1].update(overflow="error")
    file.write_text(json.dumps(data))
    message = refused("simulate", "digits", "digits:test", "--first", "1", "--accelerator", file)
    assert "stage 'conv2': output pixel (0, 0), channel " in message


@pytest.mark.parametrize("ending", ["vcd", "fst"])
def test_waveforms_and_memory_images(ending: str, tmp_path: Path) -> None:
    pytest.importorskip("vcd" if ending == "vcd" else "pylibfst")
    wave = tmp_path / f"run.{ending}"
    images = tmp_path / "images"
    window = ("--cycles", "100:140", "--layer", "conv1", "--show")
    text = good(
        "simulate", "digits", "digits:test", "--first", "1", "--wave", wave, *window, "--memories", images
    )  # fmt: skip
    assert wave.stat().st_size > 1000
    assert "mvtu.sf" in text
    assert (images / "conv2_thresholds_pe3.hex").is_file()


@pytest.mark.parametrize("form", ["readmemh", "npy"])
def test_a_run_from_memory_images(form: str, tmp_path: Path) -> None:
    common = ("simulate", "digits", "digits:test", "--first", "2", "--pe", "8", "--memory-format", form)
    good(*common, "--memories", tmp_path)
    assert "bit for bit" in good(*common, "--read-memories", tmp_path)
    # Another accelerator's memories are as deep as other folds are many.
    message = refused(*common, "--read-memories", tmp_path, "--simd", "32")
    assert "conv2_weights" in message


def test_the_rtl_of_an_accelerator(tmp_path: Path) -> None:
    good("simulate", "digits", "digits:test", "--first", "1", "--rtl", tmp_path)
    assert "mvtu #(.PE(16), .SIMD(64)" in (tmp_path / "accelerator.sv").read_text()
    assert len((tmp_path / "pixels.hex").read_text().split()) == 8 * 8
    (tmp_path / "file").touch()
    assert "file" in refused("simulate", "digits", "digits:test", "--first", "1", "--rtl", tmp_path / "file")


def test_a_missing_library_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for ending, module in (("vcd", "vcd"), ("fst", "pylibfst")):
        monkeypatch.setitem(sys.modules, module, None)
        message = refused("simulate", "digits", "digits:test", "--first", "1", "--wave", tmp_path / f"run.{ending}")
        assert f"{module} is not installed" in message
        assert 'pip install "refdesign[wave]"' in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--accelerator", "none.json"), "none.json"),
        (("--cycles", "7", "--show"), "--cycles: found '7', expected A:B"),
        (("--cycles", "9:9", "--show"), "expected a window within"),
        (("--layer", "conv9", "--show"), "layer: found 'conv9'"),
        (("--wave", "run.txt"), "expected .vcd or .fst"),
        (("--pe", "0"), "Invalid value for '--pe'"),
    ],
)
def test_what_cannot_be_used_is_refused(arguments: tuple[str, ...], message: str) -> None:
    assert message in refused("simulate", "digits", "digits:test", "--first", "1", *arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pe": 48}, "stage 'conv2', pe: found 48, which does not divide the 64 output channels"),
        ({"simd": 7}, "stage 'conv2', simd: found 7, which does not divide the 64 input channels"),
        ({"colour": 1}, "accelerator.json, stage 1: unknown field 'colour'"),
        ({"threshold_width": 3}, "stage 'conv2', threshold_width: limit of phase (0, 0), chan"),
        ({"accumulator_width": 6}, "stage 'conv2': output pixel (0, 0), channel "),
    ],
)
def test_an_accelerator_that_does_not_fit_is_refused(change: dict[str, int], message: str, tmp_path: Path) -> None:
    file = tmp_path / "accelerator.json"
    good("simulate", "digits", "digits:test", "--first", "1", "--save-accelerator", file)
    data = json.loads(file.read_text())
    data["stages"][1].update(change)
    file.write_text(json.dumps(data))
    assert message in refused("simulate", "digits", "digits:test", "--first", "1", "--accelerator", file)


def test_networks_that_the_hardware_does_not_run_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "residual.safetensors"
    resnet20(width=1 / 8).save(file)
    np.save(tmp_path / "images.npy", np.zeros((1, 32, 32, 3), np.uint8))
    assert "layer 'conv1', weights" in refused("simulate", file, tmp_path / "images.npy")


def test_another_package_named_simulator_is_named(tmp_path: Path) -> None:
    (tmp_path / "simulator").mkdir()
    (tmp_path / "simulator" / "__init__.py").write_text("")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "refdesign", "simulate", "digits", "digits:test"]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "shadows it" in ended.stderr


def test_faults_tabulate_and_go_on(tmp_path: Path) -> None:
    file = tmp_path / "trials.jsonl"
    arguments = ("faults", "digits-sign", "digits", "--trials", "3", "--first", "20", "--structure", "thresholds")
    text = good(*arguments, "--save", file)
    assert text.count("thresholds") == 2
    facts = json.loads(good(*arguments, "--save", file, "--json"))
    assert len(facts["trials"]) == 6
    assert {row["network"] for row in facts["summary"]} == {"digits-sign", "digits"}
    kinds = ("faults", "dithered=digits-2d", "dithered=digits", "plain=digits-sign", *arguments[3:], "--json")
    assert [row["trials"] for row in json.loads(good(*kinds))["summary"]] == [6, 3]
    assert "another campaign" in refused(*arguments, "--save", file, "--seed", "1")


def test_faults_in_an_accelerator_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "wide.json"
    good("simulate", "digits", "--first", "1", "--accumulator-width", "20", "--save-accelerator", file)
    structure = ("--structure", "accumulators", "--trials", "12", "--first", "1", "--json")
    bits = [
        [row["bit"] for row in json.loads(good("faults", "digits", "digits-sign", *structure, *chosen))["trials"]]
        for chosen in ((), ("--accelerator", file))
    ]
    assert max(bits[0]) < 13 <= max(bits[1])
    assert "--pe: found --accelerator beside it" in refused("faults", "digits", "--accelerator", file, "--pe", "4")


def test_faults_need_labels_and_different_networks(tmp_path: Path) -> None:
    assert "found one twice" in refused("faults", "digits", "digits")
    np.save(tmp_path / "images.npy", np.zeros((1, 8, 8, 1), np.uint8))
    assert "found none with labels" in refused("faults", "digits", "--images", tmp_path / "images.npy")


def test_accuracy_over_error_rates(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot = tmp_path / "curve.png"
    rates = ("--error-rate", "0.2", "--error-rate", "0", "--error-rate", "0.2")
    arguments = ("faults", "digits-sign", "digits", "--first", "20", "--trials", "2", "--structure", "weights", *rates)
    text = good(*arguments, "--plot", plot)
    assert [line.split()[:4] for line in text.splitlines()[1:]] == [
        [name, "weights", rate, "2"] for name in ("digits-sign", "digits") for rate in ("0.0", "0.2")
    ]
    with Image.open(plot) as picture:
        assert picture.format == "PNG"
    facts = json.loads(good(*arguments, "--layer", "conv1", "--json"))
    assert all(row["layer"] is None and row["bit"] is None for row in facts["trials"])
    clean = facts["summary"][0]["accuracy"]
    assert clean == {"mean": 1.0, "low": None, "high": None}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--error-rate", "0.1", "--by", "bit"), "--by: found layer or bit beside --error-rate"),
        (("--plot", "x.png"), "--plot: found no --error-rate"),
        (("--error-rate", "0.1", "--transient"), "campaign, rates: found neighbouring or transient bits"),
        (("--error-rate", "2"), "Invalid value for '--error-rate'"),
        (("--layer", "conv9"), "layer: found 'conv9', expected one of conv1"),
        (("--layer", "dense2", "--structure", "thresholds"), "'digits' have no thresholds in dense2"),
    ],
)
def test_faults_that_cannot_be_drawn_are_refused(arguments: tuple[str, ...], message: str) -> None:
    assert message in refused("faults", "digits", "--first", "2", "--trials", "1", *arguments)
