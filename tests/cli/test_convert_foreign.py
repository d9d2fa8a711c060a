"""`refdesign convert` and `info` on other frameworks' files and on threshold kernels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from refdesign import load
from refdesign.verify.fuzz.foreign_files import state as fuzzed
from refdesign.verify.fuzz.foreign_files import state_dict
from tests.cli.command_line import good, refused
from tests.shared_data import require


def state(folder: Path, latent: float = 1.0) -> Path:
    """A small BinaryNet as PyTorch saves it."""
    arrays = fuzzed()
    for name in ("conv1.weight", "dense1.weight"):
        arrays[name] = arrays[name] * np.float32(latent)
    path = folder / "weights.pt"
    path.write_bytes(state_dict(arrays))
    return path


def write_map(folder: Path) -> None:
    """The layer map of `fuzzed`."""

    def norm(name: str) -> dict[str, object]:
        leaves = {"gamma": "weight", "beta": "bias", "mean": "running_mean", "variance": "running_var"}
        return {key: f"{name}.batch_norm.{leaf}" for key, leaf in leaves.items()} | {"epsilon": 1e-4}

    conv = {"padding": 1, "padding_mode": "symmetric"}
    layers = [
        {"name": "conv1", "kind": "pixel_conv2d", "weights": "conv1.weight", "batch_norm": norm("conv1"), **conv},
        {"name": "conv2", "kind": "binary_conv2d", "weights": "conv2.weight", "batch_norm": norm("conv2"), "pool": 2,
         "kernel": "threshold_2x2_v1", **conv},
        {"name": "dense1", "kind": "binary_dense", "weights": "dense1.weight", "channels_first": True,
         "batch_norm": norm("dense1")},
        {"name": "dense2", "kind": "binary_dense", "weights": "dense2.weight", "batch_norm": norm("dense2")},
    ]  # fmt: skip
    (folder / "map.json").write_text(json.dumps({"input_shape": [5, 6, 2], "layers": layers}))


def test_a_state_dict_is_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    state(tmp_path)
    write_map(tmp_path)
    options = ("--map", "map.json", "--pixels", "2,-255")
    report = json.loads(good("convert", "weights.pt", "net.safetensors", *options, "--json"))
    assert report["in_format"] == "a PyTorch state dict"
    assert report["recognised"][1].startswith("conv2: binary_conv2d 4x3x3x3 from 'conv2.weight', ±1, batch norm from")
    assert report["conventions"]["arithmetic"] == "torch"
    assert load("net.safetensors").layer("conv2").kernel.shape == (2, 2, 1)  # type: ignore[attr-defined]
    assert "recognised: dense2: binary_dense 2x5" in good("info", "weights.pt", *options)
    assert json.loads(good("info", "weights.pt", *options, "--json"))["recognised"] == report["recognised"]


def test_arrays_alone_are_listed(tmp_path: Path) -> None:
    path = state(tmp_path, latent=0.25)
    shown = good("info", path)
    assert "a PyTorch state dict" in shown
    assert "3×2×3×3" in shown
    listed = json.loads(good("info", path, "--json"))
    by_name = {entry["name"]: entry for entry in listed["arrays"]}
    assert by_name["conv1.weight"] == {
        "name": "conv1.weight", "dtype": "float32", "shape": [3, 2, 3, 3], "low": 0.25, "high": 0.25, "from_one": 0.75,
    }  # fmt: skip
    assert "refdesign convert --model" in refused("run", path, "digits")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "expected an architecture to map them onto"),
        (("--model", "binarynet"), "found no weights for conv3, conv4, conv5, conv6, dense3 among conv1, conv2"),
        (("--model", "nowhere.safetensors"), "nowhere.safetensors: cannot be read"),
        (("--width", "2"), "--width: found it without --model binarynet or vgg_small"),
        (("--model", "binarynet", "--input-shape", "5x6"), "--input-shape: found '5x6', expected rows"),
        (("--model", "binarynet", "--kernel", "none.txt"), "none.txt: found no such file, expected a kernel file"),
        (("--model", "binarynet", "--width", "0"), "width: found 0.0"),
        (("--map", "map.json", "--pixels", "x,1"), "--pixels: found 'x,1', expected SCALE,OFFSET"),
        (("--map", "map.json", "--pixels", "1/0,1"), "--pixels: found '1/0,1'"),
        (("--map", "map.json"), "layer 'conv1', pixels: the file does not say how 8-bit pixels"),
        (("--map", "none.json"), "none.json: cannot be read"),
    ],
)
def test_what_is_missing_is_said(
    options: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    state(tmp_path)
    write_map(tmp_path)
    assert message in refused("convert", "weights.pt", "net.safetensors", *options)
    assert not (tmp_path / "net.safetensors").exists()


def test_kernels_are_converted_and_shown(tmp_path: Path) -> None:
    path = tmp_path / "k.mat"
    converted = good("convert", "threshold_2x2x4_shifting_n1_right_v1", path)
    assert "published as threshold_2x2x4_complement_v1 and threshold_2x2x4_shifting_n1_right_v1" in converted
    assert "its thresholds among 6 levels" in good("convert", path, tmp_path / "k.json")
    shown = good("info", path)
    assert "slice 3:" in shown
    assert "levels 3 5" in shown
    assert json.loads(good("info", "threshold_2x2_v1", "--json"))["levels"] == [[[1], [1]], [[0], [2]]]
    assert "it is a threshold kernel" in refused("convert", path, tmp_path / "k.json", "--binarise", "sign")
    assert "found the ending '.onnx'" in refused("convert", path, tmp_path / "k.onnx")


@pytest.mark.parametrize("ending", [".json", ".npz"])
def test_a_kernel_is_shown_and_converted_in_every_format_it_is_written_in(ending: str, tmp_path: Path) -> None:
    path, back = tmp_path / f"k{ending}", tmp_path / "k.mat"
    good("convert", "threshold_2x2_v1", path)
    assert good("info", path).splitlines()[0].endswith("published as threshold_2x2_v1, its thresholds among 6 levels")
    good("convert", path, back)
    assert json.loads(good("info", back, "--json"))["values"] == json.loads(good("info", path, "--json"))["values"]


def test_arrays_for_firmware_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "net.npz"
    good("convert", "digits-sign", path, "--word-bits", "8")
    shown = json.loads(good("info", path, "--json"))
    found = {entry["name"]: (entry["dtype"], entry["shape"]) for entry in shown["arrays"]}
    assert found["conv2_weights"] == ("uint8", [64, 3, 3, 8])
    assert found["conv2_threshold"] == ("int32", [1, 1, 64])
    assert "no network is read from .npz" in good("info", path)
    assert "values: is missing" in refused("convert", path, tmp_path / "net.onnx")


def test_the_authors_scores_are_read() -> None:
    scores = require("data/released/threshold_metrics.mat")
    shown = good("info", scores)
    assert "metric_means" in shown
    assert "5×1296" in shown
    assert "row 3 (total variation) is [[3, 1], [1, 3]]" in shown
