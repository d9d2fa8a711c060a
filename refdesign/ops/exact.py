"""Exact (`"real"`) arithmetic on float32 parameters: decisions without a tolerance (docs/method.md, section 3).

Every float32 is an integer times 2**-149, so z*sqrt(V) = P + Q*sqrt(V) with

    P = gamma*(alpha*a - mean),   Q = beta - s*T,   V = variance + epsilon

has exact P, Q and V, and its sign follows from comparing P**2 with Q**2 * V. Arrays are decided by float64
arithmetic with an error bound; the few elements that the bound leaves open are decided in integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import isqrt, ldexp

import numpy as np
from numpy.typing import NDArray

from refdesign.conventions import Conventions
from refdesign.errors import RefdesignError
from refdesign.ops.dither import thresholds_over
from refdesign.parameters import NO_DITHER, BatchNorm, Float32Array, RationalAffine, ThresholdKernel

SCALE = 149
"""Every float32 is an integer times 2**-SCALE."""

KERAS_ROUND_EXPONENT = -24
"""The rule keras_round compares z with 2**-24."""

_UNIT = 2.0**-53
# From the parameters to P/sqrt(V) + Q no term takes more than eleven roundings; 16 leaves room for the bound's own.
_ROUNDINGS = 16.0

Float64Array = NDArray[np.float64]
Values = NDArray[np.int32] | Float32Array
"""What a batch norm takes: int32 accumulators or float32 reals."""


def scaled_integers(values: Values) -> list[int]:
    """float32 (or int32) values of a vector times 2**149, exactly, as Python integers.

    >>> scaled_integers(np.float32([2.0**-149, -1.0])) == [1, -(2**149)]
    True
    """
    return [int(value) for value in np.ldexp(values.astype(np.float64), SCALE)]


@dataclass(frozen=True)
class ExactChannel:
    """z = (P + Q*sqrt(V))/sqrt(V) of one channel and threshold, in integers: all parameters times 2**149.

    Attributes:
        gamma, alpha, mean: as in the batch norm, times 2**149; alpha and mean with the affine map in them, times
            its denominator.
        offset: beta - s*T (less 2**-24 where the rule is keras_round), times 2**447 and the denominator.
        variance: variance + epsilon, times 2**149.
        denominator: of the affine map; 1 without one.
    """

    gamma: int
    alpha: int
    mean: int
    offset: int
    variance: int
    denominator: int = 1

    def numerator(self, a: int) -> int:
        """P times 2**447 and the denominator, at the value a (given times 2**149)."""
        return self.gamma * (self.alpha * a - (self.mean << SCALE))

    def sign(self, a: int) -> int:
        """The sign of z, -1, 0 or +1, at the value a (given times 2**149).

        >>> one = 1 << 149
        >>> ExactChannel(gamma=one, alpha=one, mean=3 * one, offset=0, variance=one).sign(3 * one)
        0
        """
        p, q = self.numerator(a), self.offset
        if p >= 0 and q >= 0:
            return int(p > 0 or q > 0)
        if p <= 0 and q <= 0:
            return -1
        difference = (p * p << SCALE) - q * q * self.variance
        outweighs = (difference > 0) - (difference < 0)
        return outweighs if p > 0 else -outweighs

    def floor(self, a: int, more: int = 0) -> tuple[int, bool]:
        """z as floor(z * 2**(447 + more)), and whether that is exact, at the value a (given times 2**149)."""
        p = self.numerator(a)
        root_of = self.variance << SCALE
        square = p * p << 2 * (SCALE + more)
        quotient = isqrt(square // root_of)
        exact = quotient * quotient * root_of == square
        if p < 0:
            quotient = -quotient - (not exact)
        # A floor of a floor: dividing by an integer does not see what the root's floor cut off.
        floor, rest = divmod(quotient + (self.offset << more), self.denominator)
        return floor, exact and rest == 0

    def rounded(self, a: int) -> float:
        """z correctly rounded to float32 (ties to even; infinite on overflow), at the value a (times 2**149).

        Float32 numbers and the midpoints between them are multiples of 2**-447, so an inexact z stands strictly
        between two such multiples and any point between rounds as z does.
        """
        floor, exact = self.floor(a)
        return round_to_float32(2 * floor + (not exact), 3 * SCALE + 1)

    def enclosure(self, a: int, bits: int = 64) -> tuple[Fraction, Fraction]:
        """Two rationals with z in between, equal where z is one of them; `bits` significant bits.

        The enclosure holds zero only where z is exactly zero.
        """
        more = 0
        floor, exact = self.floor(a)
        while not exact and floor in (0, -1):
            more += SCALE
            floor, exact = self.floor(a, more)
        ceiling = floor if exact else floor + 1
        shift = max(0, min(abs(floor), abs(ceiling)).bit_length() - bits)
        low, high = floor >> shift, -(-ceiling >> shift)
        unit = Fraction(1 << shift, 1 << (3 * SCALE + more))
        return low * unit, high * unit


def round_to_float32(numerator: int, exponent: int) -> float:
    """numerator * 2**-exponent rounded to float32, ties to even; infinite on overflow, never a negative zero.

    >>> round_to_float32(3, 150), round_to_float32(2**25 + 1, 1) == 2.0**24
    (2.802596928649634e-45, True)
    """
    magnitude = abs(numerator)
    # The result's last place is 2**(drop - exponent): 24 significant bits, or the subnormals' 2**-149.
    drop = max(magnitude.bit_length() - 24, exponent - SCALE)
    if drop > 0:
        kept, rest = magnitude >> drop, magnitude & ((1 << drop) - 1)
        half = 1 << (drop - 1)
        kept += rest > half or (rest == half and kept & 1)
    else:
        kept, drop = magnitude, 0
    if kept.bit_length() + drop - exponent > 128:
        value = float("inf")
    else:
        value = ldexp(kept, drop - exponent)
    return -value if numerator < 0 and kept else value


class ExactBatchNorm:
    """The channels of a batch norm as integers, for `ExactChannel`.

    >>> bn = BatchNorm([1.0], [0.0], [3.0], [1.0], 0.0)
    >>> ExactBatchNorm(bn, "unit").channel(0, 0.0).sign(2 << SCALE)
    -1
    """

    def __init__(self, bn: BatchNorm, threshold_scale: str, *, keras_round: bool = False) -> None:
        one = 1 << SCALE
        self._gamma = scaled_integers(bn.gamma)
        self._alpha = [one] * bn.channels if bn.alpha is None else scaled_integers(bn.alpha)
        self._mean = scaled_integers(bn.mean)
        self._beta = scaled_integers(bn.beta)
        epsilon = int(ldexp(bn.epsilon, SCALE))
        self._variance = [value + epsilon for value in scaled_integers(bn.variance)]
        self._denominator = 1
        if bn.affine is not None:
            # alpha*(n*a + o)/d - mean = ((alpha*n)*a - (mean*d - alpha*o))/d
            self._denominator = bn.affine.denominator
            moved = zip(self._mean, self._alpha, bn.affine.offsets, strict=True)
            self._mean = [mean * self._denominator - alpha * offset for mean, alpha, offset in moved]
            self._alpha = [alpha * bn.affine.numerator for alpha in self._alpha]
        self._by_gamma = threshold_scale == "gamma"
        self._boundary = 1 << (2 * SCALE + KERAS_ROUND_EXPONENT) if keras_round else 0

    def channel(self, channel: int, threshold: float) -> ExactChannel:
        """The integers of one channel under one threshold T (a float32 value)."""
        cell = int(ldexp(float(threshold), SCALE))
        scale = self._gamma[channel] if self._by_gamma else 1 << SCALE
        offset = (self._beta[channel] << SCALE) - scale * cell - self._boundary
        return ExactChannel(
            self._gamma[channel],
            self._alpha[channel],
            self._mean[channel],
            (offset << SCALE) * self._denominator,
            self._variance[channel],
            self._denominator,
        )


def exact_sign(a: Values, bn: BatchNorm, kernel: ThresholdKernel | None, conventions: Conventions) -> NDArray[np.int8]:
    """The sign of z = gamma*(alpha*a - mean)/sqrt(variance + epsilon) + beta - s*T, decided exactly.

    Args:
        a: int32 accumulators or float32 reals, shape (N, H, W, C), or (N, C), which counts as a map of one pixel.
        bn: the batch norm, C channels; its `k` and `c` do not count.
        kernel: the threshold kernel (m, n, g), g a divisor of C; None is T = 0.
        conventions: all choices of sign and dither count; its `arithmetic` does not.

    Returns:
        int8, shape of `a`: +1 and -1, and 0 at exact ties under `sign_at_zero=0`.

    Raises:
        RefdesignError: wrong dtype, shape, or number of channels.

    >>> from refdesign.conventions import PAPER
    >>> bn = BatchNorm([-1.0], [0.0], [3.0], [2.0], 0.0)
    >>> exact_sign(np.array([[2], [3], [4]], dtype=np.int32), bn, None, PAPER)[:, 0]
    array([ 1,  1, -1], dtype=int8)
    """
    check_values(a, bn)
    cells = thresholds_over(a.shape, kernel or NO_DITHER, conventions)
    keras_round = conventions.sign_rule == "keras_round"
    p, q, root, bound = _terms(a, bn, cells, conventions.threshold_scale, keras_round=keras_round)
    total = p + q * root
    signs = (total > 0).view(np.int8) - (total < 0).view(np.int8)
    exact = ExactBatchNorm(bn, conventions.threshold_scale, keras_round=keras_round)
    open_ones = np.abs(total) <= bound * root
    for channel, cell, value, where in _distinct(open_ones, a, cells):
        signs[where] = exact.channel(channel, cell).sign(value)
    if conventions.sign_at_zero:
        signs[signs == 0] = conventions.sign_at_zero
    return signs


def exact_dithered_batch_norm(a: Values, bn: BatchNorm, cells: Float32Array, threshold_scale: str) -> Float32Array:
    """z of the exact batch norm and dither, correctly rounded to float32 (ties to even, no negative zero).

    Args:
        a: int32 or float32, shape (..., C).
        bn: the batch norm, C channels.
        cells: thresholds T, float32, broadcast against `a`.
        threshold_scale: `"unit"` or `"gamma"`.

    Returns:
        float32, shape of `a`; infinite where z overflows float32.

    >>> bn = BatchNorm([1.0], [0.0], [0.0], [2.0], 0.0)
    >>> float(exact_dithered_batch_norm(np.array([[1]], np.int32), bn, np.float32([0.0]), "unit")[0, 0])
    0.7071067690849304
    """
    check_values(a, bn)
    p, q, root, bound = _terms(a, bn, cells, threshold_scale, keras_round=False)
    z = p / root + q
    with np.errstate(over="ignore", under="ignore"):
        low, high = (z - bound).astype(np.float32), (z + bound).astype(np.float32)
    result = low + np.float32(0)  # a negative zero becomes zero
    exact = ExactBatchNorm(bn, threshold_scale)
    for channel, cell, value, where in _distinct(low != high, a, cells):
        result[where] = exact.channel(channel, cell).rounded(value)
    return result


def check_values(a: Values, bn: BatchNorm) -> None:
    """Refuse what a batch norm cannot take.

    Raises:
        RefdesignError: neither int32 nor finite float32, or the last axis does not hold the batch norm's channels.
    """
    if not isinstance(a, np.ndarray) or a.dtype not in (np.dtype(np.int32), np.dtype(np.float32)):
        found = getattr(a, "dtype", type(a).__name__)
        raise RefdesignError(f"batch norm: found {found}, expected int32 accumulators or float32")
    if a.ndim == 0 or a.shape[-1] != bn.channels:
        raise RefdesignError(f"batch norm: found shape {a.shape}, expected {bn.channels} channels, last")
    if a.dtype == np.float32 and not np.isfinite(a).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(a))[0])
        raise RefdesignError(f"batch norm: found {a[index]} at index {index}, expected finite numbers")


def affine_in_float64(affine: RationalAffine) -> tuple[float, Float64Array]:
    """The scale and the shifts (C,) of an exact map, each rounded to float64 once.

    >>> affine_in_float64(RationalAffine(2, (-255,), 510))
    (0.00392156862745098, array([-0.5]))
    """
    shifts = [float(Fraction(offset, affine.denominator)) for offset in affine.offsets]
    return float(Fraction(affine.numerator, affine.denominator)), np.array(shifts)


def _terms(
    array: Values,
    bn: BatchNorm,
    cells: Float32Array,
    threshold_scale: str,
    *,
    keras_round: bool,
) -> tuple[Float64Array, Float64Array, Float64Array, Float64Array]:
    """P, Q, sqrt(V) in float64, and a bound on the error of P/sqrt(V) + Q (times sqrt(V): of P + Q*sqrt(V)).

    Nothing overflows or underflows here: float32 exponents fit three times into float64's.
    """
    gamma, beta, mean = (v.astype(np.float64) for v in (bn.gamma, bn.beta, bn.mean))
    alpha = np.ones(1) if bn.alpha is None else bn.alpha.astype(np.float64)
    root = np.sqrt(bn.variance.astype(np.float64) + bn.epsilon)
    threshold = cells.astype(np.float64)
    if threshold_scale == "gamma":
        threshold = threshold * gamma
    boundary = 2.0**KERAS_ROUND_EXPONENT if keras_round else 0.0
    product = array.astype(np.float64) * alpha
    extent = np.abs(product)
    if bn.affine is not None:
        scale, shift = affine_in_float64(bn.affine)
        product, extent = product * scale + alpha * shift, extent * scale + np.abs(alpha * shift)
    p = gamma * (product - mean)
    q = (beta - threshold) - boundary
    size = np.abs(gamma) * (extent + np.abs(mean)) / root + (np.abs(beta) + np.abs(threshold) + boundary)
    return p, q, root, _ROUNDINGS * _UNIT * size


def _distinct(
    mask: NDArray[np.bool_], array: Values, cells: Float32Array
) -> list[tuple[int, float, int, tuple[NDArray[np.intp], ...]]]:
    """The marked elements, one entry for each distinct channel, threshold and value, with where they stand."""
    where = np.nonzero(mask)
    if not where[0].size:
        return []
    values = array[where].astype(np.float64)
    thresholds = np.broadcast_to(cells, mask.shape)[where].astype(np.float64)
    keys = np.stack([where[-1].astype(np.float64), thresholds, values])
    distinct, inverse = np.unique(keys, axis=1, return_inverse=True)
    order = np.argsort(inverse.ravel(), kind="stable")
    ends = np.cumsum(np.bincount(inverse.ravel()))
    groups = np.split(order, ends[:-1])
    return [
        (int(channel), float(cell), int(ldexp(float(value), SCALE)), tuple(axis[group] for axis in where))
        for (channel, cell, value), group in zip(distinct.T, groups, strict=True)
    ]
