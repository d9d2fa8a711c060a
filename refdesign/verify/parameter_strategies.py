"""Hypothesis strategies for bits, pixels, conventions, threshold kernels and batch norms."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import PackedBits, pack_bool
from refdesign.conventions import ARITHMETICS, Conventions
from refdesign.errors import missing_extra
from refdesign.parameters import BatchNorm, ThresholdKernel

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise missing_extra("verify", "hypothesis") from error

__all__ = [
    "batch_norms",
    "bits",
    "conventions",
    "images",
    "packed",
    "real_arrays",
    "threshold_kernels",
]

LEVELS = (0.0, 0.31178308, 0.6310056, 0.96713847, 1.3351898, 1.7655588, 2.3419342)
"""Dither levels: none, and those of the released kernels (level set A)."""

LARGEST_PERIOD = 4
SHRINKABLE_BYTES = 64
"""Up to here bits and pixels are drawn one by one, so that they shrink; larger arrays come from a drawn seed."""

DIFFERENT_CHANNELS = 6
"""So many channels of a batch norm are drawn on their own; further ones repeat them."""


@st.composite
def conventions(draw: st.DrawFn, *, arithmetics: tuple[str, ...] = ARITHMETICS) -> Conventions:
    """Any `Conventions`; shrinks towards `PAPER`.

    Args:
        arithmetics: those to draw from.

    >>> from hypothesis import find
    >>> find(conventions(), lambda c: c.sign_rule == "keras_round").sign_at_zero
    -1
    """
    rule = draw(st.sampled_from(("compare", "keras_round")))
    return Conventions(
        sign_at_zero=-1 if rule == "keras_round" else draw(st.sampled_from((1, -1, 0))),
        sign_rule=rule,
        arithmetic=draw(st.sampled_from(arithmetics)),
        threshold_scale=draw(st.sampled_from(("unit", "gamma"))),
        kernel_origin=draw(st.sampled_from(("top_left", "center_crop"))),
        channel_map=draw(st.sampled_from(("tile", "repeat"))),
        bit_one=draw(st.sampled_from((1, -1))),
        bit_order=draw(st.sampled_from(("little", "big"))),
        word_order=draw(st.sampled_from(("little", "big"))),
    )


@st.composite
def _octets(draw: st.DrawFn, count: int) -> NDArray[np.uint8]:
    """`count` bytes: drawn themselves where they are few, otherwise from a drawn seed."""
    if count <= SHRINKABLE_BYTES:
        return np.frombuffer(draw(st.binary(min_size=count, max_size=count)), dtype=np.uint8)
    seed = draw(st.integers(0, 2**32 - 1))
    return np.random.default_rng(seed).integers(0, 256, count, dtype=np.uint8)


def _booleans(shape: tuple[int, ...]) -> st.SearchStrategy[NDArray[np.bool_]]:
    count = prod(shape)

    def spread(octets: NDArray[np.uint8]) -> NDArray[np.bool_]:
        return np.unpackbits(octets, count=count, bitorder="little").astype(np.bool_).reshape(shape)

    return _octets(-(-count // 8)).map(spread)


@st.composite
def bits(draw: st.DrawFn, shape: tuple[int, ...], *, ternary: bool = False) -> NDArray[np.int8]:
    """Arrays of +1 and -1, int8; with `ternary` also of 0. Shrinks towards -1.

    >>> from hypothesis import find
    >>> find(bits((3,)), lambda x: x[1] > 0)
    array([-1,  1, -1], dtype=int8)
    """
    signs = np.where(draw(_booleans(shape)), np.int8(1), np.int8(-1))
    return np.where(draw(_booleans(shape)), np.int8(0), signs) if ternary else signs


@st.composite
def packed(draw: st.DrawFn, shape: tuple[int, ...], *, ternary: bool = False) -> PackedBits:
    """`PackedBits` of this shape (unpacked; the last axis is packed), with a plane of zeros if `ternary`.

    >>> from hypothesis import find
    >>> find(packed((2, 3)), lambda x: x.words[1] > 1).words
    array([[0],
           [2]], dtype=uint64)
    """
    elements = draw(bits(shape, ternary=ternary))
    positive = pack_bool(elements > 0)
    return PackedBits(positive.words, positive.length, pack_bool(elements != 0).words if ternary else None)


def images(shape: tuple[int, ...]) -> st.SearchStrategy[NDArray[np.uint8]]:
    """uint8 arrays of this shape, (N, H, W, C) for images. Shrinks towards black.

    >>> from hypothesis import find
    >>> find(images((1, 2, 1, 1)), lambda x: x.sum() > 6).ravel()
    array([0, 7], dtype=uint8)
    """
    return _octets(prod(shape)).map(lambda octets: octets.reshape(shape))


@st.composite
def real_arrays(draw: st.DrawFn, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """float32 arrays: multiples of 1/8 (whose sums are exact in any order), or of ordinary rounding kind.

    >>> from hypothesis import find
    >>> find(real_arrays((2, 3)), lambda x: True).dtype
    dtype('float32')
    """
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if draw(st.booleans()):
        return generator.normal(size=shape).astype(np.float32)
    return (generator.integers(-8, 9, shape) / 8).astype(np.float32)


def _float32s(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(float(np.float32(low)), float(np.float32(high)), width=32)


@st.composite
def threshold_kernels(
    draw: st.DrawFn, channels: int = 1, height: int | None = None, width: int | None = None
) -> ThresholdKernel:
    """Threshold kernels up to 4x4, whose slices divide the channels and whose period divides no extent.

    Args:
        channels: C of the map, a multiple of the kernel's g.
        height, width: extents of the map that are to be no multiple of the period; None allows all periods.
            A period of 1 is always allowed.

    >>> from hypothesis import find
    >>> find(threshold_kernels(6, 4, 5), lambda kernel: kernel.shape > (1, 1, 1)).shape
    (1, 1, 2)
    """

    def period(extent: int | None) -> int:
        fits = [p for p in range(1, LARGEST_PERIOD + 1) if p == 1 or extent is None or extent % p]
        return draw(st.sampled_from(fits))

    m, n = period(height), period(width)
    g = draw(st.sampled_from([slices for slices in range(1, 9) if channels % slices == 0]))
    value = st.sampled_from(LEVELS) | _float32s(-3, 3)
    values = draw(st.lists(value, min_size=m * n * g, max_size=m * n * g))
    return ThresholdKernel(np.array(values, dtype=np.float32).reshape(m, n, g))


GAMMAS = (1.0, -1.0, 0.0, 0.5, -2.0, -0.0, 1e-30, -1e-30, 2.0**-149, -3 * 2.0**-149, 1e-40, 1.1, -0.7)
"""Ordinary, negative, zero, tiny and subnormal."""

VARIANCES = (1.0, 4.0, 0.25, 2.0, 30.0, 1e-12, 1e-37, 0.0)
"""Perfect squares (so that the exact y is rational), others, tiny ones and none."""

ALPHAS = (1.0, -1.0, 0.5, -0.25, 0.1, -0.037)

EPSILONS = (0.0, 1e-5, 1e-4, 1e-3, 0.75)


@st.composite
def batch_norms(
    draw: st.DrawFn,
    channels: int,
    fan_in: int,
    *,
    ties: bool = True,
    kernel: ThresholdKernel | None = None,
    conventions: Conventions | None = None,
) -> BatchNorm:
    """Batch norms for accumulators in [-fan_in, fan_in].

    Args:
        channels: the number of channels.
        fan_in: bounds the accumulators.
        ties: plant the boundary exactly on (or one last place beside) an attainable integer in some channels.
        kernel: the dither, whose thresholds the planted boundaries meet; None is plain Sign.
        conventions: under `"keras"` arithmetic k is always given, under `"torch"` and `"onnxruntime"` at times
            (within a last place of what they compute); s of planted boundaries follows `threshold_scale`.

    >>> from hypothesis import find
    >>> find(batch_norms(3, 9), lambda bn: (bn.gamma < 0).any()).gamma.min()
    np.float32(-1.0)
    """
    choices = conventions or Conventions()
    epsilon = draw(st.sampled_from(EPSILONS))
    with_alpha = draw(st.booleans())
    thresholds = [0.0] if kernel is None else sorted({float(value) for value in kernel.values.ravel()})
    rows = [
        _draw_channel(draw, fan_in, ties, epsilon, with_alpha, thresholds, choices)
        for _ in range(min(channels, DIFFERENT_CHANNELS))
    ]
    columns = np.array([rows[c % len(rows)] for c in range(channels)], dtype=np.float32)
    gamma, beta, mean, variance, alpha = columns.T
    k = c = None
    if choices.arithmetic == "keras" or (choices.arithmetic in ("torch", "onnxruntime") and draw(st.booleans())):
        k = (gamma / np.sqrt(variance.astype(np.float64) + np.float32(epsilon))).astype(np.float32)
        k = _nudged(draw, k)
        if draw(st.booleans()):
            c = _nudged(draw, (beta - mean.astype(np.float64) * k).astype(np.float32))
    return BatchNorm(gamma, beta, mean, variance, epsilon, alpha=alpha if with_alpha else None, k=k, c=c)


def _draw_channel(
    draw: st.DrawFn,
    fan_in: int,
    ties: bool,
    epsilon: float,
    with_alpha: bool,
    thresholds: list[float],
    choices: Conventions,
) -> tuple[float, ...]:
    """One channel's gamma, beta, mean, variance and alpha."""
    gamma = draw(st.sampled_from(GAMMAS) | _float32s(-3, 3))
    fits = [value for value in VARIANCES if value > 0 or epsilon > 0]
    variance = draw(st.sampled_from(fits) | _float32s(0.5, max(1.0, 2 * fan_in)))
    alpha = draw(st.sampled_from(ALPHAS)) if with_alpha else 1.0
    if not (ties and draw(st.booleans())):
        spread = max(1.0, 2 * fan_in**0.5)
        return gamma, draw(_float32s(-2, 2)), draw(_float32s(-spread, spread)), variance, alpha
    # z = 0 exactly at the accumulator `meets`, in the phases whose threshold is `meets_threshold`; or all but.
    meets = draw(st.integers(-fan_in, fan_in))
    meets_threshold = draw(st.sampled_from(thresholds))
    mean = np.float32(np.float32(alpha) * np.float32(meets))
    scale = gamma if choices.threshold_scale == "gamma" else 1.0
    beta = np.float32(np.float32(scale) * np.float32(meets_threshold))
    moved = draw(st.sampled_from(("nothing", "mean", "beta")))
    direction = np.float32(draw(st.sampled_from((np.inf, -np.inf)))) if moved != "nothing" else np.float32(0)
    if moved == "mean":
        mean = np.nextafter(mean, direction)
    elif moved == "beta":
        beta = np.nextafter(beta, direction)
    return gamma, float(beta), float(mean), variance, alpha


def _nudged(draw: st.DrawFn, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The values, or each one last place up or down: what another implementation computes."""
    direction: Any = draw(st.sampled_from((0.0, np.inf, -np.inf)))
    return values if direction == 0 else np.nextafter(values, np.float32(direction))
