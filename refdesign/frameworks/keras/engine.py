"""The folded engine on `keras.ops`: int32 sums and comparisons, the same on every backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from refdesign.bits import PackedBits, unpack
from refdesign.errors import RefdesignError
from refdesign.fold import Thresholds
from refdesign.frameworks import Engine, engine_along
from refdesign.frameworks.keras.layers import pad
from refdesign.frameworks.keras.parameters import array_of
from refdesign.network import BinaryConv2d, BinaryDense, CombinedConv2d, Convolution, NetworkData, PixelConv2d, Stage
from refdesign.ops.dither import phases
from refdesign.ops.padding import Windows
from refdesign.paths import thresholds_of

Tensor = Any
Sums = Callable[[Tensor], Tensor]


def compile(network: NetworkData) -> Engine:
    """The network as a callable from images to outputs, computed on `keras.ops`, folded to integer thresholds.

    The backend computes accumulators and bits in int32, on JAX compiled by XLA, elsewhere operation by operation; the
    real stream of residual networks and the last batch norm are the reference's own, in their named order.

    Args:
        network: any that the packed path runs, under any conventions.

    Returns:
        A function from images, uint8 (N, H, W, C), and the names of `outputs` to a dict from output name to array.

    Raises:
        RefdesignError: a layer that cannot be folded under the network's conventions, by name, or pixels that are
            mapped beyond int32.
    """
    return engine_along(network, _Path(network))


class _Path:
    """A `refdesign.paths.Path` on `keras.ops`; bits are int32 tensors, NHWC."""

    def __init__(self, network: NetworkData) -> None:
        self.sums: dict[str, list[Sums]] = {}
        for layer in network.layers:
            self.sums[layer.name] = [_at_once(sums) for sums in _prepared(layer, network.shapes[layer.name].input)]
        self.decisions = {
            name: _at_once(_decision(thresholds, network.shapes[name].output))
            for name, thresholds in thresholds_of(network).items()
        }

    def integers(self, layer: Stage, x: Tensor) -> NDArray[np.int32]:
        return _numpy(self.sums[layer.name][0](x), np.int32)

    def bases(self, layer: CombinedConv2d, x: Tensor) -> list[NDArray[np.int32]]:
        return [_numpy(sums(x), np.int32) for sums in self.sums[layer.name]]

    def decide(self, layer: Stage, accumulators: NDArray[np.int32]) -> Tensor:
        return self.decisions[layer.name](ops.convert_to_tensor(accumulators, "int32"))

    def hold(self, signs: NDArray[np.int8]) -> Tensor:
        return ops.convert_to_tensor(signs.astype(np.int32))

    def signs(self, bits: Tensor) -> NDArray[np.int8]:
        return _numpy(bits, np.int8)


def _at_once(function: Sums) -> Sums:
    """On JAX one compiled program, where operation by operation each would be compiled by itself."""
    if keras.backend.backend() != "jax":
        return function
    import jax

    compiled: Sums = jax.jit(function)
    return compiled


def _numpy(tensor: Tensor, dtype: Any) -> NDArray[Any]:
    return array_of(tensor).astype(dtype)


def _prepared(layer: object, shape: tuple[int, ...]) -> list[Sums]:
    """What computes a layer's accumulators: one function, one for each basis, or none for a real layer."""
    if isinstance(layer, BinaryDense):
        weights = ops.convert_to_tensor(unpack(layer.weights).T.astype(np.int32))
        return [lambda x: ops.matmul(ops.reshape(x, (x.shape[0], weights.shape[0])), weights)]
    if isinstance(layer, CombinedConv2d):
        return [_convolution(layer, unpack(basis).astype(np.int32), shape) for basis in layer.weights]
    if isinstance(layer, (PixelConv2d, BinaryConv2d)):
        weights = unpack(layer.weights).astype(np.int32) if isinstance(layer.weights, PackedBits) else layer.weights
        return [_convolution(layer, weights, shape)]
    return []


def _convolution(layer: Convolution, weights: NDArray[np.int32], shape: tuple[int, ...]) -> Sums:
    out, rows, columns, depth = weights.shape
    windows = Windows.of_layer(layer, shape)
    per_group = out // layer.groups
    matrices = [
        # (rows, columns, depth) one after the other, as the windows are gathered
        ops.convert_to_tensor(np.ascontiguousarray(part.reshape(per_group, -1).T))
        for part in weights.reshape(layer.groups, per_group, rows, columns, depth)
    ]
    affine = (layer.multiplier, layer.offset) if isinstance(layer, PixelConv2d) else (1, 0)
    if max(abs(affine[1]), abs(255 * affine[0] + affine[1])) >= 2**31:
        raise RefdesignError(f"layer {layer.name!r}: found pixels mapped by {affine}, expected values below 2**31")

    def sums(x: Tensor) -> Tensor:
        values = ops.cast(x, "int32")
        if affine != (1, 0):
            values = values * affine[0] + affine[1]
        padded = pad(values, windows)
        views = [padded[:, windows.reach(0, i), windows.reach(1, j)] for i, j in np.ndindex(rows, columns)]
        parts = []
        for group, matrix in enumerate(matrices):
            channels = slice(group * depth, (group + 1) * depth)
            parts.append(ops.matmul(ops.concatenate([view[..., channels] for view in views], axis=-1), matrix))
        return ops.concatenate(parts, axis=-1)

    return sums


def _decision(thresholds: Thresholds, shape: tuple[int, ...]) -> Sums:
    """Bits, int32, from accumulators: a channel fires at direction*a >= limit (0 >= 0 always, 0 >= 1 never)."""
    m, n, _ = thresholds.shape
    height, width = shape[:2] if len(shape) == 3 else (1, 1)
    origin = thresholds.conventions.kernel_origin
    rows, columns = phases(height, m, origin)[:, np.newaxis], phases(width, n, origin)
    direction = thresholds.direction.astype(np.int32)
    limit = np.where(direction != 0, direction * thresholds.threshold, thresholds.constant <= 0).astype(np.int32)
    steep, at, low, high = (
        ops.convert_to_tensor(np.ascontiguousarray(array[rows, columns].reshape(shape)))
        for array in (direction, limit, thresholds.zero_low, thresholds.zero_high)
    )
    ternary = bool(thresholds.ternary.any())

    def bits(a: Tensor) -> Tensor:
        signs = ops.cast(steep * a >= at, "int32") * 2 - 1
        if not ternary:
            return signs
        return signs * (1 - ops.cast(ops.logical_and(a >= low, a <= high), "int32"))

    return bits
