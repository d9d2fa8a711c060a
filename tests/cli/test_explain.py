"""`refdesign explain`: what it says adds up, and is what the network gives."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refdesign import api
from refdesign.models import resnet20
from tests.cli.command_line import call, good, refused

PLACES = [
    ("conv1", (0, 0, 0)),
    ("conv1", (8, 6, 5)),
    ("conv2", (3, 2, 14)),
    ("conv2", (1, 0, 3)),
    ("conv3", (3, 1, 8)),
    ("dense1", (10,)),
]


def asked(model: Path, images: Path, layer: str, where: tuple[int, ...], *options: object) -> Any:
    at = ",".join(map(str, where))
    return json.loads(good("explain", model, images, "--layer", layer, "--at", at, "--json", *options))


@pytest.mark.parametrize(("layer", "where"), PLACES)
def test_the_explanation_adds_up(layer: str, where: tuple[int, ...], model: Path, images: Path) -> None:
    why = asked(model, images, layer, where, "--index", 2)
    network = api.load(model)
    outputs = network.run(np.load(images), outputs="all")
    assert why["bit"] == why["packed_bit"] == outputs[f"{layer}.bits"][(2, *where)]
    thresholded = outputs.get(f"{layer}.pooled", outputs[f"{layer}.accumulator"])
    assert why["accumulator"] == thresholded[(2, *where)]
    for window in why["windows"]:
        x = [value for tap in window["taps"] for value in tap["x"]]
        w = [value for tap in window["taps"] for value in tap["w"]]
        assert sum(a * b for a, b in zip(x, w, strict=True)) == window["accumulator"]
        if "popcount" in window:
            assert 2 * window["popcount"] - window["valid"] == window["accumulator"]
            assert sum(bit for tap in window["taps"] for bit in tap["xnor"]) == window["popcount"]
        if layer != "dense1":
            row, column = window["place"]
            assert window["accumulator"] == outputs[f"{layer}.accumulator"][2, row, column, where[-1]]
    fold, folded = why["fold"], network.thresholds()[layer]
    row, column, _ = why["phase"]
    assert fold["direction"] == folded.direction[row, column, where[-1]]
    assert fold["threshold"] == folded.threshold[row, column, where[-1]]
    fires = (why["accumulator"] - fold["threshold"]) * fold["direction"] >= 0
    assert why["bit"] == (1 if fires else -1)
    assert (Fraction(why["margin"]["exact"]) >= 0) == fires  # the default conventions: z = 0 fires


@pytest.mark.parametrize(("layer", "where"), PLACES)
def test_the_text_says_it_step_by_step(layer: str, where: tuple[int, ...], model: Path, images: Path) -> None:
    at = ",".join(map(str, where))
    text = good("explain", model, images, "--layer", layer, "--at", at)
    why = asked(model, images, layer, where)
    for step in ("1  The window", "2  The sum", "3  Batch norm and dither", "4  The bit"):
        assert step in text
    assert f"bit {why['bit']:+d}" in text
    assert f"= {max(window['accumulator'] for window in why['windows'])}" in text
    assert why["fold"]["rule"] in text
    assert "the packed path gives the same" in text
    for name, value in why["batch_norm"].items():
        assert any(line.split() == [name, f"{value:.9g}"] for line in text.splitlines())


def test_taps_in_the_padding_are_marked(model: Path, images: Path) -> None:
    """conv2 of 3 x 3 at a corner of the map: five taps lie outside; one pixel further in, none."""
    corner = asked(model, images, "conv2", (0, 0, 3))["windows"][0]
    assert [tap["padded"] for tap in corner["taps"]] == [True] * 4 + [False] * 2 + [True] + [False] * 2
    assert all(tap["reads"] is not None for tap in corner["taps"])  # mirrored
    assert not any(
        tap["padded"] for window in asked(model, images, "conv2", (2, 1, 3))["windows"] for tap in window["taps"]
    )
    text = good("explain", model, images, "--layer", "conv3", "--at", "0,0,3")
    assert text.count(" pad  ") == 5
    assert "pad: the tap lies outside the map; symmetric padding reads the place named" in text


def test_a_layer_without_dither_says_so(model: Path, images: Path) -> None:
    assert "this layer has no dither" in good("explain", model, images, "--layer", "dense1", "--at", 3)
    assert "the dither kernel's row 1, column 0" in good("explain", model, images, "--layer", "conv3", "--at", "1,2,3")


def test_the_exact_z_lies_between_its_bounds(model: Path, images: Path) -> None:
    why = asked(model, images, "conv3", (1, 2, 3))
    low, high = (Fraction(why["exact_z"][end]["exact"]) for end in ("lower_bound", "upper_bound"))
    assert 0 <= high - low < Fraction(1, 2**60)
    assert float(low) == pytest.approx(float(why["exact_z"]["lower_bound"]["decimal"]))


def test_a_long_window_is_cut_unless_all_is_asked_for(model: Path, images: Path) -> None:
    arguments = ("explain", model, images, "--layer", "dense1", "--at", 3)
    short, long = good(*arguments), good(*arguments, "--all")
    assert len(long.splitlines()) >= len(short.splitlines())
    assert "more rows" not in long


def test_a_layer_with_a_residual_addition(tmp_path: Path) -> None:
    path, pixels = tmp_path / "resnet.safetensors", tmp_path / "image.npy"
    network = resnet20(input_shape=(16, 12, 3), width=1 / 4)
    network.save(path)
    image = np.random.default_rng(5).integers(0, 256, (1, 16, 12, 3), dtype=np.uint8)
    np.save(pixels, image)
    layers = [layer for layer in network.layers if getattr(layer, "shortcut", None) is not None]
    pooled = next(layer for layer in layers if layer.shortcut.average_pool > 1)  # type: ignore[attr-defined]
    for layer in (layers[0], pooled):
        height, width, channels = network.shapes[layer.name].output
        where = (height - 1, width // 2, channels - 1)
        why = asked(path, pixels, layer.name, where)
        assert why["fold"] is None
        assert why["bit"] == network.run(image, outputs=f"{layer.name}.bits")[f"{layer.name}.bits"][(0, *where)]
        assert "4  The bit" in good("explain", path, pixels, "--layer", layer.name, "--at", ",".join(map(str, where)))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--layer", "conv9", "--at", "0,0,0"], ["conv9", "conv1"]),
        (["--layer", "dense2", "--at", "0"], ["dense2", "logits"]),
        (["--layer", "conv1", "--at", "9,0,0"], ["conv1", "9"]),
        (["--layer", "conv1", "--at", "0"], ["conv1"]),
        (["--layer", "dense1", "--at", "0,0,11"], ["dense1", "11"]),
        (["--layer", "conv1", "--at", "a,b,c"], ["--at", "a,b,c", "ROW,COLUMN,CHANNEL"]),
        (["--layer", "conv1", "--at", "0,0,-1"], ["--at"]),
        (["--layer", "conv1", "--at", "0,0,0", "--index", "4"], ["--index", "4", "four.npy"]),
        (["--at", "0,0,0"], ["--layer"]),
    ],
)
def test_bad_questions(arguments: list[str], words: list[str], model: Path, images: Path) -> None:
    line = refused("explain", model, images, *arguments)
    assert all(word in line for word in words), line


def test_a_bit_that_the_packed_path_does_not_give_is_status_1(
    model: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = api.Network.run

    def wrong(self: api.Network, pixels: Any, **options: Any) -> Any:
        return {name: -array if name == "conv3.bits" else array for name, array in run(self, pixels, **options).items()}

    monkeypatch.setattr(api.Network, "run", wrong)
    result = call("explain", model, images, "--layer", "conv3", "--at", "0,0,0")
    assert result.exit_code == 1
    assert "they differ" in result.stdout
