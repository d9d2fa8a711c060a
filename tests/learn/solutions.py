"""Right and wrong solutions of the exercises, as students write them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def dot(x: Array, w: Array, length: int) -> int:
    return length - 2 * int(np.bitwise_count(x ^ w).sum())


def dot_without_tails(x: Array, w: Array, length: int) -> int:
    return 2 * int(np.bitwise_count(~(x ^ w)).sum()) - length


def dot_of_the_first_word(x: Array, w: Array, length: int) -> int:
    return length - 2 * int(np.bitwise_count(x[0] ^ w[0]))


def at_least_zero(p: Fraction, q: Fraction, square: Fraction) -> bool:
    """Whether p/sqrt(square) + q >= 0."""
    if p >= 0 and q >= 0:
        return True
    if p <= 0 and q <= 0:
        return p == 0 and q == 0
    return p * p >= q * q * square if p > 0 else q * q * square >= p * p


def scanned(bits: list[bool], domain: list[int]) -> tuple[int, int, int]:
    if all(bits) or not any(bits):
        return 0, 0, 1 if bits[0] else -1
    fires = [a for a, bit in zip(domain, bits, strict=True) if bit]
    return (fires[0], 1, 0) if bits[-1] else (fires[-1], -1, 0)


def fold(*arguments: Any) -> tuple[int, int, int]:
    gamma, beta, mean, variance, threshold = (Fraction(value) for value in arguments[:5])
    low, high, step = arguments[5:]
    domain = list(range(low, high + 1, step))
    return scanned([at_least_zero(gamma * (a - mean), beta - threshold, variance) for a in domain], domain)


def fold_in_floats(*arguments: Any) -> tuple[int, int, int]:
    gamma, beta, mean, variance, threshold, low, high, step = arguments
    domain = list(range(low, high + 1, step))
    return scanned([gamma * (a - mean) / variance**0.5 + beta - threshold >= 0 for a in domain], domain)


def fold_by_division(*arguments: Any) -> tuple[int, int, int]:
    """As many programs do: no thought of the sign of gamma."""
    gamma, beta, mean, variance, threshold, low, _, step = arguments
    boundary = mean + (threshold - beta) * variance**0.5 / gamma
    t = low
    while t < boundary:
        t += step
    return t, 1, 0


def fold_strictly(*arguments: Any) -> tuple[int, int, int]:
    """sign(0) = -1."""
    gamma, beta, mean, variance, threshold, low, high, step = arguments
    domain = list(range(low, high + 1, step))
    return scanned([gamma * (a - mean) / variance**0.5 + beta - threshold > 0 for a in domain], domain)


def threshold_map(kernel: Array, height: int, width: int, channels: int) -> Array:
    i, j, c = np.indices((height, width, channels))
    m, n, g = kernel.shape
    found: Array = kernel[i % m, j % n, c % g]
    return found


def threshold_map_running(kernel: Array, height: int, width: int, channels: int) -> Array:
    """A counter that is not reset at the row's end."""
    i, _, c = np.indices((height, width, channels))
    m, n, g = kernel.shape
    running = np.arange(height * width).reshape(height, width, 1)
    found: Array = kernel[i % m, running % n, c % g]
    return found


def threshold_map_swapped(kernel: Array, height: int, width: int, channels: int) -> Array:
    m, n, g = kernel.shape
    i, j, c = np.indices((height, width, channels))
    found: Array = kernel[i % n % m, j % m % n, c % g]
    return found


def threshold_map_repeated(kernel: Array, height: int, width: int, channels: int) -> Array:
    i, j, c = np.indices((height, width, channels))
    m, n, g = kernel.shape
    found: Array = kernel[i % m, j % n, c // (channels // g)]
    return found


def pool_bits(bits: Array, direction: Array) -> Array:
    height, width, channels = bits.shape
    windows = bits.reshape(height // 2, 2, width // 2, 2, channels)
    found: Array = np.where(direction > 0, windows.max(axis=(1, 3)), windows.min(axis=(1, 3)))
    return found


def pool_bits_with_or(bits: Array, direction: Array) -> Array:
    return pool_bits(bits, np.ones_like(direction))


def layer(x: Array, w: Array, norm: Any, kernel: Array | None, pool: int, *, dither_first: bool = False) -> Array:
    height, width, _ = x.shape
    sums = np.zeros((height - 2, width - 2, len(w)))
    for i, j in np.ndindex(3, 3):
        sums += x[i : height - 2 + i, j : width - 2 + j].astype(float) @ w[:, i, j].T.astype(float)

    def thresholds(rows: int, columns: int) -> Array:
        a, b = np.indices((rows, columns))
        found: Array = kernel[a % kernel.shape[0], b % kernel.shape[1], :] if kernel is not None else np.zeros(1)
        return found

    shown = thresholds(*sums.shape[:2])
    if pool > 1:
        rows, columns = sums.shape[0] // pool, sums.shape[1] // pool
        cut = sums[: rows * pool, : columns * pool].reshape(rows, pool, columns, pool, -1)
        sums = cut.max(axis=(1, 3))
        shown = thresholds(rows, columns)
        if dither_first and kernel is not None:
            shown = thresholds(rows * pool, columns * pool)[::pool, ::pool]
    y = norm.gamma * (sums - norm.mean) / np.sqrt(norm.variance + norm.epsilon) + norm.beta
    return np.where(y - shown >= 0, 1, -1).astype(np.int8)


def layer_with_unpooled_phase(*arguments: Any) -> Array:
    return layer(*arguments, dither_first=True)
