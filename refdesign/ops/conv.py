"""Binary convolution on packed bits: NHWC maps, OHWI weights, integer accumulators."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import PackedBits, check_packed, tail_mask
from refdesign.checks import is_whole
from refdesign.errors import RefdesignError
from refdesign.ops.columns import Words, split_groups, weight_columns, window_columns
from refdesign.ops.padding import FILLS, Windows
from refdesign.ops.products import count_differences

Pair = tuple[int, int]
_PLACES = 2048
"""Windows that are worked on at a time: as many images as stay below it, at least one."""


def binary_conv2d(
    x: PackedBits,
    w: PackedBits,
    *,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    padding_mode: str = "zeros",
    dilation: int | Pair = 1,
    groups: int = 1,
) -> NDArray[np.int32]:
    """The accumulators of a binary convolution, by XNOR and popcount (docs/method.md, section 2).

    With v valid positions in a window a = v - 2*popcount(x xor w), under the mask of the valid positions.

    Args:
        x: packed inputs, shape (N, H, W, I); elements may be 0 (`PackedBits.nonzero`).
        w: packed weights of ±1, shape (O, rows, columns, I/groups).
        stride, padding, dilation: an int or a pair (rows, columns).
        padding_mode: `"zeros"` (padded positions count for nothing), `"ones"`, `"minus_ones"`,
            `"symmetric"` (mirrored with the edge), `"reflect"`, `"edge"`, `"circular"`.
        groups: input and output channels fall into this many independent groups.

    Returns:
        int32, shape (N, H', W', O).

    Raises:
        RefdesignError: shapes that do not fit, weights that carry zeros, a window larger than the map.

    >>> from refdesign.bits import pack
    >>> x = pack(np.ones((1, 2, 3, 5)))
    >>> binary_conv2d(x, pack(np.ones((1, 3, 3, 5))), padding=1)[0, :, :, 0]
    array([[20, 30, 20],
           [20, 30, 20]], dtype=int32)
    """
    check_packed("binary_conv2d, inputs", x)
    check_conv("binary_conv2d", x.shape, w, groups)
    prepared = PreparedConv(
        w,
        (x.shape[1], x.shape[2]),
        stride=stride,
        padding=padding,
        padding_mode=padding_mode,
        dilation=dilation,
        groups=groups,
    )
    return prepared(x)


class PreparedConv:
    """A convolution's weights and borders, laid out once for maps of one size; what `binary_conv2d` runs on.

    Args:
        w: packed weights of ±1, shape (O, rows, columns, I/groups).
        extent: rows and columns of the maps.
        stride, padding, padding_mode, dilation, groups: as in `binary_conv2d`.

    Raises:
        RefdesignError: weights or a geometry that do not fit.

    >>> from refdesign.bits import pack
    >>> layer = PreparedConv(pack(np.ones((1, 3, 3, 5))), (2, 3), padding=1)
    >>> layer(pack(np.ones((1, 2, 3, 5))))[0, :, :, 0]
    array([[20, 30, 20],
           [20, 30, 20]], dtype=int32)
    """

    def __init__(
        self,
        w: PackedBits,
        extent: Pair,
        *,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        padding_mode: str = "zeros",
        dilation: int | Pair = 1,
        groups: int = 1,
    ) -> None:
        check_weights("binary_conv2d", w, groups)
        self._out, rows, columns, self._depth = w.shape
        self.groups = groups
        self.windows = Windows.of(
            extent, (rows, columns), stride=stride, padding=padding, padding_mode=padding_mode, dilation=dilation
        )
        per_group = self._out // groups
        self._weights = [
            weight_columns(w.words[first : first + per_group], self._depth) for first in range(0, self._out, per_group)
        ]
        self._base = np.full((1, 1, self._out), rows * columns * self._depth, dtype=np.int32)
        if padding_mode == "zeros":
            # The words outside the map are 0, as if every element were -1; what that adds is taken back here.
            ones = np.bitwise_count(w.words).sum(axis=-1, dtype=np.int64).reshape(self._out, -1)
            self._base = self._base + outside_sums(self.windows, 2 * ones - self._depth).astype(np.int32)

    def __call__(self, x: PackedBits) -> NDArray[np.int32]:
        """The accumulators of packed maps (N, H, W, I): int32, (N, H', W', O)."""
        n, (height, width) = x.words.shape[0], self.windows.output
        check_inputs("binary_conv2d", x.shape, self.windows.extent, self._depth * self.groups)
        result = np.empty((n, height, width, self._out), dtype=np.int32)
        some = max(1, _PLACES // (height * width))
        for first in range(0, n, some):
            part = slice(first, first + some)
            nonzero = None if x.nonzero is None else x.nonzero[part]
            self._accumulate(x.words[part], x.length, nonzero, result[part])
        return result

    def differences(self, words: Words, length: int, group: int, nonzero: Words | None = None) -> NDArray[np.integer]:
        """popcount(x xor w) over each window for one group: unsigned, (N*H'*W', O/groups).

        Args:
            words: uint64, the packed maps (N, H, W, words); outside the map stand words of 0, or of ones with
                `"ones"`.
            length: the channels that they hold.
            group: which group of channels.
            nonzero: as in `PackedBits`.
        """
        columns = self._columns(words, length, group, FILLS.get(self.windows.padding_mode, 0) == 1)
        mask = None
        if nonzero is not None:
            mask = self._columns(nonzero, length, group, FILLS.get(self.windows.padding_mode, 0) != 0)
        return count_differences(columns, self._weights[group], mask)

    def _columns(self, words: Words, length: int, group: int, ones_outside: bool) -> Words:
        grouped = split_groups(words, length, self.groups)[:, :, :, group]
        fill = tail_mask(self._depth) if ones_outside else 0
        return window_columns(self.windows.pad(grouped, fill), self.windows, self._depth)

    def _accumulate(self, words: Words, length: int, nonzero: Words | None, result: NDArray[np.int32]) -> None:
        per_group = self._out // self.groups
        for group in range(self.groups):
            channels = slice(group * per_group, (group + 1) * per_group)
            part = result[..., channels]
            np.copyto(part, self.differences(words, length, group, nonzero).reshape(part.shape))
        result *= -2
        if nonzero is None:
            result += self._base
            return
        for group in range(self.groups):
            mask = self._columns(nonzero, length, group, FILLS.get(self.windows.padding_mode, 0) != 0)
            valid = np.bitwise_count(mask).sum(axis=0, dtype=np.int32).reshape(*result.shape[:-1], 1)
            result[..., group * per_group : (group + 1) * per_group] += valid


def outside_sums(windows: Windows, taps: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sums over the taps of each window that lie outside the map, under a padding mode with a constant.

    Args:
        windows: which windows.
        taps: int64, (O, rows*columns): a number for each tap.

    Returns:
        int64, (H', W', O); (1, 1, O) zeros where no tap lies outside or the mode has no constant.

    >>> windows = Windows.of((1, 3), (1, 3), stride=1, padding=(0, 1), padding_mode="zeros", dilation=1)
    >>> outside_sums(windows, np.array([[1, 10, 100]])).ravel()
    array([  1,   0, 100])
    """
    inside = windows.inside(0)[:, np.newaxis, :, np.newaxis] & windows.inside(1)[:, np.newaxis]
    if inside.all():
        return np.zeros((1, 1, taps.shape[0]), dtype=np.int64)
    return np.logical_not(inside).reshape(*windows.output, -1).astype(np.int64) @ taps.T


def check_conv(name: str, shape: tuple[int, ...], w: PackedBits, groups: int) -> None:
    """Refuse inputs (N, H, W, I) and weights (O, rows, columns, I/groups) that do not fit each other."""
    check_weights(name, w, groups)
    if len(shape) != 4 or shape[3] != w.length * groups:
        raise RefdesignError(f"{name}, inputs: found shape {shape}, expected (N, H, W, {w.length * groups})")


def check_inputs(name: str, shape: tuple[int, ...], extent: Pair, channels: int) -> None:
    """Refuse inputs of another shape than (N, *extent, channels)."""
    if len(shape) != 4 or shape[1:] != (*extent, channels):
        raise RefdesignError(f"{name}, inputs: found shape {shape}, expected (N, {extent[0]}, {extent[1]}, {channels})")


def check_weights(name: str, w: PackedBits, groups: int) -> None:
    """Refuse weights that are not ±1 of shape (O, rows, columns, I/groups) with O a multiple of the groups."""
    check_packed(f"{name}, weights", w)
    if w.words.ndim != 4 or w.nonzero is not None:
        found = f"shape {w.shape}" if w.nonzero is None else "elements that are 0"
        raise RefdesignError(f"{name}, weights: found {found}, expected ±1 of shape (O, rows, columns, I/groups)")
    out, rows, columns, depth = w.shape
    if not is_whole(groups, 1) or out < 1 or out % groups:
        raise RefdesignError(f"{name}, groups: found {groups}, expected a divisor of {out} output channels")
    if rows * columns * depth >= 2**31:
        raise RefdesignError(f"{name}, weights: a fan-in of {rows * columns * depth}, expected less than 2**31")
