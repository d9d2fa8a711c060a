"""From a golden network back to a module that computes the same and can be trained on."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from refdesign.bits import PackedBits, unpack
from refdesign.conventions import Conventions
from refdesign.errors import RefdesignError
from refdesign.frameworks.torch.binarisers import Binariser, LearnedScale
from refdesign.frameworks.torch.design import DeSign
from refdesign.frameworks.torch.layers import BinaryConv2d, BinaryLayer, BinaryLinear, PixelInput
from refdesign.frameworks.torch.parameters import NORMS, batch_norm_module, tensor_of
from refdesign.frameworks.torch.real import AveragePool2d, CombinedConv2d, GridConv2d, RealLinear
from refdesign.frameworks.torch.residual import BinaryNetwork, Stage
from refdesign.network import AveragePool, BinaryDense, Layer, NetworkData, PixelConv2d, RealDense
from refdesign.network import BinaryConv2d as BinaryConv2dData
from refdesign.network import CombinedConv2d as CombinedConv2dData
from refdesign.parameters import NO_DITHER

MakeBinariser = Callable[[int], Binariser]


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
        stage = _stage(layer, network.conventions, estimator)
        if isinstance(layer, BinaryDense) and len(shape) == 3:
            parts["flatten"] = nn.Flatten()
            _reorder(stage.product.weight, shape)
        parts[layer.name] = BinaryLayer(
            stage.product, pool=stage.pool, batch_norm=stage.batch_norm,
            activation=None if layer is network.layers[-1] else stage.activation,
        )  # fmt: skip
    return nn.Sequential(parts).eval()


def _is_plain(layer: Layer) -> bool:
    if not isinstance(layer, (PixelConv2d, BinaryConv2dData, BinaryDense)) or layer.shortcut or layer.hardtanh:
        return False
    scaled = layer.batch_norm is not None and layer.batch_norm.alpha is not None
    return isinstance(layer.weights, PackedBits) and not scaled


def _reorder(weight: Tensor, shape: tuple[int, ...]) -> None:
    """A dense layer's weights on a map (H, W, C), from inputs ordered (row, column, channel) to PyTorch's, in place."""
    with torch.no_grad():
        weight.copy_(weight.reshape(-1, *shape).permute(0, 3, 1, 2).reshape(weight.shape))


def network_module(
    network: NetworkData, *, estimator: str = "clipped", binariser: MakeBinariser | None = None
) -> BinaryNetwork:
    """The module of any network whose arithmetic PyTorch's modules compute; the inverse of `export.module_network`.

    Args:
        network: under the arithmetic `"torch"` or `"released_torch"`, without a float32 first layer.
        estimator: the gradient of all signs.
        binariser: makes a scaled layer's binariser from its output channels; None keeps the network's scales, as
            learned ones.

    Raises:
        RefdesignError: a layer, parameter or arithmetic that these modules do not follow, naming it.

    >>> from refdesign.conventions import RELEASED_TORCH
    >>> from refdesign.models import resnet20
    >>> module = network_module(resnet20(input_shape=(8, 12, 3), width=0.25, conventions=RELEASED_TORCH))
    >>> len(module.layers), module.training
    (21, False)
    """
    arithmetic = network.conventions.arithmetic
    if arithmetic not in NORMS:
        raise RefdesignError(
            f"from_network, network {network.name!r}, arithmetic: found {arithmetic!r}, expected one of "
            f"{', '.join(NORMS)}, which PyTorch's modules compute"
        )
    first = network.layers[0]
    pixels = PixelInput(first.multiplier, first.offset) if isinstance(first, PixelConv2d) else PixelInput()
    layers: dict[str, Stage | AveragePool2d | RealLinear] = {}
    for layer in network.layers:
        if isinstance(layer, AveragePool):
            layers[layer.name] = AveragePool2d(layer.size)
        elif isinstance(layer, RealDense):
            layers[layer.name] = _real_linear(layer, arithmetic)
        else:
            layers[layer.name] = _stage(layer, network.conventions, estimator, binariser)
    return BinaryNetwork(pixels, layers, network.conventions).eval()


def _stage(layer: Layer, conventions: Conventions, estimator: str, binariser: MakeBinariser | None = None) -> Stage:
    if not isinstance(layer, (PixelConv2d, BinaryConv2dData, CombinedConv2dData, BinaryDense)):
        raise RefdesignError(f"from_network, layer {layer.name!r}: found {layer.kind}, which these modules have not")
    norm = layer.batch_norm
    alpha = None if norm is None or norm.alpha is None else tensor_of(norm.alpha)
    made: Binariser | None = None
    if alpha is not None:
        made = LearnedScale(alpha, estimator) if binariser is None else binariser(layer.out_channels)
    one_dimension, two_dimensions = NORMS[conventions.arithmetic]
    kind = one_dimension if isinstance(layer, BinaryDense) else two_dimensions
    return Stage(
        _product(layer, alpha, made, estimator),
        DeSign(layer.kernel or NO_DITHER, conventions, estimator=estimator),
        pool=None if layer.pool is None else nn.MaxPool2d(layer.pool.size, layer.pool.stride),
        batch_norm=None if norm is None else batch_norm_module(layer.name, norm, kind),
        shortcut=layer.shortcut,
        hardtanh=layer.hardtanh,
    )


def _product(
    layer: PixelConv2d | BinaryConv2dData | CombinedConv2dData | BinaryDense,
    alpha: Tensor | None,
    binariser: Binariser | None,
    estimator: str,
) -> BinaryConv2d | BinaryLinear:
    product: BinaryConv2d | BinaryLinear
    weights: NDArray[Any]
    if isinstance(layer, BinaryDense):
        product = BinaryLinear(layer.fan_in, layer.out_channels, estimator=estimator, binariser=binariser)
        weights = unpack(layer.weights)
    else:
        out, rows, columns, depth = layer.weight_shape
        size = (depth * layer.groups, out, (rows, columns))
        if isinstance(layer, CombinedConv2dData):
            if alpha is not None:
                raise RefdesignError(f"from_network, layer {layer.name!r}, batch_norm: found alpha on several bases")
            combined = CombinedConv2d(*size, bases=len(layer.weights), estimator=estimator, **layer.geometry)
            with torch.no_grad():
                combined.scales.copy_(tensor_of(layer.scales))
            product = combined
            weights = np.stack([unpack(basis) for basis in layer.weights])
        elif isinstance(layer.weights, PackedBits):
            product = BinaryConv2d(*size, estimator=estimator, binariser=binariser, **layer.geometry)
            weights = unpack(layer.weights)
        else:
            limit = max(int(np.abs(layer.weights.astype(np.int64)).max()), 127)
            weights = layer.weights / limit
            product = GridConv2d(*size, step=None if alpha is None else 1.0, limit=limit, **layer.geometry)
            if product.alpha is not None and alpha is not None:
                with torch.no_grad():
                    product.alpha.copy_(alpha)
        weights = np.moveaxis(weights, -1, -3)
    with torch.no_grad():
        product.weight.copy_(torch.from_numpy(np.ascontiguousarray(weights)))
    return product


def _real_linear(layer: RealDense, arithmetic: str) -> RealLinear:
    norm = layer.input_batch_norm
    if norm is not None and norm.alpha is not None:
        raise RefdesignError(f"from_network, layer {layer.name!r}, input_batch_norm: found alpha, expected none")
    out, inputs = layer.weights.shape
    module = RealLinear(
        inputs, out, layer.bias is not None,
        batch_norm=None if norm is None else batch_norm_module(layer.name, norm, NORMS[arithmetic][0]),
    )  # fmt: skip
    with torch.no_grad():
        module.weight.copy_(tensor_of(layer.weights))
        if layer.bias is not None:
            module.bias.copy_(tensor_of(layer.bias))
    return module
