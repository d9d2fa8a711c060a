"""What pytest does not collect: doctests of a framework's package where that framework is not installed.

A module that fails to import while it is collected would stay behind, half made, for every later import of it.
Keras runs on TensorFlow where that is installed, otherwise on JAX, unless KERAS_BACKEND says what it runs on.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

if find_spec("tensorflow") is None:
    os.environ.setdefault("KERAS_BACKEND", "jax")

_FRAMEWORKS = Path(__file__).parent / "refdesign" / "frameworks"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out refdesign/frameworks/NAME where NAME is not installed."""
    if collection_path.parent == _FRAMEWORKS and collection_path.is_dir() and collection_path.name != "__pycache__":
        return True if find_spec(collection_path.name) is None else None
    return None
