"""A real first layer that is spelled out tap by tap, as this project's own exports have it, found as a convolution."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.formats.onnx_flow import FILL_NUMBERS, Flow
from refdesign.network import PADDING_MODES
from refdesign.ops.padding import FILLS, source_index

_LARGEST_STEP = 8
_LARGEST_TOTAL = 1 << 28

Axis = tuple[int, int, int]
"""Stride, dilation and padding along an axis."""


def convolution_of(flow: Flow) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """The weights (O, rows, columns, I/groups) and the geometry of a sum of pixels times weights.

    Args:
        flow: a total of pixels (H, W, C), whose terms are (1, O, H', W') in the order rows, columns, channels.

    Raises:
        RefdesignError: a sum of another form.
    """
    if len(flow.terms) * flow.places.size > _LARGEST_TOTAL:
        raise RefdesignError(f"found a sum of {len(flow.terms)} terms {flow.places.shape}, expected fewer")
    places = np.stack([term.places for term in flow.terms])  # (terms, 1, O, H', W')
    weights = np.stack([np.asarray(term.weights) for term in flow.terms])
    height, width, channels = flow.shape
    if places.ndim != 5 or places.shape[1] != 1 or np.any(weights != weights[..., :1, :1]):
        raise RefdesignError("found a sum over pixels that is no convolution")
    places, weights = places[:, 0], weights[:, 0, :, 0, 0]
    outside = places < 0
    rows_read = np.where(outside, -1, places // (width * channels)).max(axis=(1, 3))  # (terms, H')
    columns_read = np.where(outside, -1, places // channels % width).max(axis=(1, 2))
    read = np.where(outside, -1, places % channels).max(axis=(2, 3))  # (terms, O)
    for rows, columns, depth in _factors(len(places), channels):
        taps = np.indices((rows, columns, depth)).reshape(3, -1)
        groups = channels // depth
        if places.shape[1] % groups:
            continue
        group = np.arange(places.shape[1]) // (places.shape[1] // groups)
        if np.any((read != group * depth + taps[2][:, np.newaxis]) & (read >= 0)):
            continue
        for mode in PADDING_MODES:
            y = _axis(rows_read, height, taps[0], mode)
            x = _axis(columns_read, width, taps[1], mode)
            if y is None or x is None:
                continue
            iy, ix = _sources(rows_read, height, taps[0], mode, y), _sources(columns_read, width, taps[1], mode, x)
            where = iy[:, np.newaxis, :, np.newaxis] * width + ix[:, np.newaxis, np.newaxis, :]
            channel = (group * depth + taps[2][:, np.newaxis])[:, :, np.newaxis, np.newaxis]
            valid = (iy >= 0)[:, np.newaxis, :, np.newaxis] & (ix >= 0)[:, np.newaxis, np.newaxis, :]
            if np.array_equal(np.where(valid, where * channels + channel, FILL_NUMBERS[FILLS.get(mode, 0)]), places):
                geometry = {
                    "stride": (y[0], x[0]), "dilation": (y[1], x[1]), "padding": (y[2], x[2]), "padding_mode": mode,
                    "groups": groups,
                }  # fmt: skip
                return weights.T.reshape(-1, rows, columns, depth), geometry
    raise RefdesignError("found a sum over pixels that is no convolution in the order rows, columns, channels")


def _factors(terms: int, channels: int) -> Iterator[tuple[int, int, int]]:
    """Ways in which so many terms are rows, columns and channels of a window."""
    for depth in (depth for depth in range(1, channels + 1) if channels % depth == 0 and terms % depth == 0):
        window = terms // depth
        yield from ((rows, window // rows, depth) for rows in range(1, window + 1) if window % rows == 0)


def _axis(read: NDArray[np.int64], extent: int, tap: NDArray[np.int64], mode: str) -> Axis | None:
    """The smallest stride, dilation and padding with which the taps read these positions along an axis."""
    count = read.shape[1]
    for padding in range(min(_LARGEST_STEP, extent + 1)):
        for dilation in range(1, _LARGEST_STEP) if tap.max() else (1,):
            span = extent + 2 * padding - dilation * int(tap.max()) - 1
            for stride in range(1, _LARGEST_STEP):
                if span < 0 or span // stride + 1 != count:
                    continue
                try:
                    if np.array_equal(_sources(read, extent, tap, mode, (stride, dilation, padding)), read):
                        return stride, dilation, padding
                except RefdesignError:
                    continue
    return None


def _sources(read: NDArray[np.int64], extent: int, tap: NDArray[np.int64], mode: str, axis: Axis) -> NDArray[np.int64]:
    stride, dilation, padding = axis
    source = np.asarray(source_index(extent, padding, mode), np.int64)
    found: NDArray[np.int64] = source[np.arange(read.shape[1]) * stride + tap[:, np.newaxis] * dilation]
    return found
