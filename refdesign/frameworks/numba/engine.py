"""A network on the compiled loops, layer by layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import PackedBits
from refdesign.frameworks import Engine, engine_along
from refdesign.frameworks.numba.layers import IntegerConv, PackedConv, PackedDense
from refdesign.frameworks.numba.thresholds import Decision
from refdesign.network import BinaryConv2d, BinaryDense, CombinedConv2d, NetworkData, PixelConv2d, Stage
from refdesign.ops.dense import flatten_bits
from refdesign.paths import PackedPath, thresholds_of

Sums = PackedConv | PackedDense | IntegerConv


class NumbaPath(PackedPath):
    """Folded to integer thresholds, on `PackedBits`, in compiled loops; see `refdesign.paths.Path`.

    Layers with real accumulators, shortcuts and real ends are the reference's own.

    Args:
        network: the network.

    Raises:
        RefdesignError: a layer that cannot be folded under the network's conventions.
    """

    def __init__(self, network: NetworkData) -> None:
        self.thresholds = thresholds_of(network)
        self.decisions = {name: Decision(thresholds) for name, thresholds in self.thresholds.items()}
        self.loops = {layer.name: _loops(network, layer) for layer in network.layers if isinstance(layer, Stage)}

    def integers(self, layer: Stage, x: Any) -> NDArray[np.int32]:
        if isinstance(layer, BinaryDense):
            x = flatten_bits(x)
        return self.loops[layer.name][0](x)

    def bases(self, layer: CombinedConv2d, x: Any) -> list[NDArray[np.int32]]:
        return [convolve(x) for convolve in self.loops[layer.name]]

    def decide(self, layer: Stage, accumulators: NDArray[np.int32]) -> PackedBits:
        return self.decisions[layer.name].apply(accumulators)

    def whole(self, layer: Stage, x: Any) -> PackedBits | None:
        """Accumulators, pool and thresholds in one loop; see `refdesign.paths.WholeLayers`."""
        sums, decision = self.loops[layer.name][0], self.decisions[layer.name]
        if isinstance(sums, PackedConv):
            return sums.bits(x, decision, layer.pool)
        if isinstance(sums, PackedDense) and layer.pool is None:
            return sums.bits(flatten_bits(x), decision)
        return None


def _loops(network: NetworkData, layer: Stage) -> list[Sums]:
    """What computes a layer's accumulators: one, one for each basis, or none where they are real."""
    if isinstance(layer, BinaryDense):
        return [PackedDense(layer.weights)]
    rows, columns = network.shapes[layer.name].input[:2]
    if isinstance(layer, CombinedConv2d):
        return [PackedConv(layer, weights, (rows, columns)) for weights in layer.weights]
    if isinstance(layer, PixelConv2d):
        if not isinstance(layer.weights, PackedBits):
            return [IntegerConv(layer, layer.weights, (rows, columns))]
        return [PackedConv(layer, layer.weights, (rows, columns))]
    if isinstance(layer, BinaryConv2d):
        return [PackedConv(layer, layer.weights, (rows, columns))]
    return []


def compile(network: NetworkData) -> Engine:
    """The network as a function from images to outputs, on compiled loops over as many threads as Numba uses.

    It equals `refdesign.run.run` bit for bit. The loops are compiled by the first call and kept in Numba's cache;
    `numba.set_num_threads` chooses the threads.

    Args:
        network: the network.

    Raises:
        RefdesignError: a layer that cannot be folded under the network's conventions.

    >>> from refdesign.api import pretrained
    >>> compile(pretrained("digits"))(np.zeros((2, 8, 8, 1), np.uint8))["logits"].shape
    (2, 10)
    """
    return engine_along(network, NumbaPath(network))
