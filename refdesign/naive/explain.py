"""One output bit, step by step: why it is what it is."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import PackedBits
from refdesign.conventions import Conventions
from refdesign.errors import RefdesignError
from refdesign.naive import float32
from refdesign.naive.explanation import Explanation, Fold, Step, Tap, Window
from refdesign.naive.geometry import FILLS, Place, pool_window, window
from refdesign.naive.sums import integer_weights
from refdesign.naive.thresholding import (
    KERAS_BOUNDARY,
    ChannelConstants,
    Thresholder,
    exact_terms,
    nearest,
    normalise,
    sign_of_float,
)
from refdesign.network import BinaryConv2d, BinaryDense, Layer, PixelConv2d, Stage, accumulator_domain

Explainable = BinaryConv2d | PixelConv2d | BinaryDense
"""Layers with integer accumulators."""

ENCLOSURE_BITS = 80
"""Binary places of the enclosure of an exact value."""


def explain(
    layer: Layer,
    conventions: Conventions,
    input_map: NDArray[Any],
    index: tuple[int, ...],
    *,
    shortcut: NDArray[np.float32] | None = None,
    ternary_input: bool | None = None,
) -> Explanation:
    """One output bit of a layer with integer accumulators, step by step.

    Args:
        layer: a `BinaryConv2d`, `PixelConv2d` or `BinaryDense`.
        conventions: the network's.
        input_map: the layer's input for one image: uint8 pixels (H, W, C), or int8 bits (H, W, C) as in the output
            `<layer before>.bits`; before a dense layer any shape.
        index: (row, column, channel) in the layer's output, after any pool; (channel,) for a dense layer.
        shortcut: for a layer with a residual addition: what is added, float32 (H', W', O), pooled and padded.
        ternary_input: whether inputs can be 0; None: where `sign_at_zero` is 0.

    Returns:
        The explanation; its `bit` is what the paths give at this index.

    Raises:
        RefdesignError: a layer without integer accumulators, an input or an index that does not fit, or a
            missing shortcut.

    >>> from refdesign.bits import pack
    >>> layer = BinaryDense(name="dense1", weights=pack(np.array([[1, -1, 1]])))
    >>> why = explain(layer, Conventions(), np.array([1, 1, 1], dtype=np.int8), (0,))
    >>> why.windows[0].taps[0].agree, why.windows[0].popcount, why.pooled, why.bit
    ((1, 0, 1), 2, 1, 1)
    >>> why.fold.threshold, why.fold.direction, why.margin
    (1, 1, Fraction(1, 1))
    """
    if not isinstance(layer, (BinaryConv2d, PixelConv2d, BinaryDense)):
        raise RefdesignError(f"layer {layer.name!r}: found kind {layer.kind!r}, expected integer accumulators")
    _check_input(layer, input_map)
    shape = _output_shape(layer, input_map)
    place = _check_index(layer, index, shape)
    windows = tuple(_windows(layer, input_map, place))
    pooled = max(one.accumulator for one in windows)
    thresholder = Thresholder(layer, shape, conventions)
    constants, threshold = thresholder.constants(place), thresholder.threshold(place)
    steps = list(_steps(pooled, constants, threshold, conventions))
    enclosure = exact_z(pooled, constants, threshold, conventions)
    fold = None
    if layer.shortcut is None:
        bit = thresholder.sign(place, pooled)
        ternary = conventions.sign_at_zero == 0 if ternary_input is None else ternary_input
        fold = _fold_place(layer, thresholder, place, ternary)
    else:
        steps.append(_shortcut_step(layer, steps[-1], shortcut, place, shape))
        bit = sign_of_float(float(steps[-1].value), conventions)
    boundary = KERAS_BOUNDARY if conventions.sign_rule == "keras_round" else Fraction(0)
    if layer.shortcut is None and conventions.arithmetic == "real":
        margin = min((end - boundary for end in enclosure), key=abs)
    else:
        margin = Fraction(steps[-1].value) - boundary
    return Explanation(
        layer=layer.name,
        kind=layer.kind,
        index=tuple(index),
        conventions=conventions,
        binary=not isinstance(layer, PixelConv2d),
        windows=windows,
        pooled=pooled,
        steps=tuple(steps),
        phase=thresholder.phase(place),
        threshold=threshold,
        enclosure=enclosure,
        margin=margin,
        fold=fold,
        bit=bit,
    )


def exact_z(
    a: int, constants: ChannelConstants, threshold: float, conventions: Conventions
) -> tuple[Fraction, Fraction]:
    """Two fractions around the exact z of an accumulator, equal where z is rational and short.

    >>> from refdesign.naive.thresholding import IDENTITY
    >>> exact_z(3, IDENTITY, 0.5, Conventions())
    (Fraction(5, 2), Fraction(5, 2))
    """
    p, q = exact_terms(a, constants, threshold, conventions)
    return float32.enclose_quotient_by_root(p, constants.square, q, ENCLOSURE_BITS)


def _check_input(layer: Explainable, x: NDArray[Any]) -> None:
    dtype = np.uint8 if isinstance(layer, PixelConv2d) else np.int8
    if isinstance(layer, BinaryDense):
        fits, expected = x.size == layer.fan_in, f"{layer.fan_in} values"
    else:
        channels = layer.weight_shape[3] * layer.groups
        fits, expected = x.ndim == 3 and x.shape[2] == channels, f"(H, W, {channels})"
    if x.dtype != dtype or not fits:
        raise RefdesignError(
            f"layer {layer.name!r}, input: found {x.dtype} of shape {x.shape}, "
            f"expected {np.dtype(dtype)}, {expected}, for one image"
        )
    if dtype is np.int8 and np.any(np.abs(x) > 1):
        raise RefdesignError(f"layer {layer.name!r}, input: found {x[np.abs(x) > 1][0]}, expected +1, -1 or 0")


def _accumulator_extent(layer: BinaryConv2d | PixelConv2d, axis: int, extent: int) -> int:
    reach = layer.dilation[axis] * (layer.weight_shape[1 + axis] - 1) + 1
    return (extent + 2 * layer.padding[axis] - reach) // layer.stride[axis] + 1


def _output_shape(layer: Explainable, x: NDArray[Any]) -> tuple[int, int, int]:
    """(H, W, C) after the pool."""
    if isinstance(layer, BinaryDense):
        return 1, 1, layer.out_channels
    extents = [_accumulator_extent(layer, axis, x.shape[axis]) for axis in (0, 1)]
    if layer.pool is not None:
        extents = [(extents[axis] - layer.pool.size[axis]) // layer.pool.stride[axis] + 1 for axis in (0, 1)]
    if min(extents) < 1:
        raise RefdesignError(f"layer {layer.name!r}, input: found shape {x.shape}, too small for the window")
    return extents[0], extents[1], layer.out_channels


def _check_index(layer: Explainable, index: tuple[int, ...], shape: tuple[int, int, int]) -> tuple[int, int, int]:
    dense = isinstance(layer, BinaryDense)
    limits = shape[2:] if dense else shape
    if len(index) != len(limits) or not all(0 <= i < limit for i, limit in zip(index, limits, strict=True)):
        raise RefdesignError(
            f"layer {layer.name!r}, index: found {tuple(index)}, expected "
            f"{'(channel,)' if dense else '(row, column, channel)'} below {limits}"
        )
    row, column, channel = (0, 0, *index) if dense else index
    return int(row), int(column), int(channel)


def _windows(layer: Explainable, x: NDArray[Any], place: tuple[int, int, int]) -> Iterator[Window]:
    """The window of each accumulator under the pool, or of the only one."""
    row, column, channel = place
    weights = layer.weights
    one_output = (
        PackedBits(weights.words[channel : channel + 1], weights.length)
        if isinstance(weights, PackedBits)
        else weights[channel : channel + 1]
    )
    w = integer_weights(one_output)[0]
    if isinstance(layer, BinaryDense):
        pixels = x if x.ndim == 3 else x.reshape(1, 1, -1)
        places: list[Place] = [(i, j) for i in range(pixels.shape[0]) for j in range(pixels.shape[1])]
        yield _window((0, 0), places, pixels.astype(np.int64), slice(0, pixels.shape[2]), 0, w)
        return
    depth = layer.weight_shape[3]
    group = channel // (layer.out_channels // layer.groups)
    channels = slice(group * depth, (group + 1) * depth)
    values = x.astype(np.int64)
    if isinstance(layer, PixelConv2d):
        values = layer.multiplier * values + layer.offset
    for i, j in pool_window(layer.pool, row, column):
        yield _window((i, j), window(layer, x.shape, i, j), values, channels, FILLS.get(layer.padding_mode, 0), w)


def _window(
    place: tuple[int, int], places: list[Place], values: NDArray[np.int64], channels: slice, fill: int, w: list[int]
) -> Window:
    taps = []
    depth = channels.stop - channels.start
    for number, source in enumerate(places):
        x = (fill,) * depth if source is None else tuple(values[source][channels].tolist())
        taps.append(Tap(place=source, x=x, w=tuple(w[number * depth : (number + 1) * depth])))
    accumulator = sum(a * b for tap in taps for a, b in zip(tap.x, tap.w, strict=True))
    return Window(place=place, taps=tuple(taps), accumulator=accumulator)


def _steps(a: int, constants: ChannelConstants, threshold: float, conventions: Conventions) -> Iterator[Step]:
    """Batch norm and dither with their intermediate results."""
    arithmetic, one = conventions.arithmetic, constants
    y = normalise(a, constants, arithmetic)
    by_gamma = conventions.threshold_scale == "gamma"
    if arithmetic == "real":
        scaled = "alpha*a" if one.scales else "a"
        yield Step("numerator", f"gamma*({scaled} - mean)", one.numerator(a))
        yield Step("square", "variance + epsilon", one.square)
        yield Step("y", "numerator/sqrt(square) + beta, rounded to float32 to be shown", y)
        offset = Fraction(one.gamma) * Fraction(threshold) if by_gamma else Fraction(threshold)
        yield Step("s*T", "gamma*T" if by_gamma else "T", offset)
        p, q = exact_terms(a, one, threshold, conventions)
        z = nearest(p, one.square, q)
        yield Step("z", "y - s*T, exact, rounded to float32 to be shown", z)
        return
    v = float32.multiply(one.alpha, float(a)) if one.scales else float(a)
    yield Step("v", "fl(alpha*a)" if one.scales else "a; the batch norm has no alpha (a scale of a)", v)
    if arithmetic == "released_torch":
        centred = float32.subtract(v, one.mean)
        yield Step("centred", "fl(v - mean)", centred)
        yield Step("deviation", "fl(sqrt(fl(variance + epsilon)))", one.deviation)
        yield Step("normal", "fl(centred/deviation)", float32.divide(centred, one.deviation))
        yield Step("y", "fl(fl(gamma*normal) + beta)", y)
    else:
        yield Step("k", "gamma/sqrt(variance + epsilon), as the program computes it", one.k)
        yield Step("c", "beta - mean*k, as the program computes it", one.c)
        yield Step("y", "fma(v, k, c)" if arithmetic == "torch" else "fl(fl(v*k) + c)", y)
    rounded_offset = float32.multiply(one.gamma, threshold) if by_gamma else threshold
    yield Step("s*T", "fl(gamma*T)" if by_gamma else "T", rounded_offset)
    yield Step("z", "fl(y - s*T)", float32.subtract(y, rounded_offset))


def _shortcut_step(
    layer: Stage,
    z: Step,
    shortcut: NDArray[np.float32] | None,
    place: tuple[int, int, int],
    shape: tuple[int, int, int],
) -> Step:
    if shortcut is None or shortcut.dtype != np.float32 or shortcut.shape != shape:
        found = "none" if shortcut is None else f"{shortcut.dtype} of shape {shortcut.shape}"
        raise RefdesignError(f"layer {layer.name!r}, shortcut: found {found}, expected float32 of shape {shape}")
    added = float(shortcut[place])
    return Step("r", f"fl(z + {added!r}), the shortcut", float32.add(float(z.value), added))


def _fold_place(layer: Stage, thresholder: Thresholder, place: tuple[int, int, int], ternary_input: bool) -> Fold:
    """The integer threshold at one place, by asking the arithmetic itself; its sign is monotone in a."""
    lows, highs, step = accumulator_domain(layer, ternary_input=ternary_input)
    low, high = int(lows[place[2]]), int(highs[place[2]])
    attainable = range(low, high + 1, step)
    first, last = (thresholder.sign(place, attainable[end]) for end in (0, -1))
    if first == last:
        return Fold(direction=0, threshold=None, constant=first, ties=None, low=low, high=high, step=step)
    direction = 1 if last > first else -1

    def begin(sign: int) -> int:
        """How many accumulators come before the first one whose sign, along the direction, is at least `sign`."""
        return bisect_left(attainable, sign, key=lambda a: direction * thresholder.sign(place, a))

    zero, positive = begin(0), begin(1)
    fires = attainable[positive:] if direction > 0 else attainable[:zero]
    threshold = None
    if fires:
        threshold = fires[0] if direction > 0 else fires[-1]
    ties = (attainable[zero], attainable[positive - 1]) if zero < positive else None
    return Fold(direction=direction, threshold=threshold, constant=None, ties=ties, low=low, high=high, step=step)
