"""The scalar float32 arithmetic against NumPy, the C library, and decimals of many digits."""

from __future__ import annotations

import ctypes
import ctypes.util
import decimal
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdesign.naive import float32

FLOAT32S = st.floats(width=32, allow_nan=False) | st.sampled_from(
    [0.0, -0.0, 2.0**-149, -(2.0**-149), 2.0**-126, 1.0, 1 + 2.0**-23, 2.0**24, float(np.finfo(np.float32).max)]
)
POSITIVE = st.floats(min_value=2.0**-149, max_value=float(np.finfo(np.float32).max), width=32)
DIGITS = 400


def same(found: float, expected: Any) -> bool:
    """Equal bit by bit as float32, all NaN alike; `found` must be a float32 already."""
    if np.isnan(expected):
        return bool(np.isnan(found))
    assert float(np.float32(found)) == found
    return np.float32(found).tobytes() == np.float32(expected).tobytes()


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_rounding_is_numpys_conversion(x: float) -> None:
    with np.errstate(over="ignore"):
        expected = np.float64(x).astype(np.float32)
    if x:
        assert same(float32.round_to_float32(Fraction(x)), expected)


@given(st.integers(2**23, 2**24 - 1), st.integers(-149, 104), st.integers(1, 2**60))
def test_just_beside_a_tie_rounds_to_the_nearer(significand: int, exponent: int, closeness: int) -> None:
    unit = Fraction(2) ** exponent
    tie = (significand + Fraction(1, 2)) * unit
    below, above = significand * unit, (significand + 1) * unit
    even = below if significand % 2 == 0 else above
    shift = unit / (3 * closeness)
    limit = Fraction(2) ** 128
    for x, expected in ((tie - shift, below), (tie, even), (tie + shift, above)):
        found = float32.round_to_float32(x)
        assert (found == float("inf")) if expected == limit else (Fraction(found) == expected)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (float32.add, np.add),
        (float32.subtract, np.subtract),
        (float32.multiply, np.multiply),
        (float32.divide, np.divide),
    ],
)
def test_operations_are_numpys(ours: Callable[[float, float], float], theirs: np.ufunc) -> None:
    @given(FLOAT32S, FLOAT32S)
    def agree(a: float, b: float) -> None:
        if theirs is np.divide and b == 0:
            return
        with np.errstate(all="ignore"):
            assert same(ours(a, b), theirs(np.float32(a), np.float32(b)))

    agree()


@given(POSITIVE)
def test_square_root_is_numpys(x: float) -> None:
    assert same(float32.square_root(x), np.sqrt(np.float32(x)))


@pytest.fixture(scope="module")
def fmaf() -> Callable[[float, float, float], float]:
    """The C library's fused multiply-add."""
    library = ctypes.util.find_library("m")
    if library is None:
        pytest.skip("no C mathematical library was found")
    function = ctypes.CDLL(library).fmaf
    function.argtypes, function.restype = [ctypes.c_float] * 3, ctypes.c_float

    def call(a: float, b: float, c: float) -> float:
        return float(function(a, b, c))

    return call


def test_fused_multiply_add_is_the_c_librarys(fmaf: Callable[[float, float, float], float]) -> None:
    @given(FLOAT32S, FLOAT32S, FLOAT32S)
    def agree(a: float, b: float, c: float) -> None:
        assert same(float32.fused_multiply_add(a, b, c), fmaf(a, b, c))

    agree()


def test_fused_multiply_add_rounds_once(fmaf: Callable[[float, float, float], float]) -> None:
    """Products that lie, in float64, on a tie of float32 but for a summand that float64 drops."""
    a = b = 1 + 2.0**-12  # a*b = 1 + 2**-11 + 2**-24, halfway between two float32
    through_float64_wrong = 0
    for c in (2.0**-60, -(2.0**-60)):
        exact = Fraction(a) * Fraction(b) + Fraction(c)
        assert float32.fused_multiply_add(a, b, c) == fmaf(a, b, c) == float32.round_to_float32(exact)
        through_float64_wrong += float(np.float32(a * b + c)) != fmaf(a, b, c)
    assert through_float64_wrong == 1, "rounding twice must go wrong on one side of the tie"


RATIONALS = st.builds(Fraction, st.integers(-(2**60), 2**60), st.integers(0, 200).map(lambda e: 2**e))


@given(RATIONALS, POSITIVE, RATIONALS)
def test_quotient_by_root_is_a_long_decimals(p: Fraction, v: float, q: Fraction) -> None:
    with decimal.localcontext(prec=DIGITS, Emin=-99999, Emax=99999):
        value = _decimal(p) / _decimal(Fraction(v)).sqrt() + _decimal(q)
        enclosing = Fraction(value)
    assert float32.round_quotient_by_root(p, Fraction(v), q) == float32.round_to_float32(enclosing)


@given(st.integers(-99, 99), POSITIVE, st.integers(-99, 99), st.integers(-1, 1))
def test_sign_of_root_sum_is_a_long_decimals(p: int, v: float, q: int, nudge: int) -> None:
    square = Fraction(v)
    exact_root = Fraction(p * p, q * q) if q else square  # p + q*sqrt(v) is zero there, if the signs differ
    for where in (square, exact_root, exact_root * (1 + nudge * Fraction(1, 10**60))):
        if where <= 0:
            continue
        with decimal.localcontext(prec=DIGITS):
            value = p + q * _decimal(where).sqrt()
        expected = 0 if abs(value) < decimal.Decimal(10) ** -150 else int(value.copy_sign(value) > 0) * 2 - 1
        assert float32.sign_of_root_sum(Fraction(p), where, Fraction(q)) == expected


def _decimal(x: Fraction) -> decimal.Decimal:
    return decimal.Decimal(x.numerator) / decimal.Decimal(x.denominator)
