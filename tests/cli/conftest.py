from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command_line import small_images, small_network


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The file of a small random network."""
    return small_network(tmp_path / "small.safetensors")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Four images for it, as .npy."""
    return small_images(tmp_path / "four.npy")
