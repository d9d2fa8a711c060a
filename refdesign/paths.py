"""The ways in which a network is computed: how bits are held, summed and decided.

`packed`: folded to integer thresholds, activations are `PackedBits` from layer to layer. `float`: unfolded, in
the arithmetic that the network's conventions name. Engines bring paths of their own. `refdesign.run` takes a
network along one of them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import PackedBits, pack_bool, unpack
from refdesign.errors import RefdesignError
from refdesign.fold import Thresholds, fold
from refdesign.network import (
    BinaryConv2d,
    BinaryDense,
    CombinedConv2d,
    Convolution,
    Layer,
    NetworkData,
    PixelConv2d,
    RealConv2d,
    Stage,
    accumulator_domain,
    fold_channels,
)
from refdesign.ops import unpacked
from refdesign.ops.batch_norm import dithered_batch_norm
from refdesign.ops.dense import PreparedDense, flatten_bits
from refdesign.ops.exact import exact_sign
from refdesign.ops.fastest import FastestConv
from refdesign.ops.pixels import PreparedPixelConv
from refdesign.ops.sign import sign
from refdesign.parameters import NO_DITHER


def thresholds_of(network: NetworkData) -> dict[str, Thresholds]:
    """The integer thresholds of every layer that folds, by layer name, in order of execution.

    Raises:
        RefdesignError: a layer that cannot be folded under the network's conventions, by name.
    """
    thresholds: dict[str, Thresholds] = {}
    ternary = False
    for layer in network.layers[:-1]:
        if not isinstance(layer, Stage):
            continue
        if layer.folds:
            thresholds[layer.name] = fold_layer(network, layer, ternary_input=ternary)
            ternary = bool(np.any(thresholds[layer.name].ternary))
        else:
            ternary = network.conventions.sign_at_zero == 0
    return thresholds


def fold_layer(network: NetworkData, layer: Stage, *, ternary_input: bool = False) -> Thresholds:
    """The integer thresholds of one layer that folds.

    Args:
        network: gives the conventions.
        layer: the layer.
        ternary_input: whether its inputs can be 0 (exact ties under `sign_at_zero=0`).

    Raises:
        RefdesignError: it cannot be folded under the network's conventions.

    >>> from refdesign.api import pretrained
    >>> digits = pretrained("digits")
    >>> fold_layer(digits, digits.layers[0]).shape
    (2, 2, 64)
    """
    try:
        return fold(
            fold_channels(layer),
            layer.kernel or NO_DITHER,
            fan_in=layer.fan_in,
            conventions=network.conventions,
            domain=accumulator_domain(layer, ternary_input=ternary_input),
        )
    except RefdesignError as error:
        raise RefdesignError(f"layer {layer.name!r}: {error}") from None


class Path(Protocol):
    """What differs between the packed and the float path: how bits are held, summed and decided."""

    def integers(self, layer: Stage, x: Any) -> NDArray[np.int32]:
        """The accumulators of a layer with integer accumulators."""

    def bases(self, layer: CombinedConv2d, x: Any) -> list[NDArray[np.int32]]:
        """The accumulators of every basis."""

    def decide(self, layer: Stage, accumulators: NDArray[np.int32]) -> Any:
        """The bits of a layer that folds."""

    def hold(self, signs: NDArray[np.int8]) -> Any:
        """Signs, as this path holds them between layers."""

    def signs(self, bits: Any) -> NDArray[np.int8]:
        """The inverse of `hold`."""


@runtime_checkable
class WholeLayers(Protocol):
    """What a path may have besides: a layer that folds in one go, for when nothing inside it is asked for."""

    def whole(self, layer: Stage, x: Any) -> Any | None:
        """The bits of a layer that folds, as the path holds them; None where it has no such way for the layer."""


@runtime_checkable
class OwnStreams(Protocol):
    """What a path may have besides: its own way to the real streams, to their signs, and to the logits."""

    def real(
        self, layer: Stage, values: NDArray[Any], sources: Mapping[str, NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """As `refdesign.batch.real_stream`."""

    def signed(self, layer: Stage, real: NDArray[np.float32]) -> NDArray[np.int8]:
        """The signs of a real stream."""

    def logits(self, layer: Stage, values: NDArray[Any]) -> NDArray[Any]:
        """As `refdesign.batch.logits_of`."""


class PackedPath:
    """Folded to integer thresholds, on `PackedBits`; prepared once for a network."""

    def __init__(self, network: NetworkData) -> None:
        self.thresholds = thresholds_of(network)
        self.sums: dict[str, list[Callable[[Any], NDArray[np.int32]]]] = {}
        for layer in network.layers:
            if sums := prepared_sums(network, layer):
                self.sums[layer.name] = sums

    def integers(self, layer: Stage, x: Any) -> NDArray[np.int32]:
        if isinstance(layer, BinaryDense):
            x = flatten_bits(x)
        return self.sums[layer.name][0](x)

    def bases(self, layer: CombinedConv2d, x: Any) -> list[NDArray[np.int32]]:
        return [convolve(x) for convolve in self.sums[layer.name]]

    def decide(self, layer: Stage, accumulators: NDArray[np.int32]) -> PackedBits:
        return self.thresholds[layer.name].apply(accumulators)

    def hold(self, signs: NDArray[np.int8]) -> PackedBits:
        bits = pack_bool(signs > 0)
        if np.all(signs):
            return bits
        return PackedBits(bits.words, bits.length, pack_bool(signs != 0).words)

    def signs(self, bits: Any) -> NDArray[np.int8]:
        return unpack(bits)


class FloatPath:
    """Unfolded, on int8 signs, in the arithmetic that the conventions name."""

    def __init__(self, network: NetworkData) -> None:
        self.conventions = network.conventions

    def integers(self, layer: Stage, x: Any) -> NDArray[np.int32]:
        if isinstance(layer, PixelConv2d):
            values = x.astype(np.int64) * layer.multiplier + layer.offset
            return unpacked.conv2d(values, _unpacked(layer.weights), **layer.geometry)
        if isinstance(layer, BinaryConv2d):
            return unpacked.conv2d(x, unpack(layer.weights), **layer.geometry)
        if isinstance(layer, BinaryDense):
            return unpacked.dense(x.reshape(len(x), layer.fan_in), unpack(layer.weights))
        raise RefdesignError(f"layer {layer.name!r}: has no integer accumulator")

    def bases(self, layer: CombinedConv2d, x: Any) -> list[NDArray[np.int32]]:
        return [unpacked.conv2d(x, unpack(weights), **layer.geometry) for weights in layer.weights]

    def decide(self, layer: Stage, accumulators: NDArray[np.int32]) -> NDArray[np.int8]:
        normalise, kernel = fold_channels(layer), layer.kernel or NO_DITHER
        if self.conventions.arithmetic == "real":
            return exact_sign(accumulators, normalise, kernel, self.conventions)
        return sign(dithered_batch_norm(accumulators, normalise, kernel, self.conventions), self.conventions)

    def hold(self, signs: NDArray[np.int8]) -> NDArray[np.int8]:
        return signs

    def signs(self, bits: Any) -> NDArray[np.int8]:
        signs: NDArray[np.int8] = bits
        return signs


def _unpacked(weights: PackedBits | NDArray[np.int32]) -> NDArray[Any]:
    return unpack(weights) if isinstance(weights, PackedBits) else weights


def prepared_sums(network: NetworkData, layer: Layer) -> list[Callable[[Any], NDArray[np.int32]]]:
    """What computes a layer's accumulators from packed bits or pixels: one callable, one for each basis, or none.

    Dense layers take bits that are flattened.

    >>> from refdesign.api import pretrained
    >>> digits = pretrained("digits")
    >>> prepared_sums(digits, digits.layers[0])[0](np.zeros((2, 8, 8, 1), np.uint8)).shape
    (2, 8, 8, 64)
    """
    if isinstance(layer, BinaryDense):
        return [PreparedDense(layer.weights)]
    if isinstance(layer, Convolution) and not isinstance(layer, RealConv2d):
        return _convolutions(layer, network.shapes[layer.name].input)
    return []


def _convolutions(layer: Convolution, shape: tuple[int, ...]) -> list[Callable[[Any], NDArray[np.int32]]]:
    """The layer's packed convolutions, laid out for its maps: one, or one for each basis."""
    extent, geometry = (shape[0], shape[1]), layer.geometry
    if isinstance(layer, PixelConv2d):
        return [PreparedPixelConv(layer.weights, extent, multiplier=layer.multiplier, offset=layer.offset, **geometry)]
    if isinstance(layer, CombinedConv2d):
        return [FastestConv(weights, extent, **geometry) for weights in layer.weights]
    if isinstance(layer, BinaryConv2d):
        return [FastestConv(layer.weights, extent, **geometry)]
    raise RefdesignError(f"layer {layer.name!r}: has no integer accumulator")


_MAKERS: dict[str, Callable[[NetworkData], Path]] = {"packed": PackedPath, "float": FloatPath}
_PREPARED: weakref.WeakKeyDictionary[NetworkData, dict[str, Path]] = weakref.WeakKeyDictionary()


def prepared_path(network: NetworkData, path: str) -> Path:
    """A path by its name, prepared for a network; kept as long as the network lives."""
    paths = _PREPARED.setdefault(network, {})
    if path not in paths:
        paths[path] = _MAKERS[path](network)
    return paths[path]
