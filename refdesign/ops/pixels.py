"""First layers: convolution of 8-bit pixels, exact in integers, or in a named order of float64 sums."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import PackedBits, pack_bool, unpack
from refdesign.errors import RefdesignError
from refdesign.ops.padding import FILLS, Windows
from refdesign.ops.products import dot_words

Pair = tuple[int, int]


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
    """The accumulators of a convolution of x = multiplier*p + offset, exact in integers (SPEC section 2).

    Packed weights meet the pixels bit plane by bit plane: with s_k = ±1 for bit k of a pixel,
    2*p = 255 + sum over k of 2**k * s_k, so that 2*sum(p*w) = 255*sum(w) + sum over k of 2**k * sum(s_k*w),
    and each of the inner sums is an XNOR and a popcount over the whole window. int32 weights (a fixed-point grid)
    are multiplied in float64, which holds every partial sum exactly.

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
    weights = w if isinstance(w, PackedBits) else np.asarray(w)
    windows = _check("pixel_conv2d", p, weights.shape, groups, (stride, padding, padding_mode, dilation))
    if isinstance(weights, PackedBits):
        if weights.nonzero is not None:
            raise RefdesignError("pixel_conv2d, weights: found elements that are 0, expected ±1")
    elif weights.dtype != np.int32:
        raise RefdesignError(f"pixel_conv2d, weights: found {weights.dtype}, expected int32 or packed bits")
    _check_range(weights, (int(offset), 255 * int(multiplier) + int(offset)), windows)
    result = np.empty((p.shape[0], *windows.output, weights.shape[0]), dtype=np.int32)
    for n in range(p.shape[0]):
        if isinstance(weights, PackedBits):
            result[n] = _by_bit_planes(p[n : n + 1], weights, multiplier, offset, windows, groups)[0]
        else:
            result[n] = _by_products(p[n : n + 1], weights, multiplier, offset, windows, groups)[0]
    return result


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
    windows = _check("real_conv2d", p, w.shape, groups, (stride, padding, padding_mode, dilation))
    for name, array, shape in (("weights", w, w.shape), ("scale", scale, p.shape[3:]), ("shift", shift, p.shape[3:])):
        if array.dtype != np.float32 or array.shape != shape:
            raise RefdesignError(
                f"real_conv2d, {name}: found {array.dtype} of shape {array.shape}, expected float32 of shape {shape}"
            )
    x = p.astype(np.float32)
    x *= scale
    x += shift
    padded = windows.pad(x.astype(np.float64), FILLS.get(padding_mode, 0))
    out, rows, columns, depth = w.shape
    per_group = out // groups
    shape = (p.shape[0], *windows.output, out)
    total, magnitude = np.zeros(shape), np.zeros(shape)
    taps = [(i, j, c) for i in range(rows) for j in range(columns) for c in range(depth)]
    for group in range(groups):
        channels = np.s_[..., group * per_group : (group + 1) * per_group]
        for i, j, c in taps:
            values = padded[:, windows.reach(0, i), windows.reach(1, j), group * depth + c, np.newaxis]
            terms = values * w[channels[1], i, j, c].astype(np.float64)
            total[channels] += terms
            magnitude[channels] += np.abs(terms)
    v = total.astype(np.float32)
    n, u = rows * columns * depth, 2.0**-24
    bound = (n * u / (1 - n * u) + 2 * n * 2.0**-53) * magnitude + u * np.abs(total) + (n + 1) * 2.0**-149
    return v, np.nextafter(bound.astype(np.float32), np.float32(np.inf))


def _check(
    name: str, p: NDArray[np.uint8], weights: tuple[int, ...], groups: int, geometry: tuple[object, ...]
) -> Windows:
    if len(weights) != 4:
        raise RefdesignError(f"{name}, weights: found shape {weights}, expected (O, rows, columns, I/groups)")
    if groups < 1 or weights[0] % groups:
        raise RefdesignError(f"{name}, groups: found {groups}, expected a divisor of {weights[0]} output channels")
    if p.dtype != np.uint8 or p.ndim != 4 or p.shape[3] != weights[3] * groups:
        raise RefdesignError(
            f"{name}, pixels: found {p.dtype} of shape {p.shape}, expected uint8 (N, H, W, {weights[3] * groups})"
        )
    names = ("stride", "padding", "padding_mode", "dilation")
    extent, kernel = (p.shape[1], p.shape[2]), (weights[1], weights[2])
    return Windows.of(extent, kernel, **dict(zip(names, geometry, strict=True)))


def _check_range(weights: PackedBits | NDArray[np.int32], ends: Pair, windows: Windows) -> None:
    """Refuse weights and values whose products' magnitudes could sum up to more than int32 holds."""
    largest = max(abs(ends[0]), abs(ends[1]), int(windows.padding_mode in ("ones", "minus_ones")))
    if isinstance(weights, PackedBits):
        total = int(np.prod(weights.shape[1:]))
    else:
        total = int(np.abs(weights.astype(np.int64)).sum(axis=(1, 2, 3)).max(initial=0))
    if largest * total >= 2**31:
        raise RefdesignError(f"pixel_conv2d, weights: sums reach {largest * total}, expected less than 2**31 (int32)")


def _windows_of(padded: NDArray[Any], windows: Windows, channels: slice) -> NDArray[Any]:
    """The values that each window sees: (N, H, W, C) to (N*H'*W', rows*columns*depth)."""
    taps = [
        padded[:, windows.reach(0, i), windows.reach(1, j), channels]
        for i in range(windows.kernel[0])
        for j in range(windows.kernel[1])
    ]
    return np.stack(taps, axis=3).reshape(taps[0].size // taps[0].shape[-1], -1)


def _by_bit_planes(
    p: NDArray[np.uint8], w: PackedBits, multiplier: int, offset: int, windows: Windows, groups: int
) -> NDArray[np.int32]:
    out, _, _, depth = w.shape
    per_group = out // groups
    bits = unpack(w).reshape(out, -1)
    packed_weights = pack_bool(bits > 0)
    sums = bits.sum(axis=1, dtype=np.int64)
    inside = windows.pad(np.ones((1, *p.shape[1:3], 1), dtype=np.uint8), 0)
    fill = FILLS.get(windows.padding_mode, 0)
    padded = windows.pad(p, 0)
    result = np.empty((p.shape[0] * windows.output[0] * windows.output[1], out), dtype=np.int64)
    # Padded positions hold p = 0, so their x would be the offset: what is missing there is fill - offset.
    outside = 1 - _windows_of(inside, windows, np.s_[:1]).astype(np.int64)
    taps = bits.reshape(out, -1, depth).sum(axis=2, dtype=np.int64)
    corrections = (fill - offset) * (outside @ taps.T)
    corrections = np.tile(corrections, (p.shape[0], 1))
    for group in range(groups):
        channels = slice(group * per_group, (group + 1) * per_group)
        values = _windows_of(padded, windows, np.s_[group * depth : (group + 1) * depth])
        doubled = 255 * np.broadcast_to(sums[channels], (len(values), per_group))
        for k in range(8):
            plane = pack_bool((values & np.uint8(1 << k)) != 0)
            doubled = doubled + (dot_words(plane.words, packed_weights.words[channels], plane.length) << k)
        result[:, channels] = multiplier * (doubled >> 1) + offset * sums[channels]
    result += corrections
    return result.astype(np.int32).reshape(p.shape[0], *windows.output, out)


def _by_products(
    p: NDArray[np.uint8], w: NDArray[np.int32], multiplier: int, offset: int, windows: Windows, groups: int
) -> NDArray[np.int32]:
    out, _, _, depth = w.shape
    per_group = out // groups
    x = multiplier * p.astype(np.float64) + offset
    padded = windows.pad(x, FILLS.get(windows.padding_mode, 0))
    matrix = w.reshape(out, -1).astype(np.float64)
    result = np.empty((p.shape[0] * windows.output[0] * windows.output[1], out), dtype=np.int32)
    for group in range(groups):
        channels = slice(group * per_group, (group + 1) * per_group)
        values = _windows_of(padded, windows, np.s_[group * depth : (group + 1) * depth])
        result[:, channels] = values @ matrix[channels].T
    return result.reshape(p.shape[0], *windows.output, out)
