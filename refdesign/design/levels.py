"""Threshold levels from a quantiser: Lloyd-Max on the half-wave Gaussian or on measured values.

A batch-normalised accumulator behind a ReLU is modelled as |N(0, 1)|; n thresholds are the boundaries between
the n + 1 cells of its best quantiser in the mean square.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refdesign.checks import is_whole, shown
from refdesign.errors import RefdesignError

__all__ = [
    "Quantiser",
    "empirical_levels",
    "half_wave_levels",
    "half_wave_quantiser",
    "lloyd_max",
    "rescaled",
]

LARGEST_LEVELS = 256
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Quantiser:
    """A Lloyd-Max quantiser at its fixed point.

    Attributes:
        boundaries: float64 (n,), ascending: the thresholds.
        centres: float64 (n + 1,): the conditional mean of each cell.
        distortion: the mean square error.
        residual: the largest distance of a boundary from the middle of its two centres; 0 at the fixed point.
        iterations: how many were made.
    """

    boundaries: Floats
    centres: Floats
    distortion: float
    residual: float
    iterations: int


def _check_count(n: int) -> int:
    if not is_whole(n, 1) or n > LARGEST_LEVELS:
        raise RefdesignError(f"levels: found {shown(n)}, expected a number of levels from 1 to {LARGEST_LEVELS}")
    return int(n)


def _half_wave_cells(boundaries: Floats) -> tuple[Floats, Floats, Floats]:
    """Mass, mean and density at both edges of the cells that these boundaries cut |N(0, 1)| into."""
    from scipy.special import erf, erfc  # here, so that not every command waits for SciPy to be imported

    edges = np.concatenate([[0.0], boundaries, [np.inf]])
    density = np.sqrt(2 / np.pi) * np.exp(-(edges**2) / 2)
    lower, upper = edges[:-1] / np.sqrt(2), edges[1:] / np.sqrt(2)
    # erfc keeps the tail's digits, erf those near 0.
    mass = np.where(lower > 0.5, erfc(lower) - erfc(upper), erf(upper) - erf(lower))
    return mass, (density[:-1] - density[1:]) / mass, density


def half_wave_quantiser(n: int) -> Quantiser:
    """The converged Lloyd-Max quantiser of |N(0, 1)| with n boundaries (n + 1 cells).

    Newton's method on "every boundary lies midway between the means of its cells"; the density is
    log-concave, so the fixed point is unique (Fleischer 1964).

    Raises:
        RefdesignError: n out of 1 to 256.

    Source: paper, re-scaling of the levels (half-wave Gaussian quantisation); Lloyd 1982, Max 1960.

    >>> half_wave_quantiser(6).residual < 1e-14
    True
    """
    from scipy.linalg import solve_banded
    from scipy.special import erfinv

    count = _check_count(n)
    # The quantile that the best quantiser's cell density (density**(1/3)) suggests: close, so Newton
    # converges.
    boundaries = np.sqrt(3) * np.sqrt(2) * erfinv(np.arange(1, count + 1) / (count + 1))
    for iteration in range(1, 101):  # noqa: B007 (reported below)
        mass, mean, density = _half_wave_cells(boundaries)
        residual = boundaries - (mean[:-1] + mean[1:]) / 2
        # d mean / d lower edge = density * (mean - edge) / mass, likewise for the upper edge.
        by_lower = density[1:-1] * (mean[1:] - boundaries) / mass[1:]
        by_upper = density[1:-1] * (boundaries - mean[:-1]) / mass[:-1]
        banded = np.zeros((3, count))
        banded[1] = 1 - (by_lower + by_upper) / 2
        banded[0, 1:] = -by_upper[1:] / 2
        banded[2, :-1] = -by_lower[:-1] / 2
        step = solve_banded((1, 1), banded, residual)
        moved = boundaries - step
        while moved[0] <= 0 or (np.diff(moved) <= 0).any():
            step = step / 2
            moved = boundaries - step
        boundaries = moved
        # Newton doubles the digits with each step: after one this small nothing but rounding is left.
        if np.abs(step).max() < 1e-12:
            break
    mass, mean, _ = _half_wave_cells(boundaries)
    residual = np.abs(boundaries - (mean[:-1] + mean[1:]) / 2).max()
    # The mean square is 1, and the error is what the centres do not carry of it.
    return Quantiser(boundaries, mean, float(1 - mass @ mean**2), float(residual), iteration)


def half_wave_levels(n: int) -> Floats:
    """n thresholds: the boundaries of the converged quantiser of |N(0, 1)|, float64 (n,).

    The released level sets differ from these: they are not converged (`refdesign.design.LEVEL_SETS`).

    Source: paper, re-scaling of the levels.

    >>> half_wave_levels(6).round(4)
    array([0.2935, 0.5959, 0.918 , 1.2766, 1.7031, 2.2818])
    """
    return half_wave_quantiser(n).boundaries


def lloyd_max(values: ArrayLike, n: int, *, weights: ArrayLike | None = None, iterations: int = 10_000) -> Quantiser:
    """Lloyd's iteration on measured values with n boundaries.

    Args:
        values: real numbers, any shape; for example the positive part of batch-normalised accumulators.
        n: the number of boundaries; there must be more distinct values than that.
        weights: how often each value occurs, of the same shape; None counts each once.
        iterations: at most so many.

    An empirical quantiser may have several fixed points; this is the one reached from equal masses.

    Raises:
        RefdesignError: non-finite values, negative weights, too few distinct values.

    Source: paper (k-means quantisation); Lloyd 1982.

    >>> lloyd_max([0, 0.2, 1, 1.2, 5, 5.2], 2).boundaries.round(6)
    array([0.6, 3.1])
    """
    count = _check_count(n)
    array = np.asarray(values, dtype=np.float64).ravel()
    mass: Floats = np.ones(array.size) if weights is None else np.asarray(weights, dtype=np.float64).ravel()
    if mass.shape != array.shape or not np.isfinite(array).all() or not np.isfinite(mass).all() or (mass < 0).any():
        raise RefdesignError("values: expected finite numbers with a weight of 0 or more each")
    if iterations < 1:
        raise RefdesignError(f"iterations: found {iterations}, expected 1 or more")
    points, where = np.unique(array[mass > 0], return_inverse=True)
    if points.size <= count:
        raise RefdesignError(
            f"values: found {points.size} distinct ones, expected more than {count} for {count} levels"
        )
    mass = np.asarray(np.bincount(where, weights=mass[mass > 0]), dtype=np.float64)
    cumulative: Floats = np.concatenate([[0.0], np.cumsum(mass)])
    moment: Floats = np.concatenate([[0.0], np.cumsum(mass * points)])
    square = np.concatenate([[0.0], np.cumsum(mass * points**2)])
    cuts: NDArray[Any] = np.searchsorted(cumulative, cumulative[-1] * np.arange(1, count + 1) / (count + 1))
    cuts = _without_empty_cells(cuts, points, cumulative, moment, square)
    for iteration in range(1, iterations + 1):  # noqa: B007 (reported below)
        edges = np.concatenate([[0], cuts, [points.size]])
        centres = np.diff(moment[edges]) / np.diff(cumulative[edges])
        boundaries = (centres[:-1] + centres[1:]) / 2
        moved = np.searchsorted(points, boundaries)
        if (moved == cuts).all():
            break
        cuts = _without_empty_cells(moved, points, cumulative, moment, square)
    edges = np.concatenate([[0], cuts, [points.size]])
    centres = np.diff(moment[edges]) / np.diff(cumulative[edges])
    residual = float(np.abs(boundaries - (centres[:-1] + centres[1:]) / 2).max())
    error = mass @ (points - np.repeat(centres, np.diff(edges))) ** 2 / cumulative[-1]
    return Quantiser(boundaries, centres, float(error), residual, iteration)


def _without_empty_cells(
    cuts: NDArray[Any], points: Floats, cumulative: Floats, moment: Floats, square: Floats
) -> NDArray[Any]:
    """Cuts with each empty cell given up for a split of the cell with the largest error.

    That lowers the error, as every step of Lloyd's does, so the iteration still ends.
    """
    edges = np.unique(np.concatenate([[0], cuts, [points.size]]))
    while edges.size < cuts.size + 2:
        weight = np.diff(cumulative[edges])
        centres = np.diff(moment[edges]) / weight
        error = np.where(np.diff(edges) > 1, np.diff(square[edges]) - weight * centres**2, -np.inf)
        worst = int(error.argmax())
        split = np.searchsorted(points, centres[worst]).clip(edges[worst] + 1, edges[worst + 1] - 1)
        edges = np.insert(edges, worst + 1, split)
    return np.asarray(edges[1:-1])


def empirical_levels(values: ArrayLike, n: int, *, weights: ArrayLike | None = None) -> Floats:
    """n thresholds from measured values: the boundaries of `lloyd_max`, float64 (n,).

    >>> empirical_levels([0, 0.2, 1, 1.2, 5, 5.2], 1)
    array([2.85])
    """
    return lloyd_max(values, n, weights=weights).boundaries


def rescaled(kernel_levels: ArrayLike, levels: ArrayLike, scaled: ArrayLike) -> Floats:
    """A kernel with each level replaced by the scaled one of the same rank, float64 of the kernel's shape.

    Raises:
        RefdesignError: level sets of different lengths, or a kernel value that is no level.

    Source: released code (`apply_halfwave`).

    >>> rescaled([[1, 3]], (0, 1, 3), (0.3, 0.6, 0.9))
    array([[0.6, 0.9]])
    """
    target = np.asarray(scaled, dtype=np.float64)
    indices = level_indices(kernel_levels, levels)
    if target.shape != np.shape(levels):
        raise RefdesignError(f"levels: found {target.size} scaled ones for {np.size(levels)}, expected as many")
    return np.asarray(target[indices])


def level_indices(kernel_levels: ArrayLike, levels: ArrayLike) -> NDArray[np.int64]:
    """The index of every kernel value in the level set, int64 of the kernel's shape.

    Raises:
        RefdesignError: a value that is no level.

    >>> level_indices([[1, 9]], (0, 1, 3, 5, 7, 9))
    array([[1, 5]])
    """
    level_set = np.asarray(levels, dtype=np.float64)
    kernel = np.asarray(kernel_levels, dtype=np.float64)
    indices = np.searchsorted(level_set, kernel).clip(max=level_set.size - 1)
    wrong = level_set[indices] != kernel
    if wrong.any():
        raise RefdesignError(
            f"kernel: found the value {kernel[wrong][0]}, expected one of the levels {level_set.tolist()}"
        )
    return indices.astype(np.int64)
