"""From batch norm and dither to integer thresholds, and from accumulators to bits."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor, isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.conventions import Conventions
from refdesign.network import Stage, accumulator_domain, fold_channels
from refdesign.ops.batch_norm import batch_norm
from refdesign.parameters import NO_DITHER, BatchNorm

Array = NDArray[Any]
NEVER = 2**62


def sign_of(p: Fraction, q: Fraction, square: Fraction) -> int:
    """The sign of p + q*sqrt(square), exactly."""
    signs = ((p > 0) - (p < 0), (q > 0) - (q < 0))
    if signs[0] * signs[1] >= 0:
        return signs[0] or signs[1]
    difference = p * p - q * q * square
    return signs[0] * ((difference > 0) - (difference < 0))


def ceiling(p: Fraction, q: Fraction, square: Fraction) -> int:
    """The smallest integer that is not below p + q*sqrt(square)."""
    root = Fraction(isqrt(floor(q * q * square * 4**32)), 2**32)
    guess = ceil(p + root if q > 0 else p - root)
    while sign_of(guess - p, -q, square) < 0:
        guess += 1
    while sign_of(guess - 1 - p, -q, square) >= 0:
        guess -= 1
    return guess


@lru_cache(maxsize=200_000)
def exact_threshold(
    gamma: float, beta: float, mean: float, square: Fraction, alpha: float, shift: Fraction, at_zero: int
) -> tuple[int, int, int, int]:
    """Under exact arithmetic: a channel's threshold in a phase, its direction, and the ties from ... to.

    Direction +1 fires at a >= t, -1 at a <= t; 0 is a constant, whose value stands in the threshold's place.
    """
    slope = Fraction(gamma) * Fraction(alpha)
    p = -Fraction(gamma) * Fraction(mean)
    q = Fraction(beta) - shift
    if slope == 0:
        return sign_of(p, q, square) or at_zero, 0, NEVER, NEVER
    direction = 1 if slope > 0 else -1
    # In units of the direction the boundary always rises: a*direction >= boundary.
    first = ceiling(-p / slope * direction, -q / slope * direction, square)
    tie = sign_of(slope * first * direction + p, q, square) == 0
    meets = first * direction if tie and at_zero == 0 else NEVER
    if tie and at_zero != 1:
        first += 1
    return first * direction, direction, meets, meets


def first_phase(extent: int, period: int, origin: str) -> int:
    """The kernel's row (or column) over a map's first row (or column)."""
    return (ceil(extent / period) * period - extent) // 2 if origin == "center_crop" else 0


def cells(layer: Stage, height: int, width: int, conventions: Conventions) -> tuple[Array, Array]:
    """The kernel's row and column over each pixel, (H, W) each."""
    m, n, _ = (layer.kernel or NO_DITHER).shape
    i, j = np.indices((height, width))
    row = (i + first_phase(height, m, conventions.kernel_origin)) % m
    column = (j + first_phase(width, n, conventions.kernel_origin)) % n
    return row, column


def kernel_values(layer: Stage, conventions: Conventions) -> NDArray[np.float32]:
    """The dither's threshold in each phase and channel, (m, n, C)."""
    values = (layer.kernel or NO_DITHER).values
    channel, g = np.arange(layer.out_channels), values.shape[2]
    chosen = channel % g if conventions.channel_map == "tile" else channel // (layer.out_channels // g)
    return values[:, :, chosen]


def parameters(layer: Stage) -> BatchNorm:
    """The batch norm of a layer, or the identity."""
    return fold_channels(layer)


def exact_table(layer: Stage, conventions: Conventions) -> Array:
    """Thresholds under `"real"` arithmetic: int64 (4, m, n, C): threshold, direction, ties from, ties to."""
    bn = parameters(layer)
    values = kernel_values(layer, conventions)
    rule = Fraction(1, 2**24) if conventions.sign_rule == "keras_round" else Fraction(0)
    table = np.empty((4, *values.shape), dtype=np.int64)
    for m, n, c in np.ndindex(*values.shape):
        gamma, beta, mean = float(bn.gamma[c]), float(bn.beta[c]), float(bn.mean[c])
        alpha = 1.0 if bn.alpha is None else float(bn.alpha[c])
        square = Fraction(float(bn.variance[c])) + Fraction(bn.epsilon)
        scale = Fraction(gamma) if conventions.threshold_scale == "gamma" else Fraction(1)
        shift = scale * Fraction(float(values[m, n, c])) + rule
        found = exact_threshold(gamma, beta, mean, square, alpha, shift, conventions.sign_at_zero)
        table[:, m, n, c] = [min(max(number, -NEVER), NEVER) for number in found]
    return table


def first_reaching(reaches: Callable[[Array], NDArray[np.bool_]], low: Array, high: Array) -> Array:
    """The smallest number in [low, high] that reaches, by bisection; high + 1 where none does."""
    below, above = low.copy(), high + 1
    while (below < above).any():
        middle = np.minimum((below + above) // 2, high)
        reached = reaches(middle)
        above = np.where((below < above) & reached, middle, above)
        below = np.where((below < above) & ~reached, middle + 1, below)
    return above


def program_table(layer: Stage, conventions: Conventions) -> Array:
    """Thresholds under a float program, found by asking the program: int64 (4, m, n, C), as `exact_table`."""
    bn = parameters(layer)
    values = kernel_values(layer, conventions)
    lowest, highest, _ = accumulator_domain(layer, ternary_input=True)
    scale = bn.gamma if conventions.threshold_scale == "gamma" else np.float32(1)

    def z(a: Array) -> Array:
        y = normalise(np.broadcast_to(a, values.shape).astype(np.int32), bn, conventions)
        return y - scale * values

    direction = np.where(z(highest) < z(lowest), -1, 1)
    low = np.where(direction > 0, lowest, -highest)
    high = np.where(direction > 0, highest, -lowest)
    fires = first_reaching(lambda u: sign(z(u * direction), conventions) > 0, low, high)
    meets = first_reaching(lambda u: sign(z(u * direction), conventions) >= 0, low, high)
    ties = np.sort([meets * direction, (fires - 1) * direction], axis=0)
    ties = np.where(meets < fires, ties, NEVER)
    return np.stack([fires * direction, direction, *ties])


def compare(a: Array, table: Array, row: Array, column: Array) -> NDArray[np.int8]:
    """Bits from accumulators (N, H, W, C) and integer thresholds."""
    limit, direction, ties_from, ties_to = table[:, row, column]
    fires = np.where(direction > 0, a >= limit, a <= limit)
    bits = np.where(direction == 0, limit, np.where(fires, 1, -1))
    return np.where((a >= ties_from) & (a <= ties_to), 0, bits).astype(np.int8)


def sign(z: Array, conventions: Conventions) -> NDArray[np.int8]:
    """The sign by the named rule."""
    if conventions.sign_rule == "keras_round":
        return np.where(z > np.float32(2.0**-24), 1, -1).astype(np.int8)
    bits = np.where(z > 0, 1, -1)
    return np.where(z == 0, conventions.sign_at_zero, bits).astype(np.int8)


def normalise(values: Array, bn: BatchNorm, conventions: Conventions) -> NDArray[np.float32]:
    """Batch norm in the named arithmetic."""
    return batch_norm(values, bn, conventions.arithmetic)
