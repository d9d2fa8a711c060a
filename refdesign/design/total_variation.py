"""Scores of threshold kernels: a table of L x L x L expectations, and every kernel a sum of look-ups in it.

With L levels, the expected objective at a pixel is a function of three level indices: the pixel's own, its right
and its lower neighbour's. `objective_table` computes that function once from a joint distribution; the score of
an m x n kernel is then the mean of m*n entries. Look-ups are added in fixed point (`fixed_point`), so that
scores do not depend on the order of a sum: shifts of a kernel tie exactly.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refdesign.checks import as_array, is_whole, shown
from refdesign.design.joint import JointDistribution
from refdesign.errors import RefdesignError

__all__ = [
    "FRACTION_BITS",
    "NORMS",
    "OBJECTIVES",
    "WEIGHTS",
    "all_scores",
    "check_levels",
    "check_shape",
    "expected_information",
    "expected_total_variation",
    "fixed_point",
    "information_table",
    "objective_table",
    "pattern_probabilities",
    "row_digits",
    "total_variation_table",
]

WEIGHTS = ("threshold", "binary")
NORMS = ("isotropic", "anisotropic")
OBJECTIVES = ("total_variation", "information")

FRACTION_BITS = 38
"""Table entries are rounded to multiples of 2**-38, so a mean score is off by at most 2**-39 (1.8e-12).

Entries are below 2 and sums of up to 2**14 of them stay below 2**53: integers that float64 holds exactly.
"""
LARGEST_PERIOD = 1 << (53 - FRACTION_BITS - 1)
LARGEST_ENUMERATION = 50_000_000

Table = NDArray[np.float64]


def check_levels(levels: ArrayLike | None, joint: JointDistribution | None = None) -> NDArray[np.float64]:
    """Threshold levels as float64 (L,): ascending, distinct, not negative, the largest above 0.

    None stands for the joint distribution's own, the range of a ReLU.

    Raises:
        RefdesignError: no, unsorted, repeated, negative or non-finite levels; a joint that is none.

    >>> check_levels([0, 3, 1])
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: levels: found 3.0 before 1.0, expected ascending levels
    """
    if joint is not None and not isinstance(joint, JointDistribution):
        raise RefdesignError(f"joint: found {shown(joint)}, expected a JointDistribution")
    if levels is None and joint is not None:
        return check_levels(joint.levels)
    array = np.asarray(None) if levels is None else as_array("levels", levels)
    if array.dtype.kind not in "iuf" or array.ndim != 1 or array.size == 0:
        raise RefdesignError(f"levels: found {array.dtype} of shape {array.shape}, expected a list of numbers")
    array = array.astype(np.float64)
    if not np.isfinite(array).all() or array.min() < 0 or array.max() <= 0:
        raise RefdesignError("levels: expected finite levels of 0 or more, at least one of them above 0")
    for lower, upper in pairwise(array):
        if lower == upper:
            raise RefdesignError(f"levels: found {lower} twice, expected distinct levels")
        if lower > upper:
            raise RefdesignError(f"levels: found {lower} before {upper}, expected ascending levels")
    return array


def check_shape(shape: Any) -> tuple[int, int]:
    """A kernel's shape (m, n), whole numbers of 1 or more.

    >>> check_shape([2, 3])
    (2, 3)
    """
    try:
        m, n = shape
    except (TypeError, ValueError):
        raise RefdesignError(f"shape: found {shown(shape)}, expected rows and columns (m, n)") from None
    if not (is_whole(m, 1) and is_whole(n, 1)):
        raise RefdesignError(f"shape: found {shown(shape)}, expected two whole numbers of 1 or more")
    if int(m) * int(n) > LARGEST_PERIOD:
        raise RefdesignError(f"shape: found {m} x {n}, expected at most {LARGEST_PERIOD} cells")
    return int(m), int(n)


def _check_choice(field: str, found: str, choices: tuple[str, ...]) -> None:
    if not isinstance(found, str) or found not in choices:
        raise RefdesignError(f"{field}: found {shown(found)}, expected one of {', '.join(choices)}")


def pattern_probabilities(joint: JointDistribution, levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """P(bit, right bit, lower bit) for every three levels: float64 (2, 2, 2, L, L, L).

    A bit is 1 where relu(accumulator) >= level.

    >>> from refdesign.design import random_joint_distribution
    >>> pattern_probabilities(random_joint_distribution(1), np.array([1.0]))[1, 1, 1]
    array([[[0.125]]])
    """
    fires = np.maximum(joint.values, 0.0)[np.newaxis, :] >= levels[:, np.newaxis]
    bit = np.stack([~fires, fires]).astype(np.float64)
    # One axis at a time, so that the largest intermediate is (2L, V, V).
    size = levels.size
    flat = bit.reshape(2 * size, joint.values.size)
    result = np.tensordot(flat, joint.probability, axes=(1, 0))
    result = np.tensordot(result, flat, axes=(1, 1))
    result = np.tensordot(result, flat, axes=(1, 1))
    return result.reshape(2, size, 2, size, 2, size).transpose(0, 2, 4, 1, 3, 5)


def total_variation_table(
    joint: JointDistribution,
    levels: ArrayLike | None = None,
    *,
    weight: str = "threshold",
    norm: str = "isotropic",
) -> Table:
    """Expected total variation at a pixel, for every three levels (own, right, lower): float64 (L, L, L).

    Args:
        joint: the statistics.
        levels: threshold levels, ascending; None: the joint distribution's.
        weight: `"threshold"`: the output measured is bit * level / max(levels), as in the released code;
            `"binary"`: the bare bits, as in the paper's formula.
        norm: `"isotropic"`: sqrt(dx**2 + dy**2); `"anisotropic"`: |dx| + |dy|; forward differences.

    Source: paper, expected total variation of the binarised output; weighting from the released code.

    >>> from refdesign.design import random_joint_distribution
    >>> total_variation_table(random_joint_distribution(1), [1.0], norm="anisotropic")
    array([[[1.]]])
    """
    _check_choice("weight", weight, WEIGHTS)
    _check_choice("norm", norm, NORMS)
    checked = check_levels(levels, joint)
    patterns = pattern_probabilities(joint, checked)
    height = checked / checked[-1] if weight == "threshold" else np.ones_like(checked)
    table = np.zeros((checked.size,) * 3)
    for own, right, lower in np.ndindex(2, 2, 2):
        dx = right * height[np.newaxis, :, np.newaxis] - own * height[:, np.newaxis, np.newaxis]
        dy = lower * height[np.newaxis, np.newaxis, :] - own * height[:, np.newaxis, np.newaxis]
        variation = np.hypot(dx, dy) if norm == "isotropic" else np.abs(dx) + np.abs(dy)
        table += patterns[own, right, lower] * variation
    return table


def information_table(joint: JointDistribution, levels: ArrayLike | None = None) -> Table:
    """Information of a pixel's bit given its right and lower neighbours' bits: float64 (L, L, L), in bits.

    The bits are a function of the accumulators, so the mutual information of the real and the binary map is the
    entropy of the binary map; by the chain rule (pixels from the last to the first) it is at most the sum over
    pixels of H(bit | right bit, lower bit), with equality where the rest of the past adds nothing. The table
    holds that term. Unlike total variation it needs no weight: a bit that the kernel alone decides counts 0.

    Source: this project (beyond the paper).

    >>> from refdesign.design import random_joint_distribution
    >>> information_table(random_joint_distribution(1), [1.0])
    array([[[1.]]])
    """
    patterns = pattern_probabilities(joint, check_levels(levels, joint))
    neighbours = patterns.sum(axis=0)

    def negative_log_sum(probability: NDArray[np.float64], axes: tuple[int, ...]) -> Table:
        safe = np.where(probability > 0, probability, 1.0)
        return np.asarray(-(probability * np.log2(safe)).sum(axis=axes))

    # Rounding can leave -1e-17 where a bit is certain.
    return np.asarray(np.maximum(negative_log_sum(patterns, (0, 1, 2)) - negative_log_sum(neighbours, (0, 1)), 0.0))


def objective_table(
    joint: JointDistribution,
    levels: ArrayLike | None = None,
    *,
    objective: str = "total_variation",
    weight: str = "threshold",
    norm: str = "isotropic",
) -> Table:
    """The table of the named objective, `"total_variation"` or `"information"` (which has no weight and norm).

    >>> from refdesign.design import random_joint_distribution
    >>> objective_table(random_joint_distribution(3), objective="information").shape
    (6, 6, 6)
    """
    _check_choice("objective", objective, OBJECTIVES)
    if objective == "information":
        return information_table(joint, levels)
    return total_variation_table(joint, levels, weight=weight, norm=norm)


def fixed_point(table: Table) -> Table:
    """A table in units of 2**-38, rounded: whole numbers in float64, whose sums are exact in any order.

    >>> fixed_point(np.array([1.0])) == 2.0**38
    array([ True])
    """
    return np.rint(np.ldexp(table, FRACTION_BITS))


def _kernel_mean(kernel_levels: ArrayLike, level_set: NDArray[np.float64], table: Table) -> float:
    indices = np.searchsorted(level_set, np.asarray(kernel_levels, dtype=np.float64))
    right = np.roll(indices, -1, axis=1)
    lower = np.roll(indices, -1, axis=0)
    return float(np.ldexp(fixed_point(table)[indices, right, lower].sum() / indices.size, -FRACTION_BITS))


def _check_kernel(kernel_levels: ArrayLike) -> NDArray[np.float64]:
    array = as_array("kernel", kernel_levels)
    if array.dtype.kind not in "iuf" or array.ndim not in (2, 3) or array.size == 0:
        raise RefdesignError(
            f"kernel: found {array.dtype} of shape {array.shape}, expected level values (m, n) or (m, n, g)"
        )
    if not np.isfinite(array).all() or array.min() < 0:
        raise RefdesignError("kernel: found a negative or non-finite level, expected values of 0 or more")
    return array.astype(np.float64)


def expected_total_variation(
    kernel_levels: ArrayLike,
    joint: JointDistribution,
    *,
    weight: str = "threshold",
    norm: str = "isotropic",
    levels: ArrayLike | None = None,
) -> float:
    """The expected total variation of the binarised output under a kernel; exact for stationary maps.

    Args:
        kernel_levels: level values (not indices), (m, n) or (m, n, g); the mean over the g slices is taken.
        joint: the statistics.
        weight, norm: see `total_variation_table`.
        levels: only its maximum counts, which divides the weighted output; None: the joint distribution's.

    Source: paper, design of the threshold kernel; released code for the weight.

    >>> from refdesign.design import random_joint_distribution
    >>> joint = random_joint_distribution(3, weights=np.ones((3, 3)))
    >>> round(expected_total_variation([[1, 3], [3, 5]], joint), 5)
    0.14181
    """
    kernel = _check_kernel(kernel_levels)
    own = np.unique(kernel)
    largest = float(check_levels(levels, joint)[-1])
    if weight == "threshold" and own[-1] > largest:
        raise RefdesignError(f"kernel: found the level {own[-1]}, expected at most the largest level {largest}")
    # The largest level stands last in the table's level set, because it divides the weighted output.
    level_set = own if own[-1] == largest else np.append(own[own < largest], [largest, *own[own > largest]])
    return _kernel_mean(kernel, level_set, total_variation_table(joint, level_set, weight=weight, norm=norm))


def expected_information(kernel_levels: ArrayLike, joint: JointDistribution) -> float:
    """The information objective of a kernel, in bits per pixel (0 to 1); see `information_table`.

    >>> from refdesign.design import random_joint_distribution
    >>> expected_information([[0, 9], [9, 0]], random_joint_distribution(3, weights=np.ones((3, 3)))) < 0.1
    True
    """
    kernel = _check_kernel(kernel_levels)
    level_set = np.unique(kernel)
    if level_set[-1] == 0:
        return 0.0
    return _kernel_mean(kernel, level_set, information_table(joint, level_set))


def row_digits(levels: int, width: int) -> NDArray[np.int64]:
    """All rows of `width` level indices in lexicographic order: int64 (levels**width, width).

    >>> row_digits(2, 2).tolist()
    [[0, 0], [0, 1], [1, 0], [1, 1]]
    """
    return np.stack(np.unravel_index(np.arange(levels**width), (levels,) * width), axis=1).astype(np.int64)


def all_scores(table: Table, shape: tuple[int, int]) -> NDArray[np.float64]:
    """The scores of all L**(m*n) kernels at once: float64, in `itertools.product` order of the cells row by row.

    Args:
        table: from `objective_table`.
        shape: (m, n).

    Raises:
        RefdesignError: more than fifty million kernels (then only the optimum is sought: `optimum`).

    >>> from refdesign.design import random_joint_distribution
    >>> table = total_variation_table(random_joint_distribution(3))
    >>> scores = all_scores(table, (2, 2))
    >>> scores.size, np.unravel_index(scores.argmax(), (6, 6, 6, 6))
    (1296, (np.int64(2), np.int64(2), np.int64(2), np.int64(2)))
    """
    m, n = check_shape(shape)
    levels = table.shape[0]
    kernels = levels ** (m * n)
    if kernels > LARGEST_ENUMERATION:
        raise RefdesignError(
            f"shape: found {m} x {n}, {kernels:.2e} kernels of {levels} levels, expected at most "
            f"{LARGEST_ENUMERATION} for a ranking of all; the best one can be had for larger shapes"
        )
    units = fixed_point(table)
    scores = np.zeros((levels,) * (m * n))
    for i, j in np.ndindex(m, n):
        cells = (i * n + j, i * n + (j + 1) % n, (i + 1) % m * n + j)
        # einsum takes the diagonal where a cell is its own neighbour and orders the axes as the cells are.
        letters = "".join(chr(ord("a") + sorted(set(cells)).index(cell)) for cell in cells)
        entry = np.einsum(f"{letters}->{''.join(sorted(set(letters)))}", units)
        scores += entry.reshape([levels if cell in cells else 1 for cell in range(m * n)])
    scores /= m * n
    scores *= 2.0**-FRACTION_BITS
    return scores.reshape(kernels)
