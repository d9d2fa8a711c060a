"""Networks as the frameworks' sequential models have them, and the comparison of what comes back."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np

from refdesign.bits import PackedBits, pack
from refdesign.network import (
    BinaryConv2d,
    CombinedConv2d,
    Convolution,
    Layer,
    PixelConv2d,
    RealConv2d,
    Stage,
)
from refdesign.parameters import BatchNorm, ThresholdKernel


def plain(layer: Layer) -> Layer:
    """The nearest layer that the modules have: weights of ±1, a batch norm of four parameters."""
    assert isinstance(layer, Stage)
    batch_norm = layer.batch_norm and replace(layer.batch_norm, alpha=None, k=None, c=None, affine=None)
    layer = replace(layer, hardtanh=False, batch_norm=batch_norm)
    if isinstance(layer, (RealConv2d, CombinedConv2d)) or (
        isinstance(layer, PixelConv2d) and not isinstance(layer.weights, PackedBits)
    ):
        shared: dict[str, Any] = {item.name: getattr(layer, item.name) for item in fields(Convolution)}
        if isinstance(layer, CombinedConv2d):
            return BinaryConv2d(**shared, weights=layer.weights[0])
        return PixelConv2d(**shared, weights=pack(np.asarray(layer.weights) >= 0), multiplier=2, offset=-255)
    return layer


def same(a: object, b: object) -> bool:
    """Whether two fields are equal, arrays to the bit; a kernel of zeros may have come back as none."""
    if isinstance(a, ThresholdKernel) and b is None:
        return not a.values.any()
    if isinstance(a, (PackedBits, BatchNorm, ThresholdKernel)):
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return a == b
