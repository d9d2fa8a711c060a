"""Wrong weights, read off a layer's sums, or off bits behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.network import BinaryConv2d, BinaryDense, Convolution, NetworkData, PixelConv2d, Stage
from refdesign.ops.pool import max_pool2d
from refdesign.run import run_batch
from refdesign.verify.change import Change, Place
from refdesign.verify.differences import differ
from refdesign.verify.entries.way import MOST, Array, Bools, Way
from refdesign.verify.hypotheses.weights import reweighted
from refdesign.verify.hypotheses.windows import weights_of, windows_of
from refdesign.verify.verdict import Sample

_DEEP = 3  # inverted weights in one channel
_BROAD = 4  # of the weights that come nearest, as many are tried
_SUMS = 4096  # of a channel are enough to tell its weights apart


@dataclass(frozen=True)
class Summed:
    """What a layer sums, in some of a sample's images.

    Attributes:
        layer: the layer.
        images: which of the sample's.
        sums: its sums on the reference's side, (N, ..., O).
        met: what each of its sums meets, (N, ..., all taps and channels).
        weights: (O, ..., I).
    """

    layer: Stage
    images: NDArray[np.intp]
    sums: NDArray[np.int32]
    met: Array
    weights: Array

    def of(self, channel: int) -> tuple[Array, Array]:
        """What a channel's sums meet, (N, ..., products), and its weights, (products,)."""
        w = self.weights[channel]
        group = channel // (len(self.weights) // getattr(self.layer, "groups", 1))
        depth = w.shape[-1]
        met = self.met[..., group * depth : (group + 1) * depth]
        return met.reshape(*self.sums.shape[:-1], w.size), w.reshape(-1)

    def inverted(self, channel: int, product: int, among: int) -> Change:
        """The change that inverts one weight of a channel, of so many that give the same."""
        w = self.weights[channel]
        index = (channel, *(int(i) for i in np.unravel_index(product, w.shape)))
        entry = f"weights[{', '.join(map(str, index))}]"

        def spoil(weights: Array) -> None:
            weights[index] *= -1

        says = f"{self.layer.name}.{entry} has the other sign, in every sum of channel {channel} that it is in"
        if among <= MOST:
            return _changed(f"{entry} inverted", says, f"give {entry} the sign that it has in the network", spoil)
        name = f"one of {among} weights of channel {channel} inverted"
        return _changed(name, f"{says}, or another of them, which look the same", f"look at weights[{channel}]", spoil)

    def summed_as(self, channel: int, other: int) -> Change:
        """The change that gives a channel another's weights."""
        name = self.layer.name

        def spoil(weights: Array) -> None:
            weights[channel] = weights[other]

        return _changed(
            f"channel {channel} summed with the weights of channel {other}",
            f"{name}.weights[{channel}] is {name}.weights[{other}]",
            f"let channel {channel} use its own weights",
            spoil,
        )


def _changed(name: str, says: str, right: str, spoil: Callable[[Array], None]) -> Change:
    def changed(weights: Array) -> Array:
        spoilt = weights.copy()
        spoil(spoilt)
        return spoilt

    return Change(name=name, group="entry", says=says, right=right, layer=partial(reweighted, change=changed))


def summed(network: NetworkData, layer: Stage, sample: Sample, wrong: Bools) -> Summed | None:
    """What a layer sums in some images, those in which it is wrong first; None for layers without integer sums.

    Args:
        network: the reference.
        layer: one of its layers; all that goes into it agrees.
        sample: images with an implementation's answers.
        wrong: which of these images it is wrong in, (N,).
    """
    if not isinstance(layer, (PixelConv2d, BinaryConv2d, BinaryDense)):
        return None
    shape = network.shapes[layer.name].accumulator
    few = np.argsort(~wrong, kind="stable")[: -(-_SUMS // int(np.prod(shape[:-1])))]
    output, source = f"{layer.name}.accumulator", f"{network.layers[network.layers.index(layer) - 1].name}.bits"
    needed = {output} if isinstance(layer, PixelConv2d) else {output, source}
    outputs = run_batch(network, sample.images[few], "packed", frozenset(needed))
    place = Place(network, layer, sample.images[few])
    if isinstance(layer, PixelConv2d):
        x: Array = place.inputs.astype(np.int64) * layer.multiplier + layer.offset
    else:
        x = outputs[source]
    x = windows_of(place, layer, x) if isinstance(layer, Convolution) else x.reshape(len(few), -1)
    return Summed(layer, few, outputs[output], x, weights_of(place))


def of_sums(network: NetworkData, layer: Stage, sample: Sample, theirs: Array) -> Iterator[list[Way]]:
    """The ways to read every channel in which sums differ; an empty list where there is none.

    Args:
        network: the reference.
        layer: one of its layers; all that goes into it agrees.
        sample: images with an implementation's answers.
        theirs: the layer's sums by it, for every image.
    """
    output = f"{layer.name}.accumulator"
    ours = run_batch(network, sample.images, "packed", frozenset({output}))[output].astype(np.float64)
    wrong = differ(ours, theirs)
    channels = np.flatnonzero(wrong.reshape(-1, wrong.shape[-1]).any(axis=0))
    if len(channels) > MOST:
        return
    found = summed(network, layer, sample, np.asarray(wrong.reshape(len(wrong), -1).any(axis=1)))
    if found is None:
        return
    off = theirs[found.images].astype(np.float64) - ours[found.images]
    for channel in channels.tolist():
        others = np.flatnonzero((ours == theirs[..., channel, np.newaxis]).reshape(-1, ours.shape[-1]).all(axis=0))
        if len(others):
            yield [(found.summed_as(channel, other),) for other in others.tolist()[:MOST]]
            continue
        met, w = found.of(channel)
        yield _named(found, channel, _inverted_in(met.reshape(-1, w.size), w, off[..., channel].reshape(-1)))


def behind_bits(found: Summed, channel: int, fires: Bools, decide: Callable[[Array], Bools]) -> list[Way]:
    """The single weights of a channel that, inverted, give its bits; or the channels whose sums do.

    Args:
        found: what the layer sums.
        channel: the channel.
        fires: whether its bit is +1 by the implementation, in the same images, (N, H, W) or (N,).
        decide: whether a sum fires in that channel: (N, H, W, ways) behind the pool to bool.
    """

    def give(sums: Array, images: slice = slice(None)) -> Bools:
        """Which of some sums, (N, ..., ways), give the channel's bits in these images."""
        maps = sums if sums.ndim == 4 else sums[:, np.newaxis, np.newaxis]
        pool = found.layer.pool
        made = decide(maps if pool is None else max_pool2d(maps, pool.size, pool.stride))
        return np.asarray((made == fires[images].reshape(*made.shape[:3], 1)).all(axis=(0, 1, 2)))

    others: list[Way] = [(found.summed_as(channel, other),) for other in np.flatnonzero(give(found.sums)).tolist()]
    met, w = found.of(channel)
    products = np.arange(w.size)
    for image in range(len(met)):  # one by one: few weights are left after the first
        if not products.size:
            break
        here = slice(image, image + 1)
        inverted = met[here][..., products].astype(np.int32) * w[products].astype(np.int32)
        products = products[give(found.sums[here, ..., channel, np.newaxis] - 2 * inverted, here)]
    return [*others[:MOST], *_named(found, channel, [(product,) for product in products.tolist()])]


def _named(found: Summed, channel: int, taps: Sequence[tuple[int, ...]]) -> list[Way]:
    """Ways to invert products of a channel, as changes; of many, some from all over."""
    some = taps[:: -(-len(taps) // MOST)] if taps else ()
    return [tuple(found.inverted(channel, product, len(taps)) for product in way) for way in some]


def _inverted_in(met: Array, w: Array, off: NDArray[np.float64]) -> list[tuple[int, ...]]:
    """Which products, inverted, explain by how much sums are off, (sums,); met: (sums, products)."""
    if not np.isfinite(off).all() or float(np.abs(off).max()) > 2.0 * _DEEP * int(np.abs(met).max()):
        return []
    kind = np.float32 if met.dtype == np.int8 else np.float64  # either is exact
    return _inverted(-2 * met.astype(kind) * w.astype(kind), off.astype(kind), _DEEP)


def _inverted(effect: NDArray[Any], off: NDArray[Any], deep: int) -> list[tuple[int, ...]]:
    """Which products, inverted, explain differences of sums; of one, all that do; of several, the first found.

    Args:
        effect: (sums, products), what inverting each product adds to each sum.
        off: (sums,), by how much the sums are off.
        deep: how many products at most.

    >>> effect = np.array([[2.0, -2.0, 2.0], [2.0, 2.0, -2.0], [-2.0, 2.0, 2.0]])
    >>> _inverted(effect, np.array([-2.0, 2.0, 2.0]), 2), _inverted(effect, np.array([4.0, 0.0, 0.0]), 2)
    ([(1,)], [(0, 2)])
    """
    left = off @ off - (2 * (off @ effect) - (effect * effect).sum(axis=0))  # squares, behind each product
    alone = np.flatnonzero(left == 0)
    if len(alone) or deep == 1:
        return [(int(product),) for product in alone]
    for product in np.argsort(left, kind="stable")[:_BROAD].tolist():
        rest = _inverted(effect, off - effect[:, product], deep - 1)
        if rest:
            return [tuple(sorted((product, *rest[0])))]
    return []
