"""Signs that are no batch norm and threshold map: evaluated for every attainable sum, and so found as integers.

A layer's integer sums are few. Where what stands behind them is no batch norm, but still operators of single float32
operations, their values over all attainable sums are computed as the operators say; if they are a sign, its integer
thresholds are exact, and nothing is guessed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import PackedBits
from refdesign.errors import RefdesignError
from refdesign.formats.onnx_choices import Choice, divided
from refdesign.formats.onnx_flow import Draft, Step
from refdesign.formats.onnx_layers import Tail, integer_tail
from refdesign.formats.periodic import period
from refdesign.network import BinaryConv2d, BinaryDense, Domain, PixelConv2d, accumulator_domain
from refdesign.ops.batch_norm import batch_norm
from refdesign.parameters import BatchNorm

_LARGEST = 1 << 26
_BLOCK = 1 << 22


def domain_of(draft: Draft, ternary_input: bool) -> Domain:
    """The attainable sums of a draft's channels: lowest, highest, step.

    Raises:
        RefdesignError: a layer whose sums are no integers.
    """
    integers = draft.kind in (BinaryConv2d, BinaryDense) or (
        draft.kind is PixelConv2d and isinstance(draft.fields["weights"], (PackedBits, np.ndarray))
    )
    if not integers:
        raise RefdesignError("its sums are no integers, whose thresholds could be found one by one")
    return accumulator_domain(draft.kind(name=draft.name, **draft.fields), ternary_input=ternary_input)  # type: ignore[arg-type]


def table_of(draft: Draft, steps: tuple[Step, ...], arithmetic: str, *, ternary_input: bool) -> Step:
    """What steps make of every attainable sum, as the look-up that `onnx_tables.batch_norm_of` finds a batch norm in.

    Raises:
        RefdesignError: as `tabulated`, or steps that vary over the map.
    """
    low, high, step = domain_of(draft, ternary_input)
    size, channels = int((high - low).max()) // step + 1, draft.shape[-1]
    if size * channels > _LARGEST or any(getattr(values, "ndim", 0) == 3 for _, values in steps):
        raise RefdesignError(f"found {size} attainable sums in {channels} channels, or a map, which is not tried")
    sums = np.minimum(low + step * np.arange(size, dtype=np.int64)[:, np.newaxis], high)
    values = _evaluated(sums[:, np.newaxis, np.newaxis], steps, arithmetic, (1, 1), slice(0, channels))
    rounded = values[:, 0, 0].astype(np.float32)
    if np.any(rounded != values[:, 0, 0]) or not np.isfinite(rounded).all():
        raise RefdesignError("found values that float32 does not hold")
    return "table", np.stack([sums.T.astype(np.float64), rounded.T.astype(np.float64)])


def tabulated(
    draft: Draft, steps: tuple[Step, ...], choice: Choice, scale: float, arithmetic: str, *, ternary_input: bool
) -> Tail:
    """Integer thresholds of a choice behind steps, as a batch norm of ±1 and a map of half integers.

    Args:
        draft: a layer of integer sums.
        steps: what is done to them, float32 operations.
        choice: the sign, values of ±scale and 0.
        scale: a positive number.
        arithmetic: of batch norms among the steps.
        ternary_input: whether the layer's inputs can be 0.

    Raises:
        RefdesignError: steps that are no operations of single sums, or values that are no sign.
    """
    low, high, step = domain_of(draft, ternary_input)
    shape = draft.shape if len(draft.shape) == 3 else (1, 1, *draft.shape)
    arrays = [np.asarray(values) for _, values in steps if isinstance(values, np.ndarray)]
    maps = [array for array in arrays if array.ndim == 3] + [*choice.points, *choice.values]
    full = [array for array in maps if array.ndim == 3]
    rows, columns = (
        min(math.lcm(*(period(array, axis) for array in full if array.shape[axis] > 1)), shape[axis]) for axis in (0, 1)
    )
    size = int((high - low).max()) // step + 1
    if size * rows * columns * shape[2] > _LARGEST:
        raise RefdesignError(f"found {size} attainable sums under {rows}x{columns} phases, too many to try")
    cells = {name: np.zeros((rows, columns, shape[2]), np.int64) for name in _CELLS}
    block = max(1, _BLOCK // (size * rows * columns))
    for first in range(0, shape[2], block):
        part = slice(first, first + block)
        sums = np.minimum(low[part] + step * np.arange(size, dtype=np.int64)[:, np.newaxis], high[part])
        sums = np.broadcast_to(sums[:, np.newaxis, np.newaxis], (size, rows, columns, sums.shape[1]))
        values = _evaluated(sums, steps, arithmetic, (rows, columns), part)
        fires = Choice(
            *(_cut(array[:, np.newaxis, np.newaxis] if array.ndim == 2 else array, (rows, columns), part)
              for array in (choice.points, choice.values))
        ).of(values) / scale  # fmt: skip
        for name, found in zip(_CELLS, _thresholds(sums, fires), strict=True):
            cells[name][:, :, part] = found
    return integer_tail(cells, [0, 0], shape, draft.largest)


_CELLS = ("threshold", "direction", "constant", "zero_low", "zero_high")


def _cut(array: NDArray[Any], extents: tuple[int, int], part: slice) -> NDArray[Any]:
    """Cells of an array with the map's axes last, and some of its channels."""
    for axis, extent in ((-3, extents[0]), (-2, extents[1])):
        if array.shape[axis] > 1:
            array = np.take(array, np.arange(extent), axis=axis)
    return array[..., part] if array.shape[-1] > 1 else array


def _evaluated(
    sums: NDArray[np.int64], steps: tuple[Step, ...], arithmetic: str, extents: tuple[int, int], part: slice
) -> NDArray[Any]:
    x: NDArray[Any] = sums
    operations: dict[str, Callable[[Any, Any], NDArray[Any]]] = {
        "mul": np.multiply, "add": np.add, "sub": np.subtract, "div": np.divide, "quotient": divided,
    }  # fmt: skip
    with np.errstate(all="ignore"):
        for kind, values in steps:
            if kind == "bn":
                gamma, beta, mean, variance, epsilon = values[:, part]
                norm = BatchNorm(gamma, beta, mean, variance, float(epsilon[0]))
                x = batch_norm(x.astype(np.float32), norm, arithmetic)
                continue
            if kind in ("wide", "narrow"):
                x = x.astype(np.float64 if kind == "wide" else np.float32)
                continue
            if kind == "clip":
                x = np.clip(x if x.dtype == np.float64 else x.astype(np.float32), *values)
                continue
            if kind not in operations:
                raise RefdesignError(f"found {kind} behind sums, which is not tried one by one")
            cut = _cut(values if values.ndim == 3 else values[np.newaxis, np.newaxis], extents, part)
            if values.dtype.kind == "i":
                if x.dtype.kind != "i":
                    raise RefdesignError("found integer arithmetic on sums that are no integers")
                x = operations[kind](x, cut.astype(np.int64))
            else:
                x = operations[kind](x.astype(np.float64 if x.dtype == np.float64 else values.dtype), cut)
    return x


def _thresholds(sums: NDArray[np.int64], fires: NDArray[Any]) -> tuple[NDArray[np.int64], ...]:
    """threshold, direction, constant, zero_low and zero_high of values along the first axis."""
    if not np.isin(fires, (-1, 0, 1)).all():
        raise RefdesignError("found values that are neither ± one number nor 0")
    rises = np.diff(fires, axis=0)
    up, down = (rises >= 0).all(axis=0), (rises <= 0).all(axis=0)
    if not (up | down).all():
        raise RefdesignError("found a function of the sums that rises and falls, expected a sign")
    positive, zero = fires == 1, fires == 0
    constant = np.where(up & down, fires[0], 0).astype(np.int64)
    direction = np.where(up & down & ~zero[0], 0, np.where(up, 1, -1))
    largest, smallest = np.iinfo(np.int64).max, np.iinfo(np.int64).min
    upwards = np.where(positive, sums, largest).min(axis=0)
    downwards = np.where(positive, sums, smallest).max(axis=0)
    never = np.where(direction > 0, sums[-1] + 1, sums[0] - 1)
    threshold = np.where(direction > 0, upwards, downwards)
    threshold = np.where((direction == 0) | ~positive.any(axis=0), never, threshold)
    low = np.where(zero, sums, largest).min(axis=0)
    high = np.where(zero, sums, smallest).max(axis=0)
    none = ~zero.any(axis=0)
    return threshold, direction, constant, np.where(none, 1, low), np.where(none, 0, high)
