"""Ten thousand channels at once: every kind of batch norm that a fold can stumble over, as arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refdesign.parameters import BatchNorm, Float32Array, ThresholdKernel

EPSILON = 2.0**-10
"""Exact in float32, so that variance + epsilon can be planted exactly."""

UNIT = 2.0**-22
"""One unit in the last place of a float32 between 2 and 4."""

KERNEL = ThresholdKernel(
    np.array(
        [
            [[0.0, 0.3117831], [3 + UNIT, 3.0], [3 + 2 * UNIT, 0.25]],
            [[3 + 4 * UNIT, -1.5], [0.5, 1.0], [3.0, 3 + 5 * UNIT]],
        ],
        dtype=np.float32,
    )
)
"""A 2x3x2 kernel. Its values at 3 are the float32 neighbours between which the `halfway` channels fall."""


def random_channels(
    seed: int,
    count: int,
    fan_in: int,
    *,
    gamma_scaled: bool = False,
    with_alpha: bool = True,
    kernel: ThresholdKernel = KERNEL,
) -> BatchNorm:
    """`count` channels for accumulators in [-fan_in, fan_in] and the thresholds of `kernel`, in eight kinds.

    Ordinary; gamma zero, tiny or subnormal; tiny or no variance; the boundary exactly on an attainable integer, or
    a last place beside it, with a rational and with an irrational standard deviation; and `halfway`: 3*k stands
    exactly between two float32 and a tiny c decides, which two roundings get wrong.
    """
    generator = np.random.default_rng(seed)
    kind = np.arange(count) % 8
    gamma = generator.normal(size=count).astype(np.float32)
    beta = generator.normal(size=count).astype(np.float32)
    mean = (generator.normal(size=count) * np.sqrt(fan_in)).astype(np.float32)
    variance = (generator.uniform(0.1, 2, count) * fan_in).astype(np.float32)
    alpha = _alphas(generator, count) if with_alpha else np.ones(count, np.float32)

    gamma[kind == 1] = generator.choice(
        _float32s([0, -0.0, 1e-30, -1e-30, 1e-38, 1e-40, -1e-40, 2.0**-149, -(2.0**-149)]), (kind == 1).sum()
    )
    beta[kind == 1] *= generator.choice(_float32s([0, 1e-30, 1e-38, 1]), (kind == 1).sum())
    variance[kind == 2] = generator.choice(_float32s([0, 1e-12, 1e-30, 1e-42]), (kind == 2).sum())

    # The boundary at the attainable integer `meets` under one of the kernel's thresholds, or a last place beside.
    planted = (kind >= 3) & (kind <= 6)
    meets = generator.integers(-fan_in, fan_in + 1, count).astype(np.float32)
    cell = generator.choice(kernel.values.ravel(), count)
    shift = np.where(kind == 6, generator.integers(-3, 4, count).astype(np.float32), np.float32(0))
    mean = np.where(planted, alpha * meets + shift, mean)
    scale = gamma if gamma_scaled else np.float32(1)
    root = np.float32(2) ** generator.integers(-2, 3, count).astype(np.float32)
    beta = np.where(planted, scale * cell + gamma * shift / root, beta)
    variance = np.where(planted & (kind != 3), np.float32(root * root - np.float32(EPSILON)), variance)
    beside = kind == 5
    mean = np.where(beside, _beside(generator, mean), mean)
    beta = np.where(kind == 4, generator.choice(np.stack([beta, _beside(generator, beta)]), axis=0), beta)

    halfway = kind == 7
    odd = generator.choice(_float32s([1, 3]), count)
    gamma = np.where(halfway, np.float32(1) + odd * np.float32(2.0**-23), gamma)
    beta = np.where(halfway, generator.choice(_float32s([2.0**-80, -(2.0**-80)]), count), beta)
    mean = np.where(halfway, np.float32(0), mean)
    variance = np.where(halfway, np.float32(1 - EPSILON), variance)
    if with_alpha:
        alpha = np.where(halfway, generator.choice(_float32s([1, -1, 0.5]), count), alpha)
    gamma, beta, mean, variance = (array.astype(np.float32) for array in (gamma, beta, mean, variance))
    return BatchNorm(gamma, beta, mean, variance, EPSILON, alpha=alpha.astype(np.float32) if with_alpha else None)


def every_accumulator(fan_in: int, height: int, width: int, channels: int) -> NDArray[np.int32]:
    """Image i of (2*fan_in + 1, height, width, channels) holds the accumulator i - fan_in everywhere."""
    values = np.arange(-fan_in, fan_in + 1, dtype=np.int32)
    return np.ascontiguousarray(np.broadcast_to(values[:, None, None, None], (values.size, height, width, channels)))


def _float32s(values: list[float]) -> Float32Array:
    return np.array(values, dtype=np.float32)


def _alphas(generator: np.random.Generator, count: int) -> Float32Array:
    tidy = generator.choice(_float32s([1, -1, 0.5, -0.25, 3, -1.5]), count)
    real = (generator.uniform(0.01, 0.3, count) * generator.choice([-1, 1], count)).astype(np.float32)
    return np.where(generator.random(count) < 0.5, tidy, real)


def _beside(generator: np.random.Generator, values: Float32Array) -> Float32Array:
    direction = generator.choice(_float32s([np.inf, -np.inf]), values.size)
    return np.asarray(np.nextafter(values.astype(np.float32), direction))
