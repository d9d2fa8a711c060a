"""One layer on packed bits as a function that JAX compiles once for each geometry: integers throughout."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from refdesign.bits import tail_mask
from refdesign.frameworks.jax import packed
from refdesign.network import MaxPool
from refdesign.ops.padding import FILLS, Windows


class Bits(NamedTuple):
    """Packed bits on the device: uint32 words, and where elements are not 0 (None: everywhere)."""

    words: jax.Array
    nonzero: jax.Array | None


@dataclass(frozen=True)
class Geometry:
    """What a layer's compiled function is made for: everything about it that is no array.

    Attributes:
        windows: the convolution's windows; None for a dense layer.
        channels: the input's channels, of one pixel.
        depth: the channels of a group.
        groups: how many groups.
        multiplier: popcounts are multiplied with it and taken from the base.
        offset: what a pixel's value is beside `multiplier` times the pixel; of `"integers"` only.
        inputs: `"bits"`, `"pixels"` (weights of ±1) or `"integers"` (pixels, int32 weights).
    """

    windows: Windows | None
    channels: int
    depth: int
    groups: int
    multiplier: int = 2
    offset: int = 0
    inputs: str = "bits"


class Weights(NamedTuple):
    """A layer's arrays: uint32 (K, groups, O/groups), or int32 HWIO; and the base, int32 (H' or 1, W' or 1, O)."""

    weights: jax.Array
    base: jax.Array


class Tables(NamedTuple):
    """Thresholds over the map, (H', W', C); see `packed.threshold`."""

    limit: jax.Array
    flip: jax.Array
    low: jax.Array
    high: jax.Array


def _accumulate(geometry: Geometry, arrays: Weights, x: Any) -> jax.Array:
    """Accumulators int32, (N, H', W', O) or (N, O), of bits or uint8 pixels."""
    if geometry.windows is None:
        return _dense(geometry, arrays, x)
    if geometry.inputs == "integers":
        return _integers(geometry, geometry.windows, arrays, x)
    windows, mode = geometry.windows, geometry.windows.padding_mode
    pixels = geometry.inputs == "pixels"
    ones = packed.from_uint64(tail_mask(geometry.depth), geometry.depth)
    words = packed.bit_planes(x) if pixels else x.words
    maps = words.reshape(-1, *words.shape[-3:])
    split = packed.split_groups(maps, geometry.channels, geometry.groups)
    fill = ones if mode == "ones" and not pixels else np.zeros_like(ones)
    columns = packed.window_columns(split, windows, geometry.depth, fill)
    if pixels:
        differ = packed.differences(columns, arrays.weights).reshape(8, -1, *windows.output, arrays.base.shape[2])
        total = (differ << jnp.arange(8, dtype=jnp.int32).reshape(8, 1, 1, 1, 1)).sum(axis=0, dtype=jnp.int32)
        return arrays.base - geometry.multiplier * total
    if x.nonzero is None:
        differ = packed.differences(columns, arrays.weights)
        return arrays.base - geometry.multiplier * differ.reshape(*differ.shape[:3], -1)
    split = packed.split_groups(x.nonzero, geometry.channels, geometry.groups)
    outside = ones if FILLS.get(mode, 0) != 0 else np.zeros_like(ones)
    mask = packed.window_columns(split, windows, geometry.depth, outside)
    differ = packed.differences(columns, arrays.weights, mask)
    values = packed.valid_positions(mask)[..., jnp.newaxis] - geometry.multiplier * differ
    return values.reshape(*values.shape[:3], -1)


def _integers(geometry: Geometry, windows: Windows, arrays: Weights, pixels: jax.Array) -> jax.Array:
    """Exact sums of int32 products modulo 2**32; the reference has made sure that they fit."""
    values = geometry.multiplier * pixels.astype(jnp.int32) + geometry.offset
    return lax.conv_general_dilated(
        packed.pad(values, windows, FILLS.get(windows.padding_mode, 0)),
        arrays.weights,
        windows.stride,
        "VALID",
        rhs_dilation=windows.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=geometry.groups,
        preferred_element_type=jnp.int32,
    )


def _dense(geometry: Geometry, arrays: Weights, x: Bits) -> jax.Array:
    def flat(words: jax.Array) -> jax.Array:
        """(N, H, W, words) as (N, 1, words), without gaps between the pixels."""
        if words.ndim == 4 and geometry.channels % packed.WORD:
            bits = packed.unpack(words, geometry.channels)
            words = packed.pack(bits.reshape(len(bits), geometry.depth))
        return words.reshape(len(words), 1, arrays.weights.shape[0])

    words = flat(x.words)
    if x.nonzero is None:
        return arrays.base[0] - geometry.multiplier * packed.differences(words, arrays.weights)[:, 0]
    mask = flat(x.nonzero)
    differ = packed.differences(words, arrays.weights, mask)[:, 0]
    return packed.valid_positions(mask) - geometry.multiplier * differ


def _decide(values: jax.Array, tables: Tables, ties: bool) -> Bits:
    maps = values if values.ndim == 4 else values[:, jnp.newaxis, jnp.newaxis]
    bits, nonzero = packed.threshold(maps, *tables)
    shape = (*values.shape[:-1], -1)
    words = packed.pack(bits).reshape(shape)
    return Bits(words, packed.pack(nonzero).reshape(shape) if ties else None)


accumulate = partial(jax.jit, static_argnums=0)(_accumulate)
decide = partial(jax.jit, static_argnums=2)(_decide)


@partial(jax.jit, static_argnums=(0, 1, 2))
def whole_layer(geometry: Geometry, pool: MaxPool | None, ties: bool, arrays: Weights, tables: Tables, x: Any) -> Bits:
    """Accumulators, pool and thresholds of one layer, compiled as one function."""
    values = _accumulate(geometry, arrays, x)
    if pool is not None:
        values = packed.max_pool2d(values, pool.size, pool.stride)
    return _decide(values, tables, ties)
