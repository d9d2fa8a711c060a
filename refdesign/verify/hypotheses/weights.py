"""Changes of weights: how they were laid out, packed, and read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import PackedBits, pack, unpack
from refdesign.network import (
    BinaryDense,
    CombinedConv2d,
    Convolution,
    Layer,
    NetworkData,
    PixelConv2d,
    RealConv2d,
    RealDense,
)
from refdesign.verify.change import Change, Place
from refdesign.verify.hypotheses.windows import inputs_of, resummed, weights_of

Weights = NDArray[Any]


def reweighted(layer: Layer, network: NetworkData, change: Callable[[Weights], Weights | None]) -> Layer | None:
    """A layer with its binary or integer weights changed; None where it has none, or nothing changes."""
    if isinstance(layer, CombinedConv2d):
        bases = [_changed(basis, change) for basis in layer.weights]
        return None if any(basis is None for basis in bases) else replace(layer, weights=tuple(bases))
    weights = None if isinstance(layer, (RealConv2d, RealDense)) else getattr(layer, "weights", None)
    changed = None if weights is None else _changed(weights, change)
    if changed is None:
        return None
    fields: dict[str, Any] = {"weights": changed}
    return replace(layer, **fields)


def _changed(weights: PackedBits | Weights, change: Callable[[Weights], Weights | None]) -> Any:
    """Weights under a change, packed where they were; None where it changes nothing."""
    plain = unpack(weights) if isinstance(weights, PackedBits) else weights
    changed = change(plain)
    if changed is None or changed.shape != plain.shape or np.array_equal(changed, plain):
        return None
    return pack(changed) if isinstance(weights, PackedBits) else np.ascontiguousarray(changed)


def _transposed(w: Weights) -> Weights | None:
    """Rows and columns exchanged; what does not fit afterwards is read as if it did."""
    return w.swapaxes(1, 2).reshape(w.shape) if w.ndim == 4 else w.T


def _written_as(w: Weights, order: tuple[int, int, int, int]) -> Weights | None:
    """The buffer written with its axes in another order, and read as OHWI."""
    return w.transpose(order).reshape(w.shape) if w.ndim == 4 else None


def _read_as(w: Weights, order: tuple[int, int, int, int]) -> Weights | None:
    """The OHWI buffer, read as one with its axes in another order."""
    if w.ndim != 4:
        return None
    return w.reshape([w.shape[axis] for axis in order]).transpose(np.argsort(order))


def _cut(bits: Weights, word: int, fill: int, axes: tuple[int, ...]) -> Weights:
    """The packed axis filled up to whole words, cut into (word, octet, bit), with some of these axes reversed."""
    tail = -bits.shape[-1] % word
    filled = np.pad(bits, [(0, 0)] * (bits.ndim - 1) + [(0, tail)], constant_values=fill)
    cut = filled.reshape(*filled.shape[:-1], filled.shape[-1] // word, word // 8, 8)
    turned: Weights = np.flip(cut, axis=tuple(axis - 3 for axis in axes))
    return turned.reshape(filled.shape)


def _read_in_words(layer: Layer, network: NetworkData, word: int, axes: tuple[int, ...]) -> Layer | None:
    """A first layer's packed weights; only where words are whole."""
    if not isinstance(layer, PixelConv2d) or layer.weight_shape[3] % word:
        return None
    return reweighted(layer, network, partial(_cut, word=word, fill=-1, axes=axes))


def _met_in_words(a: NDArray[np.int32], place: Place, word: int, axes: tuple[int, ...]) -> NDArray[np.int32] | None:
    """A binary layer's inputs and weights packed in different orders, so that they meet otherwise, tails included."""
    x, layer = inputs_of(place), place.layer
    if x is None or isinstance(layer, PixelConv2d):
        return None
    weights = _cut(weights_of(place), word, -1, axes=())
    if isinstance(layer, Convolution):
        depth = layer.weight_shape[3]

        def cut(windows: Weights, number: int) -> Weights:
            return _cut(windows[..., number * depth : (number + 1) * depth], word, 0, axes)

        found = resummed(place, weights=weights, group=cut)
    else:
        found = resummed(place, x=_cut(x, word, 0, axes), weights=weights)
    return None if found is None or np.array_equal(found, a) else found


def _flattened(layer: Layer, network: NetworkData, order: tuple[int, int, int]) -> Layer | None:
    """A dense layer whose input map is flattened in another order of (row, column, channel)."""
    shape = network.shapes[layer.name].input
    if not isinstance(layer, BinaryDense) or len(shape) != 3:
        return None
    # Position k of their vector holds our element index[k]; weight k meets it there.
    index = np.arange(int(np.prod(shape))).reshape(shape).transpose(order).ravel()
    weights = unpack(layer.weights)
    moved = np.empty_like(weights)
    moved[:, index] = weights
    return None if np.array_equal(moved, weights) else replace(layer, weights=pack(moved))


_FLATTENED = (
    ("NCHW", "a dense layer reads (channel, row, column)", (2, 0, 1)),
    ("(column, row, channel)", "a dense layer reads by columns", (1, 0, 2)),
    ("(channel, column, row)", "a dense layer reads channels by columns", (2, 1, 0)),
)
_SIMPLE: tuple[tuple[str, str, str, Callable[[Weights], Weights | None]], ...] = (
    ("weights inverted", "polarity", "bit 1 of a weight is taken for -1", lambda w: -w),
    ("weights turned by half", "layout", "convolution stands for correlation",
     lambda w: w[:, ::-1, ::-1] if w.ndim == 4 else None),
    ("weights transposed", "layout", "rows and columns of the weights are swapped", _transposed),
    ("weights mirrored in rows", "layout", "the window's rows are upside down",
     lambda w: w[:, ::-1] if w.ndim == 4 else None),
    ("weights mirrored in columns", "layout", "the window's columns are reversed",
     lambda w: w[:, :, ::-1] if w.ndim == 4 else None),
    ("weights' input channels reversed", "layout", "channel C-1-c stands for c (BGR for RGB)",
     lambda w: w[..., ::-1] if w.ndim == 4 and w.shape[-1] > 1 else None),
    ("weights' outputs reversed", "layout", "output O-1-o stands for o", lambda w: w[::-1]),
)  # fmt: skip
_ORDERS = {"OIHW": (0, 3, 1, 2), "HWIO": (1, 2, 3, 0), "HWOI": (1, 2, 0, 3), "IHWO": (3, 1, 2, 0), "OWHI": (0, 2, 1, 3)}
_WORDS = (
    ("weights' bits reversed in {}-bit words", "bit order", "the first bit is taken for the last", (1, 2), 8),
    ("weights' octets reversed in {}-bit words", "byte order", "the lowest octet is taken for the highest", (1,), 16),
    ("weights' {}-bit words in reverse", "word order", "the first word is taken for the last", (0,), 8),
)
"""Name, group, sentence, reversed axes of (word, octet, bit), and the smallest word that it is about."""


def _weight(name: str, group: str, says: str, change: Callable[[Weights], Weights | None]) -> Change:
    return Change(name=name, group=group, says=says, layer=partial(reweighted, change=change))


WEIGHTS: tuple[Change, ...] = (
    *(
        Change(name=f"flattened as {name}", group="layout", says=says, layer=partial(_flattened, order=order))
        for name, says, order in _FLATTENED
    ),
    *(_weight(*entry) for entry in _SIMPLE),
    *(
        _weight(
            f"weights read as {name}", "layout", f"an OHWI buffer is read as {name}", partial(_read_as, order=order)
        )
        for name, order in _ORDERS.items()
    ),
    *(
        _weight(
            f"weights written as {name}", "layout", f"a buffer in {name} is read as OHWI",
            partial(_written_as, order=order),
        )
        for name, order in _ORDERS.items()
    ),
    *(
        Change(
            name=name.format(word), group=group, says=says, layer=partial(_read_in_words, word=word, axes=axes),
            accumulate=partial(_met_in_words, word=word, axes=axes),
        )
        for name, group, says, axes, least in _WORDS
        for word in (8, 16, 32, 64)
        if word >= least
    ),
)  # fmt: skip
"""Changes of weights."""
