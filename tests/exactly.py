"""Exact arithmetic written apart from the project's: rationals, and square roots between rationals."""

from __future__ import annotations

from fractions import Fraction
from math import isqrt

import numpy as np


def square_root(square: Fraction, bits: int) -> tuple[Fraction, Fraction]:
    """Two rationals 2**-bits apart with the root between, or the root itself, twice, where it is rational."""
    top, bottom = isqrt(square.numerator), isqrt(square.denominator)
    if top * top == square.numerator and bottom * bottom == square.denominator:
        return Fraction(top, bottom), Fraction(top, bottom)
    scaled = square * 4**bits
    floor = isqrt(scaled.numerator // scaled.denominator)
    return Fraction(floor, 2**bits), Fraction(floor + 1, 2**bits)


def nearest_float32(low: Fraction, high: Fraction | None = None) -> np.float32:
    """The float32 nearest to a rational, ties to even; or to whatever lies between two close ones."""
    results = [_nearest(value) for value in (low, low if high is None else high)]
    assert results[0] == results[1], "the enclosure is too wide to round"
    return results[0]


def _nearest(value: Fraction) -> np.float32:
    if abs(value) >= Fraction(2**128) - Fraction(2**103):  # half a last place beyond the largest float32
        return np.float32(np.inf if value > 0 else -np.inf)
    with np.errstate(under="ignore", over="ignore"):
        guess = np.clip(np.float32(float(value)), np.finfo(np.float32).min, np.finfo(np.float32).max)
        around = {
            float(guess),
            float(np.nextafter(guess, np.float32(np.inf))),
            float(np.nextafter(guess, -np.float32(np.inf))),
        }
    finite = [np.float32(x) for x in around if np.isfinite(x)]
    return min(finite, key=lambda x: (abs(Fraction(float(x)) - value), int(x.view(np.int32)) & 1))
