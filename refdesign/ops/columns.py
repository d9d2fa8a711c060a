"""The words that each window of a packed map sees, as columns, with partly filled words put together."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from refdesign.bits import WORD, pack_bool
from refdesign.ops.padding import Windows

Words = NDArray[np.uint64]


def window_columns(padded: Words, windows: Windows, depth: int) -> Words:
    """The columns of a padded map: every window's words, one row of the result for each word of a window.

    Args:
        padded: uint64, (N, rows, columns, words for `depth` channels): the padded map.
        windows: which windows.
        depth: the channels that a pixel's words hold.

    Returns:
        uint64, shape (K, N*H'*W'), in the order of `weight_columns`.

    >>> windows = Windows.of((1, 3), (1, 2), stride=1, padding=0, padding_mode="zeros", dilation=1)
    >>> window_columns(np.array([[[[1], [2], [3]]]], dtype=np.uint64), windows, 64)
    array([[1, 2],
           [2, 3]], dtype=uint64)
    """
    (down, right), (height, width) = windows.stride, windows.output
    image, row, column, word = padded.strides
    shape = (*windows.kernel, padded.shape[3], padded.shape[0], height, width)
    strides = (
        row * windows.dilation[0],
        column * windows.dilation[1],
        word,
        image,
        row * down,
        column * right,
    )
    seen = as_strided(padded, shape, strides, writeable=False)
    taps = windows.kernel[0] * windows.kernel[1]
    return _merge(seen.reshape(taps, padded.shape[3], padded.shape[0] * height * width), depth)


def weight_columns(words: Words, depth: int) -> Words:
    """The weights as columns, in the order of `window_columns`.

    Args:
        words: uint64, (O, rows, columns, words for `depth` channels).
        depth: the channels that a tap's words hold.

    Returns:
        uint64, shape (K, O); K = rows*columns*words, or less where words are put together.

    >>> [hex(word) for word in weight_columns(np.array([[[[0b101], [0b011]]]], dtype=np.uint64), 3).ravel()]
    ['0x1d']
    """
    out, rows, columns, per_tap = words.shape
    return _merge(np.ascontiguousarray(words.reshape(out, rows * columns, per_tap).transpose(1, 2, 0)), depth)


def _merge(taps: Words, depth: int) -> Words:
    """(taps, words, P) to (K, P): last words that are less than half full share a word with those of other taps."""
    count, per_tap, places = taps.shape
    tail = depth % WORD
    together = WORD // tail if tail else 1
    if together == 1 or count == 1:
        return taps.reshape(count * per_tap, places)
    full = taps[:, :-1].reshape(count * (per_tap - 1), places)
    tails = taps[:, -1]
    merged = [tails[first].copy() for first in range(0, count, together)]
    for tap in range(count):
        if tap % together:
            merged[tap // together] |= tails[tap] << np.uint64(tap % together * tail)
    return np.concatenate([full, np.stack(merged)])


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
