"""From products, and what was done to their sums, to layers: weights, batch norm, threshold kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import pack_bool
from refdesign.errors import RefdesignError
from refdesign.formats.onnx_flow import Draft, Step
from refdesign.formats.onnx_tables import batch_norm_of
from refdesign.formats.periodic import smallest_kernel
from refdesign.network import Stage
from refdesign.parameters import BatchNorm, ThresholdKernel

_EXACT = 2**22
"""Half integers up to here are exact in float32."""


@dataclass(frozen=True)
class Tail:
    """What stands behind a layer's sums.

    Attributes:
        batch_norm: per channel; None where there is none.
        over_map: thresholds subtracted from y, float32 (H, W, C); None where there are none.
        arithmetic: the program that the steps spell, or None where nothing is rounded.
    """

    batch_norm: BatchNorm | None
    over_map: NDArray[np.float32] | None
    arithmetic: str | None


def two_valued(weights: NDArray[Any], where: str) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Weights of ±s per output as signs and s; the outputs are the first axis.

    Raises:
        RefdesignError: weights that are not two-valued, saying how far they are from it.

    >>> two_valued(np.float32([[0.5, -0.5]]), "conv")[1]
    array([0.5], dtype=float32)
    """
    if weights.dtype != np.float32 or not np.isfinite(weights).all():
        raise RefdesignError(f"{where}: found weights of {weights.dtype}, expected finite float32")
    rows = np.abs(weights.reshape(len(weights), -1))
    scale = rows[:, 0]
    if np.any(rows != scale[:, np.newaxis]) or not scale.all():
        mean = np.maximum(rows.mean(axis=1), np.finfo(np.float32).tiny)
        off = np.abs(rows / mean[:, np.newaxis] - 1).max(axis=1)
        worst = int(off.argmax())
        raise RefdesignError(
            f"{where}: found weights that are not two-valued: output {worst} has magnitudes from "
            f"{rows[worst].min():.6g} to {rows[worst].max():.6g}, {int(np.count_nonzero(off))} of {len(rows)} outputs "
            "differ; expected ±1, or ±s with one s for each output (export the binary weights, not the latent ones)"
        )
    return weights > 0, scale


def tail_of(steps: tuple[Step, ...], channels: int) -> Tail:
    """The batch norm and the thresholds that steps on sums spell.

    Raises:
        RefdesignError: steps that are no batch norm followed by a subtracted map, naming them.
    """
    over_map: NDArray[np.float32] | None = None
    if len(steps) == 1 and steps[0][0] == "table":
        return Tail(*_recovered(steps[0][1]))
    found = list(steps)
    if found and found[-1][0] in ("add", "sub") and found[-1][1].ndim == 3:
        kind, values = found.pop()
        over_map = np.asarray(values if kind == "sub" else -values, dtype=np.float32)
    elif len(found) > 1 and found[-1][0] in ("add", "sub") and (found[-2][0] == "bn" or len(found) in (3, 5)):
        # The same threshold over the whole map, behind a complete batch norm.
        kind, values = found.pop()
        over_map = np.asarray(values if kind == "sub" else -values, dtype=np.float32).reshape(1, 1, -1)
    if any(kind not in ("bn", "table") and (values.ndim != 1 or values.size != channels) for kind, values in found):
        raise RefdesignError("found arithmetic that varies over the map before a batch norm, expected a threshold map")
    alpha = None
    if len(found) in (2, 5) and found[0][0] == "mul" and found[1][0] in ("bn", "sub"):
        alpha = found.pop(0)[1]
    kinds = [kind for kind, _ in found]
    ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    if not found:
        batch_norm = None if alpha is None else BatchNorm(alpha, zeros, zeros, ones, 0.0, k=alpha, c=zeros)
        return Tail(batch_norm, over_map, None if batch_norm is None and over_map is None else "onnxruntime")
    if kinds == ["bn"]:
        gamma, beta, mean, variance, epsilon = found[0][1]
        return Tail(BatchNorm(gamma, beta, mean, variance, float(epsilon[0]), alpha=alpha), over_map, "onnxruntime")
    if kinds in (["mul"], ["add"], ["sub"], ["mul", "add"], ["mul", "sub"]):
        k = found[0][1] if kinds[0] == "mul" else ones
        c = zeros if kinds[-1] == "mul" else found[-1][1] * np.float32(-1 if kinds[-1] == "sub" else 1)
        return Tail(BatchNorm(k, c, zeros, ones, 0.0, k=k, c=c), over_map, "onnxruntime")
    if kinds == ["sub", "div", "mul", "add"]:
        mean, deviation, gamma, beta = (values for _, values in found)
        variance = deviation * deviation  # the square root of a rounded square is the number itself
        if np.any(np.sqrt(variance) != deviation):
            raise RefdesignError("found a negative or extreme divisor, expected a standard deviation")
        return Tail(BatchNorm(gamma, beta, mean, variance, 0.0, alpha=alpha), over_map, "released_torch")
    raise RefdesignError(
        f"found {', '.join(kinds)} behind the sums, expected a batch norm: one node, a multiplication and an addition, "
        "or mean, deviation, gamma and beta one by one"
    )


def _recovered(values: NDArray[np.float64]) -> tuple[BatchNorm, None, str]:
    batch_norm, program = batch_norm_of(values)
    return batch_norm, None, program


def finished(draft: Draft, tail: Tail, kernel: ThresholdKernel | None) -> Stage:
    """The layer of a draft.

    Raises:
        RefdesignError: fields that do not fit, naming the layer.
    """
    try:
        layer = draft.kind(name=draft.name, **draft.fields, batch_norm=tail.batch_norm, kernel=kernel)  # type: ignore[call-arg]
    except RefdesignError as error:
        raise RefdesignError(f"layer {draft.name!r}: {error}") from error
    assert isinstance(layer, Stage)
    return layer


def kernel_of(over_map: NDArray[np.float32], channel_map: str) -> ThresholdKernel:
    """The threshold kernel whose repetition is a map (H, W, C)."""
    return ThresholdKernel(smallest_kernel(over_map, channel_map))


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
