"""One batch on its way through a network, along a path: the order of the layers, the streams, the outputs kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.conventions import Conventions
from refdesign.errors import RefdesignError
from refdesign.network import (
    AveragePool,
    CombinedConv2d,
    Layer,
    NetworkData,
    RealConv2d,
    RealDense,
    Stage,
    fold_channels,
)
from refdesign.ops.batch_norm import batch_norm, dithered_batch_norm
from refdesign.ops.pixels import real_conv2d
from refdesign.ops.pool import average_pool2d, max_pool2d
from refdesign.ops.residual import combine, hardtanh, real_dense, shortcut
from refdesign.ops.sign import sign
from refdesign.parameters import NO_DITHER
from refdesign.paths import OwnStreams, Path, WholeLayers


def logits_of(layer: Stage, values: NDArray[Any], conventions: Conventions) -> NDArray[Any]:
    """The logits of a last layer: its batch norm in the named arithmetic, or its accumulators as they are.

    >>> from refdesign.api import pretrained
    >>> digits = pretrained("digits")
    >>> logits_of(digits.layers[-1], np.zeros((2, 10), np.int32), digits.conventions).dtype
    dtype('float32')
    """
    if layer.batch_norm is None:
        return values
    return batch_norm(values, layer.batch_norm, conventions.arithmetic)


def real_stream(
    layer: Stage, values: NDArray[Any], sources: Mapping[str, NDArray[np.float32]], conventions: Conventions
) -> NDArray[np.float32]:
    """A layer's real stream: z, then the shortcut from one of the `sources`, then the clamp.

    >>> from refdesign.api import pretrained
    >>> digits = pretrained("digits")
    >>> real_stream(digits.layers[0], np.zeros((2, 8, 8, 64), np.int32), {}, digits.conventions).shape
    (2, 8, 8, 64)
    """
    kernel = layer.kernel or NO_DITHER
    real = dithered_batch_norm(values, fold_channels(layer), kernel, conventions)
    if layer.shortcut is not None:
        real = real + shortcut(sources[layer.shortcut.source], layer.shortcut)
    return hardtanh(real) if layer.hardtanh else real


class Batch:
    """One batch on its way through a network: the streams, and the outputs asked for."""

    def __init__(self, network: NetworkData, path: Path, wanted: frozenset[str]) -> None:
        self.network = network
        self.path = path
        self.wanted = wanted
        self.real: dict[str, NDArray[np.float32]] = {}
        self.outputs: dict[str, NDArray[Any]] = {}

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """The outputs asked for, in order of execution; layers behind the last of them are not run."""
        stream: Any = images
        before = ""
        for layer in self.network.layers:
            if len(self.outputs) == len(self.wanted):
                break
            last = layer is self.network.layers[-1]
            if isinstance(layer, Stage):
                stream = self.stage(layer, stream, last)
            else:
                self._real_layer(layer, self.real[before], last)
            before = layer.name
        return {name: self.outputs[name] for name in self.network.output_names if name in self.wanted}

    def _keep(self, name: str, make: Callable[[], NDArray[Any]]) -> None:
        if name in self.wanted:
            self.outputs[name] = make()

    def stage(self, layer: Stage, x: Any, last: bool) -> Any:
        """Run one layer on the stream before it; returns the bits, as the path holds them."""
        bits = self._whole(layer, x, last)
        if bits is not None:
            self._keep(f"{layer.name}.bits", lambda: self.path.signs(bits))
            return bits
        values, bound = self._accumulate(layer, x)
        if layer.pool is not None:
            values = max_pool2d(values, layer.pool.size, layer.pool.stride)
            bound = None if bound is None else max_pool2d(bound, layer.pool.size, layer.pool.stride)
            if values.dtype == np.int32:
                self._keep(f"{layer.name}.pooled", lambda: values)
        if last:
            self._keep("logits", lambda: self._logits(layer, values))
            return None
        if layer.name in self.network.real_sources or not layer.folds:
            real = self._real(layer, values)
            self.real[layer.name] = real
            self._keep(f"{layer.name}.real", lambda: real)
        if layer.folds:
            bits = self.path.decide(layer, values)
        else:
            bits = self.path.hold(self._signed(layer, self.real[layer.name]))
        self._keep(f"{layer.name}.bits", lambda: self.path.signs(bits))
        if bound is not None:
            self._keep(f"{layer.name}.uncertain", lambda: self._uncertain(layer, values, bound))
        return bits

    def _whole(self, layer: Stage, x: Any, last: bool) -> Any | None:
        """The layer's bits in one go, where the path can and nothing else of the layer is wanted."""
        inside = {f"{layer.name}.accumulator", f"{layer.name}.pooled"}
        if last or not layer.folds or layer.name in self.network.real_sources or inside & self.wanted:
            return None
        return self.path.whole(layer, x) if isinstance(self.path, WholeLayers) else None

    def _accumulate(self, layer: Stage, x: Any) -> tuple[Any, NDArray[np.float32] | None]:
        if isinstance(layer, RealConv2d):
            return real_conv2d(x, layer.weights, layer.scale, layer.shift, **layer.geometry)
        if isinstance(layer, CombinedConv2d):
            return combine(self.path.bases(layer, x), layer.scales), None
        values = self.path.integers(layer, x)
        self._keep(f"{layer.name}.accumulator", lambda: values)
        return values, None

    def _logits(self, layer: Stage, values: NDArray[Any]) -> NDArray[Any]:
        if isinstance(self.path, OwnStreams):
            return self.path.logits(layer, values)
        return logits_of(layer, values, self.network.conventions)

    def _real(self, layer: Stage, values: NDArray[Any]) -> NDArray[np.float32]:
        if isinstance(self.path, OwnStreams):
            return self.path.real(layer, values, self.real)
        return real_stream(layer, values, self.real, self.network.conventions)

    def _signed(self, layer: Stage, real: NDArray[np.float32]) -> NDArray[np.int8]:
        if isinstance(self.path, OwnStreams):
            return self.path.signed(layer, real)
        return sign(real, self.network.conventions)

    def _uncertain(self, layer: Stage, values: NDArray[np.float32], bound: NDArray[np.float32]) -> NDArray[np.bool_]:
        conventions = self.network.conventions
        low = np.nextafter(values - bound, np.float32(-np.inf))
        high = np.nextafter(values + bound, np.float32(np.inf))
        differ: NDArray[np.bool_] = sign(self._real(layer, low), conventions) != sign(
            self._real(layer, high), conventions
        )
        return differ

    def _real_layer(self, layer: Layer, x: NDArray[np.float32], last: bool) -> None:
        if isinstance(layer, AveragePool):
            result = average_pool2d(x, layer.size)
        elif isinstance(layer, RealDense):
            flat = x.reshape(len(x), layer.weights.shape[1])
            if layer.input_batch_norm is not None:
                flat = batch_norm(flat, layer.input_batch_norm, self.network.conventions.arithmetic)
            result = real_dense(flat, layer.weights, layer.bias)
        else:
            raise RefdesignError(f"layer {layer.name!r}: unknown kind {type(layer).__name__}")
        self.real[layer.name] = result
        self._keep("logits" if last else f"{layer.name}.real", lambda: result)
