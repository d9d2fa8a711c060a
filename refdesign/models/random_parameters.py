"""Random weights and batch norms that keep every layer's bits alive.

For tests, benchmarks and first looks, not for accuracy. With independent inputs of ±1 and random weights an
accumulator has mean 0 and standard deviation sqrt(fan_in); batch norms are drawn around that, and their shifts around
the mean threshold of the dither, so that about half of all bits are +1.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import PackedBits, pack_bool
from refdesign.conventions import Conventions
from refdesign.parameters import BatchNorm, ThresholdKernel

GRID = 127
"""Random first-layer weights are integers from -GRID to GRID, times `GRID_STEP`."""

GRID_STEP = 2.0**-7
"""A power of two, so that scaling an accumulator by it is exact."""

# The largest of four independent standard normals, as in a 2x2 max pool: its mean and variance.
_POOL_MEAN, _POOL_VARIANCE = 1.0294, 0.4917


def random_bits(rng: np.random.Generator, shape: tuple[int, ...]) -> PackedBits:
    """Weights of +1 and -1, packed along the last axis.

    >>> random_bits(np.random.default_rng(0), (3, 2, 2, 70)).words.shape
    (3, 2, 2, 2)
    """
    return pack_bool(rng.integers(0, 2, size=shape, dtype=np.uint8).astype(np.bool_))


def random_grid(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.int32]:
    """Weights on the fixed-point grid, int32.

    >>> random_grid(np.random.default_rng(0), (2, 3, 3, 1)).dtype
    dtype('int32')
    """
    return rng.integers(-GRID, GRID + 1, size=shape, dtype=np.int32)


def random_batch_norm(
    rng: np.random.Generator,
    channels: int,
    deviation: float,
    *,
    epsilon: float,
    conventions: Conventions,
    kernel: ThresholdKernel | None = None,
    alpha: NDArray[np.float32] | None = None,
    pooled: bool = False,
) -> BatchNorm:
    """A batch norm for accumulators of this spread; a tenth of the channels has a negative gamma.

    Args:
        rng: where the numbers come from.
        channels: their number C.
        deviation: the standard deviation of the accumulator.
        epsilon: the batch norm's.
        conventions: their `threshold_scale` says what the dither subtracts; under `"keras"` arithmetic k and c are
            given, as that arithmetic needs them.
        kernel: the dither, if any.
        alpha: the scale of the accumulator, float32 (C,), if any.
        pooled: whether a 2x2 max pool stands before.

    >>> from refdesign.conventions import PAPER
    >>> random_batch_norm(np.random.default_rng(0), 3, 10.0, epsilon=1e-5, conventions=PAPER).channels
    3
    """
    spread = np.full(channels, deviation) if alpha is None else np.abs(alpha.astype(np.float64)) * deviation
    centre = _POOL_MEAN * spread if pooled else np.zeros(channels)
    if pooled:
        spread = spread * math.sqrt(_POOL_VARIANCE)
    gamma = rng.uniform(0.5, 1.5, channels) * np.where(rng.random(channels) < 0.1, -1, 1)
    mean = centre + 0.2 * spread * rng.standard_normal(channels)
    variance = spread**2 * rng.uniform(0.5, 1.5, channels)
    beta = 0.2 * rng.standard_normal(channels)
    if kernel is not None:
        scale = gamma if conventions.threshold_scale == "gamma" else np.ones(channels)
        beta += scale * float(kernel.values.mean(dtype=np.float64))
    values = [array.astype(np.float32) for array in (gamma, beta, mean, variance)]
    batch_norm = BatchNorm(values[0], values[1], values[2], values[3], epsilon, alpha)
    return with_keras_constants(batch_norm) if conventions.arithmetic == "keras" else batch_norm


def with_keras_constants(batch_norm: BatchNorm) -> BatchNorm:
    """The batch norm with k and c: k is rounded from float64, c = fl(beta - fl(mean*k)).

    These are one legitimate choice of the two constants, not TensorFlow's, which must be read out of TensorFlow.

    >>> bn = with_keras_constants(BatchNorm([2.0], [1.0], [0.5], [4.0], 0.0))
    >>> bn.k, bn.c
    (array([1.], dtype=float32), array([0.5], dtype=float32))
    """
    root = np.sqrt(batch_norm.variance.astype(np.float64) + batch_norm.epsilon)
    k = (batch_norm.gamma / root).astype(np.float32)
    c = batch_norm.beta - batch_norm.mean * k
    return replace(batch_norm, k=k, c=c)
