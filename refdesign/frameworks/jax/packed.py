"""Packed bits in JAX: pure functions on words of 32 bits, integers throughout; they can be jitted and vmapped.

Element c of the last axis is bit c mod 32 of word c div 32, and the bits behind the last element are 0: the same
bits as in `refdesign.bits.PackedBits`, in words that JAX has without its 64-bit mode.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import NDArray

from refdesign.ops.padding import Windows

WORD = 32
"""Bits in a word."""

_TOGETHER = 4
"""Words of a window that one step of the loop over words takes; more are slower where there are many channels."""


def pack(bits: jax.Array) -> jax.Array:
    """Booleans along the last axis as words: (..., C) to uint32 (..., ceil(C/32)).

    >>> pack(jnp.array([True, False, True]))
    Array([5], dtype=uint32)
    """
    length = bits.shape[-1]
    words = -(-length // WORD)
    padded = jnp.pad(bits, [(0, 0)] * (bits.ndim - 1) + [(0, words * WORD - length)])
    places = jnp.arange(WORD, dtype=jnp.uint32)
    lanes = padded.reshape(*bits.shape[:-1], words, WORD).astype(jnp.uint32) << places
    return lanes.sum(axis=-1, dtype=jnp.uint32)


def unpack(words: jax.Array, length: int) -> jax.Array:
    """The inverse of `pack`: bool, (..., length).

    >>> unpack(jnp.array([5], dtype=jnp.uint32), 3)
    Array([ True, False,  True], dtype=bool)
    """
    lanes = words[..., jnp.newaxis] >> jnp.arange(WORD, dtype=jnp.uint32)
    return (lanes & 1).astype(jnp.bool_).reshape(*words.shape[:-1], -1)[..., :length]


def from_uint64(words: NDArray[np.uint64], length: int) -> NDArray[np.uint32]:
    """The words of `PackedBits` as words of 32 bits.

    >>> from_uint64(np.array([5], np.uint64), 3)
    array([5], dtype=uint32)
    """
    halves = np.ascontiguousarray(words).astype("<u8", copy=False).view("<u4")
    return halves[..., : -(-length // WORD)].astype(np.uint32, copy=False)


def to_uint64(words: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """The inverse of `from_uint64`.

    >>> to_uint64(np.array([5], np.uint32))
    array([5], dtype=uint64)
    """
    odd = words.shape[-1] % 2
    whole = np.pad(words, [(0, 0)] * (words.ndim - 1) + [(0, odd)])
    return np.ascontiguousarray(whole).astype("<u4", copy=False).view("<u8").astype(np.uint64, copy=False)


def split_groups(words: jax.Array, length: int, groups: int) -> jax.Array:
    """Packed channels regrouped so that each group starts a word: (..., words) to (..., groups, words a group).

    >>> split_groups(jnp.array([0b1101], dtype=jnp.uint32), 4, 2)
    Array([[1],
           [3]], dtype=uint32)
    """
    depth = length // groups
    if groups == 1 or depth % WORD == 0:
        return words.reshape(*words.shape[:-1], groups, words.shape[-1] // groups)
    return pack(unpack(words, length).reshape(*words.shape[:-1], groups, depth))


def merge_taps(taps: jax.Array, depth: int) -> jax.Array:
    """Words of several taps put together where each holds few channels: (..., taps, words) to (..., K).

    >>> merge_taps(jnp.array([[5], [3]], dtype=jnp.uint32), 3)
    Array([29], dtype=uint32)
    """
    together = WORD // depth
    if together < 2:
        return taps.reshape(*taps.shape[:-2], -1)
    count = taps.shape[-2]
    words = -(-count // together)
    padded = jnp.pad(taps[..., 0], [(0, 0)] * (taps.ndim - 2) + [(0, words * together - count)])
    shifts = jnp.arange(together, dtype=jnp.uint32) * depth
    return (padded.reshape(*taps.shape[:-2], words, together) << shifts).sum(axis=-1, dtype=jnp.uint32)


def pad(maps: jax.Array, windows: Windows, fill: NDArray[np.uint32] | int = 0) -> jax.Array:
    """Maps with what stands around them: (N, H, W, ...) to (N, H + 2*rows, W + 2*columns, ...).

    Args:
        maps: any dtype; the axes after the columns are carried along.
        windows: which windows.
        fill: what stands outside the map under a padding mode with a constant, broadcast over the last axes.

    >>> windows = Windows.of((1, 2), (1, 3), stride=1, padding=(0, 1), padding_mode="ones", dilation=1)
    >>> pad(jnp.array([[[5, 7]]]), windows, 1)
    Array([[[1, 5, 7, 1]]], dtype=int32)
    """
    if windows.padding == (0, 0):
        return maps
    rows, columns = windows.source(0), windows.source(1)
    outside = (rows < 0)[:, np.newaxis] | (columns < 0)
    padded = maps[:, np.maximum(rows, 0)][:, :, np.maximum(columns, 0)]
    if not outside.any():
        return padded
    return jnp.where(outside.reshape(*outside.shape, *(1,) * (maps.ndim - 3)), jnp.asarray(fill, maps.dtype), padded)


def window_columns(words: jax.Array, windows: Windows, depth: int, fill: NDArray[np.uint32] | int = 0) -> jax.Array:
    """What each window sees: (N, H, W, groups, words) to (N, H', W', groups, K), in the order of `merge_taps`.

    Args:
        words: uint32, each group's channels in words of its own.
        windows: which windows.
        depth: the channels of a group.
        fill: the words that stand outside the map under a padding mode with a constant.
    """
    padded = pad(words, windows, fill)
    taps = [
        padded[:, windows.reach(0, i), windows.reach(1, j)]
        for i in range(windows.kernel[0])
        for j in range(windows.kernel[1])
    ]
    return merge_taps(jnp.stack(taps, axis=-2), depth)


def weight_columns(words: NDArray[np.uint32], groups: int, depth: int) -> NDArray[np.uint32]:
    """Weights in the order of `window_columns`: uint32 (O, taps, words) to (K, groups, O/groups).

    They are laid out once, on the host, where nothing has to be compiled for it.

    >>> weight_columns(np.array([[[5], [3]]], np.uint32), 1, 3)
    array([[[29]]], dtype=uint32)
    """
    outputs, count, _ = words.shape
    together = WORD // depth
    merged = words.reshape(outputs, -1)
    if together > 1:
        padded = np.pad(merged, ((0, 0), (0, -count % together))).reshape(outputs, -1, together)
        shifts = np.arange(together, dtype=np.uint32) * np.uint32(depth)
        merged = np.bitwise_or.reduce(padded << shifts, axis=-1)
    return np.ascontiguousarray(np.moveaxis(merged.reshape(groups, outputs // groups, -1), -1, 0))


def differences(columns: jax.Array, weights: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """popcount(columns xor weights) over the words, for every output channel.

    Args:
        columns: uint32, (..., groups, K).
        weights: uint32, (K, groups, O/groups).
        mask: uint32, like `columns`: only bits that are 1 there count.

    Returns:
        int32, (..., groups, O/groups).

    >>> words = jnp.array([[5]], dtype=jnp.uint32)
    >>> differences(words, jnp.array([[[4, 2]]], dtype=jnp.uint32))
    Array([[1, 3]], dtype=int32)
    """
    lead, (count, groups, outputs) = columns.shape[:-2], weights.shape
    steps = -(-count // _TOGETHER)
    spare = steps * _TOGETHER - count

    def in_steps(words: jax.Array) -> jax.Array:
        padded = jnp.pad(words.reshape(-1, groups, count), ((0, 0), (0, 0), (0, spare)))
        return padded.reshape(-1, groups, steps, _TOGETHER)

    seen = in_steps(columns)
    shown = None if mask is None else in_steps(mask)
    lanes = jnp.pad(weights, ((0, spare), (0, 0), (0, 0))).reshape(steps, _TOGETHER, groups, outputs)

    def add(step: int, total: jax.Array) -> jax.Array:
        for part in range(_TOGETHER):
            differ = seen[:, :, step, part, jnp.newaxis] ^ lanes[step, part]
            if shown is not None:
                differ &= shown[:, :, step, part, jnp.newaxis]
            total += lax.population_count(differ).astype(jnp.int32)
        return total

    start = jnp.zeros((seen.shape[0], groups, outputs), jnp.int32)
    total: jax.Array = lax.fori_loop(0, steps, add, start)
    return total.reshape(*lead, groups, outputs)


def valid_positions(mask: jax.Array) -> jax.Array:
    """How many elements are not 0: uint32 masks (..., K) to int32 (...,)."""
    return lax.population_count(mask).astype(jnp.int32).sum(axis=-1, dtype=jnp.int32)


def bit_planes(pixels: jax.Array) -> jax.Array:
    """The packed channels of each plane of uint8 pixels, plane k first: (N, H, W, I) to (8, N, H, W, words)."""
    planes = jnp.arange(8, dtype=jnp.uint8).reshape(8, 1, 1, 1, 1)
    return pack(((pixels >> planes) & 1).astype(jnp.bool_))


def max_pool2d(values: jax.Array, size: tuple[int, int], stride: tuple[int, int]) -> jax.Array:
    """The maximum of int32 (N, H, W, C) over windows that lie inside the map, as `refdesign.ops.pool.max_pool2d`.

    >>> max_pool2d(jnp.arange(6, dtype=jnp.int32).reshape(1, 2, 3, 1), (2, 1), (2, 1)).ravel()
    Array([3, 4, 5], dtype=int32)
    """
    least = np.iinfo(np.int32).min
    pooled: jax.Array = lax.reduce_window(values, least, lax.max, (1, *size, 1), (1, *stride, 1), "VALID")
    return pooled


def threshold(
    values: jax.Array, limit: jax.Array, flip: jax.Array, low: jax.Array, high: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The bits of int32 accumulators, and where they are not 0; bool, of the shape of `values`.

    Args:
        values: (..., C).
        limit: int32; the bit is (value >= limit) xor flip.
        flip: bool.
        low, high: int32; values between them are 0 (exact ties).
    """
    nonzero = (values < low) | (values > high)
    return ((values >= limit) ^ flip) & nonzero, nonzero
