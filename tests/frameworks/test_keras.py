"""Keras: each backend in a process of its own, since a process has one backend for its life."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest
from hypothesis import settings

from tests.shared_data import CHECKOUT

# JAX compiles every operation of every shape anew.
SHARE = {"tensorflow": 1.0, "torch": 1.0, "jax": 0.2}


@pytest.mark.parametrize("backend", SHARE)
def test_everything_holds_on(backend: str) -> None:
    for package in ("keras", backend):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed (extra 'keras', or '{backend}')")
    examples = max(1, int(settings().max_examples * SHARE[backend]))
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(
        [sys.executable, "-m", "tests.frameworks.keras_checks", str(examples)],
        cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-4000:]
    assert result.stdout.splitlines()[-1] == f"all held on {backend}"


def test_without_keras_the_missing_extra_is_named() -> None:
    code = "import sys; sys.modules['keras'] = None; import refdesign.frameworks.keras"
    result = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert 'keras is not installed; it comes with: pip install "refdesign[keras]"' in result.stderr.splitlines()[-1]
