"""First layers of an imported graph: pixels, what was done to them, and weights on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import PackedBits
from refdesign.errors import RefdesignError
from refdesign.formats.onnx_context import Context
from refdesign.formats.onnx_flow import Draft, Flow, Step
from refdesign.formats.onnx_layers import product_weights, two_valued
from refdesign.network import Layer, PixelConv2d, RealConv2d
from refdesign.normalisation import normalise_pixels
from refdesign.parameters import BatchNorm

_EXACT = 2**24


def channels_last(flow: Flow) -> Flow:
    """Pixels in the order (H, W, C), whichever the graph's input has: as they arrive, channels are the second axis."""
    first, second, third = flow.shape
    channels = flow.places.shape[1]
    raw = np.arange(first * second * third).reshape(flow.shape)
    for shape, order in (((second, third, first), (1, 2, 0)), ((first, second, third), (0, 1, 2))):
        ordered = np.transpose(raw, order)
        lookup = np.empty(raw.size, np.int64)
        lookup[ordered.ravel()] = np.arange(raw.size)
        numbers = np.where(flow.places >= 0, lookup[np.maximum(flow.places, 0)], flow.places)
        one = numbers[0, :, numbers.shape[2] // 2, numbers.shape[3] // 2]
        if shape[2] == channels and np.array_equal(one - one[0], np.arange(channels)):
            steps = tuple((kind, np.transpose(values, order)) for kind, values in flow.steps)
            return replace(flow, shape=shape, places=numbers, steps=steps)
    raise RefdesignError(f"found pixels {flow.shape} that arrive as {flow.places.shape[1:]}, expected whole channels")


def whole_image(flow: Flow) -> tuple[Flow, tuple[int, int, int]]:
    """All pixels as a map (1, C, H, W), and the graph's axes in the order (H, W, C).

    Nothing behind a dense product says which axis the channels are: it is the shorter of the first and the last, the
    first where both are alike.
    """
    order = (1, 2, 0) if flow.shape[0] <= flow.shape[2] else (0, 1, 2)
    steps = tuple((kind, np.transpose(values, order)) for kind, values in flow.steps)
    shape = tuple(flow.shape[axis] for axis in order)
    return Flow.of("pixels", shape, steps=steps).channels_first(), order


def as_sums(context: Context, flow: Flow) -> Flow:
    """Pixels as the sums of a layer whose weights are 1, so that a sign of them is a layer's as any other.

    Raises:
        RefdesignError: a part of the pixels, or a map of them in an order of its own.
    """
    if not flow.whole:
        raise RefdesignError("found the sign of a part of the pixels, or of padded ones, expected that of all")
    image, order = whole_image(flow) if flow.places.ndim != 4 else (channels_last(flow), None)
    numbers = image.places
    if order is not None:
        lookup = np.empty(flow.places.size, np.int64)
        lookup[np.arange(flow.places.size).reshape(flow.shape).transpose(order).ravel()] = np.arange(flow.places.size)
        numbers = lookup[flow.places]
    if context.pixels is None:
        height, width, channels = image.shape
        fields = {
            "stride": (1, 1), "padding": (0, 0), "padding_mode": "zeros", "dilation": (1, 1), "groups": channels,
            "multiplier": 1, "offset": 0, "weights": product_weights(np.ones((channels, 1, 1, 1), np.bool_)),
        }  # fmt: skip
        name = context.name("", "sign")
        context.pixels = Draft(name, PixelConv2d, fields, (height, width, channels), 255.0)
        context.drafts.append(context.pixels)
        context.input_shape = (height, width, channels)
        context.assumed.append(f"{name}: the sign of pixels is a layer of its own, whose weights are 1")
    steps = tuple((kind, values[0, 0] if np.all(values == values[0, 0]) else values) for kind, values in image.steps)
    return Flow("sums", image.shape, numbers, draft=context.pixels, steps=steps)


Made = tuple[type[Layer], dict[str, Any], NDArray[np.float32] | None, float, tuple[Step, ...]]
"""A layer's class, its fields, a scale of its weights, its largest sum, and what stands between sums and scale."""


def pixel_layer(
    context: Context, flow: Flow, weights: NDArray[np.float32], geometry: dict[str, Any], name: str
) -> Made:
    """The first layer: exact on integers where pixels and weights are some, or their map commutes; real otherwise."""
    multiplier, offset, kinds = affine_of(flow.steps, flow.shape[2])
    if np.all(weights == np.rint(weights)) and np.abs(weights).max() < 2**31 and not np.all(np.abs(weights) == 1):
        grid: Any = np.ascontiguousarray(weights.astype(np.int32))
        scale, heaviest = None, float(np.abs(weights).max())
    else:
        try:
            signs, scale = two_valued(weights, f"layer {name!r}")
        except RefdesignError:
            return real_layer(flow.steps, weights, name)
        grid, heaviest = product_weights(signs), 1.0
    whole = all(
        all(number is v[0] or number == v[0] for number in v) and v[0].denominator == 1 and abs(v[0]) < _EXACT
        for v in (multiplier, offset)
    )
    if whole:
        integers = {"multiplier": int(multiplier[0]), "offset": int(offset[0])}
        value = max(abs(integers["offset"]), abs(255 * integers["multiplier"] + integers["offset"]), 1)
        return PixelConv2d, {**integers, "weights": grid}, scale, value * heaviest, ()
    try:
        return _commuted(context, multiplier, offset, grid, geometry, name, scale, kinds)
    except RefdesignError as error:
        try:
            return real_layer(flow.steps, weights, name)
        except RefdesignError as reason:
            raise RefdesignError(f"{error}; and {reason}") from error


def affine_of(steps: Sequence[Step], channels: int) -> tuple[list[Fraction], list[Fraction], list[str]]:
    """What steps on pixels come to, exactly on their float32 constants: multipliers, offsets, and the steps' names.

    Raises:
        RefdesignError: other steps than multiplications and additions, or constants that vary over the map.
    """
    rows = np.zeros((0, channels))
    for kind, values in steps:
        if kind not in ("mul", "div", "add", "sub"):
            raise RefdesignError(f"found {kind} of pixels, expected multiplications and additions")
        if np.any(values != values[0, 0]):
            raise RefdesignError("found pixels scaled or shifted differently over the map, expected per channel")
        if not np.isfinite(values).all() or (kind == "div" and not values.all()):
            raise RefdesignError("found pixels scaled or shifted by something that is no finite number")
        rows = np.vstack([rows, values[0, 0].astype(np.float64)])
    kinds = [kind for kind, _ in steps]
    distinct, places = np.zeros((1, 0)), np.zeros(channels, np.intp)
    if kinds:
        distinct, places = np.unique(rows.T, axis=0, return_inverse=True)
    made = [_composed(kinds, [Fraction(float(number)) for number in numbers]) for numbers in distinct]
    pairs = [made[int(place)] for place in np.ravel(places)]
    return [multiplier for multiplier, _ in pairs], [offset for _, offset in pairs], kinds


def _composed(kinds: list[str], numbers: list[Fraction]) -> tuple[Fraction, Fraction]:
    multiplier, offset = Fraction(1), Fraction(0)
    for kind, number in zip(kinds, numbers, strict=True):
        if kind in ("mul", "div"):
            factor = number if kind == "mul" else 1 / number
            multiplier, offset = multiplier * factor, offset * factor
        else:
            offset += number if kind == "add" else -number
    return multiplier, offset


def _commuted(
    context: Context, multiplier: list[Fraction], offset: list[Fraction], weights: Any, geometry: dict[str, Any],
    name: str, scale: NDArray[np.float32] | None, kinds: list[str],
) -> Made:  # fmt: skip
    """Normalised pixels under weights of integers: sums of the pixels themselves, with an exact map behind them."""
    if any(number is not multiplier[0] and number != multiplier[0] for number in multiplier) or multiplier[0] <= 0:
        raise RefdesignError(
            f"layer {name!r}: found pixels scaled by {', '.join(f'{float(m):.6g}' for m in multiplier)} under weights "
            "of ±s, expected one positive scale for all channels, which commutes with their sums"
        )
    out = weights.shape[0]
    ones, zeros = np.ones(out, np.float32), np.zeros(out, np.float32)
    plain = PixelConv2d(
        name=name, weights=weights, multiplier=1, offset=0, batch_norm=BatchNorm(ones, zeros, zeros, ones, 0.0),
        **geometry,
    )  # fmt: skip
    deviation = 1 / (255 * multiplier[0])
    moved = normalise_pixels(plain, [-o * deviation for o in offset], deviation)
    norm = moved.batch_norm
    if norm is None or norm.affine is None:
        raise RefdesignError(f"layer {name!r}: found no map of its pixels")
    context.assumed.append(
        f"{name}: the normalisation of pixels ({', '.join(kinds)}) stands behind the integer sums as an exact map, "
        "where the file's runtime adds rounded products"
    )
    largest = 255.0 * (1.0 if isinstance(weights, PackedBits) else float(np.abs(weights).max()))
    fields = {"multiplier": 1, "offset": 0, "weights": weights}
    return PixelConv2d, fields, scale, largest, (("affine", norm.affine),)


def real_layer(steps: Sequence[Step], weights: NDArray[np.float32], name: str) -> Made:
    """Real weights on pixels x = fl(fl(p*scale) + shift).

    Raises:
        RefdesignError: pixels whose 256 values no such scale and shift give.
    """
    channels = weights.shape[3]
    names = [kind for kind, _ in steps]
    values = np.repeat(np.arange(256, dtype=np.float32)[:, np.newaxis], steps[0][1].shape[2] if steps else channels, 1)
    operations = {"mul": np.multiply, "add": np.add, "sub": np.subtract, "div": np.divide}
    for kind, constant in steps:
        values = operations[kind](values, np.asarray(constant[0, 0], np.float32))
    inputs = values.shape[1]
    multiplier, offset, _ = affine_of(steps, inputs)
    scale = np.array([float(m) for m in multiplier], np.float32)
    shift = np.array([float(o) for o in offset], np.float32)
    found = np.arange(256, dtype=np.float32)[:, np.newaxis] * scale + shift
    if not np.array_equal(found, values):
        raise RefdesignError(
            f"layer {name!r}: found pixels after {', '.join(names)}, each rounded; one multiplication and one addition "
            f"give {int((found == values).sum())} of their {values.size} values, expected all: write the normalisation "
            "of a real first layer as p*scale + shift"
        )
    fields = {"weights": np.ascontiguousarray(weights), "scale": scale, "shift": shift}
    return RealConv2d, fields, None, 0.0, ()
