"""Networks from elsewhere: what stands in another place there, moved without changing a value.

The normalisation of pixels goes exactly behind the first layer's integer sums; a max pool behind a scale or a batch
norm goes before it, where the sums are still integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import lcm

import numpy as np

from refdesign.bits import PackedBits, pack, unpack
from refdesign.errors import RefdesignError
from refdesign.network import PixelConv2d
from refdesign.parameters import BatchNorm, RationalAffine


def normalise_pixels(
    layer: PixelConv2d, mean: Sequence[int | float | Fraction], deviation: int | float | Fraction
) -> PixelConv2d:
    """The layer as it computes on (p/255 - mean)/deviation, for networks from elsewhere.

    The accumulators stay integers: the sum of (p/255 - mean)/deviation times w is (a/255 - sum of mean*w)/deviation,
    an exact map, which goes into the layer's batch norm (`RationalAffine`). It commutes only where every window
    sees the same weights, so not where a constant is padded; and only `"real"` arithmetic takes it (a framework
    rounds the normalised pixels and their sums, in an order of its own).

    Args:
        layer: of multiplier 1 and offset 0, with a batch norm that has no such map yet.
        mean: one per input channel, exactly as given: ``Fraction("0.4914")`` is the decimal, ``0.4914`` the nearest
            float64.
        deviation: the same for all channels, positive, exactly as given.

    Returns:
        The layer with another batch norm.

    Raises:
        RefdesignError: a layer whose map does not commute, or numbers that are not of this kind.

    >>> from refdesign.parameters import BatchNorm
    >>> bits = PackedBits(np.ones((1, 1, 1, 1), np.uint64), 1)
    >>> identity = BatchNorm([1.0], [0.0], [0.0], [1.0], 0.0)
    >>> layer = PixelConv2d(name="conv", weights=bits, batch_norm=identity)
    >>> normalise_pixels(layer, [Fraction(1, 2)], 2).batch_norm.affine
    RationalAffine(numerator=2, offsets=(-255,), denominator=1020)
    """
    where = f"layer {layer.name!r}"
    if layer.padding != (0, 0) and layer.padding_mode in ("zeros", "ones", "minus_ones"):
        raise RefdesignError(
            f"{where}, padding_mode: found {layer.padding_mode!r}, expected padding with the map's own pixels, or "
            "none: with constants the normalisation of pixels does not move into the batch norm"
        )
    if (layer.multiplier, layer.offset) != (1, 0):
        raise RefdesignError(
            f"{where}: found multiplier {layer.multiplier} and offset {layer.offset}, expected 1 and 0 under a "
            "normalisation of pixels"
        )
    if layer.batch_norm is None or layer.batch_norm.affine is not None:
        found = "none" if layer.batch_norm is None else "one with an affine map"
        raise RefdesignError(f"{where}, batch_norm: found {found}, expected one without an affine map")
    inputs = layer.weight_shape[3] * layer.groups
    if len(mean) != inputs:
        raise RefdesignError(f"{where}, mean: found {len(mean)} numbers, expected {inputs}, one per input channel")
    try:
        means, divisor = [Fraction(value) for value in mean], Fraction(deviation)
    except (TypeError, ValueError, OverflowError):
        raise RefdesignError(f"{where}: found mean {mean} and deviation {deviation}, expected finite numbers") from None
    if divisor <= 0:
        raise RefdesignError(f"{where}, deviation: found {deviation}, expected a positive number")
    weights = unpack(layer.weights) if isinstance(layer.weights, PackedBits) else layer.weights
    sums = weights.sum(axis=(1, 2), dtype=np.int64)  # (O, I/groups)
    shifts = []
    for channel, row in enumerate(sums.tolist()):
        first = channel // (layer.out_channels // layer.groups) * len(row)
        shifts.append(-sum((means[first + i] * total for i, total in enumerate(row)), Fraction(0)) / divisor)
    scale = 1 / (255 * divisor)
    denominator = lcm(scale.denominator, *(shift.denominator for shift in shifts))
    affine = RationalAffine(int(scale * denominator), tuple(int(shift * denominator) for shift in shifts), denominator)
    return replace(layer, batch_norm=replace(layer.batch_norm, affine=affine))


def positive_scale(weights: PackedBits, batch_norm: BatchNorm) -> tuple[PackedBits, BatchNorm]:
    """Where alpha is negative, negate it and the channel's weights: the same alpha*a, but now a max pool commutes.

    The released code scales before it pools, a network here pools before it scales; for alpha >= 0 these agree.

    Args:
        weights: shape (O, ...).
        batch_norm: of O channels, or of another number (which is refused later, by the network).

    >>> bn = BatchNorm([1.0], [0.0], [0.0], [1.0], 0.0, alpha=[-0.5])
    >>> bits, bn = positive_scale(pack([[1, -1, -1]]), bn)
    >>> bits.words, bn.alpha
    (array([[6]], dtype=uint64), array([0.5], dtype=float32))
    """
    alpha = batch_norm.alpha
    if alpha is None or alpha.size != weights.shape[0] or not (alpha < 0).any():
        return weights, batch_norm
    signs = np.where(alpha < 0, -1, 1).reshape(-1, *(1,) * (len(weights.shape) - 1))
    return pack(unpack(weights) * signs), replace(batch_norm, alpha=np.abs(alpha))


def positive_slope(weights: PackedBits, batch_norm: BatchNorm) -> tuple[PackedBits, BatchNorm]:
    """Where y falls as the sum grows, negate the weights, gamma and the mean: the same y, but a max pool commutes.

    y = gamma*(alpha*a - mean)/sqrt(variance + epsilon) + beta does not change, in no arithmetic, when a, gamma and mean
    change their signs; and where y does not fall, the largest y of a window is that of its largest sum.

    Args:
        weights: shape (O, ...).
        batch_norm: of O channels, without k and without an affine map.

    >>> bits, bn = positive_slope(pack([[1, -1, -1]]), BatchNorm([-1.0], [0.5], [2.0], [1.0], 0.0))
    >>> bits.words, bn.gamma, bn.mean
    (array([[6]], dtype=uint64), array([1.], dtype=float32), array([-2.], dtype=float32))
    """
    if batch_norm.k is not None or batch_norm.affine is not None:
        raise RefdesignError("batch norm: found k or an affine map, expected none before a max pool is moved")
    weights, batch_norm = positive_scale(weights, batch_norm)
    falls = batch_norm.gamma < 0
    if not falls.any():
        return weights, batch_norm
    sign = np.where(falls, np.float32(-1), np.float32(1))
    signs = sign.astype(np.int8).reshape(-1, *(1,) * (len(weights.shape) - 1))
    turned = replace(batch_norm, gamma=batch_norm.gamma * sign, mean=batch_norm.mean * sign)
    return pack(unpack(weights) * signs), turned
