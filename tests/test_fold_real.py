"""The fold under `"real"` against rationals and intervals, for every accumulator of 10,000 channels."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from refdesign.bits import unpack
from refdesign.conventions import Conventions
from refdesign.fold import fold
from refdesign.ops.batch_norm import batch_norm, dithered_batch_norm
from refdesign.ops.dither import phase_thresholds
from refdesign.ops.exact import ExactChannel, exact_sign
from refdesign.ops.sign import sign
from refdesign.parameters import BatchNorm, ThresholdKernel
from tests.channels import every_accumulator, random_channels
from tests.exactly import nearest_float32, square_root

CHANNELS = 10_002
FAN_IN = 8
KERNEL = ThresholdKernel(np.array([[[0.5, 0.0]], [[3.0, -0.3117831]]], dtype=np.float32))  # 2x1x2
CASES = [(scale, rule) for scale in ("unit", "gamma") for rule in ("compare", "keras_round")]


def exact_signs(bn: BatchNorm, conventions: Conventions) -> NDArray[np.int8]:
    """The sign of z (of z - 2**-24 under keras_round) for every accumulator and phase, (2*FAN_IN + 1, m, n, C).

    -Q*sqrt(V) is enclosed by two rationals, ever closer, until P(a) stands on one side of both.
    """
    cells = phase_thresholds(KERNEL, bn.channels, conventions)
    rule = Fraction(1, 2**24) if conventions.sign_rule == "keras_round" else Fraction(0)
    signs = np.zeros((2 * FAN_IN + 1, *cells.shape), dtype=np.int8)
    for c in range(bn.channels):
        gamma, beta, mean = (Fraction(float(v[c])) for v in (bn.gamma, bn.beta, bn.mean))
        alpha = Fraction(1) if bn.alpha is None else Fraction(float(bn.alpha[c]))
        variance = Fraction(float(bn.variance[c])) + Fraction(bn.epsilon)
        p = [gamma * (alpha * a - mean) for a in range(-FAN_IN, FAN_IN + 1)]
        scale = gamma if conventions.threshold_scale == "gamma" else Fraction(1)
        for phase in np.ndindex(cells.shape[:2]):
            q = beta - scale * Fraction(float(cells[(*phase, c)])) - rule
            signs[(slice(None), *phase, c)] = signs_of_sums(p, q, variance)
    return signs


def signs_of_sums(p: list[Fraction], q: Fraction, square: Fraction) -> list[int]:
    """The sign of each p + q*sqrt(square)."""
    bits = 100
    while True:
        ends = sorted(-q * root for root in square_root(square, bits))
        signs = [(x > ends[1]) - (x < ends[0]) for x in p]
        # A zero is one for certain if the enclosure is a point; else refine.
        if 0 not in signs or ends[0] == ends[1]:
            return signs
        bits *= 4


@pytest.mark.parametrize(("scale", "rule"), CASES)
def test_fold_decides_as_rationals_do(scale: str, rule: str) -> None:
    base = Conventions(threshold_scale=scale, sign_rule=rule, sign_at_zero=-1)
    bn = random_channels(23, CHANNELS, FAN_IN, gamma_scaled=scale == "gamma", kernel=KERNEL)
    a = every_accumulator(FAN_IN, 2, 1, CHANNELS)
    signs = exact_signs(bn, base)
    for at_zero in (-1,) if rule == "keras_round" else (-1, 1, 0):
        conventions = base.replace(sign_at_zero=at_zero)
        want = np.where(signs == 0, np.int8(at_zero), signs)
        assert np.array_equal(unpack(fold(bn, KERNEL, fan_in=FAN_IN, conventions=conventions).apply(a)), want)
        assert np.array_equal(exact_sign(a, bn, KERNEL, conventions), want)
        # A float program in its place, and the sign of the rounded z, are caught.
        program = conventions.replace(arithmetic="torch")
        assert np.any(unpack(fold(bn, KERNEL, fan_in=FAN_IN, conventions=program).apply(a)) != want)
    if rule == "compare":
        assert np.any(signs == 0)


def pell_pairs() -> list[tuple[int, int]]:
    """(p, q) with p*p - 2*q*q = +-1, of 25 to 47 bits: p - q*sqrt(2) is far below float64's last place."""
    pairs, p, q = [], 1, 1
    while p < 2**47:
        if q > 2**25:
            pairs.append((p, q))
        p, q = p + 2 * q, p + q
    return pairs


def pell_channel(p: int, q: int) -> tuple[BatchNorm, ThresholdKernel]:
    """z = (p - q*sqrt(2))/sqrt(2) at a = 1, with p and q each split over two float32."""
    p_low, q_low = p % 2**23, q % 2**23
    gamma, beta, mean, variance, alpha = np.array([[1], [q_low - q], [p_low - p], [2], [p_low]], dtype=np.float32)
    assert (int(beta[0]), int(mean[0])) == (q_low - q, p_low - p)
    bn = BatchNorm(gamma, beta, mean, variance, 0.0, alpha=alpha)
    return bn, ThresholdKernel(np.array([[q_low]], dtype=np.float32))


@pytest.mark.parametrize(("p", "q"), pell_pairs())
def test_what_float64_cannot_decide(p: int, q: int) -> None:
    bn, kernel = pell_channel(p, q)
    a = np.array([[1], [0]], dtype=np.int32)
    want = 1 if p * p > 2 * q * q else -1
    conventions = Conventions()
    assert exact_sign(a, bn, kernel, conventions)[0, 0] == want
    thresholds = fold(bn, kernel, fan_in=1, conventions=conventions)
    assert unpack(thresholds.apply(a))[0, 0] == want
    low, high = square_root(Fraction(2), 400)
    z = nearest_float32(p / high - q, p / low - q)
    assert dithered_batch_norm(a, bn, kernel, conventions)[0, 0] == z
    last = thresholds.certificate.entry(0, 0, 0).neighbours[-1]
    assert last.accumulator == 1
    assert isinstance(last.z, tuple)
    assert last.z[0] < p / low - q
    assert last.z[1] > p / high - q
    assert (last.z[0] > 0) == (want > 0) == (last.z[1] > 0)


integers = st.integers(-(2**40), 2**40)


@given(integers, integers, st.integers(1, 2**40), st.integers(1, 1000), st.sampled_from([0, 7]))
@example(-1, 0, 2, 1, 0)
@example(-3, 5, 8, 1, 0)  # v * 2**-149 is a square: z is rational
@example(1, 0, 2, 3, 0)
@example(-1, 0, 2, 3, 7)
def test_the_floor_of_z(p: int, q: int, v: int, denominator: int, more: int) -> None:
    """floor(z * 2**(447 + more)) of z = (p/sqrt(v) + q)/denominator, all times powers of two."""
    one = 1 << 149
    channel = ExactChannel(gamma=one, alpha=p, mean=0, offset=q, variance=v, denominator=denominator)
    # P = p * 2**(149 + 149) * 2**-447, V = v * 2**-149, and the offset is q * 2**-447.
    low, high = square_root(Fraction(v, 2**149), 1500)
    ends = [(p * Fraction(2) ** (298 - 447) / root + Fraction(q, 2**447)) / denominator for root in (low, high)]
    scaled = [end * 2 ** (447 + more) for end in ends]
    floor, exact = channel.floor(one, more)
    assert floor == min(scaled).__floor__() == max(scaled).__floor__()
    assert exact == (scaled[0] == scaled[1] == floor)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_z_below_all_scales(sign: int) -> None:
    """z = +-2**-447/sqrt(3): its enclosure leaves zero out, and it decides between two float32 when added."""
    low, high = ExactChannel(gamma=sign, alpha=1, mean=0, offset=0, variance=3 << 149).enclosure(1)
    root = square_root(Fraction(3), 600)
    ends = sorted(sign / (Fraction(2) ** 447 * end) for end in root)
    assert low <= ends[0] <= ends[1] <= high
    assert low * sign > 0
    assert high * sign > 0

    smallest = np.array([2.0**-149], dtype=np.float32)
    one, three = np.array([1], dtype=np.float32), np.array([3], dtype=np.float32)
    bn = BatchNorm(smallest * np.float32(sign), one, 0 * one, three, 0.0, alpha=smallest)
    halfway = ThresholdKernel(np.array([[-(2.0**-24)]], dtype=np.float32))  # 1 + 2**-24 lies between two float32
    z = dithered_batch_norm(smallest[np.newaxis], bn, halfway, Conventions())
    assert z[0, 0] == (1 + 2.0**-23 if sign > 0 else 1)
    odd = ThresholdKernel(np.array([[-3 * 2.0**-24]], dtype=np.float32))
    z = dithered_batch_norm(smallest[np.newaxis], bn, odd, Conventions())
    assert z[0, 0] == (1 + 2.0**-22 if sign > 0 else 1 + 2.0**-23)


def test_float64_alone_is_caught() -> None:
    wrong = 0
    for p, q in pell_pairs():
        wrong += (1 if p / np.sqrt(2.0) - q >= 0 else -1) != (1 if p * p > 2 * q * q else -1)
    assert wrong > 0


@pytest.mark.parametrize("seed", range(3))
def test_rounded_once(seed: int) -> None:
    bn = random_channels(seed, 406, FAN_IN, kernel=KERNEL)
    a = np.random.default_rng(seed).integers(-FAN_IN, FAN_IN + 1, (2, 3, 1, 406), dtype=np.int32)
    conventions = Conventions()
    z = dithered_batch_norm(a, bn, KERNEL, conventions)
    y = batch_norm(a, bn, "real")
    cells = phase_thresholds(KERNEL, 406, conventions)
    for i, row, column, c in np.ndindex(a.shape):
        p = Fraction(float(bn.gamma[c])) * (
            Fraction(float(alpha_of(bn, c))) * int(a[i, row, column, c]) - Fraction(float(bn.mean[c]))
        )
        roots = square_root(Fraction(float(bn.variance[c])) + Fraction(bn.epsilon), 600)
        beta = Fraction(float(bn.beta[c]))
        quotients = [p / root for root in roots]
        assert y[i, row, column, c] == nearest_float32(quotients[0] + beta, quotients[1] + beta)
        offset = beta - Fraction(float(cells[row % 2, column, c]))
        assert z[i, row, column, c] == nearest_float32(quotients[0] + offset, quotients[1] + offset)
    decided = exact_sign(a, bn, KERNEL, conventions)
    assert np.all((sign(z, conventions) == decided) | (z == 0))


def alpha_of(bn: BatchNorm, channel: int) -> np.float32:
    return np.float32(1) if bn.alpha is None else bn.alpha[channel]
