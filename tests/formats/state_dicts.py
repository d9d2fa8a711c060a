"""State dicts of modules as after a training, and what becomes of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from refdesign.formats import foreign, torch_file
from refdesign.network import NetworkData
from tests.formats.same import differences


def trained(module: Any, seed: int = 0) -> Any:
    """The module with batch norms as after a training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
                part.running_mean = torch.randn(part.num_features, generator=generator) * 3
                part.running_var = torch.rand(part.num_features, generator=generator) * 9 + 0.5
                part.weight.copy_(torch.randn(part.num_features, generator=generator))
                part.bias.copy_(torch.randn(part.num_features, generator=generator))
    return module.eval()


def same(found: NetworkData, expected: NetworkData) -> list[str]:
    """The differences of two networks, their names and methods aside."""
    first, second = (
        NetworkData(name="n", input_shape=n.input_shape, layers=n.layers, conventions=n.conventions)
        for n in (found, expected)
    )
    return list(differences(first, second))


def mapped(data: bytes, architecture: NetworkData | None, **said: Any) -> Any:
    """The network and the report of a state dict's content."""
    return foreign.mapped(torch_file.from_bytes(data), foreign.Wanted(architecture=architecture, **said), "torch")
