"""Networks with a real stream, from data to `BinaryNetwork` and back: parameters are copied, nothing is rounded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from refdesign.api import Network
from refdesign.bits import PackedBits, unpack
from refdesign.conventions import Conventions
from refdesign.errors import RefdesignError
from refdesign.frameworks.exporting import shared_conventions
from refdesign.frameworks.torch.binarisers import Binariser, LearnedScale
from refdesign.frameworks.torch.design import DeSign
from refdesign.frameworks.torch.flow import refuse_changed_modules
from refdesign.frameworks.torch.layers import BinaryConv2d, BinaryLinear, PixelInput
from refdesign.frameworks.torch.parameters import (
    NORMS,
    array_of,
    batch_norm_module,
    batch_norm_of,
    bits_of,
    computed_arithmetic,
    pool_of,
    tensor_of,
)
from refdesign.frameworks.torch.real import (
    ABCConv2d,
    AveragePool2d,
    CombinedConv2d,
    GridConv2d,
    RealLinear,
)
from refdesign.frameworks.torch.residual import BinaryNetwork, Stage
from refdesign.network import AveragePool, BinaryDense, Layer, NetworkData, PixelConv2d, RealDense
from refdesign.network import BinaryConv2d as BinaryConv2dData
from refdesign.network import CombinedConv2d as CombinedConv2dData
from refdesign.network import Stage as StageData
from refdesign.parameters import NO_DITHER

MakeBinariser = Callable[[int], Binariser]

_KINDS = (
    BinaryNetwork, Stage, PixelInput, BinaryConv2d, BinaryLinear, GridConv2d, CombinedConv2d, ABCConv2d, nn.MaxPool2d,
    DeSign, AveragePool2d, RealLinear, *NORMS["torch"], *NORMS["released_torch"],
)  # fmt: skip


def network_module(
    network: NetworkData, *, estimator: str = "clipped", binariser: MakeBinariser | None = None
) -> BinaryNetwork:
    """The module of any network whose arithmetic PyTorch's modules compute; the inverse of `module_network`.

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


def _stage(layer: Layer, conventions: Conventions, estimator: str, binariser: MakeBinariser | None) -> Stage:
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
        geometry: dict[str, Any] = {
            "stride": layer.stride, "padding": layer.padding, "padding_mode": layer.padding_mode,
            "dilation": layer.dilation, "groups": layer.groups,
        }  # fmt: skip
        size = (depth * layer.groups, out, (rows, columns))
        if isinstance(layer, CombinedConv2dData):
            if alpha is not None:
                raise RefdesignError(f"from_network, layer {layer.name!r}, batch_norm: found alpha on several bases")
            combined = CombinedConv2d(*size, bases=len(layer.weights), estimator=estimator, **geometry)
            with torch.no_grad():
                combined.scales.copy_(tensor_of(layer.scales))
            product = combined
            weights = np.stack([unpack(basis) for basis in layer.weights])
        elif isinstance(layer.weights, PackedBits):
            product = BinaryConv2d(*size, estimator=estimator, binariser=binariser, **geometry)
            weights = unpack(layer.weights)
        else:
            limit = max(int(np.abs(layer.weights.astype(np.int64)).max()), 127)
            weights = layer.weights / limit
            product = GridConv2d(*size, step=None if alpha is None else 1.0, limit=limit, **geometry)
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
    _check_signs(module)
    layers: list[Layer] = []
    for place, part in module.layers.items():
        if isinstance(part, AveragePool2d):
            layers.append(AveragePool(name=place, size=part.size))
        elif isinstance(part, RealLinear):
            norm = None if part.batch_norm is None else batch_norm_of(place, part.batch_norm, None)
            bias = None if part.bias is None else array_of(part.bias)
            layers.append(RealDense(name=place, weights=array_of(part.weight), bias=bias, input_batch_norm=norm))
        elif isinstance(part, Stage):
            layers.append(_stage_data(place, part, module.pixels if not layers else None))
    return Network(
        name=name, input_shape=input_shape, layers=tuple(layers), conventions=conventions, metadata=dict(metadata or {})
    )


def _check_signs(module: BinaryNetwork) -> None:
    """Refuse signs that follow other conventions than the module's; the last layer's is not used."""
    signs = [(place, part.activation) for place, part in list(module.layers.items())[:-1] if isinstance(part, Stage)]
    given = [(place, sign.conventions, bool(sign.kernel.values.any())) for place, sign in signs]
    shared_conventions([("BinaryNetwork", module.conventions, any(dithered for *_, dithered in given)), *given])


def _stage_data(name: str, part: Stage, pixels: PixelInput | None) -> StageData:
    product = part.product
    combined = isinstance(product, CombinedConv2d)
    bits, scale = (None, None) if combined else product.binarised()
    if scale is not None and part.batch_norm is None:
        raise RefdesignError(f"to_network, layer {name!r}: found a scale of the weights without a batch norm")
    kernel = part.activation.kernel
    shared: dict[str, Any] = {
        "name": name,
        "pool": None if part.pool is None else pool_of(name, part.pool),
        "batch_norm": None if part.batch_norm is None else batch_norm_of(name, part.batch_norm, scale),
        "kernel": kernel if kernel.values.any() else None,
        "shortcut": part.shortcut,
        "hardtanh": part.hardtanh,
    }
    if isinstance(product, BinaryLinear):
        return BinaryDense(weights=bits_of(name, product.binary_weight()), **shared)
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
