"""Whether a layer's own fields are usable, each by itself, before anything is computed from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np

from refdesign.bits import PackedBits
from refdesign.checks import shown
from refdesign.domain import accumulator_domain
from refdesign.errors import RefdesignError
from refdesign.layers import (
    PADDING_MODES,
    BinaryConv2d,
    BinaryDense,
    CombinedConv2d,
    Convolution,
    Layer,
    MaxPool,
    PixelConv2d,
    RealConv2d,
    RealDense,
    Shortcut,
)
from refdesign.parameters import BatchNorm, ThresholdKernel

Expected = tuple[Callable[[Any], bool], str]
"""Whether a field's value is of the right kind, and how an error names that kind."""


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)  # not NumPy's: files hold these fields as JSON


def _whole(least: int) -> Expected:
    return lambda value: _is_int(value) and value >= least, f"an integer, at least {least}"


def _pair(least: int) -> Expected:
    def fits(value: Any) -> bool:
        return isinstance(value, tuple) and len(value) == 2 and all(_is_int(v) and v >= least for v in value)

    return fits, f"two integers, at least {least}"


def _optional(kind: type) -> Expected:
    return lambda value: value is None or isinstance(value, kind), f"a {kind.__name__} or None"


_FIELDS: dict[str, Expected] = {
    "stride": _pair(1),
    "padding": _pair(0),
    "dilation": _pair(1),
    "padding_mode": (lambda value: value in PADDING_MODES, f"one of {', '.join(PADDING_MODES)}"),
    "groups": _whole(1),
    "multiplier": (_is_int, "an integer"),
    "offset": (_is_int, "an integer"),
    "pool": _optional(MaxPool),
    "batch_norm": _optional(BatchNorm),
    "input_batch_norm": _optional(BatchNorm),
    "kernel": _optional(ThresholdKernel),
    "shortcut": _optional(Shortcut),
    "hardtanh": (lambda value: isinstance(value, bool), "True or False"),
    "size": _pair(1),
}
"""What fields must be, by name; those that hold arrays are checked kind by kind."""

_PARTS: dict[str, dict[str, Expected]] = {
    "pool": {"size": _pair(1), "stride": _pair(1)},
    "shortcut": {
        "source": (lambda value: isinstance(value, str), "a layer's name"),
        "average_pool": _whole(1),
        "channel_padding": _pair(0),
    },
}
"""The same for the fields of a layer's pool and shortcut."""


def check_fields(layer: Layer) -> None:
    """Refuse a layer with a field of another type, shape or range than its class says.

    Raises:
        RefdesignError: naming the layer and the field, with what was found and what is expected.

    >>> check_fields(BinaryDense(name="d", weights=PackedBits(np.zeros((1, 1), np.uint64), 3), kernel=[[1.0]]))
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: layer 'd', kernel: found [[1.0]], expected a ThresholdKernel or None
    """
    where = f"layer {layer.name!r}"
    _check(where, layer, _FIELDS)
    for name, table in _PARTS.items():
        part = getattr(layer, name, None)
        if part is not None:
            _check(f"{where}, {name}", part, table)
    if isinstance(layer, (BinaryConv2d, BinaryDense)):
        _check_bits(where, layer.weights)
    elif isinstance(layer, PixelConv2d):
        _check_pixel_weights(layer)
    elif isinstance(layer, CombinedConv2d):
        _check_bases(layer)
    elif isinstance(layer, RealConv2d):
        _check_float32(where, "weights", layer.weights)
        channels = layer.weight_shape[3] * layer.groups
        for name, array in (("scale", layer.scale), ("shift", layer.shift)):
            _check_float32(where, name, array, (channels,))
    elif isinstance(layer, RealDense):
        _check_float32(where, "weights", layer.weights)
        if layer.bias is not None:
            _check_float32(where, "bias", layer.bias, layer.weights.shape[:1])
    shape: tuple[int, ...] = (1,)
    if isinstance(layer, Convolution):
        shape = layer.weight_shape
    elif isinstance(layer, (BinaryDense, RealDense)):
        shape = layer.weights.shape
    if 0 in shape:
        raise RefdesignError(f"{where}, weights: found shape {shape}, expected extents of at least 1")


def _check(where: str, holder: Layer | MaxPool | Shortcut, table: dict[str, Expected]) -> None:
    for item in fields(holder):
        if item.name in table:
            found = getattr(holder, item.name)
            fits, expected = table[item.name]
            if not fits(found):
                raise RefdesignError(f"{where}, {item.name}: found {shown(found)}, expected {expected}")


def _check_bits(where: str, weights: object) -> None:
    if not isinstance(weights, PackedBits):
        raise RefdesignError(f"{where}, weights: found a {type(weights).__name__}, expected packed bits")
    if weights.nonzero is not None:
        raise RefdesignError(f"{where}, weights: found elements that may be 0, expected ±1")


def _check_pixel_weights(layer: PixelConv2d) -> None:
    where, weights = f"layer {layer.name!r}", layer.weights
    value = max(abs(layer.offset), abs(255 * layer.multiplier + layer.offset), 1)
    largest = 1.0
    if isinstance(weights, np.ndarray):
        if weights.dtype != np.int32:
            raise RefdesignError(f"{where}, weights: found {weights.dtype}, expected int32 or packed bits")
        largest = float(np.abs(weights.astype(np.float64)).max(initial=0))
    else:
        _check_bits(where, weights)
    # In float64 first: int64, which the exact bounds are taken in, could overflow itself.
    if value * largest * layer.fan_in >= 2**62:
        raise RefdesignError(f"{where}, weights: sums could reach 2**62, expected less than 2**31 (int32)")
    low, high, _ = accumulator_domain(layer)
    widest = int(max(high.max(initial=0), -low.min(initial=0)))
    if widest >= 2**31:
        raise RefdesignError(f"{where}, weights: sums reach {widest}, expected less than 2**31 (int32)")


def _check_bases(layer: CombinedConv2d) -> None:
    where = f"layer {layer.name!r}"
    if not isinstance(layer.weights, tuple) or not layer.weights:
        raise RefdesignError(f"{where}, weights: found {shown(layer.weights)}, expected a tuple of packed bits")
    for basis in layer.weights:
        _check_bits(where, basis)
        if basis.shape != layer.weight_shape:
            raise RefdesignError(f"{where}, weights: found bases of shapes {layer.weight_shape} and {basis.shape}")
    _check_float32(where, "scales", layer.scales, (len(layer.weights), layer.out_channels))


def _check_float32(where: str, field: str, array: object, shape: tuple[int, ...] | None = None) -> None:
    """Refuse anything but finite float32, of this shape where one is given."""
    if (
        not isinstance(array, np.ndarray)
        or array.dtype != np.float32
        or (shape is not None and array.shape != shape)
        or not np.isfinite(array).all()
    ):
        found = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        expected = "" if shape is None else f" of shape {shape}"
        raise RefdesignError(f"{where}, {field}: found {found}, expected finite float32{expected}")
