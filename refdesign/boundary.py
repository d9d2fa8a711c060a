"""Where the sign of z changes along the attainable accumulators: the finite, monotone search under the fold.

Along the attainable accumulators z never changes direction, in exact arithmetic and in every float program (each of
their steps is monotone). So two counts say all about a channel's sign under a phase: for how many accumulators
z lies above the boundary, and for how many at or above it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from refdesign.conventions import Conventions
from refdesign.domain import AttainableDomain, Int64Array
from refdesign.errors import RefdesignError
from refdesign.ops.batch_norm import FLOAT32_INTEGERS, batch_norm, subtract_threshold
from refdesign.ops.dither import phase_thresholds
from refdesign.ops.exact import KERAS_ROUND_EXPONENT, SCALE, ExactBatchNorm, ExactChannel, affine_in_float64
from refdesign.ops.sign import KERAS_ROUND_BOUNDARY
from refdesign.parameters import BatchNorm, Float32Array, ThresholdKernel

_UNIT = 2.0**-53
_ROUNDINGS = 16.0  # at most thirteen roundings lie between the parameters and the estimate of the boundary


@dataclass(frozen=True, eq=False)
class Boundaries:
    """The sign of z over the domain, for every phase and channel; arrays of shape (m, n, C).

    Attributes:
        slope: int8, +1 where z grows with the accumulator (or stays), -1 where it falls.
        above: int64, the number of attainable accumulators with z above the boundary: zero, or 2**-24 under the
            rule keras_round.
        at_or_above: int64, those with z at or above it.
    """

    slope: NDArray[np.int8]
    above: Int64Array
    at_or_above: Int64Array

    def integers(self, conventions: Conventions, domain: AttainableDomain) -> IntegerThresholds:
        """The integer thresholds, by the convention's sign at zero.

        >>> ones = np.ones((1, 1, 1), dtype=np.int64)
        >>> domain = AttainableDomain.of((-3, 3, 2), fan_in=3, channels=1)
        >>> found = Boundaries(ones.astype(np.int8), ones, ones).integers(Conventions(), domain)
        >>> found.threshold.item(), found.direction.item()
        (3, 1)
        """
        counts = np.broadcast_to(domain.counts, self.above.shape)
        upwards = self.slope > 0
        fires = self.at_or_above if conventions.sign_at_zero == 1 else self.above
        changes = (fires > 0) & (fires < counts)
        edge = np.where(upwards, counts - fires, fires - 1)
        threshold = np.where(changes, domain.at(np.where(changes, edge, 0)), 0).astype(np.int32)
        direction = np.where(changes, self.slope, 0).astype(np.int8)
        ties = self.at_or_above - self.above if conventions.sign_at_zero == 0 else np.zeros_like(fires)
        constant = np.where(fires == counts, 1, np.where(ties == counts, 0, -1))
        first = np.where(upwards, counts - self.at_or_above, self.above)
        tied = ties > 0
        return IntegerThresholds(
            threshold,
            direction,
            np.where(changes, 0, constant).astype(np.int8),
            np.where(tied, domain.at(np.where(tied, first, 0)), 1).astype(np.int32),
            np.where(tied, domain.at(np.where(tied, first + ties - 1, 0)), 0).astype(np.int32),
        )


class IntegerThresholds(NamedTuple):
    """The arrays of `refdesign.fold.Thresholds`, shape (m, n, C)."""

    threshold: NDArray[np.int32]
    direction: NDArray[np.int8]
    constant: NDArray[np.int8]
    zero_low: NDArray[np.int32]
    zero_high: NDArray[np.int32]

    def rule(self, where: tuple[int, int, int]) -> str:
        """When the bit at a (row, column, channel) fires, in words.

        >>> one = np.ones((1, 1, 1), np.int32)
        >>> IntegerThresholds(3 * one, -one.astype(np.int8), 0 * one.astype(np.int8), one, 0 * one).rule((0, 0, 0))
        'a <= 3'
        """
        direction, zero = int(self.direction[where]), ""
        if self.zero_low[where] <= self.zero_high[where]:
            zero = f", 0 at {self.zero_low[where]} <= a <= {self.zero_high[where]}"
        if direction == 0:
            return f"always {self.constant[where]:+d}" + zero
        return f"a {'>=' if direction > 0 else '<='} {self.threshold[where]}" + zero


def boundaries(
    bn: BatchNorm, kernel: ThresholdKernel, conventions: Conventions, domain: AttainableDomain
) -> Boundaries:
    """Find where the sign of z changes, in the conventions' arithmetic.

    Under a float program the program itself is asked, by bisection over the domain for all phases and channels at
    once. Under `"real"` the boundary is computed in float64 with an error bound, and where an attainable
    accumulator lies within the bound it is decided in integers.

    Args:
        bn: C channels.
        kernel: shape (m, n, g), g a divisor of C.
        conventions: `arithmetic`, `sign_rule`, `threshold_scale` and `channel_map` count.
        domain: the attainable accumulators of the C channels.

    Raises:
        RefdesignError: accumulators beyond 2**24 in a float program, a z that is not a number, or what the
            arithmetic refuses of the batch norm; each names a channel.

    >>> from refdesign.conventions import PAPER
    >>> from refdesign.parameters import NO_DITHER
    >>> bn = BatchNorm([1.0], [0.0], [0.5], [1.0], 0.0)
    >>> found = boundaries(bn, NO_DITHER, PAPER, AttainableDomain.of(None, fan_in=3, channels=1))
    >>> found.slope.item(), found.above.item()
    (1, 3)
    """
    cells = phase_thresholds(kernel, bn.channels, conventions)
    if conventions.arithmetic == "real":
        return _exact_boundaries(bn, cells, conventions, domain)
    return _program_boundaries(bn, cells, conventions, domain)


def program_z(bn: BatchNorm, cells: Float32Array, conventions: Conventions, a: NDArray[np.int32]) -> Float32Array:
    """z of a float program at one accumulator for each phase and channel; all arrays of shape (m, n, C)."""
    y = batch_norm(a, bn, conventions.arithmetic)
    return subtract_threshold(y, cells, bn.gamma, conventions)


def _program_boundaries(
    bn: BatchNorm, cells: Float32Array, conventions: Conventions, domain: AttainableDomain
) -> Boundaries:
    beyond = np.flatnonzero(np.maximum(-domain.low, domain.high) > FLOAT32_INTEGERS)
    if beyond.size:
        channel = int(beyond[0])
        raise RefdesignError(
            f"fold, domain: found {domain.low[channel]} to {domain.high[channel]} in channel {channel}, expected "
            f"at most 2**24 in size: arithmetic {conventions.arithmetic!r} starts from float32"
        )
    shape = cells.shape
    counts = np.broadcast_to(domain.counts, shape)
    first = program_z(bn, cells, conventions, domain.at(np.zeros(shape, dtype=np.int64)))
    last = program_z(bn, cells, conventions, domain.at(counts - 1))
    wrong = np.argwhere(np.isnan(first) | np.isnan(last))
    if wrong.size:
        row, column, channel = (int(i) for i in wrong[0])
        raise RefdesignError(
            f"fold: channel {channel}, phase ({row}, {column}): z is not a number at an end of the domain "
            f"under arithmetic {conventions.arithmetic!r}: the parameters overflow float32"
        )
    slope = np.where(last >= first, np.int8(1), np.int8(-1))
    boundary = np.float32(KERAS_ROUND_BOUNDARY if conventions.sign_rule == "keras_round" else 0.0)

    def falls_short(index: Int64Array, *, of_reaching: bool) -> NDArray[np.bool_]:
        """Whether z, seen in the direction in which it grows, lies below the boundary (or, strictly, at it)."""
        z = program_z(bn, cells, conventions, domain.at(index))
        if of_reaching:
            return np.where(slope > 0, z < boundary, z > boundary)
        return np.where(slope > 0, z <= boundary, z >= boundary)

    reached = _bisect(lambda index: falls_short(index, of_reaching=True), counts)
    passed = _bisect(lambda index: falls_short(index, of_reaching=False), counts)
    return _from_crossings(slope, reached, passed, counts)


def _bisect(falls_short: Callable[[Int64Array], NDArray[np.bool_]], counts: Int64Array) -> Int64Array:
    """The first index at which the predicate is false (it is true before, false behind); counts where nowhere."""
    low, high = np.zeros_like(counts), counts.copy()
    while np.any(low < high):
        middle = np.minimum((low + high) // 2, counts - 1)
        short = falls_short(middle) & (low < high)
        low = np.where(short, middle + 1, low)
        high = np.where(short, high, np.minimum(high, middle))
    return low


def _from_crossings(slope: NDArray[np.int8], reached: Int64Array, passed: Int64Array, counts: Int64Array) -> Boundaries:
    """From the first index that reaches the boundary and the first that passes it, in the direction of growth."""
    grows = slope > 0
    return Boundaries(slope, np.where(grows, counts - passed, reached), np.where(grows, counts - reached, passed))


def _exact_boundaries(
    bn: BatchNorm, cells: Float32Array, conventions: Conventions, domain: AttainableDomain
) -> Boundaries:
    keras_round = conventions.sign_rule == "keras_round"
    shape = cells.shape
    counts = np.broadcast_to(domain.counts, shape)
    gamma = bn.gamma.astype(np.float64)
    alpha = np.ones(1) if bn.alpha is None else bn.alpha.astype(np.float64)
    scale = gamma * alpha
    # The boundary a* = mean/alpha - Q*sqrt(V)/(gamma*alpha), as a place in the domain. Nothing overflows: float32
    # exponents fit three times into float64's. A channel without a slope is left to the integers.
    with np.errstate(divide="ignore", invalid="ignore"):
        threshold = cells * (gamma if conventions.threshold_scale == "gamma" else np.ones(1))
        rule = 2.0**KERAS_ROUND_EXPONENT if keras_round else 0.0
        beta = bn.beta.astype(np.float64)
        root = np.sqrt(bn.variance.astype(np.float64) + bn.epsilon)
        centre = bn.mean.astype(np.float64) / alpha
        boundary = centre - ((beta - threshold) - rule) * root / scale
        size = np.abs(centre) + (np.abs(beta) + np.abs(threshold) + rule) * root / np.abs(scale)
        if bn.affine is not None:
            factor, shift = affine_in_float64(bn.affine)
            boundary, size = (boundary - shift) / factor, (size + np.abs(shift)) / factor
        place, size = (boundary - domain.low) / domain.step, size + np.abs(domain.low)
        bound = _ROUNDINGS * _UNIT * size / domain.step
        before = np.ceil(np.clip(place - bound, 0, counts))
        behind = np.floor(np.clip(place + bound, -1, counts - 1)) + 1
    flat = np.broadcast_to(scale == 0, shape)
    reached = np.where(flat, 0, before).astype(np.int64)
    passed = np.where(flat, counts, behind).astype(np.int64)
    slope = np.broadcast_to(np.where(scale < 0, np.int8(-1), np.int8(1)), shape)
    exact = ExactBatchNorm(bn, conventions.threshold_scale, keras_round=keras_round)
    for row, column, channel in np.argwhere(reached < passed).tolist():
        where = (row, column, channel)
        known = exact.channel(channel, float(cells[where]))
        grown = _Growing(known, int(slope[where]), int(domain.low[channel]), domain.step)
        if flat[where]:
            sign, last = grown.sign(0), int(counts[where])
            reached[where] = 0 if sign >= 0 else last
            passed[where] = 0 if sign > 0 else last
        else:
            last = int(passed[where])
            reached[where] = _first_true(grown.reaches, int(reached[where]), last)
            passed[where] = _first_true(grown.passes, int(reached[where]), last)
    return _from_crossings(slope, reached, passed, counts)


@dataclass(frozen=True)
class _Growing:
    """The exact sign of one channel and phase along the domain, turned so that it never falls."""

    channel: ExactChannel
    slope: int
    low: int
    step: int

    def sign(self, index: int) -> int:
        return self.slope * self.channel.sign((self.low + self.step * index) << SCALE)

    def reaches(self, index: int) -> bool:
        return self.sign(index) >= 0

    def passes(self, index: int) -> bool:
        return self.sign(index) > 0


def _first_true(predicate: Callable[[int], bool], low: int, high: int) -> int:
    """The first index in [low, high) at which the predicate holds (it does from there on); `high` where nowhere."""
    while low < high:
        middle = (low + high) // 2
        if predicate(middle):
            high = middle
        else:
            low = middle + 1
    return low
