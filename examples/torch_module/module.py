"""The network `digits` as a plain PyTorch module, NCHW, with nothing of refdesign but its parameters.

    refdesign verify digits digits:test --impl module.py:digits

Submodules are called as the network's layers, with `product`, `pool` and `sign` in them, so that every layer is seen.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import refdesign
from refdesign.network import BinaryDense


class Sign(nn.Module):
    """+1 where y reaches the threshold of its pixel and channel, else -1."""

    cells: Tensor

    def __init__(self, cells: np.ndarray[Any, Any]) -> None:
        super().__init__()
        self.register_buffer("cells", torch.tensor(cells))

    def forward(self, y: Tensor) -> Tensor:
        return torch.where(y - self.cells >= 0, 1.0, -1.0)


class Layer(nn.Module):
    """Product, pool, batch norm and sign of one layer."""

    def __init__(self, network: refdesign.Network, name: str) -> None:
        super().__init__()
        layer: Any = network.layer(name)
        weights = refdesign.unpack(layer.weights).astype(np.float32)
        shape, bn = network.shapes[name], layer.batch_norm
        self.product: nn.Linear | nn.Conv2d
        if isinstance(layer, BinaryDense):
            if len(shape.input) == 3:  # from (row, column, channel) to PyTorch's order
                weights = weights.reshape(-1, *shape.input).transpose(0, 3, 1, 2).reshape(len(weights), -1)
            self.product = nn.Linear(weights.shape[1], weights.shape[0], bias=False)
        else:
            weights = weights.transpose(0, 3, 1, 2)
            self.product = nn.Conv2d(weights.shape[1], weights.shape[0], 3, bias=False)
        self.product.weight.data = torch.tensor(weights)
        self.pool = nn.Identity() if layer.pool is None else nn.MaxPool2d(2)
        norm = nn.BatchNorm1d if isinstance(layer, BinaryDense) else nn.BatchNorm2d
        self.norm = norm(len(weights), eps=bn.epsilon)
        self.norm.load_state_dict(
            {
                "weight": torch.tensor(bn.gamma), "bias": torch.tensor(bn.beta),
                "running_mean": torch.tensor(bn.mean), "running_var": torch.tensor(bn.variance),
                "num_batches_tracked": torch.tensor(0),
            }
        )  # fmt: skip
        self.sign = nn.Identity() if layer is network.layers[-1] else Sign(_cells(network, name))

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.product, nn.Linear):
            x = x.flatten(1)
        else:
            x = nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")
        return torch.as_tensor(self.sign(self.norm(self.pool(self.product(x)))))


def _cells(network: refdesign.Network, name: str) -> np.ndarray[Any, Any]:
    """The dither's thresholds over the layer's map, (channel, row, column), or per channel."""
    layer: Any = network.layer(name)
    shape = network.shapes[name].output
    if layer.kernel is None:
        return np.zeros(shape, np.float32)
    height, width, channels = shape
    cells = refdesign.threshold_map(layer.kernel, height, width, channels, network.conventions)
    return np.ascontiguousarray(cells.transpose(2, 0, 1))


class Digits(nn.Module):
    """All layers; takes pixels from 0 to 255."""

    def __init__(self, network: refdesign.Network) -> None:
        super().__init__()
        for layer in network.layers:
            self.add_module(layer.name, Layer(network, layer.name))

    def forward(self, pixels: Tensor) -> Tensor:
        x = 2 * pixels - 255
        for layer in self.children():
            x = layer(x)
        return x


def digits(network: refdesign.Network) -> nn.Module:
    """What `--impl` asks for: the module of a network."""
    return Digits(network).eval()
