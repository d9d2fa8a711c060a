"""Binary convolution by one float32 matrix product for two output channels at a time, where that is exact.

With x in {0, 1} and s1 = sum x*w1, s2 = sum x*w2, a single product with the weights w1 + S*w2 gives s1 + S*s2. As
long as no partial sum, in any order, reaches 2**24, every operation on the way is exact in float32; as long as s1
takes fewer than S values, both sums come back out of it by a division.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from refdesign.bits import PackedBits, unpack
from refdesign.errors import RefdesignError
from refdesign.ops.conv import check_inputs, check_weights, outside_sums
from refdesign.ops.padding import FILLS, Windows

Pair = tuple[int, int]
_PLACES = 256
"""Windows whose values are laid out at a time."""


class TwoFieldConv:
    """The same convolution as `refdesign.ops.conv.PreparedConv`, by matrix products; needs float32 sums below 2**24.

    Args:
        w: packed weights of ±1, shape (O, rows, columns, I), O even.
        extent: rows and columns of the maps.
        stride, padding, padding_mode, dilation: as in `binary_conv2d`.

    Raises:
        RefdesignError: weights or a geometry that do not fit, an odd number of output channels, or weights for
            which the check does not prove the product exact.

    >>> from refdesign.bits import pack
    >>> layer = TwoFieldConv(pack([[[[1, -1, 1]]], [[[1, 1, 1]]]]), (1, 2))
    >>> layer(pack([[[[1, 1, 1], [-1, 1, -1]]]]))
    array([[[[ 1,  3],
             [-3, -1]]]], dtype=int32)
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
    ) -> None:
        check_weights("two-field convolution", w, 1)
        out, rows, columns, self._depth = w.shape
        if out % 2:
            raise RefdesignError(f"two-field convolution, weights: found {out} output channels, expected an even one")
        self._windows = Windows.of(
            extent, (rows, columns), stride=stride, padding=padding, padding_mode=padding_mode, dilation=dilation
        )
        fan_in = rows * columns * self._depth
        values = unpack(w).reshape(out, fan_in)
        self._half, self._scale = out // 2, fan_in + 1
        plus = (values > 0).sum(axis=1, dtype=np.int64)
        low, high = slice(None, self._half), slice(self._half, None)
        # A partial sum of s1 + S*s2 is largest if it takes every weight of one sign in w2; minus[low] is added to it.
        minus = fan_in - plus
        largest = int(np.maximum(plus, minus)[high].max()) * (self._scale + 1) + fan_in
        if largest >= 2**24:
            raise RefdesignError(
                f"two-field convolution, weights: partial sums reach {largest}, expected less than 2**24 (float32)"
            )
        self._matrix = np.ascontiguousarray(
            (values[low] + self._scale * values[high].astype(np.int32)).T.astype(np.float32)
        )
        self._shift = minus[low].astype(np.float32)
        # a = 2*sum(x*w) - sum(w) over the valid positions.
        taps = values.reshape(out, rows * columns, self._depth).sum(axis=2, dtype=np.int64)
        base = -taps.sum(axis=1)
        if padding_mode == "zeros":
            base = base + outside_sums(self._windows, taps)
        self._base = np.broadcast_to(base, (*self._windows.output, out)).astype(np.int32)

    def __call__(self, x: PackedBits) -> NDArray[np.int32]:
        """The accumulators of packed maps (N, H, W, I) of ±1: int32, (N, H', W', O).

        Raises:
            RefdesignError: another shape, or elements that are 0.
        """
        check_inputs("two-field convolution", x.shape, self._windows.extent, self._depth)
        if x.nonzero is not None:
            raise RefdesignError("two-field convolution, inputs: found elements that are 0, expected ±1")
        n, (height, width) = x.words.shape[0], self._windows.output
        result = np.empty((n, height, width, 2 * self._half), dtype=np.int32)
        some = max(1, _PLACES // (height * width))
        lines = max(1, min(height, _PLACES // width))
        fan_in = self._matrix.shape[0]
        values = np.empty((some * lines * width, fan_in), dtype=np.float32)
        products = np.empty((some * lines * width, self._half), dtype=np.float32)
        for first in range(0, n, some):
            images = slice(first, first + some)
            seen = self._windows_of(x.words[images])
            for top in range(0, height, lines):
                block = seen[:, top : top + lines]
                size = block.shape[0] * block.shape[1] * width
                np.copyto(values[:size].reshape(block.shape), block)
                np.matmul(values[:size], self._matrix, out=products[:size])
                self._separate(products[:size], result[images, top : top + lines])
        result += self._base
        return result

    def _windows_of(self, words: NDArray[np.uint64]) -> NDArray[np.float32]:
        """A view of what every window sees, 1 for +1 and 0 for -1: (N, H', W', rows, columns, I)."""
        octets = np.ascontiguousarray(words).astype("<u8", copy=False).view(np.uint8)
        bits = np.unpackbits(octets, axis=-1, count=self._depth, bitorder="little").astype(np.float32)
        windows = self._windows
        padded = windows.pad(bits, int(FILLS.get(windows.padding_mode, 0) == 1))
        image, row, column, channel = padded.strides
        shape = (words.shape[0], *windows.output, *windows.kernel, self._depth)
        steps = (row * windows.stride[0], column * windows.stride[1])
        taps = (row * windows.dilation[0], column * windows.dilation[1])
        return as_strided(padded, shape, (image, *steps, *taps, channel), writeable=False)

    def _separate(self, products: NDArray[np.float32], result: NDArray[np.int32]) -> None:
        """Write 2*s1 and 2*s2 of products s1 + S*s2; the products are overwritten."""
        # (s1 + minus)/S lies in [0, 1), at least 1/S below 1, and the quotient's rounding error is below 1/S.
        upper = products + self._shift
        upper /= np.float32(self._scale)
        np.floor(upper, out=upper)
        products -= upper * np.float32(self._scale)
        for sums, channels in ((products, slice(None, self._half)), (upper, slice(self._half, None))):
            sums *= np.float32(2)
            part = result[..., channels]
            np.copyto(part, sums.reshape(part.shape), casting="unsafe")
