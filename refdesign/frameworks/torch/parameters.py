"""Between tensors and the reference's parameters: copied, refused where they do not fit, never rounded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from refdesign.bits import PackedBits, pack
from refdesign.errors import RefdesignError
from refdesign.frameworks.torch.real import ReleasedBatchNorm1d, ReleasedBatchNorm2d
from refdesign.network import MaxPool, Pair
from refdesign.parameters import BatchNorm

NORMS = {
    "torch": (nn.BatchNorm1d, nn.BatchNorm2d),
    "released_torch": (ReleasedBatchNorm1d, ReleasedBatchNorm2d),
}
"""The float programs that batch norms compute in eval mode, eager, on a CPU with fused multiply-add."""


def computed_arithmetic(norms: Iterable[tuple[str, nn.Module | None]], named: str | None = None) -> str:
    """The arithmetic that a model's batch norms compute, all the same; `"torch"` where it has none.

    Args:
        norms: by the layer's name; None in a layer without one.
        named: the arithmetic that they must compute; None for that of the first.

    Raises:
        RefdesignError: a batch norm that computes another one, naming the layer.

    >>> computed_arithmetic([("conv1", None), ("conv2", ReleasedBatchNorm2d(3))])
    'released_torch'
    """
    for layer, norm in norms:
        if norm is None:
            continue
        computed = "released_torch" if isinstance(norm, NORMS["released_torch"]) else "torch"
        named = named or computed
        if computed != named:
            raise RefdesignError(
                f"to_network, layer {layer!r}: found {type(norm).__name__}, which computes {computed!r}, where the "
                f"arithmetic is {named!r}, expected one that computes that, or an arithmetic that the network is meant "
                "under"
            )
    return named or "torch"


def bits_of(layer: str, weight: Tensor) -> PackedBits:
    """A binariser's weights, packed along the last axis; refuses what is not ±1."""
    try:
        return pack(array_of(weight))
    except RefdesignError as error:
        raise RefdesignError(f"to_network, layer {layer!r}, the binariser's weights: {error}") from error


def array_of(tensor: Tensor) -> NDArray[np.float32]:
    """A float32 tensor as an array of its own; refuses another dtype."""
    if tensor.dtype != torch.float32:
        raise RefdesignError(f"to_network: found parameters of {tensor.dtype}, expected torch.float32")
    array: NDArray[np.float32] = tensor.detach().cpu().contiguous().numpy().copy()
    return array


def batch_norm_of(layer: str, module: nn.BatchNorm1d | nn.BatchNorm2d, scale: Tensor | None) -> BatchNorm:
    """A batch norm's parameters, with the scale of the accumulators before it."""
    if module.running_mean is None or module.running_var is None:
        raise RefdesignError(f"to_network, layer {layer!r}: found a batch norm without running statistics")
    mean, variance = array_of(module.running_mean), array_of(module.running_var)
    gamma = array_of(module.weight) if module.affine else np.ones_like(mean)
    beta = array_of(module.bias) if module.affine else np.zeros_like(mean)
    try:
        return BatchNorm(gamma, beta, mean, variance, module.eps, None if scale is None else array_of(scale))
    except RefdesignError as error:
        raise RefdesignError(f"to_network, layer {layer!r}: {error}") from error


def tensor_of(array: NDArray[np.float32]) -> Tensor:
    """A float32 array as a tensor of its own."""
    return torch.from_numpy(array.copy())


def batch_norm_module(layer: str, norm: BatchNorm, kind: type[nn.BatchNorm1d] | type[nn.BatchNorm2d]) -> Any:
    """A batch norm as a module of a kind, without its alpha; refuses what PyTorch's has not."""
    for field in ("k", "c", "affine"):
        if getattr(norm, field) is not None:
            raise RefdesignError(f"from_network, layer {layer!r}, batch_norm: found {field}, which PyTorch's has not")
    module = kind(norm.channels, eps=norm.epsilon)
    with torch.no_grad():
        module.weight.copy_(tensor_of(norm.gamma))
        module.bias.copy_(tensor_of(norm.beta))
        module.running_mean = tensor_of(norm.mean)
        module.running_var = tensor_of(norm.variance)
    return module


def pool_of(layer: str, module: nn.MaxPool2d) -> MaxPool:
    """A max pool; refuses padding, dilation and windows that reach beyond the map."""

    def pair(value: int | tuple[int, ...]) -> Pair:
        return (value, value) if isinstance(value, int) else (value[0], value[1])

    if pair(module.padding) != (0, 0) or pair(module.dilation) != (1, 1) or module.ceil_mode:
        raise RefdesignError(f"to_network, layer {layer!r}: expected a max pool without padding, found {module}")
    return MaxPool(size=pair(module.kernel_size), stride=pair(module.stride))
