"""What a network is made of, counted: shapes, fan-ins, bits, bytes and operations, as plain data."""

from __future__ import annotations

from typing import Any

import numpy as np

from refdesign.bits import PackedBits, words_for
from refdesign.errors import RefdesignError
from refdesign.network import (
    CombinedConv2d,
    Convolution,
    Layer,
    NetworkData,
    PixelConv2d,
    RealConv2d,
    RealDense,
    Stage,
    accumulator_domain,
    describe,
    layer_outputs,
)
from refdesign.parameters import BatchNorm

_THRESHOLD_BYTES = 5
"""A folded threshold: an int32 and the int8 of its direction."""


def summarise(network: NetworkData) -> dict[str, Any]:
    """A network in numbers, ready for JSON.

    What is counted, per image: `products` are products of a weight and an activation (padded positions
    included); a binary layer takes them 64 at a time, as `word_operations` XNORs of 64-bit words (a pixel layer:
    ANDs, eight bit planes of the pixels against the weights' bits), each followed by a popcount. `bits` are the
    weights' own; `bytes` what their arrays take in memory, packed. A folding layer's `thresholds` replace its
    batch norm and dither: an int32 and a direction per phase and channel.

    Args:
        network: the network.

    Returns:
        `name`, `input_shape`, `conventions`, `metadata`, `layers` (a dict for each, in order) and `total`.

    >>> from refdesign.bits import pack
    >>> from refdesign.network import PixelConv2d
    >>> layer = PixelConv2d(name="only", weights=pack(np.ones((3, 2, 2, 1))))
    >>> found = summarise(NetworkData(name="n", input_shape=(5, 4, 1), layers=(layer,)))
    >>> found["layers"][0]["accumulator"], found["layers"][0]["products"], found["total"]["weight_bits"]
    ([4, 3, 3], 144, 12)
    """
    layers = [_summarise_layer(network, layer) for layer in network.layers]
    keys = ("products", "word_operations", "weight_bits", "weight_bytes", "batch_norm_bytes", "thresholds")
    total: dict[str, int] = {key: sum(entry[key] for entry in layers) for key in keys}
    total["threshold_bytes"] = total["thresholds"] * _THRESHOLD_BYTES
    total["largest_accumulator_map_bytes"] = max(4 * int(np.prod(entry["accumulator"])) for entry in layers)
    return {
        "name": network.name,
        "input_shape": list(network.input_shape),
        "conventions": network.conventions.to_dict(),
        "metadata": dict(network.metadata),
        "layers": layers,
        "total": total,
    }


def _summarise_layer(network: NetworkData, layer: Layer) -> dict[str, Any]:
    shapes = network.shapes[layer.name]
    count, bits_each, nbytes = _weights(layer)
    fan_in = _fan_in(layer)
    sums = int(np.prod(shapes.accumulator))
    last = layer is network.layers[-1]
    entry: dict[str, Any] = {
        "name": layer.name,
        **describe(layer),
        "input": list(shapes.input),
        "accumulator": list(shapes.accumulator),
        "output": list(shapes.output),
        "window": list(layer.weight_shape[1:3]) if isinstance(layer, Convolution) else None,
        "fan_in": fan_in,
        "domain": _domain(layer),
        "weights": count,
        "bits_per_weight": bits_each,
        "weight_bits": count * bits_each,
        "weight_bytes": nbytes,
        "batch_norm_bytes": _batch_norm_bytes(layer),
        "products": sums * fan_in * (len(layer.weights) if isinstance(layer, CombinedConv2d) else 1),
        "word_operations": sums * _words(layer),
        "kernel": None,
        "thresholds": 0,
        "outputs": layer_outputs(network, layer) + (["logits"] if last else []),
    }
    if isinstance(layer, Stage):
        if layer.kernel is not None:
            entry["kernel"] = {"shape": list(layer.kernel.shape), "values": layer.kernel.values.tolist()}
        if layer.folds and not last:
            m, n, _ = layer.kernel.shape if layer.kernel is not None else (1, 1, 1)
            entry["thresholds"] = m * n * layer.out_channels
    return entry


def _weights(layer: Layer) -> tuple[int, int, int]:
    """How many weights, bits of each, and the bytes of their arrays."""
    weights = getattr(layer, "weights", None)
    if weights is None:
        return 0, 0, 0
    if isinstance(layer, CombinedConv2d):
        count = sum(int(np.prod(basis.shape)) for basis in layer.weights)
        return count, 1, sum(basis.words.nbytes for basis in layer.weights)
    if isinstance(weights, PackedBits):
        return int(np.prod(weights.shape)), 1, weights.words.nbytes
    return weights.size, weights.dtype.itemsize * 8, weights.nbytes


def _fan_in(layer: Layer) -> int:
    if isinstance(layer, RealDense):
        return int(layer.weights.shape[1])
    return int(getattr(layer, "fan_in", 0))


def _words(layer: Layer) -> int:
    """64-bit words that meet in one accumulator."""
    if isinstance(layer, (RealConv2d, RealDense)):
        return 0
    if isinstance(layer, PixelConv2d):
        packed = isinstance(layer.weights, PackedBits)
        _, rows, columns, depth = layer.weight_shape
        return 8 * rows * columns * words_for(depth) if packed else 0
    if isinstance(layer, Convolution):
        _, rows, columns, depth = layer.weight_shape
        bases = len(layer.weights) if isinstance(layer, CombinedConv2d) else 1
        return bases * rows * columns * words_for(depth)
    return words_for(_fan_in(layer)) if _fan_in(layer) else 0


def _domain(layer: Layer) -> dict[str, int] | None:
    """Lowest and highest attainable accumulator over all channels, and the step; None where there is none."""
    if not isinstance(layer, Stage):
        return None
    try:
        low, high, step = accumulator_domain(layer)
    except RefdesignError:
        return None
    return {"low": int(low.min()), "high": int(high.max()), "step": step}


def _batch_norm_bytes(layer: Layer) -> int:
    batch_norm: BatchNorm | None = getattr(layer, "batch_norm", None) or getattr(layer, "input_batch_norm", None)
    if batch_norm is None:
        return 0
    arrays = (getattr(batch_norm, field) for field in ("gamma", "beta", "mean", "variance", "alpha", "k", "c"))
    return sum(array.nbytes for array in arrays if array is not None)
