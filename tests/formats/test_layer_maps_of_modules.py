"""Networks as people write them in PyTorch, described by a layer map: the module's own bits."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refdesign.api import Network
from refdesign.formats import conversion

pytest.importorskip("torch", reason="the extra 'torch' is not installed")

import safetensors.torch
import torch
from torch import nn

from tests.formats.state_dicts import mapped, trained


class Sign(nn.Module):
    """The sign, +1 at 0."""

    def forward(self, x: Any) -> Any:
        return torch.where(x >= 0, 1.0, -1.0)


class Binary(nn.Module):
    """A convolution or dense layer whose weights are used by their sign, as people write it."""

    def __init__(self, of: nn.Conv2d | nn.Linear, scaled: bool = False) -> None:
        super().__init__()
        self.of: Any = of
        self.scaled = scaled

    def forward(self, x: Any) -> Any:
        weight = torch.where(self.of.weight >= 0, 1.0, -1.0)
        if self.scaled:
            weight = weight * self.of.weight.abs().flatten(1).mean(1).view(-1, *(1,) * (weight.ndim - 1))
        if isinstance(self.of, nn.Conv2d):
            return nn.functional.conv2d(x, weight, None, self.of.stride, self.of.padding)
        return nn.functional.linear(x, weight)


def plain_module() -> nn.Sequential:
    """A binary network as someone writes it, channel by channel flattened, zeros padded."""
    return nn.Sequential(
        Binary(nn.Conv2d(3, 6, 3, padding=1, bias=False)), nn.MaxPool2d(2), nn.BatchNorm2d(6), Sign(),
        Binary(nn.Conv2d(6, 5, 3, padding=1, stride=2, bias=False)), nn.BatchNorm2d(5), Sign(), nn.Flatten(),
        Binary(nn.Linear(5 * 2 * 3, 11, bias=False)), nn.BatchNorm1d(11), Sign(),
        Binary(nn.Linear(11, 4, bias=False)), nn.BatchNorm1d(4),
    )  # fmt: skip


def norm_names(prefix: str) -> dict[str, Any]:
    leaves = {"gamma": "weight", "beta": "bias", "mean": "running_mean", "variance": "running_var"}
    return {key: f"{prefix}.{leaf}" for key, leaf in leaves.items()} | {"epsilon": 1e-5}


LAYERS: list[dict[str, Any]] = [
    {"name": "a", "kind": "pixel_conv2d", "weights": "0.of.weight", "padding": 1, "pool": 2,
     "batch_norm": norm_names("2")},
    {"name": "b", "kind": "binary_conv2d", "weights": "4.of.weight", "padding": 1, "stride": [2, 2],
     "batch_norm": norm_names("5")},
    {"name": "c", "kind": "binary_dense", "weights": "8.of.weight", "channels_first": True,
     "batch_norm": norm_names("9")},
    {"name": "d", "kind": "binary_dense", "weights": "11.of.weight", "batch_norm": norm_names("12")},
]  # fmt: skip


@pytest.mark.parametrize("container", ["pt", "safetensors"])
def test_a_layer_map_gives_the_modules_own_bits(container: str, tmp_path: Path) -> None:
    module = trained(plain_module(), seed=5)
    path, described = tmp_path / f"net.{container}", tmp_path / "map.json"
    if container == "pt":
        torch.save(module.state_dict(), path)
    else:
        safetensors.torch.save_file(module.state_dict(), path)
    described.write_text(json.dumps({
        "name": "mine", "input_shape": [9, 12, 3], "conventions": {"arithmetic": "torch"}, "layers": LAYERS,
    }))  # fmt: skip
    found = conversion.read(path, layer_map=described, binarise="sign", pixels=[(2, -255)])
    images = np.random.default_rng(6).integers(0, 256, (11, 9, 12, 3), np.uint8)
    outputs = Network.from_data(found.network).run(images, outputs="all")
    x = torch.tensor(images).permute(0, 3, 1, 2).float() * 2 - 255
    with torch.no_grad():
        np.testing.assert_array_equal(outputs["a.bits"], module[:4](x).permute(0, 2, 3, 1).numpy())
        np.testing.assert_array_equal(outputs["b.bits"], module[:7](x).permute(0, 2, 3, 1).numpy())
        np.testing.assert_array_equal(outputs["c.bits"], module[:11](x).numpy())
        np.testing.assert_array_equal(outputs["logits"], module(x).numpy())
    assert found.network.name == "mine"


def test_xnor_scales_give_the_modules_own_bits() -> None:
    module = trained(plain_module(), seed=8)
    for part in module:
        if isinstance(part, Binary):
            part.scaled = True
    stream = io.BytesIO()
    torch.save(module.state_dict(), stream)
    said = {"name": "x", "input_shape": [9, 12, 3], "conventions": {"arithmetic": "torch"}, "layers": LAYERS}
    network, report = with_map(stream.getvalue(), said, binarise="xnor")
    assert any("alpha, the mean of |w| over the channel" in line for line in report.assumed)
    images = np.random.default_rng(9).integers(0, 256, (11, 9, 12, 3), np.uint8)
    outputs = Network.from_data(network).run(images, outputs="all")
    x = torch.tensor(images).permute(0, 3, 1, 2).float() * 2 - 255
    with torch.no_grad():
        # The module scales weights, the network sums: that rounds otherwise, and here no bit is near enough.
        np.testing.assert_array_equal(outputs["a.bits"], module[:4](x).permute(0, 2, 3, 1).numpy())
        np.testing.assert_array_equal(outputs["b.bits"], module[:7](x).permute(0, 2, 3, 1).numpy())
        np.testing.assert_array_equal(outputs["c.bits"], module[:11](x).numpy())
        np.testing.assert_allclose(outputs["logits"], module(x).numpy(), rtol=1e-5, atol=1e-5)


def with_map(data: bytes, said: Mapping[str, Any], **more: Any) -> Any:
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(said, file)
        file.flush()
        return mapped(data, None, layer_map=file.name, pixels=[(2, -255)], **more)
