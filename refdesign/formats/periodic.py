"""Periodic maps found again: from thresholds over a map to a threshold kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.ops.dither import slices


def period(array: NDArray[Any], axis: int) -> int:
    """The shortest period of an array along an axis; its extent where it does not repeat.

    >>> period(np.array([[1, 2, 3, 1, 2]]), 1)
    3
    """
    extent: int = array.shape[axis]
    moved = np.moveaxis(array, axis, 0)
    for length in range(1, extent):
        if np.array_equal(moved[length:], moved[:-length]):
            return length
    return extent


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
