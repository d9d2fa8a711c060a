"""Directed cases for one layer: inputs that put accumulators on thresholds, and to their extremes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import unpack
from refdesign.fold import Thresholds
from refdesign.network import BinaryConv2d, BinaryDense, NetworkData, Stage
from refdesign.ops.dither import phases
from refdesign.run import run_layer

Bits = NDArray[np.int8]
_TRIES = 8


@dataclass(frozen=True)
class LayerCase:
    """One directed input of a layer.

    Attributes:
        inputs: int8 in {-1, +1}, (H, W, C) or (C,).
        name: what it is.
        catches: the classes of bugs that it shows.
    """

    inputs: Bits
    name: str
    catches: tuple[str, ...]


def layer_cases(
    network: NetworkData, layer: Stage, thresholds: Thresholds | None, random: np.random.Generator, channels: int = 4
) -> list[LayerCase]:
    """Directed inputs for a layer that reads bits.

    All ones, all minus ones, one pixel in each corner, accumulators at both extremes, and, for every phase of the
    dither and some channels, an accumulator exactly on the threshold and one step on the other side of it.

    Args:
        network: the network.
        layer: a binary convolution or dense layer of it.
        thresholds: its thresholds; None in a last layer.
        random: the source of randomness.
        channels: how many channels get cases on their thresholds.

    >>> from refdesign.api import pretrained
    >>> digits = pretrained("digits")
    >>> dense = digits.layer("dense1")
    >>> cases = layer_cases(digits, dense, digits.thresholds()["dense1"], np.random.default_rng(0))
    >>> [case.name for case in cases][:3]
    ['all +1', 'all -1', 'corner (0, 0)']
    """
    if not isinstance(layer, (BinaryConv2d, BinaryDense)):
        return []
    shape = network.shapes[layer.name].input
    ones = np.ones(shape, np.int8)
    cases = [
        LayerCase(ones, "all +1", ("polarity", "padding", "tail bits", "width")),
        LayerCase(-ones, "all -1", ("polarity", "padding", "tail bits", "width")),
    ]
    if len(shape) == 3:
        for row, column in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
            corner = -ones
            corner[row, column] = 1
            cases.append(LayerCase(corner, f"corner ({row}, {column})", ("padding", "layout", "geometry")))
    chosen = sorted(random.choice(layer.out_channels, min(channels, layer.out_channels), replace=False).tolist())
    output = network.shapes[layer.name].output
    centre = _position(network, layer, output[0] // 2, output[1] // 2) if len(output) == 3 else (0, 0)
    for channel in dict.fromkeys([0, *chosen]):
        for sign, says in ((1, "highest"), (-1, "lowest")):
            inputs = _window(network, layer, -ones, channel, centre, sign * 2 * layer.fan_in, random)
            cases.append(LayerCase(inputs, f"channel {channel} at its {says}", ("width", "2p - N", "saturation")))
    if thresholds is not None:
        for channel in chosen:
            cases += _on_threshold(network, layer, thresholds, channel, random)
    return cases


def _on_threshold(
    network: NetworkData, layer: Stage, thresholds: Thresholds, channel: int, random: np.random.Generator
) -> list[LayerCase]:
    """For every phase, inputs whose accumulator is the last that fires, and the first that does not."""
    m, n, _ = thresholds.shape
    output = network.shapes[layer.name].output
    height, width = output[:2] if len(output) == 3 else (1, 1)
    origin = network.conventions.kernel_origin
    row_phases, column_phases = phases(height, m, origin), phases(width, n, origin)
    step = int(thresholds.certificate.domain.step)
    cases = []
    for row_phase, column_phase in np.ndindex(m, n):
        direction = int(thresholds.direction[row_phase, column_phase, channel])
        rows, columns = np.flatnonzero(row_phases == row_phase), np.flatnonzero(column_phases == column_phase)
        if not direction or not rows.size or not columns.size:
            continue
        row, column = int(rows[len(rows) // 2]), int(columns[len(columns) // 2])
        threshold = int(thresholds.threshold[row_phase, column_phase, channel])
        # Where the padding counts for nothing, a window's sums have the parity of its products: every other
        # integer of the domain is out of reach there, and the next one is the nearest.
        fires, rests = threshold + direction, threshold - direction * (step + 1)
        for targets, says in (
            ((threshold, fires), "the first sum that fires"),
            ((threshold - direction * step, rests), "the last sum that does not fire"),
        ):
            for target in targets:
                found = _reach(network, layer, channel, (row, column), target, random)
                if found is not None:
                    name = f"channel {channel}, phase ({row_phase}, {column_phase}): {says}, {target}"
                    cases.append(LayerCase(found, name, ("threshold", "sign", "direction", "phase", "dither")))
                    break
    return cases


def _reach(
    network: NetworkData, layer: Stage, channel: int, at: tuple[int, int], target: int, random: np.random.Generator
) -> Bits | None:
    """Inputs whose accumulator, after the pool, is the target; None where no try found any."""
    shape = network.shapes[layer.name].input
    first = _position(network, layer, *at)
    wanted = f"{layer.name}.pooled" if layer.pool is not None else f"{layer.name}.accumulator"
    for _ in range(_TRIES):
        start = np.where(random.random(shape) < 0.5, 1, -1).astype(np.int8)
        inputs = _window(network, layer, start, channel, first, target, random)
        found = run_layer(network, layer, inputs[np.newaxis])[wanted][0]
        reached = found[(*at, channel)] if found.ndim == 3 else found[channel]
        if int(reached) == target:
            return inputs
    return None


def _position(network: NetworkData, layer: Stage, row: int, column: int) -> tuple[int, int]:
    """The accumulator's pixel behind a pooled pixel."""
    stride = (1, 1) if layer.pool is None else layer.pool.stride
    return row * stride[0], column * stride[1]


def _window(
    network: NetworkData, layer: Stage, start: Bits, channel: int, at: tuple[int, int], target: int, random: Any
) -> Bits:
    """`start`, with bits of one window turned until the window's sum is as near to the target as it can be."""
    inputs = start.copy()
    if isinstance(layer, BinaryDense):
        flat = inputs.reshape(-1)
        _turn(flat, np.arange(flat.size), unpack(layer.weights)[channel], target, random)
        return flat.reshape(start.shape)
    if not isinstance(layer, BinaryConv2d):
        return inputs
    height, width, depth_all = start.shape
    _, rows, columns, depth = layer.weight_shape
    group = channel // (layer.out_channels // layer.groups)
    places, weights = [], []
    for r, c in np.ndindex(rows, columns):
        y = at[0] * layer.stride[0] - layer.padding[0] + r * layer.dilation[0]
        x = at[1] * layer.stride[1] - layer.padding[1] + c * layer.dilation[1]
        if 0 <= y < height and 0 <= x < width:
            base = (y * width + x) * depth_all + group * depth
            places.append(np.arange(base, base + depth))
            weights.append(unpack(layer.weights)[channel, r, c])
    flat = inputs.reshape(-1)
    _turn(flat, np.concatenate(places), np.concatenate(weights), target, random)
    return flat.reshape(start.shape)


def _turn(flat: Bits, places: NDArray[np.intp], weights: Bits, target: int, random: Any) -> None:
    """Turn bits at places, in place, until the sum of products is the target, or as near as it gets."""
    products = flat[places] * weights
    turns = (target - int(products.sum(dtype=np.int64))) // 2
    candidates = np.flatnonzero(products == (-1 if turns > 0 else 1))
    chosen = random.permutation(candidates)[: abs(turns)]
    flat[places[chosen]] *= -1
