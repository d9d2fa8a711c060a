"""A whole network along the slow path: image by image, layer by layer, number by number."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.naive import float32, residual, sums
from refdesign.naive.geometry import pool_window
from refdesign.naive.sums import FloatMap, IntMap, Tick
from refdesign.naive.thresholding import Thresholder, sign_of_float
from refdesign.network import (
    AveragePool,
    BinaryConv2d,
    BinaryDense,
    CombinedConv2d,
    Layer,
    MaxPool,
    NetworkData,
    PixelConv2d,
    RealConv2d,
    RealDense,
    Stage,
    layer_outputs,
)

Progress = Callable[[int, int], None]
"""Called with (output pixels done, output pixels in all)."""

Map = list[list[list[Any]]]
"""Rows of pixels of channels; a dense layer's map is one pixel."""

DTYPES: dict[str, type] = {
    "accumulator": np.int32,
    "pooled": np.int32,
    "real": np.float32,
    "bits": np.int8,
    "uncertain": np.bool_,
}
"""The dtype of each kind of output."""


def run(
    network: NetworkData,
    images: NDArray[np.uint8],
    outputs: str | Sequence[str] = "all",
    progress: Progress | None = None,
) -> dict[str, NDArray[Any]]:
    """Run a network by scalar loops: nothing folded, nothing vectorised, every number exact or rounded once.

    Args:
        network: the network.
        images: uint8, shape (N, H, W, C).
        outputs: names as in `network.output_names`, or `"all"`. Layers behind the last one asked for are not run.
        progress: called with (output pixels done, output pixels in all) as they are computed.

    Returns:
        The outputs asked for, in order of execution; NHWC. Accumulators and pooled accumulators int32, bits int8
        in {-1, +1} (0 for exact ties under `sign_at_zero=0`), real outputs and batch-normed logits float32.

    Raises:
        RefdesignError: wrong images or output names, or parameters that the named arithmetic cannot use.

    >>> from refdesign.bits import pack
    >>> from refdesign.network import PixelConv2d
    >>> layer = PixelConv2d(name="conv", weights=pack(np.array([[[[1, -1]]]])), multiplier=2, offset=-255)
    >>> network = NetworkData(name="tiny", input_shape=(1, 1, 2), layers=(layer,))
    >>> run(network, np.array([[[[200, 50]]]], dtype=np.uint8))
    {'conv.accumulator': array([[[[300]]]], dtype=int32), 'logits': array([[[[300]]]], dtype=int32)}
    """
    wanted = _wanted(network, outputs)
    _check_images(network, images)
    forward = _FORWARDS.get(network)
    if forward is None:
        forward = _FORWARDS[network] = _Forward(network)
    return forward.run(images, wanted, progress)


def _wanted(network: NetworkData, outputs: str | Sequence[str]) -> tuple[str, ...]:
    known = network.output_names
    if outputs == "all":
        return known
    asked = (outputs,) if isinstance(outputs, str) else tuple(outputs)
    for name in asked:
        if name not in known:
            raise RefdesignError(f"outputs: found {name!r}, expected 'all' or some of {', '.join(known)}")
    return tuple(name for name in known if name in asked)


def _check_images(network: NetworkData, images: NDArray[np.uint8]) -> None:
    found = f"{images.dtype} of shape {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[1:] != tuple(network.input_shape):
        expected = ", ".join(str(extent) for extent in network.input_shape)
        raise RefdesignError(f"images: found {found}, expected uint8 of shape (N, {expected})")


class _Forward:
    """A network with what each of its layers needs to know once."""

    def __init__(self, network: NetworkData) -> None:
        # Not the network itself: it is the key under which this object lives as long as the network does.
        self._layers = network.layers
        self._conventions = network.conventions
        self._real_sources = network.real_sources
        self._shapes = dict(network.shapes)
        self._outputs = {layer.name: layer_outputs(network, layer) for layer in network.layers}
        self._sums = {layer.name: self._summation(layer) for layer in self._layers}
        self._thresholders = {
            layer.name: Thresholder(layer, _as_map(self._shapes[layer.name].output), self._conventions)
            for layer in self._layers
            if isinstance(layer, Stage)
        }

    def _summation(self, layer: Layer) -> Any:
        """What computes the layer's accumulators (or real sums) for one image."""
        shapes = self._shapes[layer.name]
        if isinstance(layer, BinaryConv2d):
            return sums.BinaryConvolution(layer, layer.weights, shapes.input, shapes.accumulator)
        if isinstance(layer, PixelConv2d):
            return sums.PixelConvolution(layer, shapes.input, shapes.accumulator)
        if isinstance(layer, CombinedConv2d):
            return sums.CombinedConvolution(layer, shapes.input, shapes.accumulator)
        if isinstance(layer, RealConv2d):
            return sums.RealConvolution(layer, shapes.input, shapes.accumulator)
        if isinstance(layer, BinaryDense):
            return sums.Dense(layer)
        return None

    def run(
        self, images: NDArray[np.uint8], wanted: tuple[str, ...], progress: Progress | None
    ) -> dict[str, NDArray[Any]]:
        layers = self._needed(wanted)
        total = len(images) * sum(self._pixels(layer) for layer in layers)
        done = 0

        def tick() -> None:
            nonlocal done
            done += 1
            if progress is not None:
                progress(done, total)

        collected: dict[str, list[Map]] = {name: [] for name in wanted}
        for image in images:
            for name, result in _Image(self, image.tolist(), tick).run(layers).items():
                if name in collected:
                    collected[name].append(result)
        return {name: self._array(name, maps) for name, maps in collected.items()}

    def _needed(self, wanted: tuple[str, ...]) -> tuple[Layer, ...]:
        needed = 0
        for number, layer in enumerate(self._layers, start=1):
            last = number == len(self._layers)
            if any(name in wanted for name in self._outputs[layer.name]) or (last and "logits" in wanted):
                needed = number
        return self._layers[:needed]

    def _pixels(self, layer: Layer) -> int:
        if isinstance(layer, Stage):
            height, width, _ = _as_map(self._shapes[layer.name].accumulator)
            return height * width
        return 1

    def _array(self, name: str, maps: list[Map]) -> NDArray[Any]:
        layer_name, _, part = name.partition(".")
        if name == "logits":
            last = self._layers[-1]
            shape = self._shapes[last.name].output
            integers = isinstance(last, (BinaryConv2d, PixelConv2d, BinaryDense)) and last.batch_norm is None
            dtype: type = np.int32 if integers else np.float32
        else:
            shapes = self._shapes[layer_name]
            shape = shapes.accumulator if part == "accumulator" else shapes.output
            dtype = DTYPES[part]
        return np.array(maps, dtype=dtype).reshape(len(maps), *shape)


_FORWARDS: weakref.WeakKeyDictionary[NetworkData, _Forward] = weakref.WeakKeyDictionary()
"""What was prepared for a network, and its channels' answers so far: batch after batch asks for the same ones."""


def _as_map(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """A dense layer counts as a map of one pixel."""
    if len(shape) == 1:
        return 1, 1, shape[0]
    height, width, channels = shape
    return height, width, channels


class _Image:
    """One image on its way through a network: the bits, and every layer's real output."""

    def __init__(self, forward: _Forward, image: IntMap, tick: Tick) -> None:
        self._forward = forward
        self._conventions = forward._conventions
        self._stream: Map = image
        self._real: dict[str, FloatMap] = {}
        self._tick = tick
        self._results: dict[str, Map] = {}

    def run(self, layers: Sequence[Layer]) -> dict[str, Map]:
        """Every output of these layers."""
        before = ""
        for layer in layers:
            last = layer is self._forward._layers[-1]
            if isinstance(layer, Stage):
                self._stage(layer, last)
            else:
                self._real[layer.name] = self._real_layer(layer, self._real[before])
                self._results["logits" if last else f"{layer.name}.real"] = self._real[layer.name]
                self._tick()
            before = layer.name
        return self._results

    def _real_layer(self, layer: Layer, x: FloatMap) -> FloatMap:
        if isinstance(layer, AveragePool):
            return residual.average_pool(x, layer.size)
        if isinstance(layer, RealDense):
            return residual.real_dense(x, layer, self._conventions.arithmetic)
        raise RefdesignError(f"layer {layer.name!r}: unknown kind {layer.kind!r}")

    def _stage(self, layer: Stage, last: bool) -> None:
        name = layer.name
        bounds: FloatMap | None = None
        if isinstance(layer, RealConv2d):
            values, bounds = self._forward._sums[name](self._stream, self._tick)
        else:
            values = self._forward._sums[name](self._stream, self._tick)
        self._results[f"{name}.accumulator"] = values
        if layer.pool is not None:
            shape = self._forward._shapes[name].output
            values = max_pool(values, layer.pool, shape)
            bounds = None if bounds is None else max_pool(bounds, layer.pool, shape)
            self._results[f"{name}.pooled"] = values
        if last:
            self._results["logits"] = self._logits(layer, values)
            return
        if not layer.folds or name in self._forward._real_sources:
            self._real[name] = self._results[f"{name}.real"] = self._real_output(layer, values)
        if layer.folds:
            sign = self._forward._thresholders[name].sign
            self._stream = _map_with_index(sign, values)
        else:
            self._stream = _map(lambda r: sign_of_float(r, self._conventions), self._real[name])
        self._results[f"{name}.bits"] = self._stream
        if bounds is not None:
            self._results[f"{name}.uncertain"] = self._uncertain(layer, values, bounds)

    def _logits(self, layer: Stage, values: Map) -> Map:
        if layer.batch_norm is None:
            return values
        logit = self._forward._thresholders[layer.name].logit
        return _map_with_index(lambda index, a: logit(index[2], a), values)

    def _real_output(self, layer: Stage, values: Map) -> FloatMap:
        """r = z, then fl(r + shortcut), then hardtanh."""
        real = _map_with_index(self._forward._thresholders[layer.name].real, values)
        if layer.shortcut is not None:
            added = residual.shortcut(self._real[layer.shortcut.source], layer.shortcut)
            real = _map_with_index(lambda index, r: float32.add(r, added[index[0]][index[1]][index[2]]), real)
        return _map(residual.hardtanh, real) if layer.hardtanh else real

    def _uncertain(self, layer: Stage, values: FloatMap, bounds: FloatMap) -> Map:
        """Where the bit at the lower end of what the sum may be is not the bit at the upper end."""

        def end(direction: float) -> Map:
            def move(index: tuple[int, int, int], v: float) -> float:
                bound = bounds[index[0]][index[1]][index[2]]
                moved = np.float32(float32.add(v, bound if direction > 0 else -bound))
                return float(np.nextafter(moved, np.float32(direction)))

            real = self._real_output(layer, _map_with_index(move, values))
            return _map(lambda r: sign_of_float(r, self._conventions), real)

        low, high = end(-np.inf), end(np.inf)
        return _map_with_index(lambda index, bit: bit != high[index[0]][index[1]][index[2]], low)


def max_pool(values: Map, pool: MaxPool, shape: tuple[int, ...]) -> Map:
    """The largest number under each window, channel by channel; of zeros of either sign the first.

    Args:
        values: rows of pixels of channels.
        pool: size and stride.
        shape: (H, W, C) of the result.

    >>> max_pool([[[1], [5], [7]], [[2], [3], [9]]], MaxPool(size=(2, 2), stride=(2, 2)), (1, 1, 1))
    [[[5]]]
    """
    height, width, channels = shape
    return [
        [
            [max(values[i][j][channel] for i, j in pool_window(pool, row, column)) for channel in range(channels)]
            for column in range(width)
        ]
        for row in range(height)
    ]


def _map(function: Callable[[Any], Any], values: Map) -> Map:
    return [[[function(value) for value in pixel] for pixel in row] for row in values]


def _map_with_index(function: Callable[[tuple[int, int, int], Any], Any], values: Map) -> Map:
    return [
        [[function((i, j, channel), value) for channel, value in enumerate(pixel)] for j, pixel in enumerate(row)]
        for i, row in enumerate(values)
    ]
