from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from refdesign.conventions import ARITHMETICS, PAPER, Conventions
from refdesign.errors import RefdesignError
from refdesign.ops.batch_norm import batch_norm, dithered_batch_norm, fused_multiply_add, scale_and_shift
from refdesign.ops.dither import thresholds_over
from refdesign.ops.exact import exact_sign, round_to_float32
from refdesign.parameters import BatchNorm, Float32Array
from refdesign.verify.strategies import batch_norms, real_arrays, threshold_kernels
from tests.exactly import nearest_float32, square_root

float32s = st.floats(width=32, allow_nan=False, allow_infinity=False)


def vector(*values: float) -> Float32Array:
    return np.array(values, dtype=np.float32)


@given(float32s, float32s, float32s)
@example(3.0, 1 + 2.0**-23, -(2.0**-80))  # halfway between two float32, and a little less
@example(3.0, 1 + 3 * 2.0**-23, 2.0**-80)
@example(2.0**-75, 2.0**-75, 2.0**-149)  # halfway between two subnormals, from below
@example(-(2.0**-75), 2.0**-75, 2.0**-149)
@example(3.4028234663852886e38, 2.0, -3.4028234663852886e38)  # the product overflows float32, the sum does not
@example(3.4028234663852886e38, 1.0, 2.0**102)
def test_fused_multiply_add_rounds_once(x: float, k: float, c: float) -> None:
    want = nearest_float32(Fraction(x) * Fraction(k) + Fraction(c))
    assert fused_multiply_add(vector(x), vector(k), vector(c))[0] == want


@given(st.integers(1, 2**24 - 1), st.integers(-20, 20), st.integers(1, 2**24 - 1), st.sampled_from([-1, 0, 1]))
def test_fused_multiply_add_beside_halfway(x: int, shift: int, k: int, sign: int) -> None:
    """Products of 48 bits with an addend far below their last place: the case that float64 rounds twice."""
    values = vector(x * 2.0**shift), vector(k), vector(sign * 2.0**-100)
    want = nearest_float32(Fraction(x) * Fraction(2) ** shift * k + sign * Fraction(1, 2**100))
    assert fused_multiply_add(*values)[0] == want


def test_fused_multiply_add_through_float64_is_caught() -> None:
    x, k, c = vector(3.0), vector(1 + 2.0**-23), vector(-(2.0**-80))
    twice = (x.astype(np.float64) * k + c).astype(np.float32)
    assert twice != fused_multiply_add(x, k, c)


def test_fused_multiply_add_of_infinities() -> None:
    """A scaled accumulator that overflows float32 is infinite in every program; no warning, no NaN beside 0 * inf."""
    x, k, c = vector(np.inf, -np.inf, -np.inf, np.inf), vector(2, 3, -3, 0), vector(1, 1, -1, 1)
    np.testing.assert_array_equal(fused_multiply_add(x, k, c), vector(np.inf, -np.inf, np.inf, np.nan))


@given(st.integers(-(2**60), 2**60), st.integers(0, 200))
@example(2**24 + 1, 0)
@example(2**60, 0)
@example(-3, 150)
def test_round_to_float32(numerator: int, exponent: int) -> None:
    assert round_to_float32(numerator, exponent) == nearest_float32(Fraction(numerator, 2**exponent))


def test_round_to_float32_overflows_where_ieee_does() -> None:
    largest = (2**24 - 1) << 104
    assert round_to_float32(largest, 0) == float(np.finfo(np.float32).max)
    assert round_to_float32(largest + (1 << 103) - 1, 0) == float(np.finfo(np.float32).max)
    assert round_to_float32(largest + (1 << 103), 0) == float("inf")
    assert round_to_float32(-(1 << 128), 0) == float("-inf")


@given(st.data(), st.sampled_from(ARITHMETICS))
def test_programs_step_by_step(data: st.DataObject, arithmetic: str) -> None:
    """Every program of the specification's table, from rationals, one rounding per step."""
    conventions = Conventions(arithmetic=arithmetic, threshold_scale=data.draw(st.sampled_from(("unit", "gamma"))))
    kernel = data.draw(threshold_kernels(2, 3, 1))
    bn = data.draw(batch_norms(2, 9, kernel=kernel, conventions=conventions))
    a = data.draw(st.integers(-9, 9).map(np.int32))
    reals = data.draw(st.booleans())
    values = np.full((1, 3, 1, 2), a, dtype=np.int32)
    taken = values.astype(np.float32) / np.float32(8) if reals else values
    try:
        z = dithered_batch_norm(taken, bn, kernel, conventions)
        y = batch_norm(taken, bn, arithmetic)
    except RefdesignError as error:
        assume("overflow" not in str(error) and "finite" not in str(error))
        raise
    cells = thresholds_over(taken.shape, kernel, conventions)
    for row, c in np.ndindex(3, 2):
        x = Fraction(float(taken[0, row, 0, c]))
        scale = Fraction(float(bn.gamma[c])) if conventions.threshold_scale == "gamma" else Fraction(1)
        threshold = scale * Fraction(float(cells[row, 0, c]))
        if arithmetic == "real":
            wanted_y = exact(bn, c, x, Fraction(0))
            wanted_z = exact(bn, c, x, threshold)
        else:
            wanted_y = program(bn, c, x, arithmetic)
            wanted_z = fl(Fraction(float(wanted_y)) - Fraction(float(fl(threshold))))
        assert y[0, row, 0, c] == wanted_y
        assert z[0, row, 0, c] == wanted_z


def fl(value: Fraction | float) -> np.float32:
    return nearest_float32(Fraction(value))


def exact(bn: BatchNorm, c: int, x: Fraction, threshold: Fraction) -> np.float32:
    alpha = Fraction(1) if bn.alpha is None else Fraction(float(bn.alpha[c]))
    p = Fraction(float(bn.gamma[c])) * (alpha * x - Fraction(float(bn.mean[c])))
    offset = Fraction(float(bn.beta[c])) - threshold
    roots = square_root(Fraction(float(bn.variance[c])) + Fraction(bn.epsilon), 900)
    return nearest_float32(p / roots[0] + offset, p / roots[1] + offset)


def program(bn: BatchNorm, c: int, x: Fraction, arithmetic: str) -> np.float32:
    gamma, beta, mean, variance = (Fraction(float(v[c])) for v in (bn.gamma, bn.beta, bn.mean, bn.variance))
    v = Fraction(float(fl(x if bn.alpha is None else Fraction(float(bn.alpha[c])) * x)))
    roots = square_root(Fraction(float(fl(variance + Fraction(bn.epsilon)))), 300)
    deviation = Fraction(float(nearest_float32(*roots)))
    if arithmetic == "released_torch":
        return fl(Fraction(float(fl(gamma * Fraction(float(fl(Fraction(float(fl(v - mean))) / deviation)))))) + beta)
    k = Fraction(float(fl(gamma * Fraction(float(fl(1 / deviation)))) if bn.k is None else bn.k[c]))
    if bn.c is not None:
        shift = Fraction(float(bn.c[c]))
    elif arithmetic == "torch":
        shift = Fraction(float(fl(beta - mean * k)))
    else:
        shift = Fraction(float(fl(beta - Fraction(float(fl(mean * k))))))
    return fl(v * k + shift) if arithmetic == "torch" else fl(Fraction(float(fl(v * k))) + shift)


@given(st.data())
def test_exact_sign_of_reals_is_that_of_the_rational(data: st.DataObject) -> None:
    bn = data.draw(batch_norms(3, 5))
    x = data.draw(real_arrays((4, 3)))
    for at_zero in (1, -1, 0):
        bits = exact_sign(x, bn, None, Conventions(sign_at_zero=at_zero))
        for n, c in np.ndindex(4, 3):
            z = exact(bn, c, Fraction(float(x[n, c])), Fraction(0))
            # A z that rounds to zero says nothing about the sign; test_fold_real decides those.
            if z != 0:
                assert bits[n, c] == np.sign(z)


def test_more_than_a_block_of_elements() -> None:
    bn = BatchNorm(vector(1, 2, 3), vector(0, 1, 2), vector(1, 2, 3), vector(1, 2, 3), 0.0)
    a = np.arange(3 * 200_001, dtype=np.int32).reshape(1, 200_001, 1, 3) - 300_000
    y = batch_norm(a, bn, "torch")
    k, c = scale_and_shift(bn, "torch")
    for row in (0, 87_380, 87_381, 200_000):
        assert np.array_equal(y[0, row, 0], fused_multiply_add(a[0, row, 0].astype(np.float32), k, c))


def test_an_empty_batch() -> None:
    bn = BatchNorm(vector(1, 2, 3), vector(0, 1, 2), vector(1, 2, 3), vector(1, 2, 3), 0.0)
    for arithmetic in ("real", "torch", "onnxruntime", "released_torch"):
        assert batch_norm(np.zeros((0, 5, 7, 3), np.int32), bn, arithmetic).shape == (0, 5, 7, 3)


def test_integers_up_to_2_to_the_24_and_no_further() -> None:
    bn = BatchNorm(vector(1), vector(0), vector(0), vector(1), 0.0)
    assert batch_norm(np.array([[2**24], [-(2**24)]], dtype=np.int32), bn, "torch").ravel().tolist() == [
        2**24,
        -(2**24),
    ]
    with pytest.raises(RefdesignError, match=r"-16777217, expected at most 2\*\*24"):
        batch_norm(np.array([[5], [-(2**24) - 1]], dtype=np.int32), bn, "onnxruntime")
    assert batch_norm(np.array([[-(2**31)]], dtype=np.int32), bn, "real")[0, 0] == -(2.0**31)


def test_refusals() -> None:
    bn = BatchNorm(vector(1, 2, 3), vector(0, 1, 2), vector(1, 2, 3), vector(1, 2, 3), 0.0)
    a = np.zeros((2, 3), dtype=np.int32)
    with pytest.raises(RefdesignError, match="batch norm, k: found none, expected the scale that Keras computed"):
        batch_norm(a, bn, "keras")
    with pytest.raises(RefdesignError, match="arithmetic: found 'jax', expected one of real, torch"):
        batch_norm(a, bn, "jax")
    with pytest.raises(RefdesignError, match=r"found shape \(2, 2\), expected 3 channels"):
        batch_norm(a[:, :2], bn, "real")
    with pytest.raises(RefdesignError, match="found int64, expected int32 accumulators or float32"):
        batch_norm(a.astype(np.int64), bn, "torch")  # type: ignore[arg-type]
    with pytest.raises(RefdesignError, match="found list, expected int32"):
        exact_sign([1], bn, None, PAPER)  # type: ignore[arg-type]
    with pytest.raises(RefdesignError, match=r"found shape \(1, 2, 3\), expected \(N, H, W, C\) or \(N, C\)"):
        dithered_batch_norm(np.zeros((1, 2, 3), np.int32), bn, None, PAPER)
    large = BatchNorm(vector(1, 3e38), vector(0, 0), vector(0, 0), vector(1, 1e-6), 0.0)
    with pytest.raises(RefdesignError, match="batch norm, k: found inf in channel 1 under arithmetic 'torch'"):
        scale_and_shift(large, "torch")
    shifted = BatchNorm(vector(1, 3e30), vector(0, 0), vector(0, 3e30), vector(1, 1), 0.0)
    with pytest.raises(RefdesignError, match="batch norm, c: found -inf in channel 1 under arithmetic 'onnxruntime'"):
        scale_and_shift(shifted, "onnxruntime")
    with pytest.raises(RefdesignError, match="arithmetic: found 'real', expected a program with a scale"):
        scale_and_shift(bn, "real")
