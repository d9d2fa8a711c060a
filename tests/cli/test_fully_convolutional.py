"""Networks that end in a convolution: one pixel of logits is a row of classes, a larger map names none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from refdesign import Network, api, datasets, pack
from refdesign.network import BinaryConv2d, PixelConv2d
from tests.cli.command_line import good, refused


def write(path: Path, kernel: int) -> Path:
    """Two convolutions on the digits' 8 x 8 pixels, the second with a square kernel on a map of 6 x 6."""
    rng = np.random.default_rng(11)
    first, last = (pack(rng.choice((-1, 1), shape)) for shape in ((6, 3, 3, 1), (10, kernel, kernel, 6)))
    layers = (PixelConv2d(name="first", weights=first), BinaryConv2d(name="last", weights=last))
    Network(name="fully", input_shape=(8, 8, 1), layers=layers).save(path)
    return path


@pytest.fixture
def one_pixel(tmp_path: Path) -> Path:
    return write(tmp_path / "one.safetensors", 6)


@pytest.fixture
def map_of_four(tmp_path: Path) -> Path:
    return write(tmp_path / "four.safetensors", 5)


def test_one_pixel_names_a_class(one_pixel: Path) -> None:
    images, labels = datasets.load("digits", "test")
    logits = api.load(one_pixel).run(images[:7], path="float")["logits"].reshape(7, 10)
    expected = logits.argmax(axis=1).tolist()
    shown = json.loads(good("run", one_pixel, "digits:test", "--first", "7", "--json"))
    assert [entry["prediction"] for entry in shown["predictions"]] == expected
    assert [entry["logits"] for entry in shown["predictions"]] == logits.tolist()
    simulated = json.loads(good("simulate", one_pixel, "digits:test", "--first", "7", "--json"))
    assert simulated["predictions"] == expected
    measured = json.loads(good("evaluate", one_pixel, "digits:test", "--first", "7", "--json"))
    assert measured["correct"] == shown["correct"] == int((logits.argmax(axis=1) == labels[:7]).sum())


def test_faults_compare_its_predictions(one_pixel: Path) -> None:
    images, labels = datasets.load("digits", "test")
    predicted = api.load(one_pixel).run(images[:9], path="float")["logits"].reshape(9, 10).argmax(axis=1)
    trials = json.loads(good("faults", one_pixel, "--first", "9", "--trials", "2", "--json"))["trials"]
    assert {trial["clean_correct"] for trial in trials} == {int((predicted == labels[:9]).sum())}
    assert all(trial["changed"] <= trial["corrupted"] <= trial["images"] == 9 for trial in trials)
    assert any(trial["changed"] for trial in trials)


def test_a_map_names_none(map_of_four: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.npz"
    for command in (("run", "--save", target), ("evaluate",), ("faults",)):
        arguments = () if command[0] == "faults" else ("digits:test",)
        message = refused(command[0], map_of_four, *arguments, *command[1:])
        assert "logits: found a map (2, 2, 10) for each image, expected a number for each class" in message
    assert not target.exists()
    assert "predictions" not in json.loads(good("simulate", map_of_four, "digits:test", "--first", "2", "--json"))
