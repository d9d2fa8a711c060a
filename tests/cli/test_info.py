from __future__ import annotations

import json
from pathlib import Path

from refdesign import api
from refdesign.models import resnet20
from refdesign.summary import summarise
from tests.cli.command_line import good, refused


def test_the_json_is_the_summary(model: Path) -> None:
    printed = json.loads(good("info", model, "--json"))
    assert printed == json.loads(json.dumps(summarise(api.load(model))))


def test_the_table_has_every_layer_and_convention(model: Path) -> None:
    text = good("info", model)
    network = api.load(model)
    for layer in network.layers:
        assert sum(line.startswith(f"{layer.name} ") for line in text.splitlines()) == 2  # shapes and counts
    for name, value in network.conventions.to_dict().items():
        assert any(line.split() == [name, str(value)] for line in text.splitlines())
    assert "9×7×1" in text
    assert "max pool 2" in text
    assert "x = 2*p-255, 3×3, stride 1, padding 1 symmetric (mirrored)" in text
    assert "dither" in text.splitlines()[2].split()


def test_residual_networks_say_what_they_add(tmp_path: Path) -> None:
    path = tmp_path / "resnet.safetensors"
    resnet20(input_shape=(16, 12, 3), width=1 / 4, name="res[net]", metadata={"recipe": "[none]"}).save(path)
    text = good("info", path)
    assert "hardtanh" in text
    assert "+ " in text
    assert "res[net]" in text  # brackets are no markup
    assert "[none]" in text


def test_a_name_that_is_nearly_one_is_suggested() -> None:
    assert refused("info", "digit").endswith("(did you mean 'digits'?)")
    assert "mean" not in refused("info", "nothing-like-it")
