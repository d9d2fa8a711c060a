"""Binary convolution on packed bits: NHWC maps, OHWI weights, integer accumulators."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import WORD, PackedBits, pack_bool
from refdesign.errors import RefdesignError
from refdesign.ops.padding import Windows, pad_bits
from refdesign.ops.products import Words, dot_words


def binary_conv2d(
    x: PackedBits,
    w: PackedBits,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    padding_mode: str = "zeros",
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
) -> NDArray[np.int32]:
    """The accumulators of a binary convolution, by XNOR and popcount (SPEC section 2).

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
    check_conv("binary_conv2d", x.shape, w, groups)
    n, height, width, _ = x.shape
    out, rows, columns, depth = w.shape
    windows = Windows.of(
        (height, width), (rows, columns), stride=stride, padding=padding, padding_mode=padding_mode, dilation=dilation
    )
    padded = pad_bits(x, windows)
    words = split_groups(padded.words, x.length, groups)
    nonzero = None if padded.nonzero is None else split_groups(padded.nonzero, x.length, groups)
    result = np.zeros((n, *windows.output, out), dtype=np.int32)
    per_group = out // groups
    for group in range(groups):
        channels = slice(group * per_group, (group + 1) * per_group)
        for i in range(rows):
            for j in range(columns):
                tap = np.s_[:, windows.reach(0, i), windows.reach(1, j), group]
                flat = words[tap].reshape(-1, words.shape[-1])
                mask = None if nonzero is None else nonzero[tap].reshape(flat.shape)
                sums = dot_words(flat, w.words[channels, i, j], depth, mask)
                result[..., channels] += sums.reshape(n, *windows.output, per_group)
    return result


def check_conv(name: str, shape: tuple[int, ...], w: PackedBits, groups: int) -> None:
    """Refuse inputs (N, H, W, I) and weights (O, rows, columns, I/groups) that do not fit each other."""
    if w.words.ndim != 4 or w.nonzero is not None:
        found = f"shape {w.shape}" if w.nonzero is None else "elements that are 0"
        raise RefdesignError(f"{name}, weights: found {found}, expected ±1 of shape (O, rows, columns, I/groups)")
    out, rows, columns, depth = w.shape
    if not isinstance(groups, (int, np.integer)) or groups < 1 or out % groups:
        raise RefdesignError(f"{name}, groups: found {groups}, expected a divisor of {out} output channels")
    if len(shape) != 4 or shape[3] != depth * groups:
        raise RefdesignError(f"{name}, inputs: found shape {shape}, expected (N, H, W, {depth * groups})")
    if rows * columns * depth >= 2**31:
        raise RefdesignError(f"{name}, weights: a fan-in of {rows * columns * depth}, expected less than 2**31")


def split_groups(words: Words, length: int, groups: int) -> Words:
    """Packed channels, regrouped so that each group starts a word: (..., words) to (..., groups, words a group).

    >>> split_groups(np.array([0b1101], dtype=np.uint64), 4, 2)
    array([[1],
           [3]], dtype=uint64)
    """
    depth = length // groups
    if groups == 1 or depth % WORD == 0:
        return words.reshape(*words.shape[:-1], groups, words.shape[-1] // groups)
    octets = np.ascontiguousarray(words).astype("<u8", copy=False).view(np.uint8)
    bits = np.unpackbits(octets, axis=-1, count=length, bitorder="little").view(np.bool_)
    return pack_bool(bits.reshape(*words.shape[:-1], groups, depth)).words
