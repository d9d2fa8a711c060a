"""Changes of the threshold kernel: its sign, its scale, its place, its slices, its memory's layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import WORD
from refdesign.network import Layer, NetworkData, Stage, fold_channels
from refdesign.ops.batch_norm import batch_norm
from refdesign.ops.dither import slices
from refdesign.ops.sign import sign
from refdesign.parameters import BatchNorm, ThresholdKernel
from refdesign.verify.change import Change, Decision
from refdesign.verify.hypotheses.precision import ROUNDINGS

Values = NDArray[np.float32]
KernelChange = Callable[[Values, Stage, NetworkData], Any]


def _dithered(layer: Layer, network: NetworkData, change: KernelChange) -> Layer | None:
    """A layer with another threshold kernel; None takes the kernel away."""
    if not isinstance(layer, Stage) or layer.kernel is None or layer is network.layers[-1]:
        return None
    values = change(layer.kernel.values, layer, network)
    kernel = None if values is None else ThresholdKernel(np.asarray(values).astype(np.float32))
    if kernel is not None and np.array_equal(kernel.values, layer.kernel.values):
        return None
    return replace(layer, kernel=kernel)


def _levels(values: Values, layer: Stage, network: NetworkData) -> Any:
    levels = None if layer.kernel is None else layer.kernel.levels
    return values if levels is None else levels


def _times_k(values: Values, layer: Stage, network: NetworkData) -> Any:
    """T is taken from the accumulator, before the batch norm: in y it is k*T."""
    bn: BatchNorm = fold_channels(layer)
    deviation = np.sqrt(bn.variance.astype(np.float64) + bn.epsilon)
    alpha = 1 if bn.alpha is None else bn.alpha
    chosen = values[:, :, slices(bn.channels, values.shape[2], network.conventions.channel_map)]
    return chosen * (bn.gamma * alpha / deviation)


def _before_batch_norm(d: Decision) -> bool:
    """The float program on a - T, as a port would compute it."""
    kernel = d.layer.kernel
    if kernel is None:
        return False
    bn = fold_channels(d.layer)
    chosen = kernel.values[:, :, slices(bn.channels, kernel.shape[2], d.conventions.channel_map)]
    if d.conventions.threshold_scale == "gamma":
        chosen = bn.gamma * chosen
    y = batch_norm(d.a.astype(np.float32) - chosen[d.rows, d.columns], bn, d.conventions.arithmetic)
    d.bits = sign(y, d.conventions)
    return True


def _by_channel(values: Values, layer: Stage, network: NetworkData, chosen: Callable[[Any, int], Any]) -> Any:
    """Slices chosen by a rule of the channel, the rule's own and not the convention's."""
    return values[:, :, chosen(np.arange(layer.out_channels), values.shape[2])]


def _read_as(values: Values, layer: Stage, network: NetworkData, order: tuple[int, int, int]) -> Any:
    """The kernel's memory read with its axes in another order."""
    shape = [values.shape[axis] for axis in order]
    return values.reshape(shape).transpose(np.argsort(order))


_KERNELS: tuple[tuple[str, str, KernelChange], ...] = (
    ("no dither", "T = 0", lambda values, layer, network: None),
    ("dither added", "z = y + T", lambda values, layer, network: -values),
    ("dither scaled by the batch norm", "k*T stands for T", _times_k),
    ("level indices for thresholds", "T holds level indices", _levels),
    ("dither doubled", "2T stands for T", lambda values, layer, network: 2 * values),
    ("dither halved", "T/2 stands for T", lambda values, layer, network: values / 2),
    ("dither rounded to integers", "T is rounded", lambda values, layer, network: np.rint(values)),
    ("kernel transposed", "T[j, i] stands for T[i, j]", lambda values, layer, network: values.swapaxes(0, 1)),
    ("first slice for all channels", "T[:, :, 0] stands for all slices",
     lambda values, layer, network: values[:, :, :1]),
    ("slices reversed", "slice g-1-q stands for q", lambda values, layer, network: values[:, :, ::-1]),
    ("slices shifted by 1", "slice q+1 stands for q", lambda values, layer, network: np.roll(values, -1, axis=2)),
    ("slices shifted by -1", "slice q-1 stands for q", lambda values, layer, network: np.roll(values, 1, axis=2)),
    ("slices step from word to word", f"channels {WORD}w to {WORD}w + {WORD - 1} share slice w mod g",
     partial(_by_channel, chosen=lambda channel, g: channel // WORD % g)),
    ("dither averaged over the slices", "2D stands for 3D",
     lambda values, layer, network: values.mean(axis=2, keepdims=True)),
    ("kernel read as (slice, row, column)", "its memory is read slice by slice", partial(_read_as, order=(2, 0, 1))),
    ("kernel read as (slice, column, row)", "its memory is read slice by slice, by columns",
     partial(_read_as, order=(2, 1, 0))),
    ("kernel read as (column, row, slice)", "its memory is read by columns", partial(_read_as, order=(1, 0, 2))),
)  # fmt: skip


def _kernel(name: str, says: str, change: KernelChange) -> Change:
    return Change(name=name, group="dither", says=says, layer=partial(_dithered, change=change))


def _rounded(values: Values, layer: Stage, network: NetworkData, to: str) -> Values:
    return ROUNDINGS[to](values)


DITHER: tuple[Change, ...] = (
    Change(
        name="dither before the batch norm",
        group="dither",
        says="T is taken from the accumulator",
        decide=_before_batch_norm,
    ),
    *(_kernel(name, says, change) for name, says, change in _KERNELS),
    *(_kernel(f"dither in {to}", f"T is rounded to {to}", partial(_rounded, to=to)) for to in ROUNDINGS),
)
"""Changes of the threshold kernel."""
