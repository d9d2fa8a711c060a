"""A network on packed bits in JAX, layer by layer, and a single layer as a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray

from refdesign.bits import PackedBits, pack_bool, unpack
from refdesign.errors import RefdesignError
from refdesign.fold import Thresholds
from refdesign.frameworks import Engine, engine_along
from refdesign.frameworks.jax import packed
from refdesign.frameworks.jax.functions import Bits, Geometry, Tables, Weights, accumulate, decide, whole_layer
from refdesign.network import (
    BinaryConv2d,
    BinaryDense,
    CombinedConv2d,
    Convolution,
    NetworkData,
    PixelConv2d,
    Stage,
)
from refdesign.ops.conv import outside_sums
from refdesign.ops.dither import phases
from refdesign.ops.padding import FILLS, Windows
from refdesign.paths import thresholds_of


class Sums:
    """A layer's geometry and arrays, ready for `accumulate` and `whole_layer`."""

    def __init__(self, geometry: Geometry, weights: NDArray[Any], base: NDArray[np.int32]) -> None:
        self.geometry, self.arrays = geometry, Weights(jax.device_put(weights), jax.device_put(base))

    def __call__(self, x: Any) -> NDArray[np.int32]:
        """The accumulators, on the host."""
        return np.asarray(accumulate(self.geometry, self.arrays, x))


def _dense_sums(weights: PackedBits, channels: int) -> Sums:
    outputs, inputs = weights.shape
    columns = packed.weight_columns(packed.from_uint64(weights.words, inputs)[:, np.newaxis], 1, inputs)
    base: Any = np.full((1, 1, outputs), inputs, np.int32)
    return Sums(Geometry(None, channels, inputs, 1), columns, base[0])


def _integer_sums(layer: PixelConv2d, weights: NDArray[np.int32], extent: tuple[int, int]) -> Sums:
    outputs, _, _, depth = weights.shape
    windows = Windows.of_layer(layer, extent)
    # Sums are taken modulo 2**32, and fit; beside weights of 0 the numbers that map a pixel need not.
    multiplier, offset = (int(np.int64(number).astype(np.int32)) for number in (layer.multiplier, layer.offset))
    geometry = Geometry(windows, depth * layer.groups, depth, layer.groups, multiplier, offset, "integers")
    base: Any = np.zeros((1, 1, outputs), np.int32)
    return Sums(geometry, weights.transpose(1, 2, 3, 0), base)


def _packed_sums(layer: Convolution, weights: PackedBits, extent: tuple[int, int]) -> Sums:
    outputs, rows, columns, depth = weights.shape
    windows = Windows.of_layer(layer, extent)
    channels, mode = depth * layer.groups, layer.padding_mode
    values = unpack(weights).reshape(outputs, rows * columns, depth)
    taps = values.sum(axis=2, dtype=np.int64)
    if isinstance(layer, PixelConv2d):
        # 2*p = 255 + sum over planes of 2**plane * (±1); the planes show 0, and x its offset, outside the map.
        plus = (taps.sum(axis=1) + rows * columns * depth) // 2
        base = (255 * layer.multiplier * plus + layer.offset * taps.sum(axis=1))[np.newaxis, np.newaxis]
        if mode in FILLS:
            base = base + (FILLS[mode] - layer.offset) * outside_sums(windows, taps)
        geometry = Geometry(windows, channels, depth, layer.groups, layer.multiplier, inputs="pixels")
    else:
        base = np.full((1, 1, outputs), rows * columns * depth, np.int64)
        if mode == "zeros":  # outside the map the words are 0, as if every element were -1
            base = base + outside_sums(windows, taps)
        geometry = Geometry(windows, channels, depth, layer.groups)
    words = packed.from_uint64(weights.words, depth).reshape(outputs, rows * columns, -1)
    in_int32: Any = base.astype(np.int32)  # the sums fit; what they are made of may wrap round
    return Sums(geometry, packed.weight_columns(words, layer.groups, depth), in_int32)


def _tables(thresholds: Thresholds, shape: tuple[int, ...]) -> Tables:
    """The thresholds of every position of a layer's outputs."""
    height, width = (shape[0], shape[1]) if len(shape) == 3 else (1, 1)
    m, n, _ = thresholds.shape
    origin = thresholds.conventions.kernel_origin
    at = np.ix_(phases(height, m, origin), phases(width, n, origin))
    upwards, downwards = thresholds.direction > 0, thresholds.direction < 0
    never = np.iinfo(np.int32).min
    limit = np.where(upwards, thresholds.threshold, np.where(downwards, thresholds.threshold + 1, never))
    flip = downwards | ((thresholds.direction == 0) & (thresholds.constant <= 0))
    arrays = (limit.astype(np.int32), flip, thresholds.zero_low, thresholds.zero_high)
    return Tables(*(jax.device_put(array[at]) for array in arrays))


class JaxPath:
    """Folded to integer thresholds, on packed bits that stay on JAX's device; see `refdesign.paths.Path`.

    Layers with real accumulators, shortcuts and real ends are the reference's own, on the host.

    Args:
        network: the network.

    Raises:
        RefdesignError: a layer that cannot be folded under the network's conventions.
    """

    def __init__(self, network: NetworkData) -> None:
        thresholds = thresholds_of(network)
        self.ties = {name: bool(found.ternary.any()) for name, found in thresholds.items()}
        self.tables = {name: _tables(found, network.shapes[name].output) for name, found in thresholds.items()}
        self.channels = {layer.name: layer.out_channels for layer in network.layers if isinstance(layer, Stage)}
        self.sums = {layer.name: _sums(network, layer) for layer in network.layers if isinstance(layer, Stage)}

    def integers(self, layer: Stage, x: Any) -> NDArray[np.int32]:
        return self.sums[layer.name][0](_device(x))

    def bases(self, layer: CombinedConv2d, x: Any) -> list[NDArray[np.int32]]:
        return [convolve(_device(x)) for convolve in self.sums[layer.name]]

    def decide(self, layer: Stage, accumulators: NDArray[np.int32]) -> HeldBits:
        found = decide(jax.device_put(accumulators), self.tables[layer.name], self.ties[layer.name])
        return HeldBits(found, self.channels[layer.name])

    def whole(self, layer: Stage, x: Any) -> HeldBits:
        """Accumulators, pool and thresholds in one function; see `refdesign.paths.WholeLayers`."""
        sums, ties = self.sums[layer.name][0], self.ties[layer.name]
        found = whole_layer(sums.geometry, layer.pool, ties, sums.arrays, self.tables[layer.name], _device(x))
        return HeldBits(found, self.channels[layer.name])

    def hold(self, signs: NDArray[np.int8]) -> HeldBits:
        def words(bits: NDArray[np.bool_]) -> jax.Array:
            placed: jax.Array = jax.device_put(packed.from_uint64(pack_bool(bits).words, signs.shape[-1]))
            return placed

        return HeldBits(Bits(words(signs > 0), None if np.all(signs) else words(signs != 0)), signs.shape[-1])

    def signs(self, bits: Any) -> NDArray[np.int8]:
        held: HeldBits = bits
        words = packed.to_uint64(np.asarray(held.bits.words))
        nonzero = None if held.bits.nonzero is None else packed.to_uint64(np.asarray(held.bits.nonzero))
        return unpack(PackedBits(words, held.length, nonzero))


class HeldBits(NamedTuple):
    """Bits between layers, and how many elements their last axis has."""

    bits: Bits
    length: int


def _device(x: Any) -> Any:
    return x.bits if isinstance(x, HeldBits) else jax.device_put(x)


def _sums(network: NetworkData, layer: Stage) -> list[Sums]:
    """What computes a layer's accumulators: one, one for each basis, or none where they are real."""
    before = network.shapes[layer.name].input
    if isinstance(layer, BinaryDense):
        return [_dense_sums(layer.weights, before[-1])]
    extent = (before[0], before[1])
    if isinstance(layer, CombinedConv2d):
        return [_packed_sums(layer, weights, extent) for weights in layer.weights]
    if isinstance(layer, PixelConv2d):
        if not isinstance(layer.weights, PackedBits):
            return [_integer_sums(layer, layer.weights, extent)]
        return [_packed_sums(layer, layer.weights, extent)]
    if isinstance(layer, BinaryConv2d):
        return [_packed_sums(layer, layer.weights, extent)]
    return []


def layer_function(
    layer: BinaryConv2d, thresholds: Thresholds, extent: tuple[int, int]
) -> Callable[[jax.Array], jax.Array]:
    """One layer by itself as a pure function of packed bits, to jit, vmap or put into a program of one's own.

    Args:
        layer: the layer.
        thresholds: its folded thresholds, without ties.
        extent: rows and columns of its maps.

    Returns:
        A function from uint32 words (N, H, W, words) to the words of its outputs, compiled by `jax.jit`.

    Raises:
        RefdesignError: thresholds with ties, whose zeros need words of their own.

    >>> from refdesign.conventions import PAPER
    >>> from refdesign.fold import fold
    >>> from refdesign.parameters import BatchNorm
    >>> layer = BinaryConv2d(name="c", weights=PackedBits(np.full((1, 1, 1, 1), 7, np.uint64), 3))
    >>> thresholds = fold(BatchNorm([1.0], [0.0], [0.5], [1.0], 0.0), None, fan_in=3, conventions=PAPER)
    >>> layer_function(layer, thresholds, (1, 2))(jax.numpy.array([[[[7], [1]]]], dtype="uint32")).ravel()
    Array([1, 0], dtype=uint32)
    """
    if thresholds.ternary.any():
        raise RefdesignError(f"layer {layer.name!r}: found thresholds with exact ties, expected none")
    sums = _packed_sums(layer, layer.weights, extent)
    height, width = sums.geometry.windows.output if sums.geometry.windows else (1, 1)
    if layer.pool is not None:
        height, width = (
            (count - size) // stride + 1
            for count, size, stride in zip((height, width), layer.pool.size, layer.pool.stride, strict=True)
        )
    tables = _tables(thresholds, (height, width, layer.out_channels))

    def run(words: jax.Array) -> jax.Array:
        found: Bits = whole_layer(sums.geometry, layer.pool, False, sums.arrays, tables, Bits(words, None))
        return found.words

    # A tenth of a small layer's time went into finding the compiled program by its geometry, anew in every call.
    compiled: Callable[[jax.Array], jax.Array] = jax.jit(run)
    return compiled


def compile(network: NetworkData) -> Engine:
    """The network as a function from images to outputs, on packed bits in JAX, compiled by XLA for its device.

    It equals `refdesign.run.run` bit for bit. Every size of batch is compiled once.

    Args:
        network: the network.

    Raises:
        RefdesignError: a layer that cannot be folded under the network's conventions.

    >>> from refdesign.api import pretrained
    >>> compile(pretrained("digits"))(np.zeros((2, 8, 8, 1), np.uint8))["logits"].shape
    (2, 10)
    """
    return engine_along(network, JaxPath(network))
