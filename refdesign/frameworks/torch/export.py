"""From a trained module to a golden network: parameters are copied, nothing is folded or rounded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from refdesign.api import Network
from refdesign.bits import PackedBits, pack, unpack
from refdesign.conventions import Conventions
from refdesign.errors import RefdesignError
from refdesign.frameworks.exporting import shared_conventions
from refdesign.frameworks.torch.design import DeSign
from refdesign.frameworks.torch.flow import Parts, refuse_changed_modules, split
from refdesign.frameworks.torch.layers import BinaryConv2d, BinaryLinear, PixelInput
from refdesign.frameworks.torch.parameters import (
    NORMS,
    array_of,
    batch_norm_of,
    bits_of,
    computed_arithmetic,
    pool_of,
)
from refdesign.frameworks.torch.real import ABCConv2d, AveragePool2d, CombinedConv2d, GridConv2d, RealLinear
from refdesign.frameworks.torch.residual import BinaryNetwork, Stage
from refdesign.network import AveragePool, BinaryDense, Layer, NetworkData, PixelConv2d, RealDense, Shortcut
from refdesign.network import BinaryConv2d as BinaryConv2dData
from refdesign.network import CombinedConv2d as CombinedConv2dData
from refdesign.network import Stage as StageData
from refdesign.normalisation import positive_scale
from refdesign.parameters import ThresholdKernel

_KINDS = (
    BinaryNetwork, Stage, PixelInput, BinaryConv2d, BinaryLinear, GridConv2d, CombinedConv2d, ABCConv2d, nn.MaxPool2d,
    DeSign, AveragePool2d, RealLinear, *NORMS["torch"], *NORMS["released_torch"],
)  # fmt: skip


def to_network(
    module: nn.Module,
    *,
    name: str,
    input_shape: tuple[int, int, int],
    arithmetic: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Network:
    """The golden network of a sequential binary model, or of a `BinaryNetwork`.

    Under the module's own arithmetic its bits and logits are those of the module in eval mode, eager, in float32, on a
    CPU with fused multiply-add (docs/method.md, section 3), without forward hooks. Weights are those of the binarisers;
    a dense layer's inputs are re-ordered from PyTorch's (channel, row, column) to (row, column, channel).

    Args:
        module: a `BinaryNetwork`, or what `flow.split` accepts: PixelInput, then layers in an `nn.Sequential`. Its
            layers are named after their products' places in it ("conv1", or "3").
        name: the network's name.
        input_shape: (H, W, C) of the uint8 images.
        arithmetic: the arithmetic that the network is meant under; None is the module's own, `"torch"` or
            `"released_torch"`, as its batch norms compute.
        metadata: free text by key.

    Raises:
        RefdesignError: a module, order, dtype or parameter that the reference has no counterpart for, a class that
            computes something else than the one that it is derived from, layers with different conventions, batch norms
            of another arithmetic than named, shapes that do not fit, or another device than the CPU without an
            arithmetic, naming the module.

    >>> from refdesign.frameworks.torch import BinaryConv2d, BinaryLinear, Sign
    >>> model = nn.Sequential(PixelInput(), BinaryConv2d(1, 2, 3), nn.BatchNorm2d(2), Sign(),
    ...                       nn.Flatten(), BinaryLinear(12, 4))
    >>> to_network(model, name="tiny", input_shape=(4, 5, 1)).output_names
    ('1.accumulator', '1.bits', '5.accumulator', 'logits')
    """
    elsewhere = {tensor.device.type for tensor in module.parameters()} - {"cpu"}
    if elsewhere and arithmetic is None:
        raise RefdesignError(
            f"to_network: found a module on {elsewhere.pop()!r}, whose batch norm is no arithmetic that has a name, "
            "expected it on 'cpu', or an arithmetic that the network is meant under"
        )
    if isinstance(module, BinaryNetwork):
        return module_network(module, name=name, input_shape=input_shape, arithmetic=arithmetic, metadata=metadata)
    pixels, parts = split(module)
    for part in parts[:-1]:
        if part.activation is None:
            raise RefdesignError(
                f"to_network, layer {part.name!r}: found no DeSign or Sign, expected one (not the last)"
            )
    if parts[-1].activation is not None:
        raise RefdesignError(f"to_network, layer {parts[-1].name!r}: found a sign in the last layer, expected none")
    signs = ((part.name, part.activation) for part in parts if part.activation)
    computed = arithmetic or computed_arithmetic((part.name, part.batch_norm) for part in parts)
    conventions = _followed(signs).replace(arithmetic=computed)
    layers: list[Layer] = []
    shape: tuple[int, ...] = input_shape
    for index, part in enumerate(parts):
        layers.append(_layer(part, pixels if index == 0 else None, shape))
        shape = NetworkData(name=name, input_shape=input_shape, layers=tuple(layers)).shapes[part.name].output
    return Network(
        name=name, input_shape=input_shape, layers=tuple(layers), conventions=conventions, metadata=dict(metadata or {})
    )


def _layer(part: Parts, pixels: PixelInput | None, shape: tuple[int, ...]) -> Layer:
    layer = _layer_data(
        part.name, part.product, pixels, activation=part.activation, pool=part.pool, batch_norm=part.batch_norm
    )
    if isinstance(layer, BinaryDense):
        return replace(layer, weights=_reordered(part, layer.weights, shape))
    assert isinstance(layer, (PixelConv2d, BinaryConv2dData))
    assert isinstance(layer.weights, PackedBits)
    if layer.pool is None or layer.batch_norm is None:
        return layer
    weights, batch_norm = positive_scale(layer.weights, layer.batch_norm)
    return replace(layer, weights=weights, batch_norm=batch_norm)


def _reordered(part: Parts, weights: PackedBits, shape: tuple[int, ...]) -> PackedBits:
    """A dense layer's weights on a map (H, W, C), from PyTorch's order of inputs to (row, column, channel)."""
    if len(shape) == 1:
        return weights
    height, width, channels = shape
    if not part.flattened or weights.length != height * width * channels:
        raise RefdesignError(
            f"to_network, layer {part.name!r}: found weights {weights.shape} on a map {shape}, "
            f"expected Flatten and {height * width * channels} inputs"
        )
    maps = unpack(weights).reshape(-1, channels, height, width)
    return pack(maps.transpose(0, 2, 3, 1).reshape(weights.shape))


def module_network(
    module: BinaryNetwork,
    *,
    name: str,
    input_shape: tuple[int, int, int],
    arithmetic: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Network:
    """The golden network of a `BinaryNetwork`; `arithmetic` None is the module's own.

    Raises:
        RefdesignError: parameters that no network can have, signs that follow other conventions than the module's,
            batch norms that compute another arithmetic than the one it names, or a class that computes something else
            than the one that it is derived from, naming the layer.

    >>> from refdesign.frameworks.torch.models import vgg_small
    >>> model = vgg_small(input_shape=(8, 9, 3), classes=5, width=1 / 32)
    >>> module_network(model, name="vgg", input_shape=(8, 9, 3)).conventions.arithmetic
    'torch'
    """
    refuse_changed_modules(module, _KINDS)
    conventions = module.conventions if arithmetic is None else module.conventions.replace(arithmetic=arithmetic)
    if arithmetic is None:
        norms = ((place, getattr(part, "batch_norm", None)) for place, part in module.layers.items())
        computed_arithmetic(norms, conventions.arithmetic)
    signs = [(place, part.activation) for place, part in list(module.layers.items())[:-1] if isinstance(part, Stage)]
    _followed(signs, module.conventions)
    layers: list[Layer] = []
    for place, part in module.layers.items():
        if isinstance(part, AveragePool2d):
            layers.append(AveragePool(name=place, size=part.size))
        elif isinstance(part, RealLinear):
            norm = None if part.batch_norm is None else batch_norm_of(place, part.batch_norm, None)
            bias = None if part.bias is None else array_of(part.bias)
            layers.append(RealDense(name=place, weights=array_of(part.weight), bias=bias, input_batch_norm=norm))
        elif isinstance(part, Stage):
            data = _layer_data(
                place,
                part.product,
                None if layers else module.pixels,
                activation=part.activation,
                pool=part.pool,
                batch_norm=part.batch_norm,
                shortcut=part.shortcut,
                hardtanh=part.hardtanh,
            )
            layers.append(data)
    return Network(
        name=name, input_shape=input_shape, layers=tuple(layers), conventions=conventions, metadata=dict(metadata or {})
    )


def _followed(signs: Iterable[tuple[str, DeSign]], named: Conventions | None = None) -> Conventions:
    """The conventions that a model's signs share, by their layers' names, and that its own name where it has some."""
    given = [(layer, sign.conventions, _kernel_of(sign) is not None) for layer, sign in signs]
    own = [] if named is None else [("BinaryNetwork", named, any(dithered for *_, dithered in given))]
    return shared_conventions([*own, *given])


def _kernel_of(activation: DeSign | None) -> ThresholdKernel | None:
    """A sign's threshold kernel; None where it is the plain sign."""
    return activation.kernel if activation is not None and activation.kernel.values.any() else None


def _layer_data(
    name: str,
    product: BinaryConv2d | BinaryLinear,
    pixels: PixelInput | None,
    *,
    activation: DeSign | None = None,
    pool: nn.MaxPool2d | None = None,
    batch_norm: nn.BatchNorm1d | nn.BatchNorm2d | None = None,
    shortcut: Shortcut | None = None,
    hardtanh: bool = False,
) -> StageData:
    """A layer's modules as the reference's layer, whose inputs are ordered (row, column, channel).

    Args:
        name: the layer's name.
        product: its product; the scale that it gives becomes the batch norm's alpha, behind the pool.
        pixels: what the first layer reads; None in all others.
        activation, pool, batch_norm, shortcut, hardtanh: as in `Stage`.

    Raises:
        RefdesignError: parameters that no layer can have, naming the layer.
    """
    several = isinstance(product, CombinedConv2d)
    bits, scale = (None, None) if several else product.binarised()
    if scale is not None and batch_norm is None:
        raise RefdesignError(f"to_network, layer {name!r}: found a scale of the weights without a batch norm")
    shared: dict[str, Any] = {
        "name": name,
        "batch_norm": None if batch_norm is None else batch_norm_of(name, batch_norm, scale),
        "kernel": _kernel_of(activation),
        "shortcut": shortcut,
        "hardtanh": hardtanh,
    }
    if isinstance(product, BinaryLinear):
        if pixels is not None:
            raise RefdesignError(f"to_network, layer {name!r}: found BinaryLinear first, expected BinaryConv2d")
        if pool is not None:
            raise RefdesignError(f"to_network, layer {name!r}: found MaxPool2d after BinaryLinear, expected none")
        return BinaryDense(weights=bits_of(name, product.binary_weight()), **shared)
    shared["pool"] = None if pool is None else pool_of(name, pool)
    for field in ("stride", "padding", "padding_mode", "dilation", "groups"):
        shared[field] = getattr(product, field)
    if isinstance(product, CombinedConv2d):
        planes, scales = product.planes()
        bases = tuple(bits_of(name, plane.permute(0, 2, 3, 1)) for plane in planes)
        return CombinedConv2dData(weights=bases, scales=array_of(scales), **shared)
    assert bits is not None
    ordered = bits.permute(0, 2, 3, 1)
    if pixels is not None:
        shared |= {"multiplier": pixels.multiplier, "offset": pixels.offset}
        weights = array_of(ordered).astype(np.int32) if isinstance(product, GridConv2d) else bits_of(name, ordered)
        return PixelConv2d(weights=weights, **shared)
    return BinaryConv2dData(weights=bits_of(name, ordered), **shared)
