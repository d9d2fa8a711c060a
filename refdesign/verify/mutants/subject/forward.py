"""A whole network, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.network import (
    AveragePool,
    BinaryConv2d,
    BinaryDense,
    CombinedConv2d,
    Layer,
    NetworkData,
    PixelConv2d,
    RealConv2d,
    RealDense,
    Stage,
)
from refdesign.ops.batch_norm import dithered_batch_norm
from refdesign.ops.pixels import real_conv2d
from refdesign.ops.pool import average_pool2d
from refdesign.ops.residual import real_dense
from refdesign.parameters import NO_DITHER
from refdesign.verify.mutants.subject.sums import binary_sums, dense_sums, max_pool, pixel_sums
from refdesign.verify.mutants.subject.thresholds import (
    cells,
    compare,
    exact_table,
    normalise,
    parameters,
    program_table,
    sign,
)

Array = NDArray[Any]
CHUNK = 16


class Implementation:
    """A network's implementation: uint8 images (N, H, W, C) in, every output by name out."""

    def __init__(self, network: NetworkData) -> None:
        self.network = network
        table = exact_table if network.conventions.arithmetic == "real" else program_table
        self.tables = {
            layer.name: table(layer, network.conventions)
            for layer in network.layers[:-1]
            if isinstance(layer, Stage) and layer.folds
        }

    def __call__(self, images: NDArray[np.uint8]) -> Mapping[str, Array]:
        """Run all images, a few at a time."""
        pieces = [self.run(images[start : start + CHUNK]) for start in range(0, len(images), CHUNK)]
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}

    def run(self, images: NDArray[np.uint8]) -> dict[str, Array]:
        """Run a few images."""
        outputs: dict[str, Array] = {}
        real: dict[str, NDArray[np.float32]] = {}
        x: Array = images
        before = ""
        for layer in self.network.layers:
            last = layer is self.network.layers[-1]
            if isinstance(layer, Stage):
                x = self.stage(layer, x, real, outputs, last)
            else:
                real[layer.name] = self.real_layer(layer, real[before])
                outputs["logits" if last else f"{layer.name}.real"] = real[layer.name]
            before = layer.name
        return outputs

    def sums(self, layer: Stage, x: Array) -> Array:
        """What a layer sums up: accumulators, or real sums where it has no integer ones."""
        if isinstance(layer, PixelConv2d):
            return pixel_sums(x, layer)
        if isinstance(layer, BinaryConv2d):
            return binary_sums(x, layer, layer.weights)
        if isinstance(layer, BinaryDense):
            return dense_sums(x, layer)
        if isinstance(layer, CombinedConv2d):
            bases = [binary_sums(x, layer, basis).astype(np.float32) for basis in layer.weights]
            total = layer.scales[0] * bases[0]
            for scale, basis in zip(layer.scales[1:], bases[1:], strict=True):
                total = total + scale * basis
            return np.asarray(total)
        if isinstance(layer, RealConv2d):
            geometry = {name: getattr(layer, name) for name in ("stride", "padding", "padding_mode", "dilation")}
            return real_conv2d(x, layer.weights, layer.scale, layer.shift, groups=layer.groups, **geometry)[0]
        raise RefdesignError(f"layer {layer.name!r}: unknown kind {layer.kind!r}")

    def stage(
        self, layer: Stage, x: Array, real: dict[str, NDArray[np.float32]], outputs: dict[str, Array], last: bool
    ) -> Array:
        """One layer from its input to its bits."""
        values = self.sums(layer, x)
        integers = not isinstance(layer, (RealConv2d, CombinedConv2d))
        if integers:
            outputs[f"{layer.name}.accumulator"] = values
        if layer.pool is not None:
            values = max_pool(values, layer.pool)
            if integers:
                outputs[f"{layer.name}.pooled"] = values
        if last:
            plain = layer.batch_norm is None
            outputs["logits"] = values if plain else normalise(values, parameters(layer), self.network.conventions)
            return values
        if not layer.folds or layer.name in self.network.real_sources:
            real[layer.name] = outputs[f"{layer.name}.real"] = self.real_stream(layer, values, real)
        if layer.folds:
            bits = self.decide(layer, values)
        else:
            bits = sign(real[layer.name], self.network.conventions)
        outputs[f"{layer.name}.bits"] = bits
        return bits

    def decide(self, layer: Stage, a: Array) -> NDArray[np.int8]:
        """The bits of accumulators; a dense layer counts as a map of one pixel."""
        shaped = a if a.ndim == 4 else a[:, np.newaxis, np.newaxis, :]
        row, column = cells(layer, shaped.shape[1], shaped.shape[2], self.network.conventions)
        return compare(shaped, self.tables[layer.name], row, column).reshape(a.shape)

    def real_stream(self, layer: Stage, values: Array, real: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """z, the shortcut, the clamp."""
        z = dithered_batch_norm(values, parameters(layer), layer.kernel or NO_DITHER, self.network.conventions)
        if layer.shortcut is not None:
            arriving = real[layer.shortcut.source]
            if layer.shortcut.average_pool > 1:
                arriving = average_pool2d(arriving, layer.shortcut.average_pool)
            before, behind = layer.shortcut.channel_padding
            z = z + np.pad(arriving, ((0, 0), (0, 0), (0, 0), (before, behind)))
        return np.clip(z, np.float32(-1), np.float32(1)) if layer.hardtanh else z

    def real_layer(self, layer: Layer, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Average pool and real dense layers."""
        if isinstance(layer, AveragePool):
            return average_pool2d(x, layer.size)
        if not isinstance(layer, RealDense):
            raise RefdesignError(f"layer {layer.name!r}: unknown kind {layer.kind!r}")
        flat = x.reshape(len(x), -1)
        if layer.input_batch_norm is not None:
            flat = normalise(flat, layer.input_batch_norm, self.network.conventions)
        return real_dense(flat, layer.weights, layer.bias)
