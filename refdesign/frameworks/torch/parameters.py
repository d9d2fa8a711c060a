"""From tensors to the reference's parameters: copied, refused where they do not fit, never rounded."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from refdesign.bits import PackedBits, pack
from refdesign.errors import RefdesignError
from refdesign.network import MaxPool, Pair
from refdesign.parameters import BatchNorm


def bits_of(weight: Tensor) -> PackedBits:
    """Weights packed along the last axis; 0 counts as +1."""
    return pack(array_of(weight) >= 0)


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


def pool_of(layer: str, module: nn.MaxPool2d) -> MaxPool:
    """A max pool; refuses padding, dilation and windows that reach beyond the map."""

    def pair(value: int | tuple[int, ...]) -> Pair:
        return (value, value) if isinstance(value, int) else (value[0], value[1])

    if pair(module.padding) != (0, 0) or pair(module.dilation) != (1, 1) or module.ceil_mode:
        raise RefdesignError(f"to_network, layer {layer!r}: expected a max pool without padding, found {module}")
    return MaxPool(size=pair(module.kernel_size), stride=pair(module.stride))
