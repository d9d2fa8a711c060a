"""Which input pixels a window of a convolution or a pool sees, one index at a time (docs/method.md, section 2)."""

from __future__ import annotations

from refdesign.network import Convolution, MaxPool

Place = tuple[int, int] | None
"""A pixel (row, column) of the map, or None for a position outside that is filled with a constant."""

FILLS: dict[str, int] = {"zeros": 0, "ones": +1, "minus_ones": -1}
"""What stands at positions outside the map; all other modes take a pixel of the map."""


def padded_position(position: int, extent: int, mode: str) -> int | None:
    """Where a row (or column) number that may lie outside a map of `extent` rows is read from.

    Args:
        position: counted from the map's first row; negative or beyond the extent means outside.
        extent: rows (or columns) of the map.
        mode: one of `network.PADDING_MODES`.

    Returns:
        A position inside, or None where the mode fills with a constant.

    >>> [padded_position(p, 4, "symmetric") for p in (-2, -1, 0, 3, 4, 5)]
    [1, 0, 0, 3, 3, 2]
    >>> [padded_position(p, 4, "reflect") for p in (-2, -1, 0, 3, 4, 5)]
    [2, 1, 0, 3, 2, 1]
    >>> [padded_position(p, 4, "edge") for p in (-2, -1, 0, 3, 4, 5)]
    [0, 0, 0, 3, 3, 3]
    >>> [padded_position(p, 4, "circular") for p in (-2, -1, 0, 3, 4, 5)]
    [2, 3, 0, 3, 0, 1]
    >>> padded_position(-1, 4, "ones") is None
    True
    """
    if 0 <= position < extent:
        return position
    if mode in FILLS:
        return None
    if mode == "edge":
        return 0 if position < 0 else extent - 1
    if mode == "circular":
        return position + extent if position < 0 else position - extent
    if mode == "symmetric":
        return -1 - position if position < 0 else 2 * extent - 1 - position
    return -position if position < 0 else 2 * (extent - 1) - position


def window(layer: Convolution, shape: tuple[int, ...], row: int, column: int) -> list[Place]:
    """The pixels under the window of one output pixel, kernel row by kernel row.

    Args:
        layer: for kernel size, stride, padding and dilation.
        shape: (H, W, C) of the input map.
        row, column: the output pixel, before any pool.
    """
    _, kernel_rows, kernel_columns, _ = layer.weight_shape
    places: list[Place] = []
    for i in range(kernel_rows):
        for j in range(kernel_columns):
            y = padded_position(
                row * layer.stride[0] - layer.padding[0] + i * layer.dilation[0], shape[0], layer.padding_mode
            )
            x = padded_position(
                column * layer.stride[1] - layer.padding[1] + j * layer.dilation[1], shape[1], layer.padding_mode
            )
            places.append(None if y is None or x is None else (y, x))
    return places


def pool_window(pool: MaxPool | None, row: int, column: int) -> list[tuple[int, int]]:
    """The accumulators' pixels that a pooled pixel is the maximum of, row by row; without a pool the pixel itself.

    >>> pool_window(MaxPool(size=(1, 2), stride=(3, 2)), 1, 2)
    [(3, 4), (3, 5)]
    """
    if pool is None:
        return [(row, column)]
    return [
        (row * pool.stride[0] + i, column * pool.stride[1] + j)
        for i in range(pool.size[0])
        for j in range(pool.size[1])
    ]
