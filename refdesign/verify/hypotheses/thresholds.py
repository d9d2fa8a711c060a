"""Changes of thresholds and of what is compared with them: off by one, direction, constants, widths, rounding."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from refdesign.network import fold_channels
from refdesign.ops.dither import slices
from refdesign.ops.sign import KERAS_ROUND_BOUNDARY
from refdesign.parameters import NO_DITHER
from refdesign.verify.change import Change, Decision

Mask = NDArray[np.bool_]
_T, _D, _W = "threshold", "direction", "width"
_ALL, _DOWN = "all", "down"


def _chosen(d: Decision, which: str) -> Mask:
    return d.direction < 0 if which == _DOWN else d.direction != 0


def _moved(d: Decision, steps: int, which: str, along: bool) -> bool:
    """Thresholds moved by steps; `along`: in the direction in which they fire, instead of upwards."""
    chosen = _chosen(d, which)
    way = d.direction.astype(np.int64) if along else 1
    d.threshold = np.where(chosen, d.threshold + steps * d.step * way, d.threshold)
    return bool(chosen.any())


def _upwards(d: Decision, steps: int) -> bool:
    """a >= t + steps stands for a <= t."""
    down = d.direction < 0
    d.threshold = np.where(down, d.threshold + steps * d.step, d.threshold)
    d.direction = np.where(down, 1, d.direction).astype(np.int8)
    return bool(down.any())


def _downwards(d: Decision) -> bool:
    up = d.direction > 0
    d.direction = np.where(up, -1, d.direction).astype(np.int8)
    return bool(up.any())


def _negated(d: Decision, which: str) -> bool:
    chosen = _chosen(d, which)
    d.threshold = np.where(chosen, -d.threshold, d.threshold)
    return bool(chosen.any())


def _constant_as(d: Decision, value: int | None, only_gamma_zero: bool) -> bool:
    """Channels that are constant give another value; None: they compare with 0."""
    chosen = d.direction == 0
    if only_gamma_zero:
        bn = fold_channels(d.layer)
        slope = bn.gamma if bn.alpha is None else bn.gamma * bn.alpha
        chosen = chosen & (slope == 0)
    if value is None:
        d.direction[chosen] = 1
    else:
        d.constant[chosen] = value
    return bool(chosen.any())


def _inverted(d: Decision, constants: bool) -> bool:
    bits = d.decide()
    kept = (d.direction == 0)[d.rows, d.columns] & (not constants)
    d.bits = np.where(kept, bits, -bits).astype(np.int8)
    return True


def _ternary_as(d: Decision, value: int) -> bool:
    if not (d.zero_low <= d.zero_high).any():
        return False
    bits = d.decide()
    d.bits = np.where(bits == 0, value, bits).astype(np.int8)
    return True


def _clipped(d: Decision, low: int, high: int) -> bool:
    clipped = np.where(d.direction == 0, d.threshold, np.clip(d.threshold, low, high))
    changed = bool((clipped != d.threshold).any())
    d.threshold = clipped
    return changed


def _wrapped(d: Decision, bits: int) -> bool:
    half = 1 << (bits - 1)
    wrapped = (d.threshold + half) % (2 * half) - half
    changed = bool((wrapped != d.threshold).any())
    d.threshold = wrapped
    return changed


def _channels(d: Decision, order: Callable[[NDArray[np.intp]], NDArray[np.intp]]) -> bool:
    """Channels use the thresholds, and all that belongs to them, of other channels."""
    moved = order(np.arange(d.threshold.shape[2]))
    for name in ("threshold", "direction", "constant", "zero_low", "zero_high"):
        setattr(d, name, getattr(d, name)[:, :, moved])
    return moved.size > 1


def _algebra(d: Decision, rounding: str) -> bool:
    """The threshold by algebra in float32, as converters do: mean + (T - beta)*std/gamma, rounded."""
    bn = fold_channels(d.layer)
    kernel = d.layer.kernel or NO_DITHER
    _, _, g = kernel.shape
    t = kernel.values[:, :, slices(bn.channels, g, d.conventions.channel_map)]
    if d.conventions.threshold_scale == "gamma":
        t = bn.gamma * t
    if d.conventions.sign_rule == "keras_round":
        t = t + np.float32(KERAS_ROUND_BOUNDARY)
    std = np.sqrt(bn.variance + np.float32(bn.epsilon))
    with np.errstate(all="ignore"):
        boundary = bn.mean + (t - bn.beta) * std / bn.gamma
        if bn.alpha is not None:
            boundary = boundary / bn.alpha
    finite = np.isfinite(boundary)
    found = np.clip(np.where(finite, boundary, 0), -(2.0**40), 2.0**40)
    up = d.direction > 0
    rounded = {
        "down": np.floor(found),
        "up": np.ceil(found),
        "to nearest": np.rint(found),
        "towards zero": np.trunc(found),
        "towards its firing side": np.where(up, np.ceil(found), np.floor(found)),
        "away from its firing side": np.where(up, np.floor(found), np.ceil(found)),
    }[rounding]
    d.threshold = np.where(finite, rounded, d.threshold).astype(np.int64)
    return bool(finite.any())


_MOVES: tuple[tuple[str, str, str, Callable[[Decision], bool]], ...] = (
    ("fires above the threshold, not at it", _T, "> stands for >= (and < for <=)",
     partial(_moved, steps=1, which=_ALL, along=True)),
    ("fires one before the threshold", _T, "thresholds are one too early",
     partial(_moved, steps=-1, which=_ALL, along=True)),
    ("threshold + 1", _T, "thresholds are one too high", partial(_moved, steps=1, which=_ALL, along=False)),
    ("threshold - 1", _T, "thresholds are one too low", partial(_moved, steps=-1, which=_ALL, along=False)),
    ("direction of negative gamma ignored", _D, "a >= t everywhere, for gamma < 0 too", partial(_upwards, steps=0)),
    ("negative gamma as its inverse", _D, "where gamma < 0 it fires above t instead of at or below",
     partial(_upwards, steps=1)),
    ("a < t for negative gamma", _D, "< stands for <= where gamma < 0",
     partial(_moved, steps=-1, which=_DOWN, along=False)),
    ("one late for negative gamma", _D, "thresholds of gamma < 0 are one too high",
     partial(_moved, steps=1, which=_DOWN, along=False)),
    ("threshold of negative gamma not negated back", _D, "-t stands for t where gamma < 0",
     partial(_negated, which=_DOWN)),
    ("direction always downwards", _D, "a <= t stands for a >= t", _downwards),
    ("threshold negated", _T, "-t stands for t everywhere", partial(_negated, which=_ALL)),
)  # fmt: skip
"""Name, group, sentence and change of thresholds that are counted in integers, or in attainable sums."""

_ORDERS: tuple[tuple[str, str, Callable[[NDArray[np.intp]], NDArray[np.intp]]], ...] = (
    ("first channel's thresholds for all", "channel 0 stands for c", lambda c: 0 * c),
    ("channels of the thresholds reversed", "channel C-1-c stands for c", lambda c: c[::-1]),
    ("channels of the thresholds shifted by 1", "channel c+1 stands for c", lambda c: np.roll(c, -1)),
    ("channels of the thresholds shifted by -1", "channel c-1 stands for c", lambda c: np.roll(c, 1)),
)
_CONSTANTS = (
    ("channels with gamma = 0 as -1", "they never fire", -1, True),
    ("channels with gamma = 0 as +1", "they always fire", 1, True),
    ("channels with gamma = 0 compare with 0", "gamma = 0 is not seen", None, True),
    ("constant channels as -1", "channels that no sum turns never fire", -1, False),
    ("constant channels as +1", "channels that no sum turns always fire", 1, False),
    ("constant channels compare with 0", "channels that no sum turns have the threshold 0", None, False),
)
_ROUNDINGS = ("down", "up", "to nearest", "towards zero", "towards its firing side", "away from its firing side")

THRESHOLDS: tuple[Change, ...] = (
    *(Change(name=name, group=group, says=says, decide=change, between=True) for name, group, says, change in _MOVES),
    *(
        Change(
            name=f"{name} (attainable sums)",
            group=group,
            says=f"{says}, counted in sums that occur",
            decide=change,
            spelling_of=name,
        )
        for name, group, says, change in _MOVES
    ),
    Change(
        name="bits inverted",
        group="polarity",
        says="the sign is turned round",
        decide=partial(_inverted, constants=True),
    ),
    Change(
        name="comparison inverted",
        group="polarity",
        says="the comparator's output is turned round, that of channels without one is not",
        decide=partial(_inverted, constants=False),
        spelling_of="bits inverted",
    ),
    *(
        Change(name=name, group=_T, says=says, decide=partial(_constant_as, value=value, only_gamma_zero=only))
        for name, says, value, only in _CONSTANTS
    ),
    *(
        Change(
            name=f"ties carried as {value:+d}",
            group="sign",
            says=f"a zero is stored as {value:+d}",
            decide=partial(_ternary_as, value=value),
        )
        for value in (-1, 1)
    ),
    *(
        Change(name=name, group="channels", says=says, decide=partial(_channels, order=order))
        for name, says, order in _ORDERS
    ),
    Change(
        name="negative thresholds as 0",
        group=_W,
        says="thresholds are held without a sign",
        decide=partial(_clipped, low=0, high=2**40),
        between=True,
    ),
    *(
        Change(
            name=f"thresholds saturate at {bits} bits",
            group=_W,
            says=f"thresholds are clipped to {bits} bits",
            decide=partial(_clipped, low=-(1 << (bits - 1)), high=(1 << (bits - 1)) - 1),
        )
        for bits in (8, 16)
    ),
    *(
        Change(
            name=f"thresholds wrap at {bits} bits",
            group=_W,
            says=f"thresholds are cut to {bits} bits",
            decide=partial(_wrapped, bits=bits),
            between=True,
        )
        for bits in (8, 16)
    ),
    *(
        Change(
            name=f"threshold rounded {rounding}",
            group=_T,
            says=f"folded in float32 by algebra, and rounded {rounding}",
            decide=partial(_algebra, rounding=rounding),
        )
        for rounding in _ROUNDINGS
    ),
)
"""Changes of thresholds."""
