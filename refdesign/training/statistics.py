"""Paired comparison of two arms over the same seeds: mean, interval, exact test, and Holm's correction."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import t as student

from refdesign.errors import RefdesignError


@dataclass(frozen=True)
class Paired:
    """A paired comparison, in the unit of the scores.

    Attributes:
        pairs: how many.
        mean: of the differences, variant less baseline.
        deviation: their sample standard deviation; 0 for one pair.
        low, high: the 95 % interval of the mean by Student's t; infinite for one pair.
        p: of the exact two-sided sign-flip test; `least` is the smallest that so many pairs can give.
        least: 2 / 2**pairs.
    """

    pairs: int
    mean: float
    deviation: float
    low: float
    high: float
    p: float
    least: float


def paired(differences: Sequence[int], unit: float = 1.0) -> Paired:
    """Compare by the differences of the pairs, which are whole numbers (such as images), so that ties are exact.

    Args:
        differences: variant less baseline, one for each seed.
        unit: what a difference of 1 is worth in the scores reported (0.01 for 10,000 images in points of per cent).

    Raises:
        RefdesignError: no pair.

    >>> result = paired([3, 5, 4, 6, 2])
    >>> result.mean, result.p, round(result.low, 3), round(result.high, 3)
    (4.0, 0.0625, 2.037, 5.963)
    """
    count = len(differences)
    if count == 0:
        raise RefdesignError("paired comparison: found no pair, expected at least one")
    scaled = [difference * unit for difference in differences]
    mean = statistics.fmean(scaled)
    deviation = statistics.stdev(scaled) if count > 1 else 0.0
    half = float(student.ppf(0.975, count - 1)) * deviation / math.sqrt(count) if count > 1 else math.inf
    return Paired(count, mean, deviation, mean - half, mean + half, sign_flip(differences), 2 / 2**count)


def sign_flip(differences: Sequence[int]) -> float:
    """The exact two-sided sign-flip test: how often a sum is as far from 0 when every sign is tossed anew.

    All 2**n assignments are counted, by the distribution of their sums, so n may be large.

    Args:
        differences: whole numbers, at least one.

    >>> sign_flip([1, 1, 1, 1, 1, 1, 1, 1, 1, 1]) == 2 / 2**10
    True
    >>> sign_flip([4, -4]), sign_flip([0, 0, 0])
    (1.0, 1.0)
    """
    sums = Counter({0: 1})
    for difference in differences:
        tossed: Counter[int] = Counter()
        for total, ways in sums.items():
            tossed[total + difference] += ways
            tossed[total - difference] += ways
        sums = tossed
    found = abs(sum(differences))
    extreme = sum(ways for total, ways in sums.items() if abs(total) >= found)
    return float(extreme / 2 ** len(differences))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given (Holm 1979).

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted
