"""`refdesign convert`, and the other commands on what it writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from refdesign import datasets, load, pretrained
from tests.cli.command_line import good, refused

pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")


def test_a_network_goes_out_and_comes_back(tmp_path: Path) -> None:
    there, back = tmp_path / "there.onnx", tmp_path / "back.safetensors"
    good("convert", "digits", there)
    report = json.loads(good("convert", there, back, "--json"))
    assert report["in_format"] == "ONNX"
    assert any(line.startswith("conv2: binary_conv2d") and "period 2x2" in line for line in report["recognised"])
    assert report["assumed"] == [
        "arithmetic 'torch': what the file's operators round, one by one",
        "the sign of zero is +1: nothing that the file signs is ever zero",
    ]
    x = datasets.load("digits", "test")[0][:9]
    np.testing.assert_array_equal(load(back).run(x)["logits"], pretrained("digits").run(x)["logits"])
    np.testing.assert_array_equal(load(there).run(x)["logits"], pretrained("digits").run(x)["logits"])
    assert "recognised: conv2: binary_conv2d" in good("info", there)


@pytest.mark.parametrize("ending", ["npz", "h", "hpp"])
def test_files_for_firmware(ending: str, tmp_path: Path) -> None:
    assert "conventions: sign_at_zero 1" in good("convert", "digits-2d", tmp_path / f"net.{ending}", "--word-bits", 8)
    assert (tmp_path / f"net.{ending}").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("digits", "net.x"), "net.x: found the ending '.x', expected one of .safetensors, .onnx, .npz, .h, .hpp"),
        (("none.onnx", "net.npz"), "none.onnx: cannot be read: No such file or directory"),
        (("net.h", "net.npz"), "net.h: found a C header, which can only be written"),
        (("digits", "nowhere/net.onnx"), "nowhere/net.onnx: cannot be written: No such file or directory"),
    ],
)
def test_what_cannot_be_converted_is_one_line(
    arguments: tuple[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused("convert", *arguments)
    assert list(tmp_path.iterdir()) == []
