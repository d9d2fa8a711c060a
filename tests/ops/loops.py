"""Convolutions and pools once more as plain loops over Python integers, for tests of `refdesign.ops`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

Pair = tuple[int, int]


def place(position: int, extent: int, mode: str) -> int | None:
    """The pixel that a position shows by its mode, stepping back onto the map; None for a constant."""
    while not 0 <= position < extent:
        if mode in ("zeros", "ones", "minus_ones"):
            return None
        if mode == "edge":
            position += 1 if position < 0 else -1
        elif mode == "circular":
            position += extent if position < 0 else -extent
        elif mode == "symmetric":
            position = -1 - position if position < 0 else 2 * extent - 1 - position
        else:
            position = -position if position < 0 else 2 * extent - 2 - position
    return position


def taps(
    i: int, j: int, extent: Pair, kernel: Pair, stride: Pair, padding: Pair, mode: str, dilation: Pair
) -> Iterator[tuple[int, int, int | None, int | None]]:
    """(tap row, tap column, pixel row, pixel column) of the window at output (i, j)."""
    for ti in range(kernel[0]):
        for tj in range(kernel[1]):
            row = place(i * stride[0] - padding[0] + ti * dilation[0], extent[0], mode)
            column = place(j * stride[1] - padding[1] + tj * dilation[1], extent[1], mode)
            yield ti, tj, row, column


def convolution(
    x: NDArray[np.generic],
    w: NDArray[np.generic],
    *,
    stride: Pair,
    padding: Pair,
    mode: str,
    dilation: Pair,
    groups: int,
) -> NDArray[np.int64]:
    """Integers (N, H, W, I) and (O, rows, columns, I/groups) to integers (N, H', W', O)."""
    n, height, width, _ = x.shape
    out, rows, columns, depth = w.shape
    fill = {"ones": 1, "minus_ones": -1}.get(mode, 0)
    size = [
        (extent + 2 * padding[axis] - dilation[axis] * (kernel - 1) - 1) // stride[axis] + 1
        for axis, extent, kernel in ((0, height, rows), (1, width, columns))
    ]
    result = np.zeros((n, size[0], size[1], out), dtype=np.int64)
    xs, ws = x.astype(int).tolist(), w.astype(int).tolist()
    for image, i, j, o in np.ndindex(*result.shape):
        first = o // (out // groups) * depth
        total = 0
        for ti, tj, row, column in taps(i, j, (height, width), (rows, columns), stride, padding, mode, dilation):
            for c in range(depth):
                value = fill if row is None or column is None else xs[image][row][column][first + c]
                total += value * ws[o][ti][tj][c]
        result[image, i, j, o] = total
    return result


def pool(
    a: NDArray[np.generic], size: Pair, stride: Pair, choose: Callable[[list[float]], float]
) -> NDArray[np.float64]:
    """`choose` over the values of each window, in row order; (N, H, W, C) to (N, H', W', C)."""
    n, height, width, channels = a.shape
    rows, columns = (height - size[0]) // stride[0] + 1, (width - size[1]) // stride[1] + 1
    result = np.zeros((n, rows, columns, channels))
    for image, i, j, c in np.ndindex(*result.shape):
        window = [
            float(a[image, i * stride[0] + di, j * stride[1] + dj, c]) for di in range(size[0]) for dj in range(size[1])
        ]
        result[image, i, j, c] = choose(window)
    return result
