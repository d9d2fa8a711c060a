"""docs/importing.md: every command in it is run, in its order, and prints what stands below it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from refdesign.formats import layer_map
from refdesign.formats.binarising import RULES
from tests.formats.pages import run_page
from tests.shared_data import CHECKOUT

PAGE = (CHECKOUT / "docs" / "importing.md").read_text(encoding="utf-8")


def test_its_commands_and_samples_run(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the extra 'torch' is not installed")
    assert run_page(PAGE, tmp_path) >= 3


def test_its_layer_maps_are_read() -> None:
    beside, alone = (layer_map.from_bytes(json.dumps(json.loads(text)).encode()) for text in
                     re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))  # fmt: skip
    assert beside.names()["conv1"]["batch_norm"] == "features.2"
    assert [plan.kind for plan in alone.plans()] == ["pixel_conv2d", "binary_dense"]


def test_it_names_every_rule() -> None:
    assert set(RULES) <= set(re.findall(r"`(\w+)`", PAGE))
