"""Which accumulators can occur at all: what a layer's inputs and weights attain, and what a fold looks at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import PackedBits
from refdesign.checks import as_array, is_whole, shown
from refdesign.errors import RefdesignError
from refdesign.layers import BinaryConv2d, BinaryDense, PixelConv2d, Stage

Int64Array = NDArray[np.int64]
Domain = tuple[Int64Array, Int64Array, int]
"""Attainable accumulators: lowest and highest (int64, per channel) and the step between neighbours."""
DomainLike = tuple[int | Int64Array, int | Int64Array, int]
"""The same as a caller names it; an integer stands for all channels."""


def accumulator_domain(layer: Stage, *, ternary_input: bool = False) -> Domain:
    """The attainable accumulators of a layer: per channel lowest and highest (int64, (O,)), and the step.

    Args:
        layer: a layer with integer accumulators.
        ternary_input: whether its inputs can be 0 (exact ties under `sign_at_zero=0`).

    Raises:
        RefdesignError: the layer's sums are not integers.

    >>> layer = BinaryDense(name="d", weights=PackedBits(np.zeros((1, 1), np.uint64), 3))
    >>> accumulator_domain(layer)
    (array([-3]), array([3]), 2)
    """
    if isinstance(layer, PixelConv2d):
        return _pixel_domain(layer)
    if not isinstance(layer, (BinaryConv2d, BinaryDense)):
        raise RefdesignError(f"layer {layer.name!r}: has no integer accumulator")
    bound = np.full(layer.out_channels, layer.fan_in, dtype=np.int64)
    sparse = ternary_input or (isinstance(layer, BinaryConv2d) and layer.pads_with_zeros)
    return -bound, bound, 1 if sparse else 2


def _pixel_domain(layer: PixelConv2d) -> Domain:
    values = (layer.offset, layer.multiplier * 255 + layer.offset)
    low, high = min(values), max(values)
    fill = {"zeros": 0, "ones": 1, "minus_ones": -1}.get(layer.padding_mode) if layer.padding != (0, 0) else None
    if fill is not None:
        low, high = min(low, fill), max(high, fill)
    if isinstance(layer.weights, PackedBits):
        ones = np.bitwise_count(layer.weights.words).sum(axis=(1, 2, 3), dtype=np.int64)
        positive, negative = ones, layer.fan_in - ones
        step = abs(layer.multiplier) if fill is None else 1
    else:
        weights = layer.weights.astype(np.int64).reshape(layer.out_channels, -1)
        positive = np.where(weights > 0, weights, 0).sum(axis=1)
        negative = np.where(weights < 0, -weights, 0).sum(axis=1)
        step = 1
    lowest = positive * low - negative * high
    highest = positive * high - negative * low
    return lowest, highest, max(step, 1)


@dataclass(frozen=True, eq=False)
class AttainableDomain:
    """The attainable accumulators of each channel: low, low + step, ..., high.

    Attributes:
        low, high: int64, shape (C,).
        step: the distance between neighbours, at least 1.

    >>> AttainableDomain.of((-3, 3, 2), fan_in=3, channels=2).counts
    array([4, 4])
    """

    low: Int64Array
    high: Int64Array
    step: int

    @classmethod
    def of(cls, domain: DomainLike | None, *, fan_in: int, channels: int) -> AttainableDomain:
        """The domain that a caller names; None is every integer in [-fan_in, fan_in].

        Raises:
            RefdesignError: not integers, another number of channels, an empty or uneven range, or beyond int32.
        """
        if not is_whole(fan_in, 1):
            raise RefdesignError(f"fold, fan_in: found {shown(fan_in)}, expected a positive integer")
        if domain is not None and not (isinstance(domain, (tuple, list)) and len(domain) == 3):
            raise RefdesignError(f"fold, domain: found {shown(domain)}, expected (low, high, step)")
        low, high, step = (-int(fan_in), int(fan_in), 1) if domain is None else domain
        if not is_whole(step, 1):
            raise RefdesignError(f"fold, domain: found the step {step!r}, expected a positive integer")
        ends = []
        for name, value in (("low", low), ("high", high)):
            end = as_array(f"fold, domain, {name}", value)
            if end.dtype.kind not in "iu" or end.shape not in ((), (channels,)):
                raise RefdesignError(
                    f"fold, domain: found {name} as {end.dtype} of shape {end.shape}, "
                    f"expected an integer or one for each of {channels} channels"
                )
            if end.min() < -(2**31) or end.max() >= 2**31:
                raise RefdesignError(
                    f"fold, domain: found {name} = {end.min() if end.min() < 0 else end.max()}, "
                    "expected accumulators that int32 holds"
                )
            ends.append(np.broadcast_to(end.astype(np.int64), (channels,)))
        span = ends[1] - ends[0]
        wrong = np.flatnonzero((span < 0) | (span % step != 0))
        if wrong.size:
            channel = int(wrong[0])
            raise RefdesignError(
                f"fold, domain: found {ends[0][channel]} to {ends[1][channel]} in steps of {step} in channel "
                f"{channel}, expected low <= high, a whole number of steps apart"
            )
        return cls(ends[0], ends[1], int(step))

    @property
    def counts(self) -> Int64Array:
        """How many accumulators each channel can attain, int64, shape (C,)."""
        return (self.high - self.low) // self.step + 1

    def at(self, index: Int64Array) -> NDArray[np.int32]:
        """The accumulators at these places (0 is low), int32; `index` has the channels last."""
        return (self.low + self.step * index).astype(np.int32)

    def text(self) -> str:
        """The domain over all channels, in short.

        >>> AttainableDomain.of((-3, 3, 2), fan_in=3, channels=2).text()
        '-3..3 by 2'
        """
        return f"{self.low.min()}..{self.high.max()} by {self.step}"

    def to_dict(self) -> dict[str, object]:
        """The domain as plain data for JSON.

        >>> AttainableDomain.of(None, fan_in=3, channels=2).to_dict()
        {'low': [-3, -3], 'high': [3, 3], 'step': 1}
        """
        return {"low": self.low.tolist(), "high": self.high.tolist(), "step": self.step}
