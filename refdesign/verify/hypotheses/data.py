"""Changes of a layer's data: its weights as they were read, its padding, its batch norm, its kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import PackedBits, pack, unpack
from refdesign.network import (
    PADDING_MODES,
    BinaryDense,
    Convolution,
    Layer,
    NetworkData,
    PixelConv2d,
    RealConv2d,
    RealDense,
    Stage,
)
from refdesign.ops.dither import slices
from refdesign.parameters import BatchNorm, ThresholdKernel
from refdesign.verify.variant import Change

Weights = NDArray[Any]


def _weights(layer: Layer) -> Weights | None:
    weights = getattr(layer, "weights", None)
    if isinstance(weights, PackedBits):
        return unpack(weights)
    return weights if isinstance(weights, np.ndarray) else None


def _reweighted(layer: Layer, network: NetworkData, change: Callable[[Weights], Weights | None]) -> Layer | None:
    weights = _weights(layer)
    changed = None if weights is None or isinstance(layer, (RealConv2d, RealDense)) else change(weights)
    if weights is None or changed is None or changed.shape != weights.shape or np.array_equal(changed, weights):
        return None
    made = pack(changed) if isinstance(layer.__dict__["weights"], PackedBits) else np.ascontiguousarray(changed)
    return replace(layer, weights=made)  # type: ignore[call-arg]


def _transposed(w: Weights) -> Weights | None:
    return w.swapaxes(1, 2) if w.ndim == 4 else w.T


def _axes(w: Weights, order: tuple[int, int, int, int]) -> Weights | None:
    """The buffer written with its axes in another order, and read as OHWI."""
    return w.transpose(order).reshape(w.shape) if w.ndim == 4 else None


def _read_as(w: Weights, order: tuple[int, int, int, int]) -> Weights | None:
    """The OHWI buffer, read as one with its axes in another order."""
    if w.ndim != 4:
        return None
    return w.reshape([w.shape[axis] for axis in order]).transpose(np.argsort(order))


def _words_reversed(w: Weights, word: int) -> Weights | None:
    """Bits reversed in words of the packed axis; only where words are whole."""
    depth = w.shape[-1]
    if depth % word:
        return None
    return w.reshape(*w.shape[:-1], depth // word, word)[..., ::-1].reshape(w.shape)


def _octets_swapped(w: Weights, word: int) -> Weights | None:
    """The octets of every word in reverse; only where words are whole."""
    depth = w.shape[-1]
    if depth % word:
        return None
    return w.reshape(*w.shape[:-1], depth // word, word // 8, 8)[..., ::-1, :].reshape(w.shape)


def _words_swapped(w: Weights, word: int) -> Weights | None:
    depth = w.shape[-1]
    if depth % word or depth == word:
        return None
    return w.reshape(*w.shape[:-1], depth // word, word)[..., ::-1, :].reshape(w.shape)


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


def _padded(layer: Layer, network: NetworkData, mode: str) -> Layer | None:
    if not isinstance(layer, Convolution) or layer.padding == (0, 0) or layer.padding_mode == mode:
        return None
    return replace(layer, padding_mode=mode)


def _swapped_pairs(layer: Layer, network: NetworkData) -> Layer | None:
    if not isinstance(layer, Convolution):
        return None
    pairs = {name: getattr(layer, name)[::-1] for name in ("stride", "padding", "dilation")}
    return replace(layer, **pairs) if any(pairs[name] != getattr(layer, name) for name in pairs) else None


def _undilated(layer: Layer, network: NetworkData) -> Layer | None:
    return None if not isinstance(layer, Convolution) or layer.dilation == (1, 1) else replace(layer, dilation=(1, 1))


def _pixels(layer: Layer, network: NetworkData, multiplier: int, offset: int) -> Layer | None:
    if not isinstance(layer, PixelConv2d) or (layer.multiplier, layer.offset) == (multiplier, offset):
        return None
    return replace(layer, multiplier=multiplier, offset=offset)


def _input_channels(w: Weights) -> Weights | None:
    return w[..., ::-1] if w.ndim == 4 and w.shape[-1] > 1 else None


def _normalised(layer: Layer, network: NetworkData, change: Callable[[BatchNorm], dict[str, Any]]) -> Layer | None:
    if not isinstance(layer, Stage) or layer.batch_norm is None:
        return None
    bn = layer.batch_norm
    fields = {"k": None, "c": None, **change(bn)}
    with np.errstate(all="ignore"):
        fields = {n: v.astype(np.float32) if isinstance(v, np.ndarray) else v for n, v in fields.items()}
    same = all(np.array_equal(getattr(bn, name), value) for name, value in fields.items() if name not in ("k", "c"))
    return None if same else replace(layer, batch_norm=replace(bn, **fields))


def _sum(bn: BatchNorm) -> NDArray[np.float64]:
    return bn.variance.astype(np.float64) + bn.epsilon


def _dithered(
    layer: Layer, network: NetworkData, change: Callable[[NDArray[np.float32], Stage, NetworkData], Any]
) -> Layer | None:
    """A layer with another threshold kernel; None takes the kernel away."""
    if not isinstance(layer, Stage) or layer.kernel is None or layer is network.layers[-1]:
        return None
    values = change(layer.kernel.values, layer, network)
    kernel = None if values is None else ThresholdKernel(np.asarray(values).astype(np.float32))
    if kernel is not None and np.array_equal(kernel.values, layer.kernel.values):
        return None
    return replace(layer, kernel=kernel)


def _levels(values: NDArray[np.float32], layer: Stage, network: NetworkData) -> Any:
    levels = None if layer.kernel is None else layer.kernel.levels
    return values if levels is None else levels


def _before_batch_norm(values: NDArray[np.float32], layer: Stage, network: NetworkData) -> Any:
    """T is taken from the accumulator, before the batch norm: in y it is k*T."""
    if layer.batch_norm is None:
        return values
    bn = layer.batch_norm
    chosen = values[:, :, slices(bn.channels, values.shape[2], network.conventions.channel_map)]
    return chosen * (bn.gamma / np.sqrt(_sum(bn)))


def _bare_logits(layer: Layer, network: NetworkData) -> Layer | None:
    if layer is not network.layers[-1] or not isinstance(layer, Stage) or layer.batch_norm is None:
        return None
    return replace(layer, batch_norm=None)


def _weight(name: str, group: str, says: str, change: Callable[[Weights], Weights | None]) -> Change:
    return Change(name=name, group=group, says=says, layer=partial(_reweighted, change=change))


def _norm(name: str, says: str, change: Callable[[BatchNorm], dict[str, Any]]) -> Change:
    return Change(name=name, group="batch norm", says=says, layer=partial(_normalised, change=change))


def _kernel(name: str, says: str, change: Callable[[NDArray[np.float32], Stage, NetworkData], Any]) -> Change:
    return Change(name=name, group="dither", says=says, layer=partial(_dithered, change=change))


def _half(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values.astype(np.float16).astype(np.float32)


def _brain(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rounded to bfloat16, ties to even."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


def _rounded(bn: BatchNorm, to: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> dict[str, Any]:
    return {name: to(getattr(bn, name)) for name in ("gamma", "beta", "mean", "variance")}


_ORDERS = {"OIHW": (0, 3, 1, 2), "HWIO": (1, 2, 3, 0), "HWOI": (1, 2, 0, 3), "IHWO": (3, 1, 2, 0), "OWHI": (0, 2, 1, 3)}

DATA: tuple[Change, ...] = (
    *(
        Change(
            name=f"padding_mode={mode}",
            group="padding",
            says=f"the border is filled as {mode}",
            layer=partial(_padded, mode=mode),
        )
        for mode in PADDING_MODES
    ),
    Change(
        name="flattened as NCHW",
        group="layout",
        says="a dense layer reads (channel, row, column)",
        layer=partial(_flattened, order=(2, 0, 1)),
    ),
    Change(
        name="flattened by columns",
        group="layout",
        says="a dense layer reads (column, row, channel)",
        layer=partial(_flattened, order=(1, 0, 2)),
    ),
    Change(
        name="flattened as CWH",
        group="layout",
        says="a dense layer reads (channel, column, row)",
        layer=partial(_flattened, order=(2, 1, 0)),
    ),
    _weight("weights inverted", "polarity", "bit 1 of a weight is taken for -1", lambda w: -w),
    _weight(
        "weights turned by half",
        "layout",
        "convolution stands for correlation",
        lambda w: w[:, ::-1, ::-1] if w.ndim == 4 else None,
    ),
    _weight("weights transposed", "layout", "rows and columns of the weights are swapped", _transposed),
    _weight(
        "weights mirrored in rows",
        "layout",
        "the window's rows are upside down",
        lambda w: w[:, ::-1] if w.ndim == 4 else None,
    ),
    _weight(
        "weights mirrored in columns",
        "layout",
        "the window's columns are reversed",
        lambda w: w[:, :, ::-1] if w.ndim == 4 else None,
    ),
    _weight("weights' input channels reversed", "layout", "channel C-1-c stands for c (BGR for RGB)", _input_channels),
    _weight("weights' outputs reversed", "layout", "output O-1-o stands for o", lambda w: w[::-1]),
    *(
        _weight(
            f"weights read as {name}", "layout", f"an OHWI buffer is read as {name}", partial(_read_as, order=order)
        )
        for name, order in _ORDERS.items()
    ),
    *(
        _weight(
            f"weights written as {name}", "layout", f"a buffer in {name} is read as OHWI", partial(_axes, order=order)
        )
        for name, order in _ORDERS.items()
    ),
    *(
        _weight(
            f"weights' bits reversed in {word}-bit words",
            "bit order",
            "the first bit is taken for the last",
            partial(_words_reversed, word=word),
        )
        for word in (8, 16, 32, 64)
    ),
    *(
        _weight(
            f"weights' octets reversed in {word}-bit words",
            "byte order",
            "the lowest octet is taken for the highest",
            partial(_octets_swapped, word=word),
        )
        for word in (16, 32, 64)
    ),
    *(
        _weight(
            f"weights' {word}-bit words in reverse",
            "word order",
            "the first word is taken for the last",
            partial(_words_swapped, word=word),
        )
        for word in (8, 16, 32, 64)
    ),
    Change(
        name="stride, padding and dilation swapped", group="layout", says="rows stand for columns", layer=_swapped_pairs
    ),
    Change(name="dilation ignored", group="geometry", says="dilation is 1", layer=_undilated),
    Change(
        name="pixels as p",
        group="input",
        says="the first layer reads p",
        layer=partial(_pixels, multiplier=1, offset=0),
    ),
    Change(
        name="pixels as 2p - 255",
        group="input",
        says="the first layer reads 2p - 255",
        layer=partial(_pixels, multiplier=2, offset=-255),
    ),
    Change(
        name="pixels as p - 128",
        group="input",
        says="the first layer reads p - 128",
        layer=partial(_pixels, multiplier=1, offset=-128),
    ),
    Change(
        name="pixels as 255 - p",
        group="input",
        says="the first layer reads the negative",
        layer=partial(_pixels, multiplier=-1, offset=255),
    ),
    _norm("gamma as |gamma|", "the sign of gamma is lost", lambda bn: {"gamma": np.abs(bn.gamma)}),
    _norm("gamma ignored", "gamma is 1", lambda bn: {"gamma": np.ones_like(bn.gamma)}),
    _norm("beta ignored", "beta is 0", lambda bn: {"beta": np.zeros_like(bn.beta)}),
    _norm("beta negated", "beta has the wrong sign", lambda bn: {"beta": -bn.beta}),
    _norm("mean ignored", "the mean is 0", lambda bn: {"mean": np.zeros_like(bn.mean)}),
    _norm("mean negated", "the mean is added", lambda bn: {"mean": -bn.mean}),
    _norm("alpha ignored", "the weights' scale is 1", lambda bn: {} if bn.alpha is None else {"alpha": None}),
    _norm("gamma and beta swapped", "gamma stands for beta", lambda bn: {"gamma": bn.beta, "beta": bn.gamma}),
    _norm(
        "variance as standard deviation",
        "the square root is missing",
        lambda bn: {"variance": _sum(bn) ** 2, "epsilon": 0.0},
    ),
    _norm(
        "variance as inverse standard deviation",
        "1/std is taken for the variance",
        lambda bn: {"variance": 1 / _sum(bn) ** 2, "epsilon": 0.0},
    ),
    _norm(
        "standard deviation multiplied",
        "gamma*std stands for gamma/std",
        lambda bn: {"variance": 1 / _sum(bn), "epsilon": 0.0},
    ),
    *(
        _norm(f"epsilon={epsilon:g}", f"epsilon is {epsilon:g}", partial(lambda bn, e: {"epsilon": e}, e=epsilon))
        for epsilon in (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 0.0)
    ),
    _norm(
        "epsilon outside the root",
        "std + epsilon stands for sqrt(var + epsilon)",
        lambda bn: {"variance": (np.sqrt(bn.variance.astype(np.float64)) + bn.epsilon) ** 2, "epsilon": 0.0},
    ),
    _norm("batch norm in float16", "its parameters are rounded to float16", partial(_rounded, to=_half)),
    _norm("batch norm in bfloat16", "its parameters are rounded to bfloat16", partial(_rounded, to=_brain)),
    _norm(
        "channels of the batch norm reversed",
        "channel C-1-c stands for c",
        lambda bn: {n: getattr(bn, n)[::-1] for n in ("gamma", "beta", "mean", "variance")},
    ),
    _norm(
        "channels of the batch norm shifted by 1",
        "channel c+1 stands for c",
        lambda bn: {n: np.roll(getattr(bn, n), -1) for n in ("gamma", "beta", "mean", "variance")},
    ),
    _norm(
        "first channel's batch norm for all",
        "channel 0 stands for c",
        lambda bn: {n: np.full_like(getattr(bn, n), getattr(bn, n)[0]) for n in ("gamma", "beta", "mean", "variance")},
    ),
    Change(name="last batch norm left out", group="batch norm", says="the logits are accumulators", layer=_bare_logits),
    _kernel("no dither", "T = 0", lambda values, layer, network: None),
    _kernel("dither added", "z = y + T", lambda values, layer, network: -values),
    _kernel("dither before the batch norm", "T is taken from the accumulator", _before_batch_norm),
    _kernel("level indices for thresholds", "T holds level indices", _levels),
    _kernel("dither doubled", "2T stands for T", lambda values, layer, network: 2 * values),
    _kernel("dither halved", "T/2 stands for T", lambda values, layer, network: values / 2),
    _kernel("dither rounded to integers", "T is rounded", lambda values, layer, network: np.rint(values)),
    _kernel("kernel transposed", "T[j, i] stands for T[i, j]", lambda values, layer, network: values.swapaxes(0, 1)),
    _kernel(
        "first slice for all channels",
        "T[:, :, 0] stands for all slices",
        lambda values, layer, network: values[:, :, :1],
    ),
    _kernel("slices reversed", "slice g-1-q stands for q", lambda values, layer, network: values[:, :, ::-1]),
    _kernel(
        "slices shifted by 1", "slice q+1 stands for q", lambda values, layer, network: np.roll(values, -1, axis=2)
    ),
    _kernel(
        "slices shifted by -1", "slice q-1 stands for q", lambda values, layer, network: np.roll(values, 1, axis=2)
    ),
    _kernel(
        "dither averaged over the slices",
        "2D stands for 3D",
        lambda values, layer, network: values.mean(axis=2, keepdims=True),
    ),
)
"""Changes of a layer's data."""
