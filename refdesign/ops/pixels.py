"""First layers: convolution of 8-bit pixels, exact in integers, or in a named order of float64 sums."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import PackedBits, pack_bool, unpack
from refdesign.checks import as_array, check_array, is_whole
from refdesign.errors import RefdesignError
from refdesign.ops.conv import PreparedConv, check_inputs, check_weights, outside_sums
from refdesign.ops.padding import FILLS, Windows

Pair = tuple[int, int]
_PLACES = 1024
"""Windows that are worked on at a time: as many images as stay below it, at least one."""


def pixel_conv2d(
    p: NDArray[np.uint8],
    w: PackedBits | NDArray[np.int32],
    *,
    multiplier: int = 1,
    offset: int = 0,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    padding_mode: str = "zeros",
    dilation: int | Pair = 1,
    groups: int = 1,
) -> NDArray[np.int32]:
    """The accumulators of a convolution of x = multiplier*p + offset, exact in integers (docs/method.md, section 2).

    Packed weights meet the pixels bit plane by bit plane. With s_k = ±1 for bit k of a pixel
    2*p = 255 + sum over k of 2**k * s_k, and sum(s_k*w) = v - 2*popcount(plane k xor w) over the v positions of a
    window, so that sum(p*w) = 255*(number of weights +1) - sum over k of 2**k * popcount(plane k xor w). int32
    weights (a fixed-point grid) are multiplied in a float type that holds every partial sum exactly.

    Args:
        p: uint8 pixels, (N, H, W, I).
        w: packed weights of ±1 or int32 weights, (O, rows, columns, I/groups).
        multiplier, offset: integers that map a pixel to its value x.
        stride, padding, dilation: an int or a pair (rows, columns).
        padding_mode: as in `binary_conv2d`; `"zeros"`, `"ones"` and `"minus_ones"` fill x (not p).
        groups: input and output channels fall into this many independent groups.

    Returns:
        int32, (N, H', W', O).

    Raises:
        RefdesignError: wrong dtypes or shapes, or sums that int32 may not hold.

    >>> from refdesign.bits import pack
    >>> p = np.array([[[[200, 7]]]], dtype=np.uint8)
    >>> pixel_conv2d(p, pack([[[[1, -1]]]]), multiplier=2, offset=-255)
    array([[[[386]]]], dtype=int32)
    """
    weights = w if isinstance(w, PackedBits) else as_array("pixel_conv2d, weights", w)
    _check_shapes("pixel_conv2d", p, weights.shape, groups)
    prepared = PreparedPixelConv(
        weights,
        (p.shape[1], p.shape[2]),
        multiplier=multiplier,
        offset=offset,
        stride=stride,
        padding=padding,
        padding_mode=padding_mode,
        dilation=dilation,
        groups=groups,
    )
    return prepared(p)


class PreparedPixelConv:
    """A first layer's weights and borders, laid out once for images of one size; what `pixel_conv2d` runs on.

    Args:
        w, multiplier, offset, stride, padding, padding_mode, dilation, groups: as in `pixel_conv2d`.
        extent: rows and columns of the images.

    Raises:
        RefdesignError: weights or a geometry that do not fit, or sums that int32 may not hold.

    >>> from refdesign.bits import pack
    >>> layer = PreparedPixelConv(pack([[[[1, -1]]]]), (1, 1), multiplier=2, offset=-255)
    >>> layer(np.array([[[[200, 7]]]], dtype=np.uint8))
    array([[[[386]]]], dtype=int32)
    """

    def __init__(
        self,
        w: PackedBits | NDArray[np.int32],
        extent: Pair,
        *,
        multiplier: int = 1,
        offset: int = 0,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        padding_mode: str = "zeros",
        dilation: int | Pair = 1,
        groups: int = 1,
    ) -> None:
        if len(w.shape) != 4:
            raise RefdesignError(f"pixel_conv2d, weights: found shape {w.shape}, expected (O, rows, columns, I/groups)")
        if not isinstance(w, PackedBits) and w.dtype != np.int32:
            raise RefdesignError(f"pixel_conv2d, weights: found {w.dtype}, expected int32 or packed bits")
        self._windows = Windows.of(
            extent,
            (w.shape[1], w.shape[2]),
            stride=stride,
            padding=padding,
            padding_mode=padding_mode,
            dilation=dilation,
        )
        self._channels = w.shape[3] * groups
        _check_range(w, multiplier, offset, self._windows)
        make: type[_BitPlanes] | type[_Products] = _Products
        if isinstance(w, PackedBits):
            check_weights("pixel_conv2d", w, groups)
            make = _BitPlanes
        self._sums = make(w, self._windows, multiplier, offset, groups)

    def __call__(self, p: NDArray[np.uint8]) -> NDArray[np.int32]:
        """The accumulators of uint8 pixels (N, H, W, I): int32, (N, H', W', O)."""
        if p.dtype != np.uint8:
            raise RefdesignError(f"pixel_conv2d, pixels: found {p.dtype}, expected uint8")
        check_inputs("pixel_conv2d", p.shape, self._windows.extent, self._channels)
        height, width = self._windows.output
        result = np.empty((p.shape[0], height, width, self._sums.out), dtype=np.int32)
        some = max(1, _PLACES // (height * width))
        for first in range(0, p.shape[0], some):
            part = slice(first, first + some)
            self._sums.write(p[part], result[part])
        return result


class _BitPlanes:
    """Sums for packed weights; a plane of bits is to the binary convolution one more image."""

    def __init__(self, w: Any, windows: Windows, multiplier: int, offset: int, groups: int) -> None:
        self.out, rows, columns, depth = w.shape
        # Where the mode has a constant the planes are padded with 0 bits: p = 0, x = offset. Taken back below.
        fill = FILLS.get(windows.padding_mode)
        self._planes = PreparedConv(
            w,
            windows.extent,
            stride=windows.stride,
            padding=windows.padding,
            padding_mode=windows.padding_mode if fill is None else "zeros",
            dilation=windows.dilation,
            groups=groups,
        )
        self._multiplier = multiplier
        taps = unpack(w).reshape(self.out, rows * columns, depth).sum(axis=2, dtype=np.int64)
        sums = taps.sum(axis=1)
        plus = (sums + rows * columns * depth) // 2
        base = 255 * multiplier * plus + offset * sums
        if fill is not None:
            base = base + (fill - offset) * outside_sums(windows, taps)
        self._base = base.astype(np.int32)
        self._narrow = np.uint16 if 255 * rows * columns * depth < 2**16 else np.uint32

    def write(self, p: NDArray[np.uint8], result: NDArray[np.int32]) -> None:
        """result = base - multiplier * sum over k of 2**k * popcount(plane k xor w)."""
        planes = _bit_planes(p)
        groups = self._planes.groups
        per_group = self.out // groups
        for group in range(groups):
            differ = self._planes.differences(planes, p.shape[3], group).reshape(8, -1, per_group)
            total = differ[7].astype(self._narrow, order="K")
            for k in range(6, -1, -1):
                total += total
                total += differ[k]
            part = result[..., group * per_group : (group + 1) * per_group]
            np.copyto(part, total.reshape(part.shape))
        # _check_range keeps the result in int32; base and product may leave it, and both wrap modulo 2**32.
        result *= np.int32(-self._multiplier)
        result += self._base


def _bit_planes(p: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The packed channels of each plane, plane k first for all images: (N, H, W, I) to (8*N, H, W, words)."""
    bits = np.unpackbits(p[np.newaxis], axis=0, bitorder="little").reshape(-1, *p.shape[1:])
    if p.shape[3] > 8:
        return pack_bool(bits.view(np.bool_)).words
    # The few channels of an image: put together plane by plane, np.packbits would start anew for every pixel.
    octets = bits[..., 0].copy()
    for channel in range(1, p.shape[3]):
        octets |= bits[..., channel] << np.uint8(channel)
    return octets.astype(np.uint64)[..., np.newaxis]


class _Products:
    """Sums for int32 weights, by a matrix product in a float type that holds every partial sum."""

    def __init__(self, w: Any, windows: Windows, multiplier: int, offset: int, groups: int) -> None:
        self.out, _, _, self._depth = w.shape
        self._windows, self._groups = windows, groups
        self._multiplier, self._offset = multiplier, offset
        largest = max(abs(offset), abs(255 * multiplier + offset), 1)
        heaviest = int(np.abs(w.astype(np.int64)).sum(axis=(1, 2, 3)).max(initial=0))
        # No partial sum, in any order, exceeds largest * heaviest.
        if largest * heaviest >= 2**53:
            raise RefdesignError(
                f"pixel_conv2d, weights: magnitudes sum to {largest * heaviest}, expected less than 2**53 (float64)"
            )
        self._type = np.float32 if largest * heaviest < 2**24 else np.float64
        self._matrix = w.reshape(self.out, -1).T.astype(self._type)

    def write(self, p: NDArray[np.uint8], result: NDArray[np.int32]) -> None:
        """result = sum of (multiplier*p + offset)*w over each window."""
        x = p.astype(np.int64) * self._multiplier + self._offset
        padded = self._windows.pad(x.astype(self._type), FILLS.get(self._windows.padding_mode, 0))
        per_group = self.out // self._groups
        for group in range(self._groups):
            channels = slice(group * per_group, (group + 1) * per_group)
            depth = padded[..., group * self._depth : (group + 1) * self._depth]
            values = np.concatenate(
                [
                    depth[:, self._windows.reach(0, i), self._windows.reach(1, j)]
                    for i in range(self._windows.kernel[0])
                    for j in range(self._windows.kernel[1])
                ],
                axis=3,
            )
            result[..., channels] = values @ self._matrix[:, channels]


def real_conv2d(
    p: NDArray[np.uint8],
    w: NDArray[np.float32],
    scale: NDArray[np.float32],
    shift: NDArray[np.float32],
    *,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    padding_mode: str = "zeros",
    dilation: int | Pair = 1,
    groups: int = 1,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A first layer with float32 weights on x = fl(fl(p*scale) + shift), and how far other orders may be off.

    The products are summed over rows, columns, channels, in this order, in float64, and rounded to float32
    once. A framework that sums in float32 in any order, with or without fused multiply-add, gets a value
    within `bound` of it: n roundings on the way of each of n products, (1 + u)**n - 1 <= n*u/(1 - n*u) with
    u = 2**-24, times the sum of the products' magnitudes, and the underflow of each product.

    Args:
        p: uint8 pixels, (N, H, W, I).
        w: float32, (O, rows, columns, I/groups).
        scale, shift: float32, (I,).
        stride, padding, dilation, padding_mode, groups: as in `pixel_conv2d`.

    Returns:
        (v, bound), both float32, (N, H', W', O); the bound is rounded upwards.

    Raises:
        RefdesignError: wrong dtypes or shapes.

    >>> p = np.array([[[[2], [4]]]], dtype=np.uint8)
    >>> one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
    >>> v, bound = real_conv2d(p, np.float32([[[[0.5], [0.25]]]]), one, zero)
    >>> v.item(), 0 < bound.item() < 1e-6
    (2.0, True)
    """
    _check_shapes("real_conv2d", p, w.shape, groups)
    extent, kernel = (p.shape[1], p.shape[2]), (w.shape[1], w.shape[2])
    windows = Windows.of(extent, kernel, stride=stride, padding=padding, padding_mode=padding_mode, dilation=dilation)
    for name, array, shape in (("weights", w, w.shape), ("scale", scale, p.shape[3:]), ("shift", shift, p.shape[3:])):
        if array.dtype != np.float32 or array.shape != shape:
            raise RefdesignError(
                f"real_conv2d, {name}: found {array.dtype} of shape {array.shape}, expected float32 of shape {shape}"
            )
    x = p.astype(np.float32)
    x *= scale
    x += shift
    v = np.empty((p.shape[0], *windows.output, w.shape[0]), dtype=np.float32)
    bound = np.empty_like(v)
    n, u = w.shape[1] * w.shape[2] * w.shape[3], 2.0**-24
    for image in range(p.shape[0]):
        padded = windows.pad(x[image : image + 1].astype(np.float64), FILLS.get(padding_mode, 0))[0]
        total, magnitude = _sums_in_order(padded, w.astype(np.float64), windows, groups)
        limit = (n * u / (1 - n * u) + 2 * n * 2.0**-53) * magnitude + u * np.abs(total) + (n + 1) * 2.0**-149
        with np.errstate(over="ignore"):
            v[image] = total
            bound[image] = limit
    if not (np.isfinite(v).all() and np.isfinite(bound).all()):
        raise RefdesignError("real_conv2d, weights: a sum leaves the range of float32, expected finite sums")
    return v, np.nextafter(bound, np.float32(np.inf))


def _sums_in_order(
    padded: NDArray[np.float64], w: NDArray[np.float64], windows: Windows, groups: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums of products, and of their magnitudes, over rows, columns, channels: (rows, columns, I) to (H', W', O)."""
    out, rows, columns, depth = w.shape
    per_group = out // groups
    total, magnitude = np.zeros((*windows.output, out)), np.zeros((*windows.output, out))
    for group in range(groups):
        channels = slice(group * per_group, (group + 1) * per_group)
        for i, j, c in np.ndindex(rows, columns, depth):
            values = padded[windows.reach(0, i), windows.reach(1, j), group * depth + c, np.newaxis]
            terms = values * w[channels, i, j, c]
            total[..., channels] += terms
            magnitude[..., channels] += np.abs(terms)
    return total, magnitude


def _check_shapes(name: str, p: NDArray[np.uint8], weights: tuple[int, ...], groups: int) -> None:
    check_array(f"{name}, pixels", p)
    if len(weights) != 4:
        raise RefdesignError(f"{name}, weights: found shape {weights}, expected (O, rows, columns, I/groups)")
    if not is_whole(groups, 1) or weights[0] % groups:
        raise RefdesignError(f"{name}, groups: found {groups}, expected a divisor of {weights[0]} output channels")
    if p.dtype != np.uint8 or p.ndim != 4 or p.shape[3] != weights[3] * groups:
        raise RefdesignError(
            f"{name}, pixels: found {p.dtype} of shape {p.shape}, expected uint8 (N, H, W, {weights[3] * groups})"
        )


def _check_range(w: PackedBits | NDArray[np.int32], multiplier: int, offset: int, windows: Windows) -> None:
    """Refuse weights whose sums over some image would not fit into int32."""
    values = (unpack(w) if isinstance(w, PackedBits) else w).astype(np.int64)
    plus = np.maximum(values, 0).sum(axis=(1, 2, 3))
    minus = plus - values.sum(axis=(1, 2, 3))
    ends = [offset, 255 * multiplier + offset]
    if windows.padding != (0, 0) and windows.padding_mode in FILLS:
        ends.append(FILLS[windows.padding_mode])
    low, high = min(ends), max(ends)
    widest = int(max((plus * high - minus * low).max(initial=0), (minus * high - plus * low).max(initial=0)))
    if widest >= 2**31:
        raise RefdesignError(f"pixel_conv2d, weights: sums reach {widest}, expected less than 2**31 (int32)")
