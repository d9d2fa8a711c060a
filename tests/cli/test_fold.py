from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from refdesign import api
from refdesign.api import Network
from refdesign.bits import pack
from refdesign.conventions import PAPER
from refdesign.models import resnet20
from refdesign.network import BinaryDense, PixelConv2d
from refdesign.parameters import BatchNorm
from tests.cli.command_line import good, refused


def test_the_json_has_every_threshold_and_its_certificate(model: Path) -> None:
    printed = json.loads(good("fold", model, "--json"))["layers"]
    thresholds = api.load(model).thresholds()
    assert list(printed) == list(thresholds) == ["conv1", "conv2", "conv3", "dense1"]
    for name, folded in thresholds.items():
        assert printed[name]["threshold"] == folded.threshold.tolist()
        assert printed[name]["direction"] == folded.direction.tolist()
        assert len(printed[name]["certificate"]["entries"]) == folded.threshold.size


def test_the_certificates_neighbours_lie_across_the_threshold(model: Path) -> None:
    layer = json.loads(good("fold", model, "--layer", "conv2", "--channel", 7, "--json"))["layers"]["conv2"]
    threshold, direction = np.array(layer["threshold"]), np.array(layer["direction"])
    assert threshold.shape == (2, 1, 1)
    for entry in layer["certificate"]["entries"]:
        assert entry["channel"] == 7
        below, above = entry["neighbours"]
        step = entry["domain"][2]
        assert above["accumulator"] - below["accumulator"] == step
        assert above["bit"] == -below["bit"] == direction[entry["row"], entry["column"], 0]
        fires = above if above["bit"] == 1 else below
        assert fires["accumulator"] == threshold[entry["row"], entry["column"], 0]


def test_the_tables(model: Path) -> None:
    summary = good("fold", model)
    for name in ("conv1", "conv2", "conv3", "dense1"):
        assert any(line.startswith(f"{name} ") for line in summary.splitlines())
    assert "2×1×15" in summary
    one = good("fold", model, "--layer", "conv3", "--channel", 2)
    rule = api.load(model).thresholds()["conv3"].rule(1, 0, 2)
    assert rule in one
    assert sum(line.split()[:2] in (["0,0", "2"], ["1,0", "2"]) for line in one.splitlines()) == 2
    assert len(good("fold", model, "--layer", "conv3").splitlines()) > 2 * 9


def test_the_archive_has_the_arrays(model: Path, tmp_path: Path) -> None:
    target = tmp_path / "thresholds.npz"
    good("fold", model, "--save", target)
    with np.load(target) as saved:
        for name, folded in api.load(model).thresholds().items():
            for field in ("threshold", "direction", "constant", "zero_low", "zero_high"):
                expected = getattr(folded, field)
                assert saved[f"{name}.{field}"].dtype == expected.dtype
                np.testing.assert_array_equal(saved[f"{name}.{field}"], expected)
            domain = folded.certificate.domain
            found = [saved[f"{name}.domain_{part}"].tolist() for part in ("low", "high", "step")]
            assert found == [domain.low.tolist(), domain.high.tolist(), [domain.step]]
        assert json.loads(saved["conventions"].item()) == api.load(model).conventions.to_dict()


def test_a_threshold_that_differs_is_shown_beside_the_other(tmp_path: Path) -> None:
    """In channel 1 gamma*a underflows in float32: z is 0 for every sum, and fires; exactly, it fires from 0 on."""
    path = tmp_path / "near.safetensors"
    near = PixelConv2d(
        name="near",
        weights=pack(np.ones((2, 3, 3, 1), np.int8)),
        multiplier=2,
        offset=-255,
        batch_norm=BatchNorm([1, 2.0**-149], [0, 0], [0, 0], [1, 2.0**40], 0.0),
    )
    last = BinaryDense(name="last", weights=pack(np.ones((3, 12), np.int8)))
    Network(name="n", input_shape=(5, 4, 1), layers=(near, last), conventions=PAPER.replace(arithmetic="torch")).save(
        path
    )
    text = good("fold", path, "--layer", "near")
    assert "arithmetic torch; thresholds that real gives too: 1 of 2" in text
    one = good("fold", path, "--layer", "near", "--channel", 1)
    assert "always +1" in one
    assert "differs: a >= 1" in one  # sums are odd: 9 times an odd number each
    assert "thresholds that real gives too: 0 of 1" in one
    assert "thresholds that real gives too: 1 of 1" in good("fold", path, "--layer", "near", "--channel", 0)
    entries = json.loads(good("fold", path, "--json"))["layers"]["near"]["certificate"]["entries"]
    assert [entry["other"] for entry in entries] == ["", "a >= 1"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--layer", "conv9"], ["conv9", "conv1, conv2"]),
        (["--layer", "dense2"], ["dense2", "logits"]),
        (["--channel", "1"], ["--channel", "--layer"]),
        (["--layer", "conv1", "--channel", "6"], ["6", "conv1"]),
        (["--layer", "conv1", "--save", "nowhere/x.npz"], ["nowhere/x.npz"]),
    ],
)
def test_bad_choices(
    arguments: list[str], words: list[str], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = refused("fold", model, *arguments)
    assert all(word in line for word in words), line


def test_a_layer_that_does_not_fold_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "resnet.safetensors"
    network = resnet20(input_shape=(16, 12, 3), width=1 / 4)
    network.save(path)
    residual = next(layer.name for layer in network.layers if getattr(layer, "shortcut", None) is not None)
    line = refused("fold", path, "--layer", residual)
    assert residual in line
    assert "does not fold" in line


def test_a_network_whose_layers_do_not_fold(tmp_path: Path) -> None:
    only = PixelConv2d(name="only", weights=pack(np.ones((3, 2, 2, 1))))
    file = tmp_path / "only.safetensors"
    Network(name="one", input_shape=(5, 4, 1), layers=(only,)).save(file)
    assert good("fold", file).startswith("No layer folds to integer thresholds")
    assert json.loads(good("fold", file, "--json"))["layers"] == {}
    assert refused("fold", file, "--layer", "only").endswith("expected another network: none of its layers does")
