"""Pooling: over accumulators, over bits behind a threshold, and over the real stream."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import PackedBits, pack_bool
from refdesign.checks import check_array
from refdesign.errors import RefdesignError
from refdesign.ops.padding import as_pair

Number = TypeVar("Number", bound=np.number)
Pair = tuple[int, int]


def max_pool2d(a: NDArray[Number], size: int | Pair, stride: int | Pair | None = None) -> NDArray[Number]:
    """The maximum over each window, without padding; what does not fill a window is cut off.

    It stands between the accumulator and the batch norm (docs/method.md, section 1).

    Args:
        a: numbers, (N, H, W, C). Of zeros of either sign a window's first one counts, row by row, as in PyTorch.
        size: rows and columns of a window.
        stride: the distance between windows; None is `size`.

    Returns:
        The dtype of `a`, shape (N, H', W', C) with H' = (H - size) // stride + 1.

    Raises:
        RefdesignError: no array, not four axes, or a window that is larger than the map.

    >>> max_pool2d(np.arange(6, dtype=np.int32).reshape(1, 2, 3, 1), (2, 1)).ravel()
    array([3, 4, 5], dtype=int32)
    """
    check_array("max_pool2d", a)
    if a.dtype.kind == "f":
        return _first_largest(_window_views("max_pool2d", a, size, stride))
    rows, columns, down, right, height, width = _window_grid("max_pool2d", a.shape, size, stride)
    # Rows first: whole rows of the map are compared at once.
    tall = [a[:, i : i + (height - 1) * down + 1 : down] for i in range(rows)]
    high = _largest(tall)
    return _largest([high[:, :, j : j + (width - 1) * right + 1 : right] for j in range(columns)])


def _largest(views: list[NDArray[Number]]) -> NDArray[Number]:
    if len(views) == 1:
        return views[0].copy()
    result: NDArray[Number] = np.maximum(views[0], views[1])
    for view in views[2:]:
        np.maximum(result, view, out=result)
    return result


def _first_largest(views: list[NDArray[Number]]) -> NDArray[Number]:
    # np.maximum takes either of two zeros.
    result = views[0].copy()
    for view in views[1:]:
        np.copyto(result, view, where=(view > result) | np.isnan(view))
    return result


def pool_bits(bits: PackedBits, direction: NDArray[np.int8], size: int | Pair) -> PackedBits:
    """The pool of hardware that thresholds before it pools: OR where the direction is +1, AND where it is -1.

    A maximum over accumulators commutes with a threshold that fires upwards and becomes a minimum over bits
    with one that fires downwards (docs/method.md, section 1). It holds when all pixels of a window are thresholded with
    the phase of (row // rows of the window, column // columns of the window). Where the direction is 0 the
    channel is constant and either does. Elements that are 0 (ties) lie between -1 and +1.

    Args:
        bits: shape (N, H, W, C).
        direction: int8 in {-1, 0, +1}, shape (C,) or one that broadcasts to (H', W', C).
        size: rows and columns of a window, and the distance between windows.

    Returns:
        Packed bits of shape (N, H', W', C).

    Raises:
        RefdesignError: not four axes, a window larger than the map, or a direction of another shape.

    >>> from refdesign.bits import pack, unpack
    >>> bits = pack([[[[1, 1], [-1, -1]]]])
    >>> unpack(pool_bits(bits, np.array([1, -1], dtype=np.int8), (1, 2)))
    array([[[[ 1, -1]]]], dtype=int8)
    """
    views = _window_views("pool_bits", bits.words, size, None)
    shape = (*views[0].shape[1:3], bits.length)
    try:
        upwards = pack_bool(np.broadcast_to(np.asarray(direction) >= 0, shape)).words
    except ValueError:
        raise RefdesignError(
            f"pool_bits, direction: found shape {np.shape(direction)}, expected one that broadcasts to {shape}"
        ) from None
    any_one = np.bitwise_or.reduce(views)
    all_one = np.bitwise_and.reduce(views)
    words = np.where(upwards, (any_one & upwards) | (all_one & ~upwards), all_one)
    if bits.nonzero is None:
        return PackedBits(words, bits.length)
    planes = _window_views("pool_bits", bits.nonzero, size, None)
    any_minus = np.bitwise_or.reduce([plane & ~view for plane, view in zip(planes, views, strict=True)])
    all_nonzero = np.bitwise_and.reduce(planes)
    nonzero = ((any_one | all_nonzero) & upwards) | ((all_one | any_minus) & ~upwards)
    return PackedBits(words, bits.length, nonzero)


def average_pool2d(x: NDArray[np.float32], size: int | Pair) -> NDArray[np.float32]:
    """The mean over each window, in float32 in a named order: sums row by row, then one division.

    Each window is summed from its first pixel along the first row, then along the next row, every sum rounded
    to float32, and the result is divided by the number of its pixels. What does not fill a window is cut off.

    Args:
        x: float32, (N, H, W, C).
        size: rows and columns of a window, and the distance between windows.

    Returns:
        float32, (N, H // rows, W // columns, C).

    Raises:
        RefdesignError: not float32, not four axes, or a window that is larger than the map.

    >>> average_pool2d(np.array([[[[1], [2]], [[4], [3]]]], dtype=np.float32), 2)
    array([[[[2.5]]]], dtype=float32)
    """
    if x.dtype != np.float32:
        raise RefdesignError(f"average_pool2d: found {x.dtype}, expected float32")
    views = _window_views("average_pool2d", x, size, None)
    total = views[0].copy()
    for view in views[1:]:
        total += view
    total /= np.float32(len(views))
    return total


def _window_views(name: str, a: NDArray[Number], size: int | Pair, stride: int | Pair | None) -> list[NDArray[Number]]:
    """One view (N, H', W', C) for each position in a window, row by row."""
    rows, columns, down, right, height, width = _window_grid(name, a.shape, size, stride)
    return [
        a[:, i : i + (height - 1) * down + 1 : down, j : j + (width - 1) * right + 1 : right]
        for i in range(rows)
        for j in range(columns)
    ]


def _window_grid(
    name: str, shape: tuple[int, ...], size: int | Pair, stride: int | Pair | None
) -> tuple[int, int, int, int, int, int]:
    """The size of a window, the distances between windows, and the number of windows, each as rows, columns."""
    rows, columns = as_pair(f"{name}, size", size, 1)
    down, right = as_pair(f"{name}, stride", (rows, columns) if stride is None else stride, 1)
    if len(shape) != 4:
        raise RefdesignError(f"{name}: found shape {shape}, expected (N, H, W, C)")
    if rows > shape[1] or columns > shape[2]:
        raise RefdesignError(f"{name}, size: found {(rows, columns)} for a map of {shape[1:3]} pixels")
    return rows, columns, down, right, (shape[1] - rows) // down + 1, (shape[2] - columns) // right + 1
