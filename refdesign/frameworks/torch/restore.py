"""From a golden network back to a module that computes the same and can be trained on."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import torch
from torch import nn

from refdesign.bits import PackedBits, unpack
from refdesign.conventions import Conventions
from refdesign.errors import RefdesignError
from refdesign.frameworks.torch.design import DeSign, Sign
from refdesign.frameworks.torch.layers import BinaryConv2d, BinaryLayer, BinaryLinear, PixelInput
from refdesign.frameworks.torch.parameters import batch_norm_module
from refdesign.frameworks.torch.residual import BinaryNetwork
from refdesign.frameworks.torch.translate import network_module
from refdesign.network import BinaryConv2d as BinaryConv2dData
from refdesign.network import BinaryDense, Layer, NetworkData, PixelConv2d, Stage


def from_network(network: NetworkData, *, estimator: str = "clipped") -> nn.Sequential | BinaryNetwork:
    """The module of a binary network; the inverse of `to_network`.

    Latent weights start at the network's bits, ±1. In eval mode, eager, on a CPU with fused multiply-add, its bits
    and logits are the network's.

    Args:
        network: under the arithmetic `"torch"` or `"released_torch"`, without a float32 first layer.
        estimator: the gradient of all signs.

    Returns:
        In eval mode. Under `"torch"`, where all layers are plain binary ones without scales, an `nn.Sequential` of
        `pixels` and of one `BinaryLayer` per layer, by the layers' names; otherwise a `BinaryNetwork`.

    Raises:
        RefdesignError: a layer, parameter or arithmetic that these modules do not follow, naming it.

    >>> from refdesign.frameworks.torch import to_network
    >>> from refdesign.frameworks.torch.models import binarynet
    >>> network = to_network(binarynet((4, 5, 1), 3, widths=(2, 4), dense=()), name="tiny", input_shape=(4, 5, 1))
    >>> [name for name, _ in from_network(network).named_children()]
    ['pixels', 'conv1', 'conv2', 'flatten', 'dense1']
    """
    if network.conventions.arithmetic != "torch" or not all(_is_plain(layer) for layer in network.layers):
        return network_module(network, estimator=estimator)
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    for layer in network.layers:
        shape = network.shapes[layer.name].input
        if layer.name in ("pixels", "flatten"):
            raise RefdesignError(
                f"from_network, layer {layer.name!r}: these modules use that name themselves, rename it"
            )
        if isinstance(layer, PixelConv2d):
            parts["pixels"] = PixelInput(layer.multiplier, layer.offset)
        if isinstance(layer, BinaryDense) and len(shape) == 3:
            parts["flatten"] = nn.Flatten()
        last = layer is network.layers[-1]
        assert isinstance(layer, (PixelConv2d, BinaryConv2dData, BinaryDense))
        parts[layer.name] = BinaryLayer(
            _product(layer, shape, estimator),
            pool=None if layer.pool is None else nn.MaxPool2d(layer.pool.size, layer.pool.stride),
            batch_norm=_batch_norm(layer),
            activation=None if last else _activation(layer, network.conventions, estimator),
        )
    return nn.Sequential(parts).eval()


def _is_plain(layer: Layer) -> bool:
    if not isinstance(layer, (PixelConv2d, BinaryConv2dData, BinaryDense)) or layer.shortcut or layer.hardtanh:
        return False
    scaled = layer.batch_norm is not None and layer.batch_norm.alpha is not None
    return isinstance(layer.weights, PackedBits) and not scaled


def _product(
    layer: PixelConv2d | BinaryConv2dData | BinaryDense, shape: tuple[int, ...], estimator: str
) -> BinaryConv2d | BinaryLinear:
    assert isinstance(layer.weights, PackedBits)
    bits = torch.from_numpy(unpack(layer.weights).astype(np.float32))
    product: BinaryConv2d | BinaryLinear
    if isinstance(layer, BinaryDense):
        product = BinaryLinear(layer.fan_in, layer.out_channels, estimator=estimator)
        if len(shape) == 3:
            bits = bits.reshape(-1, *shape).permute(0, 3, 1, 2).reshape(bits.shape)
    else:
        out, rows, columns, depth = layer.weight_shape
        product = BinaryConv2d(
            depth * layer.groups, out, (rows, columns), stride=layer.stride, padding=layer.padding,
            padding_mode=layer.padding_mode, dilation=layer.dilation, groups=layer.groups, estimator=estimator,
        )  # fmt: skip
        bits = bits.permute(0, 3, 1, 2)
    with torch.no_grad():
        product.weight.copy_(bits)
    return product


def _batch_norm(layer: PixelConv2d | BinaryConv2dData | BinaryDense) -> nn.BatchNorm1d | nn.BatchNorm2d | None:
    if layer.batch_norm is None:
        return None
    kind = nn.BatchNorm1d if isinstance(layer, BinaryDense) else nn.BatchNorm2d
    module: nn.BatchNorm1d | nn.BatchNorm2d = batch_norm_module(layer.name, layer.batch_norm, kind)
    return module


def _activation(layer: Stage, conventions: Conventions, estimator: str) -> DeSign:
    if layer.kernel is None:
        return Sign(conventions, estimator=estimator)
    return DeSign(layer.kernel, conventions, estimator=estimator)
