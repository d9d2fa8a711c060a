"""The slow truth of the design step: plain loops that share no code with `refdesign.design`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from refdesign.design import JointDistribution


def pixel_variation(own: float, right: float, lower: float, norm: str) -> float:
    dx, dy = right - own, lower - own
    return math.sqrt(dx * dx + dy * dy) if norm == "isotropic" else abs(dx) + abs(dy)


def output(accumulator: float, level: float, largest: float, weight: str) -> float:
    bit = max(accumulator, 0) >= level
    return (level / largest if weight == "threshold" else 1.0) if bit else 0.0


def map_score(maps: np.ndarray, kernel: np.ndarray, largest: float, weight: str, norm: str) -> float:
    """Measured on maps: the mean over pixels with both neighbours, and over all shifts of the kernel."""
    m, n = kernel.shape
    total, pixels = 0.0, 0
    for down, across in itertools.product(range(m), range(n)):
        for a in maps:
            for i, j in itertools.product(range(a.shape[0] - 1), range(a.shape[1] - 1)):
                own, right, lower = (
                    output(a[y, x], kernel[(y + down) % m, (x + across) % n], largest, weight)
                    for y, x in ((i, j), (i, j + 1), (i + 1, j))
                )
                total += pixel_variation(own, right, lower, norm)
                pixels += 1
    return total / pixels


def joint_score(joint: JointDistribution, kernel: np.ndarray, largest: float, weight: str, norm: str) -> float:
    """From the joint distribution, term by term."""
    m, n = kernel.shape
    terms = []
    for i, j in itertools.product(range(m), range(n)):
        levels = (kernel[i, j], kernel[i, (j + 1) % n], kernel[(i + 1) % m, j])
        for index in np.argwhere(joint.probability > 0):
            own, right, lower = (
                output(joint.values[v], t, largest, weight) for v, t in zip(index, levels, strict=True)
            )
            terms.append(float(joint.probability[tuple(index)]) * pixel_variation(own, right, lower, norm))
    return float(math.fsum(terms) / (m * n))


def conditional_entropy(joint: JointDistribution, levels: Sequence[float]) -> float:
    """H(bit | right bit, lower bit) in bits, from the definition."""
    patterns: dict[tuple[bool, ...], float] = {}
    for index in np.argwhere(joint.probability > 0):
        key = tuple(bool(max(joint.values[v], 0) >= t) for v, t in zip(index, levels, strict=True))
        patterns[key] = patterns.get(key, 0.0) + float(joint.probability[tuple(index)])
    entropy = 0.0
    for (own, *neighbours), probability in patterns.items():
        given = sum(patterns.get((bit, *neighbours), 0.0) for bit in (False, True))
        assert (own, *neighbours) in patterns
        entropy -= probability * math.log2(probability / given)
    return entropy


def integer_total(table: np.ndarray, kernel: Sequence[Sequence[int]]) -> int:
    """The sum of a kernel's look-ups in a fixed-point table, in Python's integers."""
    m, n = len(kernel), len(kernel[0])
    return sum(
        int(table[kernel[i][j], kernel[i][(j + 1) % n], kernel[(i + 1) % m][j]])
        for i, j in itertools.product(range(m), range(n))
    )
