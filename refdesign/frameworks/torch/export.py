"""From a trained module to a golden network: parameters are copied, nothing is folded or rounded."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from refdesign.api import Network
from refdesign.bits import PackedBits, pack
from refdesign.conventions import PAPER, Conventions
from refdesign.errors import RefdesignError
from refdesign.frameworks.torch.flow import Parts, split
from refdesign.frameworks.torch.layers import BinaryConv2d, PixelInput
from refdesign.network import BinaryConv2d as BinaryConv2dData
from refdesign.network import BinaryDense, Layer, MaxPool, NetworkData, Pair, PixelConv2d
from refdesign.parameters import BatchNorm, ThresholdKernel


def to_network(
    module: nn.Module,
    *,
    name: str,
    input_shape: tuple[int, int, int],
    arithmetic: str = "torch",
    metadata: Mapping[str, str] | None = None,
) -> Network:
    """The golden network of a sequential binary model.

    Under `arithmetic="torch"` its bits and logits are those of the module in eval mode, eager, on a CPU with fused
    multiply-add (SPEC section 3). Weights are the signs of the latent weights; a dense layer's inputs are
    re-ordered from PyTorch's (channel, row, column) to (row, column, channel).

    Args:
        module: what `flow.split` accepts: PixelInput, then layers in an `nn.Sequential`. Layers are named after
            their products' places in it ("conv1", or "3").
        name: the network's name.
        input_shape: (H, W, C) of the uint8 images.
        arithmetic: the arithmetic that the network is meant under; `"torch"` is the module's own.
        metadata: free text by key.

    Raises:
        RefdesignError: a module, order, dtype or parameter that the reference has no counterpart for, layers with
            different conventions, or shapes that do not fit, naming the module.

    >>> from refdesign.frameworks.torch import BinaryLinear, Sign
    >>> model = nn.Sequential(PixelInput(), BinaryConv2d(1, 2, 3), nn.BatchNorm2d(2), Sign(),
    ...                       nn.Flatten(), BinaryLinear(12, 4))
    >>> to_network(model, name="tiny", input_shape=(4, 5, 1)).output_names
    ('1.accumulator', '1.bits', '5.accumulator', 'logits')
    """
    pixels, parts = split(module)
    for part in parts[:-1]:
        if part.activation is None:
            raise RefdesignError(
                f"to_network, layer {part.name!r}: found no DeSign or Sign, expected one (not the last)"
            )
    if parts[-1].activation is not None:
        raise RefdesignError(f"to_network, layer {parts[-1].name!r}: found a sign in the last layer, expected none")
    conventions = _conventions(parts).replace(arithmetic=arithmetic)
    layers: list[Layer] = []
    shape: tuple[int, ...] = input_shape
    for index, part in enumerate(parts):
        layers.append(_layer(part, pixels if index == 0 else None, shape))
        shape = NetworkData(name=name, input_shape=input_shape, layers=tuple(layers)).shapes[part.name].output
    return Network(
        name=name, input_shape=input_shape, layers=tuple(layers), conventions=conventions, metadata=dict(metadata or {})
    )


def _conventions(parts: list[Parts]) -> Conventions:
    """The conventions that all activations share; a plain sign has no thresholds, so its scale for them is free."""
    scales = [part.activation.conventions.threshold_scale for part in parts if part.activation and kernel_of(part)]
    shared: Conventions | None = None
    for part in parts:
        if part.activation is None:
            continue
        own = part.activation.conventions
        if kernel_of(part) is None:
            own = own.replace(threshold_scale=scales[0] if scales else "unit")
        if shared is not None and own != shared:
            raise RefdesignError(f"to_network, layer {part.name!r}, conventions: found {own}, expected {shared}")
        shared = own
    return shared or PAPER


def kernel_of(part: Parts) -> ThresholdKernel | None:
    """The layer's threshold kernel; None where it is the plain sign."""
    if part.activation is None or not part.activation.kernel.values.any():
        return None
    return part.activation.kernel


def _layer(part: Parts, pixels: PixelInput | None, shape: tuple[int, ...]) -> Layer:
    batch_norm = None if part.batch_norm is None else _batch_norm(part.name, part.batch_norm)
    product = part.product
    kernel = kernel_of(part)
    if isinstance(product, BinaryConv2d):
        # Spelled out twice, so that types are checked field by field.
        weights = _bits(product.weight.permute(0, 2, 3, 1))
        pool = None if part.pool is None else _pool(part.name, part.pool)
        if pixels is not None:
            return PixelConv2d(
                name=part.name, weights=weights, multiplier=pixels.multiplier, offset=pixels.offset,
                stride=product.stride, padding=product.padding, padding_mode=product.padding_mode,
                dilation=product.dilation, groups=product.groups, pool=pool, batch_norm=batch_norm, kernel=kernel,
            )  # fmt: skip
        return BinaryConv2dData(
            name=part.name, weights=weights, stride=product.stride, padding=product.padding,
            padding_mode=product.padding_mode, dilation=product.dilation, groups=product.groups,
            pool=pool, batch_norm=batch_norm, kernel=kernel,
        )  # fmt: skip
    if pixels is not None:
        raise RefdesignError(f"to_network, layer {part.name!r}: found BinaryLinear first, expected BinaryConv2d")
    if part.pool is not None:
        raise RefdesignError(f"to_network, layer {part.name!r}: found MaxPool2d after BinaryLinear, expected none")
    return BinaryDense(name=part.name, weights=_bits(_flattened(part, shape)), batch_norm=batch_norm, kernel=kernel)


def _flattened(part: Parts, shape: tuple[int, ...]) -> Tensor:
    """A dense layer's weights with inputs ordered (row, column, channel)."""
    weight = part.product.weight
    if len(shape) == 1:
        return weight
    height, width, channels = shape
    if not part.flattened or weight.shape[1] != height * width * channels:
        raise RefdesignError(
            f"to_network, layer {part.name!r}: found weights {tuple(weight.shape)} on a map {shape}, "
            f"expected Flatten and {height * width * channels} inputs"
        )
    return weight.reshape(-1, channels, height, width).permute(0, 2, 3, 1).reshape(weight.shape)


def _bits(weight: Tensor) -> PackedBits:
    return pack(_numpy(weight) >= 0)


def _numpy(tensor: Tensor) -> NDArray[np.float32]:
    if tensor.dtype != torch.float32:
        raise RefdesignError(f"to_network: found parameters of {tensor.dtype}, expected torch.float32")
    array: NDArray[np.float32] = tensor.detach().cpu().contiguous().numpy()
    return array


def _batch_norm(layer: str, module: nn.BatchNorm1d | nn.BatchNorm2d) -> BatchNorm:
    if module.running_mean is None or module.running_var is None:
        raise RefdesignError(f"to_network, layer {layer!r}: found a batch norm without running statistics")
    mean, variance = _numpy(module.running_mean), _numpy(module.running_var)
    gamma = _numpy(module.weight) if module.affine else np.ones_like(mean)
    beta = _numpy(module.bias) if module.affine else np.zeros_like(mean)
    try:
        return BatchNorm(gamma.copy(), beta.copy(), mean.copy(), variance.copy(), module.eps)
    except RefdesignError as error:
        raise RefdesignError(f"to_network, layer {layer!r}: {error}") from error


def _pool(layer: str, module: nn.MaxPool2d) -> MaxPool:
    def pair(value: int | tuple[int, ...]) -> Pair:
        return (value, value) if isinstance(value, int) else (value[0], value[1])

    if pair(module.padding) != (0, 0) or pair(module.dilation) != (1, 1) or module.ceil_mode:
        raise RefdesignError(f"to_network, layer {layer!r}: expected a max pool without padding, found {module}")
    return MaxPool(size=pair(module.kernel_size), stride=pair(module.stride))
