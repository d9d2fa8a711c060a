"""Periodic maps found again: from thresholds over a map to a threshold kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.ops.dither import slices

_PLACES = 2
"""Last places in which a cell is searched around its quotient."""


def period(array: NDArray[Any], axis: int) -> int:
    """The shortest period of an array along an axis; its extent where it does not repeat.

    >>> period(np.array([[1, 2, 3, 1, 2]]), 1)
    3
    """
    # Zeros of both signs are equal; rows are compared once each, by their bytes, whatever their period.
    rows = [(row + 0).tobytes() for row in np.moveaxis(array, axis, 0)]
    border = [0] * len(rows)  # how many rows the array begins with that end it there, too (Knuth, Morris and Pratt)
    for place in range(1, len(rows)):
        length = border[place - 1]
        while length and rows[place] != rows[length]:
            length = border[length - 1]
        border[place] = length + (rows[place] == rows[length])
    return len(rows) - border[-1] if rows else 0


def smallest_kernel(over_map: NDArray[Any], channel_map: str) -> NDArray[Any]:
    """The smallest kernel (m, n, g) whose repetition from the top left is a map (H, W, C).

    Args:
        over_map: any dtype, (H, W, C).
        channel_map: how slices are spread over channels, `"tile"` or `"repeat"`.

    >>> smallest_kernel(np.array([[[1, 2, 1, 2], [3, 4, 3, 4], [1, 2, 1, 2]]]), "tile").shape
    (1, 2, 2)
    """
    cells = over_map[: period(over_map, 0), : period(over_map, 1)]
    channels = over_map.shape[2]
    for g in range(1, channels):
        if channels % g == 0:
            kept = cells[:, :, :g] if channel_map == "tile" else cells[:, :, :: channels // g]
            if np.array_equal(kept[:, :, slices(channels, g, channel_map)], cells):
                return kept
    return cells


def scaled_kernel(over_map: NDArray[Any], scale: NDArray[np.float32], channel_map: str) -> NDArray[np.float32] | None:
    """The smallest kernel (m, n, g) whose cells, times each channel's scale and rounded, are a map; None without one.

    Args:
        over_map: float32, (H, W, C).
        scale: float32, (C,), such as the batch norm's gamma.
        channel_map: as in `smallest_kernel`.

    >>> over_map = np.float32([[[0.5, 1.5]], [[1.0, 3.0]]])
    >>> scaled_kernel(over_map, np.float32([1, 3]), "tile").ravel().tolist()
    [0.5, 1.0]
    """
    cells = over_map[: period(over_map, 0), : period(over_map, 1)]
    channels = over_map.shape[2]
    if not np.isfinite(scale).all() or not scale.all():
        return None
    for g in (g for g in range(1, channels + 1) if channels % g == 0):
        of = slices(channels, g, channel_map)
        members = np.argsort(of, kind="stable").reshape(g, -1)  # each slice's channels
        first = members[np.arange(g), np.abs(scale)[members].argmax(axis=1)]
        with np.errstate(all="ignore"):
            near = cells[:, :, first] / scale[first]
            tried = [near]
            for towards in (np.inf, -np.inf):
                value = near
                for _ in range(_PLACES):
                    value = np.nextafter(value, np.float32(towards))
                    tried.append(value)
            kernel = np.full(near.shape, np.nan, np.float32)
            for value in tried:
                same = scale * value[:, :, of] == cells
                fits = same[:, :, members].all(axis=3)
                kernel = np.where(np.isnan(kernel) & fits, value, kernel)
        if not np.isnan(kernel).any():
            return np.asarray(kernel, np.float32)
    return None
