"""Means and shares with intervals, where observations come in clusters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student


@dataclass(frozen=True)
class Estimate:
    """A mean and its interval.

    Attributes:
        mean, low, high: the estimate; low and high are NaN where there is no way to tell: from one cluster, or from
            values that are all the same.
        clusters: the number of independent draws behind it (the smaller of networks and faults where both vary).
    """

    mean: float
    low: float
    high: float
    clusters: int


def clustered(values: Sequence[float], clusters: Sequence[Iterable[object]], confidence: float = 0.95) -> Estimate:
    """A mean with an interval that knows that observations come in clusters, in one or two ways at once.

    The variance is that of Cameron, Gelbach and Miller (2011): by each way of clustering, less that of both together;
    the interval is Student's, with one degree of freedom less than the fewest clusters.

    Args:
        values: one for each trial.
        clusters: one or two labellings of the trials (the fault, the network); a labelling with one label is left out.
        confidence: of the interval.

    >>> estimate = clustered([0.0, 0.0, 1.0, 1.0], [["a", "a", "b", "b"]])
    >>> estimate.mean, round(estimate.low, 2), estimate.clusters
    (0.5, -5.85, 2)
    """
    observed = np.asarray(values, dtype=np.float64)
    mean = float(observed.mean())
    ways = [way for way in (list(labels) for labels in clusters) if len(set(way)) > 1]
    if not ways:
        return Estimate(mean, math.nan, math.nan, 1)
    residuals = observed - mean
    variances = [_cluster_variance(residuals, way) for way in ways]
    variance = sum(variances)
    if len(ways) == 2:
        together = variance - _cluster_variance(residuals, list(zip(*ways, strict=True)))
        variance = together if together > 0 else max(variances)
    fewest = min(len(set(way)) for way in ways)
    if not variance or np.ptp(observed) == 0:
        return Estimate(mean, math.nan, math.nan, fewest)
    reach = float(student.ppf((1 + confidence) / 2, fewest - 1)) * math.sqrt(variance)
    return Estimate(mean, mean - reach, mean + reach, fewest)


def _cluster_variance(residuals: NDArray[np.float64], labels: Sequence[object]) -> float:
    sums: dict[object, float] = {}
    for label, residual in zip(labels, residuals.tolist(), strict=True):
        sums[label] = sums.get(label, 0.0) + residual
    count = len(sums)
    correction = count / (count - 1) if count > 1 else 1.0
    return correction * sum(value * value for value in sums.values()) / len(residuals) ** 2


def wilson(successes: float, trials: int, confidence: float = 0.95) -> Estimate:
    """A share and its Wilson interval, which is sound for shares near 0 and 1 too.

    >>> estimate = wilson(0, 100)
    >>> estimate.low, round(estimate.high, 3)
    (0.0, 0.037)
    """
    z = float(norm.ppf((1 + confidence) / 2))
    share = successes / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    reach = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    low = middle - reach if successes else 0.0
    high = middle + reach if successes < trials else 1.0
    return Estimate(share, low, high, trials)
