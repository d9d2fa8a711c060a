"""IEEE-754 float32 arithmetic by definition: the exact result as a fraction, rounded once.

A float32 number is carried as a Python float that holds exactly that value (every float32 is a float64). Finite
operands become `Fraction`s, so nothing is rounded but the result, and a fused multiply-add is simply one
rounding of an exact product and sum. Zeros keep the sign that IEEE-754 gives them; infinities and NaN follow
Python's own floats, whose rules are the same.
"""

from __future__ import annotations

from fractions import Fraction
from math import copysign, inf, isfinite, isqrt, ldexp

SMALLEST_EXPONENT = -149
"""The last place of a float32 is at least 2**-149: the spacing of the subnormal numbers."""

SIGNIFICAND_BITS = 24
"""Bits in a float32 significand, the hidden one included."""

OVERFLOW = Fraction(2**128 - 2**103)
"""Half a last place above the largest float32; from here on numbers round to infinity."""


def round_to_float32(x: Fraction) -> float:
    """The float32 nearest to x, ties to the even significand; infinite from 2**128 - 2**103 on (IEEE-754).

    Args:
        x: any rational number. A negative one that underflows gives -0.0.

    >>> round_to_float32(Fraction(1, 3)) == 11184811 * 2.0**-25
    True
    >>> round_to_float32(Fraction(2**24 + 1)), round_to_float32(Fraction(2**24 + 3))
    (16777216.0, 16777220.0)
    >>> round_to_float32(Fraction(3, 2**151)) == 2.0**-149, round_to_float32(Fraction(-1, 2**150))
    (True, -0.0)
    >>> round_to_float32(Fraction(2**128 - 2**103))
    inf
    """
    if x == 0:
        return 0.0
    if abs(x) >= OVERFLOW:
        return copysign(inf, x)
    last_place = max(_floor_log2(abs(x)) - (SIGNIFICAND_BITS - 1), SMALLEST_EXPONENT)
    numerator, denominator = _scaled(abs(x), -last_place)
    significand, rest = divmod(numerator, denominator)
    if 2 * rest > denominator or (2 * rest == denominator and significand % 2 == 1):
        significand += 1
    return copysign(ldexp(significand, last_place), x)


def _scaled(x: Fraction, exponent: int) -> tuple[int, int]:
    """Numerator and denominator of x * 2**exponent, not reduced."""
    if exponent >= 0:
        return x.numerator << exponent, x.denominator
    return x.numerator, x.denominator << -exponent


def _floor_log2(x: Fraction) -> int:
    """The largest e with 2**e <= x, for x > 0."""
    guess = x.numerator.bit_length() - x.denominator.bit_length()
    numerator, denominator = _scaled(x, -guess)
    return guess if numerator >= denominator else guess - 1


def add(a: float, b: float) -> float:
    """fl(a + b).

    >>> add(16777216.0, 1.0), add(-0.0, -0.0)
    (16777216.0, -0.0)
    """
    if not (isfinite(a) and isfinite(b)):
        return a + b
    exact = Fraction(a) + Fraction(b)
    return round_to_float32(exact) if exact else a + b  # Python's sum of exact zeros has the right sign


def subtract(a: float, b: float) -> float:
    """fl(a - b).

    >>> subtract(1.0, 2.0**-26)
    1.0
    """
    return add(a, -b)


def multiply(a: float, b: float) -> float:
    """fl(a * b).

    >>> multiply(2.0**-149, 0.5), multiply(2.0**-149, 0.75) == 2.0**-149
    (0.0, True)
    """
    if not (isfinite(a) and isfinite(b)) or a == 0 or b == 0:
        return a * b
    return round_to_float32(Fraction(a) * Fraction(b))


def divide(a: float, b: float) -> float:
    """fl(a / b), for b that is not zero.

    >>> divide(1.0, 3.0) == 11184811 * 2.0**-25
    True
    """
    if not (isfinite(a) and isfinite(b)) or a == 0:
        return a / b
    return round_to_float32(Fraction(a) / Fraction(b))


def square_root(x: float) -> float:
    """fl(sqrt(x)), for x > 0.

    >>> square_root(2.0) == 11863283 * 2.0**-23, square_root(6.25)
    (True, 2.5)
    """
    if x == inf:
        return inf
    return round_quotient_by_root(Fraction(x), Fraction(x), Fraction(0))  # x/sqrt(x) is sqrt(x)


def fused_multiply_add(a: float, b: float, c: float) -> float:
    """fl(a*b + c), rounded once.

    >>> tiny = 2.0**-23
    >>> fused_multiply_add(1 + tiny, 1 - tiny, -1.0) == -(2.0**-46)
    True
    """
    if not (isfinite(a) and isfinite(b) and isfinite(c)):
        return a * b + c
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    # a*b of two float32 is exact in float64, so an exact zero gets its sign from Python's own operations.
    return round_to_float32(exact) if exact else a * b + c


def enclose_root(v: Fraction, bits: int) -> tuple[Fraction, Fraction]:
    """Rational numbers low <= sqrt(v) <= high, equal where sqrt(v) has `bits` binary places or fewer.

    Args:
        v: positive.
        bits: how many binary places after the point; high - low is 2**-bits or 0.

    >>> enclose_root(Fraction(9, 4), 1)
    (Fraction(3, 2), Fraction(3, 2))
    >>> enclose_root(Fraction(2), 2)
    (Fraction(5, 4), Fraction(3, 2))
    """
    scale = 2**bits
    root = isqrt(v.numerator * scale**2 // v.denominator)
    low = Fraction(root, scale)
    return low, low if low * low == v else Fraction(root + 1, scale)


def enclose_quotient_by_root(p: Fraction, v: Fraction, q: Fraction, bits: int) -> tuple[Fraction, Fraction]:
    """Rational numbers low <= p/sqrt(v) + q <= high; `bits` more of them for a closer pair. v is positive.

    >>> enclose_quotient_by_root(Fraction(3), Fraction(4), Fraction(1), 8)
    (Fraction(5, 2), Fraction(5, 2))
    """
    # A small v needs more places before the first significant bit of its root.
    low, high = enclose_root(v, bits + max(0, -_floor_log2(v)))
    ends = (p / low + q, p / high + q)
    return min(ends), max(ends)


def round_quotient_by_root(p: Fraction, v: Fraction, q: Fraction) -> float:
    """The float32 nearest to p/sqrt(v) + q, correctly rounded, for v > 0.

    An enclosure of the exact value is refined until both of its ends round to the same number. That ends: if
    sqrt(v) is irrational and p is not 0 then the value is irrational and lies on no boundary of rounding;
    otherwise the enclosure becomes a point.

    >>> round_quotient_by_root(Fraction(1), Fraction(4), Fraction(1, 4))
    0.75
    """
    bits = 64
    while True:
        low, high = enclose_quotient_by_root(p, v, q, bits)
        if low == high:
            return round_to_float32(low)
        below, above = round_to_float32(low), round_to_float32(high)
        if below == above and (low > 0) == (high > 0):  # a tiny value keeps its sign when it rounds to zero
            return below
        bits *= 2


def sign_of_root_sum(p: Fraction, v: Fraction, q: Fraction) -> int:
    """The sign (+1, 0, -1) of p + q*sqrt(v), for v > 0: decided by squares, without any root.

    >>> sign_of_root_sum(Fraction(-3), Fraction(9), Fraction(1))
    0
    >>> sign_of_root_sum(Fraction(-3), Fraction(9) + Fraction(1, 10**40), Fraction(1))
    1
    """
    sign_p, sign_q = _sign(p), _sign(q)
    if sign_p == sign_q or sign_q == 0:
        return sign_p
    if sign_p == 0:
        return sign_q
    # They pull in opposite directions: the larger square wins.
    return sign_p * _sign(p * p - q * q * v)


def _sign(x: Fraction) -> int:
    return (x > 0) - (x < 0)
