"""What activations make of the same trained layer, and how much of its bits is batch norm's gamma and beta.

Every activation is applied to the same y, the layer's batch norm of the sums that the trained network gives; the
network is not trained again with it. So this shows what an activation keeps of a map, not what training makes of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.api import Network
from refdesign.errors import RefdesignError
from refdesign.network import Stage
from refdesign.ops.batch_norm import batch_norm
from refdesign.ops.sign import dithered_sign
from refdesign.parameters import NO_DITHER, BatchNorm, Float32Array
from refdesign.training.kernels import activation_kernel

RELU = "relu"
ACTIVATIONS = (RELU, "sign", "2d", "3d")
"""What is compared unless others are named: ReLU, and names that `kernels.activation_kernel` knows."""


@dataclass(frozen=True)
class Kept:
    """What an activation keeps of a layer's map; averages over images and channels.

    Attributes:
        layer, activation: which.
        total_variation: mean of sqrt(dx^2 + dy^2) of forward differences, of the map with values from 0 to 1 (bits
            as 0 and 1; ReLU divided by each channel's largest value).
        entropy: in bits for a value: of a channel's share of ones, or, for ReLU, of its histogram of 256 bins.
        likeness: the correlation of the map with ReLU's, both averaged over windows of 2x2: what of the shades is
            left for a layer that looks at neighbourhoods; 0 where either is constant.
    """

    layer: str
    activation: str
    total_variation: float
    entropy: float
    likeness: float


@dataclass(frozen=True)
class Influence:
    """How much a layer hangs on its batch norm's real parameters.

    Attributes:
        layer: which.
        without: `"gamma"` (its sign stays, its size becomes 1), or `"beta"` (becomes 0).
        bits: the share of the layer's bits that change; of the last layer none are counted.
        predictions: the share of images whose prediction changes.
    """

    layer: str
    without: str
    bits: float
    predictions: float


def convolutions(network: Network) -> list[str]:
    """The layers with a map, a batch norm and integer sums: those that `feature_maps` can look at.

    >>> from refdesign.api import pretrained
    >>> convolutions(pretrained("digits"))
    ['conv1', 'conv2', 'conv3', 'conv4']
    """
    return [
        layer.name
        for layer in network.layers
        if isinstance(layer, Stage)
        and layer.batch_norm is not None
        and f"{layer.name}.accumulator" in network.output_names
        and f"{layer.name}.bits" in network.output_names
        and len(network.shapes[layer.name].output) == 3
    ]


def feature_maps(
    network: Network, images: NDArray[np.uint8], layer: str, activations: Sequence[str] = ACTIVATIONS
) -> dict[str, Float32Array]:
    """A layer's map under several activations.

    Args:
        network: trained.
        images: uint8, (N, H, W, C).
        layer: one of `convolutions(network)`.
        activations: `"relu"`, or what `kernels.activation_kernel` knows.

    Returns:
        float32 (N, H', W', C') by activation: ReLU of y, or bits as 0 and 1.

    Raises:
        RefdesignError: another layer or activation, or a kernel that does not divide the channels.

    >>> from refdesign.api import pretrained
    >>> maps = feature_maps(pretrained("digits"), np.zeros((2, 8, 8, 1), np.uint8), "conv2")
    >>> {name: array.shape for name, array in maps.items()}["3d"]
    (2, 4, 4, 64)
    """
    if layer not in convolutions(network):
        raise RefdesignError(f"layer: found {layer!r}, expected one of {', '.join(convolutions(network))}")
    norm = _norm(network, layer)
    last = f"{layer}.pooled" if f"{layer}.pooled" in network.output_names else f"{layer}.accumulator"
    y = batch_norm(network.run(images, outputs=(last,))[last], norm, network.conventions.arithmetic)
    made = {}
    for name in activations:
        if name == RELU:
            made[name] = np.maximum(y, np.float32(0))
            continue
        kernel = activation_kernel(name, seed=0)
        bits = dithered_sign(y, kernel or NO_DITHER, network.conventions, norm.gamma)
        made[name] = ((bits + 1) / 2).astype(np.float32)
    return made


def kept(
    network: Network,
    images: NDArray[np.uint8],
    layers: Sequence[str] | None = None,
    activations: Sequence[str] = ACTIVATIONS,
) -> list[Kept]:
    """What each activation keeps of each layer's map.

    Args:
        network, images, activations: as in `feature_maps`.
        layers: None for all that can be looked at.

    >>> from refdesign.api import pretrained
    >>> from refdesign.datasets import load
    >>> table = kept(pretrained("digits"), load("digits", "test")[0][:8], ["conv1"])
    >>> [row.activation for row in table], table[0].likeness
    (['relu', 'sign', '2d', '3d'], 1.0)
    """
    found = []
    for layer in convolutions(network) if layers is None else layers:
        maps = feature_maps(network, images, layer, tuple(dict.fromkeys((RELU, *activations))))
        relu = _to_one(maps[RELU])
        for name in activations:
            values = relu if name == RELU else maps[name]
            found.append(
                Kept(layer, name, _total_variation(values), _entropy(values, name == RELU), _likeness(values, relu))
            )
    return found


def influence(network: Network, images: NDArray[np.uint8]) -> list[Influence]:
    """What changes where one layer's gamma or beta is taken away.

    Args:
        network: trained.
        images: uint8, (N, H, W, C).

    >>> from refdesign.api import pretrained
    >>> from refdesign.datasets import load
    >>> rows = influence(pretrained("digits"), load("digits", "test")[0][:8])
    >>> [(row.layer, row.without) for row in rows][:2]
    [('conv1', 'gamma'), ('conv1', 'beta')]
    """
    ours = network.run(images, outputs="all")
    found = []
    for index, layer in enumerate(network.layers):
        norm = getattr(layer, "batch_norm", None)
        if not isinstance(layer, Stage) or norm is None:
            continue
        for without in ("gamma", "beta"):
            changed = replace(layer, batch_norm=_without(norm, without))
            layers = (*network.layers[:index], changed, *network.layers[index + 1 :])
            theirs = replace(network, layers=layers).run(images, outputs="all")
            bits = f"{layer.name}.bits"
            share = float(np.mean(ours[bits] != theirs[bits])) if bits in ours else 0.0
            moved = ours["logits"].argmax(axis=1) != theirs["logits"].argmax(axis=1)
            found.append(Influence(layer.name, without, share, float(moved.mean())))
    return found


def _norm(network: Network, layer: str) -> BatchNorm:
    found: Any = next(each for each in network.layers if each.name == layer)
    norm: BatchNorm = found.batch_norm
    return norm


def _without(norm: BatchNorm, without: str) -> BatchNorm:
    """The batch norm with |gamma| = 1, or beta = 0; what was folded into k and c is computed anew."""
    if without == "gamma":
        return replace(norm, gamma=np.where(norm.gamma < 0, -1, 1).astype(np.float32), k=None, c=None)
    return replace(norm, beta=np.zeros_like(norm.beta), c=None)


def _to_one(values: Float32Array) -> Float32Array:
    highest = values.max(axis=(0, 1, 2), keepdims=True)
    return np.asarray(values / np.where(highest > 0, highest, 1), dtype=np.float32)


def _total_variation(values: Float32Array) -> float:
    down = values[:, 1:, :-1] - values[:, :-1, :-1]
    right = values[:, :-1, 1:] - values[:, :-1, :-1]
    return float(np.sqrt(down**2 + right**2).mean()) if down.size else 0.0


def _entropy(values: Float32Array, shades: bool) -> float:
    flat = values.reshape(-1, values.shape[-1])
    bins = np.clip((flat * 256).astype(np.int64), 0, 255) if shades else flat.astype(np.int64)
    found = []
    for channel in bins.T:
        shares = np.bincount(channel) / len(channel)
        shares = shares[shares > 0]
        found.append(-(shares * np.log2(shares)).sum())
    return abs(float(np.mean(found)))


def _likeness(values: Float32Array, relu: Float32Array) -> float:
    a, b = _windows(values), _windows(relu)
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    size = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    correlation = np.where(size > 0, (a * b).sum(axis=0) / np.where(size > 0, size, 1), 0.0)
    return round(float(correlation.mean()), 12)


def _windows(values: Float32Array) -> NDArray[np.float64]:
    """Means over windows of 2x2 (of what there is, on smaller maps), by channel: (windows, C)."""
    wide = values.astype(np.float64)
    rows, columns = min(2, wide.shape[1]), min(2, wide.shape[2])
    view = np.lib.stride_tricks.sliding_window_view(wide, (rows, columns), axis=(1, 2))
    return np.asarray(view.mean(axis=(-2, -1)).reshape(-1, wide.shape[-1]))
