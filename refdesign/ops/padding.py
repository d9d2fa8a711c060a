"""Where a convolution's windows lie, and what stands outside the map (docs/method.md, section 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.checks import is_whole, shown
from refdesign.errors import RefdesignError
from refdesign.layers import Convolution

FILLS: dict[str, int] = {"zeros": 0, "ones": 1, "minus_ones": -1}
"""Padding modes that put a constant outside the map, and the constant."""

_MIRRORS = ("symmetric", "reflect", "edge", "circular")


def as_pair(name: str, value: int | tuple[int, int], least: int) -> tuple[int, int]:
    """(rows, columns) from an int, which stands for both, or from a pair of ints.

    Raises:
        RefdesignError: something else, or a number below `least`.

    >>> as_pair("stride", 2, 1)
    (2, 2)
    """
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2 or not all(is_whole(v, least) for v in pair):
        raise RefdesignError(f"{name}: found {shown(value)}, expected an integer of at least {least}, or two")
    return int(pair[0]), int(pair[1])


def source_index(extent: int, padding: int, mode: str) -> NDArray[np.intp]:
    """For each position of a padded axis, the position on the axis that it shows; -1 where it shows a constant.

    Args:
        extent: the length of the axis.
        padding: how many positions are added on either side.
        mode: `"zeros"`, `"ones"`, `"minus_ones"` (constants), `"symmetric"` (mirrored with the edge),
            `"reflect"` (mirrored without it), `"edge"`, `"circular"`.

    Returns:
        intp, shape (extent + 2*padding,).

    Raises:
        RefdesignError: an unknown mode, or more padding than there is to mirror.

    >>> source_index(3, 2, "symmetric")
    array([1, 0, 0, 1, 2, 2, 1])
    >>> source_index(3, 2, "reflect")
    array([2, 1, 0, 1, 2, 1, 0])
    """
    if not isinstance(mode, str) or (mode not in FILLS and mode not in _MIRRORS):
        raise RefdesignError(f"padding_mode: found {shown(mode)}, expected one of {', '.join((*FILLS, *_MIRRORS))}")
    limit = {"symmetric": extent, "reflect": extent - 1, "circular": extent}.get(mode, padding)
    if padding > limit:
        raise RefdesignError(
            f"padding: found {padding}, expected at most {limit} with {mode!r} on a map of {extent} pixels"
        )
    position = np.arange(-padding, extent + padding)
    if mode in FILLS:
        return np.where((position >= 0) & (position < extent), position, -1)
    if mode == "edge":
        return np.clip(position, 0, extent - 1)
    if mode == "circular":
        return position % extent
    last = 2 * extent - 1 if mode == "symmetric" else 2 * extent - 2
    mirrored = np.where(position < 0, -position - (mode == "symmetric"), position)
    return np.where(mirrored >= extent, last - mirrored, mirrored)


@dataclass(frozen=True, kw_only=True)
class Windows:
    """The windows of a convolution over one map, each field a pair (rows, columns).

    Attributes:
        extent: pixels of the map.
        kernel: taps of the window.
        stride, padding, dilation: as usual.
        padding_mode: how positions outside the map are filled.

    Raises:
        RefdesignError: a wrong number or mode, or a window that is larger than the padded map.

    >>> windows = Windows.of((5, 7), (3, 3), stride=2, padding=1, padding_mode="zeros", dilation=1)
    >>> windows.output
    (3, 4)
    """

    extent: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    padding_mode: str
    dilation: tuple[int, int]

    @classmethod
    def of(cls, extent: tuple[int, int], kernel: tuple[int, int], **geometry: Any) -> Windows:
        """From ints or pairs `stride`, `padding` and `dilation`, and `padding_mode`, checked."""
        least = {"stride": 1, "padding": 0, "dilation": 1}
        pairs = {name: as_pair(name, geometry[name], lowest) for name, lowest in least.items()}
        return cls(extent=extent, kernel=kernel, padding_mode=geometry["padding_mode"], **pairs)

    @classmethod
    def of_layer(cls, layer: Convolution, shape: Sequence[int]) -> Windows:
        """The windows of a layer on maps of a shape (H, W, ...).

        >>> from refdesign.bits import pack
        >>> from refdesign.layers import BinaryConv2d
        >>> layer = BinaryConv2d(name="conv", weights=pack(np.ones((2, 3, 2, 5), np.int8)), stride=(2, 1))
        >>> Windows.of_layer(layer, (5, 7, 5)).output
        (2, 6)
        """
        return cls.of((shape[0], shape[1]), layer.weight_shape[1:3], **layer.geometry)

    def __post_init__(self) -> None:
        for axis in (0, 1):
            source_index(self.extent[axis], self.padding[axis], self.padding_mode)
            if self.kernel[axis] < 1 or self.output[axis] < 1:
                raise RefdesignError(
                    f"weights: the window spans {self.dilation[axis] * (self.kernel[axis] - 1) + 1} pixels, "
                    f"the padded map has {self.extent[axis] + 2 * self.padding[axis]}"
                )

    @property
    def output(self) -> tuple[int, int]:
        """The number of windows, (rows, columns)."""
        rows, columns = (
            (self.extent[axis] + 2 * self.padding[axis] - self.dilation[axis] * (self.kernel[axis] - 1) - 1)
            // self.stride[axis]
            + 1
            for axis in (0, 1)
        )
        return rows, columns

    def source(self, axis: int) -> NDArray[np.intp]:
        """`source_index` of the rows (axis 0) or columns (axis 1)."""
        return source_index(self.extent[axis], self.padding[axis], self.padding_mode)

    def reach(self, axis: int, tap: int) -> slice:
        """Which positions of the padded axis the windows' tap meets, one for each window."""
        start = tap * self.dilation[axis]
        return slice(start, start + (self.output[axis] - 1) * self.stride[axis] + 1, self.stride[axis])

    def inside(self, axis: int) -> NDArray[np.bool_]:
        """Whether a tap of a window lies on the map: bool, shape (output, kernel) along this axis.

        >>> windows = Windows.of((2, 1), (3, 1), stride=1, padding=(1, 0), padding_mode="zeros", dilation=1)
        >>> windows.inside(0)
        array([[False,  True,  True],
               [ True,  True, False]])
        """
        on_map = self.source(axis) >= 0
        return np.stack([on_map[self.reach(axis, tap)] for tap in range(self.kernel[axis])], axis=1)

    def pad(self, array: NDArray[Any], fill: NDArray[Any] | int) -> NDArray[Any]:
        """The padded map: array (N, H, W, ...) to (N, H + 2*rows, W + 2*columns, ...).

        Args:
            array: any dtype; the axes after the columns are carried along.
            fill: what stands where the mode has a constant; broadcast over the axes after the columns.

        >>> windows = Windows.of((1, 2), (1, 3), stride=1, padding=(0, 1), padding_mode="edge", dilation=1)
        >>> windows.pad(np.array([[[5, 7]]]), 0)
        array([[[5, 5, 7, 7]]])
        """
        if self.padding == (0, 0):
            return array
        if self.padding_mode not in FILLS:
            return np.ascontiguousarray(array[:, self.source(0)][:, :, self.source(1)])
        (rows, columns), (top, left) = self.extent, self.padding
        shape = (array.shape[0], rows + 2 * top, columns + 2 * left, *array.shape[3:])
        padded = np.empty(shape, dtype=array.dtype)
        padded[:, top : top + rows, left : left + columns] = array
        for edge in (np.s_[:, :top], np.s_[:, top + rows :], np.s_[:, :, :left], np.s_[:, :, left + columns :]):
            padded[edge] = fill
        return padded
