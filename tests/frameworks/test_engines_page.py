"""docs/engines.md: the models in it run, and print what stands below them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.formats.pages import run_page
from tests.shared_data import CHECKOUT

PAGE = (CHECKOUT / "docs" / "engines.md").read_text(encoding="utf-8")


def test_its_models_run(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the extra 'torch' is not installed")
    _, _, section = PAGE.partition("## A model of one's own\n")
    run_page(section.partition("\n## ")[0], tmp_path)
    assert (tmp_path / "mine.safetensors").exists()
