"""Convolution and dense products on unpacked integers, through the machine's matrix product.

The float path uses these; they share nothing with the packed operators. Sums of integers are exact in the
product's float type as long as it holds the largest possible one, which is checked, so the result does not
depend on the order of a sum.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError

Pair = tuple[int, int]
_PadMode = Literal["symmetric", "reflect", "edge", "wrap"]
_MIRRORS: dict[str, _PadMode] = {"symmetric": "symmetric", "reflect": "reflect", "edge": "edge", "circular": "wrap"}
_FILLS = {"zeros": 0, "ones": 1, "minus_ones": -1}


def _exact_type(x: NDArray[Any], w: NDArray[Any], fan_in: int) -> type[np.float32] | type[np.float64]:
    largest = fan_in * int(np.abs(x.astype(np.int64)).max(initial=0)) * int(np.abs(w.astype(np.int64)).max(initial=0))
    if largest >= 2**31:
        raise RefdesignError(f"accumulator: sums reach {largest}, expected less than 2**31 (int32)")
    return np.float32 if largest < 2**24 else np.float64


def conv2d(
    x: NDArray[Any],
    w: NDArray[Any],
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    padding_mode: str = "zeros",
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> NDArray[np.int32]:
    """Convolution of integers, one matrix product per tap of the window.

    Args:
        x: integers, shape (N, H, W, C).
        w: integers, shape (O, kernel rows, kernel columns, C/groups).
        stride, padding, dilation: (rows, columns).
        padding_mode: docs/method.md, section 2; "zeros", "ones" and "minus_ones" fill with 0, +1 and -1.
        groups: independent groups of input and output channels.

    Returns:
        int32, shape (N, H', W', O).

    Raises:
        RefdesignError: a sum could leave int32.

    >>> conv2d(np.array([[[[2], [3]]]]), np.array([[[[1], [-1]]]]).reshape(1, 1, 2, 1))
    array([[[[-1]]]], dtype=int32)
    """
    out, rows, columns, depth = w.shape
    kind = _exact_type(x, w, rows * columns * depth)
    margins = ((0, 0), (padding[0], padding[0]), (padding[1], padding[1]), (0, 0))
    if padding_mode in _FILLS:
        padded = np.pad(x.astype(kind), margins, mode="constant", constant_values=_FILLS[padding_mode])
    else:
        padded = np.pad(x.astype(kind), margins, mode=_MIRRORS[padding_mode])
    images, high, wide, _ = padded.shape
    height = (high - dilation[0] * (rows - 1) - 1) // stride[0] + 1
    width = (wide - dilation[1] * (columns - 1) - 1) // stride[1] + 1
    weights = w.astype(kind)
    result = np.empty((images, height, width, out), dtype=np.int32)
    share = out // groups
    for group in range(groups):
        outputs = slice(group * share, (group + 1) * share)
        total = np.zeros((images * height * width, share), dtype=kind)
        for row in range(rows):
            for column in range(columns):
                top, left = row * dilation[0], column * dilation[1]
                window = padded[
                    :,
                    top : top + (height - 1) * stride[0] + 1 : stride[0],
                    left : left + (width - 1) * stride[1] + 1 : stride[1],
                    group * depth : (group + 1) * depth,
                ]
                total += window.reshape(-1, depth) @ weights[outputs, row, column].T
        result[..., outputs] = total.reshape(images, height, width, share)
    return result


def dense(x: NDArray[Any], w: NDArray[Any]) -> NDArray[np.int32]:
    """Dense product of integers.

    Args:
        x: integers, shape (N, I).
        w: integers, shape (O, I).

    Returns:
        int32, shape (N, O).

    Raises:
        RefdesignError: a sum could leave int32.

    >>> dense(np.array([[1, -1, 1]]), np.array([[1, 1, 1], [-1, 1, -1]]))
    array([[ 1, -3]], dtype=int32)
    """
    kind = _exact_type(x, w, x.shape[-1])
    result: NDArray[np.int32] = np.matmul(x.astype(kind), w.T.astype(kind)).astype(np.int32)
    return result
