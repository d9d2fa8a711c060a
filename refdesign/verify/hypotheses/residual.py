"""Changes of what residual networks add: shortcuts, clamps, bases of several scales, a real last layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from refdesign.network import CombinedConv2d, Layer, NetworkData, RealDense, Shortcut, Stage
from refdesign.ops.residual import hardtanh, shortcut
from refdesign.ops.sign import sign
from refdesign.verify.change import Change, Stream

Real = NDArray[np.float32]


def _shortcut(layer: Layer, network: NetworkData, change: Callable[[Shortcut], Shortcut | None]) -> Layer | None:
    if not isinstance(layer, Stage) or layer.shortcut is None:
        return None
    changed = change(layer.shortcut)
    return None if changed == layer.shortcut else replace(layer, shortcut=changed)


def _cut(stream: Stream) -> Real | None:
    """Nothing arrives: z alone."""
    if stream.layer.shortcut is None:
        return None
    return hardtanh(stream.z) if stream.layer.hardtanh else stream.z


def _unclamped(layer: Layer, network: NetworkData) -> Layer | None:
    return replace(layer, hardtanh=False) if isinstance(layer, Stage) and layer.hardtanh else None


def _clamped_before(stream: Stream) -> Real | None:
    settings = stream.layer.shortcut
    if settings is None or not stream.layer.hardtanh:
        return None
    return np.asarray(hardtanh(stream.z) + shortcut(stream.sources[settings.source], settings))


def _arriving(stream: Stream, change: Callable[[Stream, Shortcut], Real | None]) -> Real | None:
    """The stream with another thing arriving through its shortcut."""
    if stream.layer.shortcut is None:
        return None
    arriving = change(stream, stream.layer.shortcut)
    if arriving is None:
        return None
    real = stream.z + arriving
    return hardtanh(real) if stream.layer.hardtanh else real


def _signs(stream: Stream, settings: Shortcut) -> Real:
    return shortcut(sign(stream.sources[settings.source], stream.conventions).astype(np.float32), settings)


def _subsampled(stream: Stream, settings: Shortcut) -> Real | None:
    step = settings.average_pool
    if step == 1:
        return None
    source = stream.sources[settings.source]
    height, width = (extent // step * step for extent in source.shape[1:3])
    kept = np.ascontiguousarray(source[:, :height:step, :width:step])
    return shortcut(kept, replace(settings, average_pool=1))


def _bases(layer: Layer, network: NetworkData, kind: str) -> Layer | None:
    if not isinstance(layer, CombinedConv2d):
        return None
    if kind == "reversed":
        return replace(layer, weights=layer.weights[::-1], scales=layer.scales[::-1].copy())
    if kind == "first":
        return replace(layer, weights=layer.weights[:1], scales=layer.scales[:1].copy())
    if kind == "scales reversed":
        return replace(layer, scales=layer.scales[::-1].copy())
    shared = np.ones_like(layer.scales) if kind == "unscaled" else np.broadcast_to(layer.scales[:1], layer.scales.shape)
    return replace(layer, scales=np.ascontiguousarray(shared))


def _unbiased(layer: Layer, network: NetworkData) -> Layer | None:
    return replace(layer, bias=None) if isinstance(layer, RealDense) and layer.bias is not None else None


def _unnormalised(layer: Layer, network: NetworkData) -> Layer | None:
    if not isinstance(layer, RealDense) or layer.input_batch_norm is None:
        return None
    return replace(layer, input_batch_norm=None)


def _padding(settings: Shortcut, before: bool) -> Shortcut:
    total = sum(settings.channel_padding)
    return replace(settings, channel_padding=(total, 0) if before else (0, total))


_R, _B = "residual", "bases"
_BASES = (
    ("bases share the first scale", "one scale stands for all", "shared"),
    ("bases without scales", "every scale is 1", "unscaled"),
    ("bases' scales in reverse", "the last scale stands for the first", "scales reversed"),
    ("bases summed in reverse", "the last basis is added first: other roundings", "reversed"),
    ("first basis only", "the other bases are left out", "first"),
)

RESIDUAL: tuple[Change, ...] = (
    Change(name="shortcut left out", group=_R, says="the main path stands alone", real=_cut),
    Change(name="shortcut added after the clamp", group=_R, says="hardtanh(z) + shortcut", real=_clamped_before),
    Change(
        name="shortcut of signs",
        group=_R,
        says="the shortcut carries bits instead of real values",
        real=partial(_arriving, change=_signs),
    ),
    Change(
        name="shortcut subsampled",
        group=_R,
        says="the shortcut takes one pixel of each window instead of the mean",
        real=partial(_arriving, change=_subsampled),
    ),
    Change(
        name="shortcut's zero channels behind",
        group=_R,
        says="all zero channels come last",
        layer=partial(_shortcut, change=partial(_padding, before=False)),
    ),
    Change(
        name="shortcut's zero channels before",
        group=_R,
        says="all zero channels come first",
        layer=partial(_shortcut, change=partial(_padding, before=True)),
    ),
    Change(name="real stream not clamped", group=_R, says="hardtanh is left out", layer=_unclamped),
    *(Change(name=name, group=_B, says=says, layer=partial(_bases, kind=kind)) for name, says, kind in _BASES),
    Change(name="bias left out", group="last layer", says="the last layer's bias is 0", layer=_unbiased),
    Change(
        name="last layer's input not normalised",
        group="last layer",
        says="the batch norm before the last layer is left out",
        layer=_unnormalised,
    ),
)
"""Changes of residual networks."""
