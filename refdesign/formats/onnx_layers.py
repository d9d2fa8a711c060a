"""From products, and what was done to their sums, to layers: weights, batch norm, threshold kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import pack_bool
from refdesign.errors import RefdesignError
from refdesign.formats.onnx_flow import Draft, Step
from refdesign.formats.onnx_tables import batch_norm_of
from refdesign.network import AveragePool, Layer, RealDense, Shortcut
from refdesign.parameters import BatchNorm, ThresholdKernel

_EXACT = 2**22
"""Half integers up to here are exact in float32."""

_ROUNDED = 1e-3
"""Weights that are off ±s by a smaller part are binary ones that were rounded, not latent ones."""


@dataclass(frozen=True)
class Tail:
    """What stands behind a layer's sums.

    Attributes:
        batch_norm: per channel; None where there is none.
        over_map: thresholds subtracted from y, float32 (H, W, C); None where there are none.
        arithmetic: the program that the steps spell, or None where nothing is rounded.
        shortcut: a residual addition behind the thresholds.
        hardtanh: whether a clamp to [-1, 1] stands behind all.
    """

    batch_norm: BatchNorm | None
    over_map: NDArray[np.float32] | None
    arithmetic: str | None
    shortcut: Shortcut | None = None
    hardtanh: bool = False


class NotTwoValued(RefdesignError):
    """Weights that are not ±s per output."""


def deviation(weights: NDArray[Any]) -> NDArray[Any]:
    """How far the magnitudes of each output's weights are from their mean, at most, as a part of it; (O,).

    >>> deviation(np.float32([[1, -1], [1, -3]])).tolist()
    [0.0, 0.5]
    """
    rows = np.abs(weights.reshape(len(weights), -1))
    mean = np.maximum(rows.mean(axis=1), np.finfo(np.float32).tiny)
    return np.asarray(np.abs(rows / mean[:, np.newaxis] - 1).max(axis=1))


def two_valued(weights: NDArray[Any], where: str) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Weights of ±s per output as signs and s; the outputs are the first axis.

    Raises:
        NotTwoValued: weights that are not, saying how far they are from it.

    >>> two_valued(np.float32([[0.5, -0.5]]), "conv")[1]
    array([0.5], dtype=float32)
    """
    weights = as_float32(weights, f"{where}: found weights")
    rows = np.abs(weights.reshape(len(weights), -1))
    scale = rows[:, 0]
    if np.any(rows != scale[:, np.newaxis]) or not scale.all():
        off = deviation(weights)
        worst = int(off.argmax())
        advice = "export the binary weights, not the latent ones"
        if off[worst] < _ROUNDED:
            advice = "export them without terms that cancel but for their rounding, such as (±s - w) + w"
        raise NotTwoValued(
            f"{where}: found weights that are not two-valued: output {worst} has magnitudes from "
            f"{rows[worst].min():.9g} to {rows[worst].max():.9g}, {int(np.count_nonzero(off))} of {len(rows)} outputs "
            f"differ; expected ±1, or ±s with one s for each output ({advice})"
        )
    return weights > 0, scale


def as_float32(values: NDArray[Any], what: str) -> NDArray[np.float32]:
    """Finite numbers that float32 holds exactly, as float32.

    >>> as_float32(np.float64([0.5]), "x").dtype
    dtype('float32')
    """
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = values.astype(np.float32) if values.dtype in (np.float32, np.float64) else np.zeros(1, np.float32)
        if values.dtype not in (np.float32, np.float64) or not np.isfinite(values).all() or np.any(rounded != values):
            advice = ": export the network in float32" if values.dtype == np.float16 else ""
            raise RefdesignError(f"{what} of {values.dtype}, expected finite float32, or float64 that it holds{advice}")
    return np.ascontiguousarray(rounded)


def tail_of(steps: tuple[Step, ...], channels: int) -> Tail:
    """The batch norm, the thresholds and what stands behind them, which steps on sums spell.

    Raises:
        RefdesignError: steps that are no batch norm followed by a subtracted map, a residual addition and a clamp to
            [-1, 1], naming them.
    """
    front, shortcut, hardtanh = list(steps), None, False
    if front and is_hardtanh(front[-1]):
        front.pop()
        hardtanh = True
    if front and front[-1][0] == "shortcut":
        shortcut = front.pop()[1]
    found = _normalised(tuple(front), channels)
    return replace(found, shortcut=shortcut, hardtanh=hardtanh)


def is_hardtanh(step: Step) -> bool:
    """Whether a step clamps to [-1, 1]."""
    return step[0] == "clip" and step[1].tolist() == [-1.0, 1.0]


def _normalised(steps: tuple[Step, ...], channels: int) -> Tail:
    over_map: NDArray[np.float32] | None = None
    if len(steps) == 1 and steps[0][0] == "table":
        return Tail(*_recovered(steps[0][1]))
    if steps and steps[0][0] == "affine":
        behind = _normalised(steps[1:], channels)
        ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
        norm = behind.batch_norm or BatchNorm(ones, zeros, zeros, ones, 0.0)
        return replace(behind, batch_norm=replace(norm, k=None, c=None, affine=steps[0][1]), arithmetic="real")
    found = list(steps)
    for kind, values in found:
        if kind in ("clip", "shortcut"):
            what = {"clip": "clamp"}.get(kind, kind)
            raise RefdesignError(f"found a {what} before other operations, expected none")
        if kind in ("wide", "narrow") or (values.dtype == np.float64 and kind != "table"):
            raise RefdesignError("found arithmetic in float64, expected float32")
    if found and found[-1][0] in ("add", "sub") and found[-1][1].ndim == 3:
        over_map = _signed(found.pop(), "sub").astype(np.float32)
    if any(kind not in ("bn", "table") and (values.ndim != 1 or values.size != channels) for kind, values in found):
        raise RefdesignError("found arithmetic that varies over the map before a batch norm, expected a threshold map")
    spelled, program = _batch_norm(found, channels)
    if over_map is None and found and found[0][0] in ("add", "sub"):  # the same threshold over the whole map
        over_map = _signed(found.pop(0), "sub").astype(np.float32).reshape(1, 1, -1)
    if found:
        raise RefdesignError(
            f"found {', '.join(kind for kind, _ in steps)} behind the sums, expected a batch norm: one node, a "
            "multiplication and an addition, or mean, deviation, gamma and beta one by one"
        )
    return Tail(spelled, over_map, program)


def _batch_norm(found: list[Step], channels: int) -> tuple[BatchNorm | None, str | None]:
    """The batch norm that the first steps spell, which are taken away, and its program; operations can be missing."""
    ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)

    def take(*kinds: str) -> NDArray[Any] | None:
        return _signed(found.pop(0), kinds[0]) if found and found[0][0] in kinds else None

    kinds = [kind for kind, _ in found]
    alpha = take("mul") if kinds[:2] in (["mul", "bn"], ["mul", "sub"], ["mul", "div"], ["mul", "mul"]) else None
    if "div" in kinds:
        mean, deviation = take("sub", "add"), take("div")
        gamma, beta = take("mul"), take("add", "sub")
        if deviation is None:
            raise RefdesignError(f"found {', '.join(kinds)} behind the sums, expected a mean and a deviation first")
        variance = deviation * deviation  # the square root of a rounded square is the number itself
        if np.any(np.sqrt(variance) != deviation):
            raise RefdesignError("found a negative or extreme divisor, expected a standard deviation")
        gamma, beta = ones if gamma is None else gamma, zeros if beta is None else beta
        return BatchNorm(gamma, beta, zeros if mean is None else mean, variance, 0.0, alpha=alpha), "released_torch"
    if kinds[:1] == ["bn"] or (alpha is not None and kinds[1] == "bn"):
        gamma, beta, mean, variance, epsilon = found.pop(0)[1]
        return BatchNorm(gamma, beta, mean, variance, float(epsilon[0]), alpha=alpha), "onnxruntime"
    k, c = take("mul"), take("add", "sub")
    if alpha is None and k is None and c is None:
        return None, None
    k, c = ones if k is None else k, zeros if c is None else c
    rounds = alpha is not None or bool(np.any(np.abs(k) != 1) or np.any(c != 0))
    return BatchNorm(k, c, zeros, ones, 0.0, alpha=alpha, k=k, c=c), "onnxruntime" if rounds else None


def _signed(step: Step, kind: str) -> NDArray[Any]:
    """A step's constant, negated where it is the opposite of the kind wanted."""
    return np.asarray(step[1] if step[0] == kind else -step[1])


def _recovered(values: NDArray[np.float64]) -> tuple[BatchNorm, None, str]:
    batch_norm, program = batch_norm_of(values)
    return batch_norm, None, program


def check_chain(drafts: Sequence[Draft]) -> None:
    """Refuse layers that read another than the one before them: a network is a chain, but for its shortcuts.

    Raises:
        RefdesignError: names the layer, what it reads, and what stands before it.
    """
    names = {id(draft.source): draft.name for draft in drafts if draft.kind is AveragePool}
    for number, draft in enumerate(drafts):
        before = drafts[number - 1].name if number else ""
        read = draft.reads[0] if draft.reads else ""
        if draft.source is not None and draft.source.draft is not None:
            read = draft.source.draft.name
            if draft.source.draft.kind is AveragePool:  # known by what it reads: its name came later
                read = names.get(id(draft.source.draft.source), "")
        if read != before:
            raise RefdesignError(
                f"layer {draft.name!r}: found that it reads {read or 'the pixels'!r}, expected "
                f"{before or 'the pixels'!r}, the layer before it: parallel branches are read only where they are "
                "bases of one layer, or its shortcut"
            )


def finished(draft: Draft, tail: Tail, kernel: ThresholdKernel | None) -> Layer:
    """The layer of a draft.

    Raises:
        RefdesignError: fields that do not fit, naming the layer.
    """
    fields: dict[str, Any] = {"name": draft.name, **draft.fields}
    if not issubclass(draft.kind, (AveragePool, RealDense)):
        fields |= {
            "batch_norm": tail.batch_norm, "kernel": kernel, "shortcut": tail.shortcut, "hardtanh": tail.hardtanh
        }  # fmt: skip
    try:
        return draft.kind(**fields)
    except RefdesignError as error:
        raise RefdesignError(f"layer {draft.name!r}: {error}") from error


def integer_tail(cells: dict[str, NDArray[Any]], origin: list[int], shape: tuple[int, ...], largest: float) -> Tail:
    """A batch norm of ±1 and half-integer thresholds that decide as integer thresholds do.

    The thresholds lie between integers, so y - T is exact and never zero, except where an integer gives a zero.

    Args:
        cells: `threshold`, `direction`, `constant`, `zero_low`, `zero_high`, integers (m, n, C).
        origin: the phase of the map's first pixel.
        shape: (H, W, C) of the map.
        largest: the largest sum in size.

    Raises:
        RefdesignError: thresholds that no batch norm and threshold kernel express.
    """
    direction = cells["direction"].astype(np.int64)
    channel = np.where((direction != 0).any(axis=(0, 1)), np.sign(direction.sum(axis=(0, 1))), 1)
    if np.any((direction != 0) & (direction != channel)):
        raise RefdesignError("found a channel whose direction changes with the phase, which no batch norm gives")
    never = largest + 1
    levels = np.where(direction == 0, -never * cells["constant"], channel * cells["threshold"].astype(np.float64) - 0.5)
    ties = cells["zero_low"] <= cells["zero_high"]
    if np.any(ties & (cells["zero_low"] != cells["zero_high"])) or np.any((direction == 0) & (cells["constant"] == 0)):
        raise RefdesignError("found several sums of one channel that give zero, which no batch norm of ±1 gives")
    if np.any(ties & (direction == 0)):
        raise RefdesignError("found a constant channel with a zero, which no batch norm of ±1 gives")
    levels = np.where(ties, channel * cells["zero_low"].astype(np.float64), levels)
    if np.abs(levels).max(initial=0) > _EXACT:
        raise RefdesignError(f"found thresholds beyond {_EXACT}, which float32 does not hold as half integers")
    rows = (np.arange(shape[0]) + origin[0]) % direction.shape[0]
    columns = (np.arange(shape[1]) + origin[1]) % direction.shape[1]
    over_map = levels[rows[:, np.newaxis], columns].astype(np.float32)
    gamma, zeros = channel.astype(np.float32), np.zeros(shape[2], np.float32)
    ones = np.ones(shape[2], np.float32)
    return Tail(BatchNorm(gamma, zeros, zeros, ones, 0.0, k=gamma, c=zeros), over_map, None)


def product_weights(weights: NDArray[Any]) -> Any:
    """Signs (O, ..., I) as packed bits."""
    return pack_bool(np.ascontiguousarray(weights))
