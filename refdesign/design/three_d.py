"""3D kernels: one slice for every group of channels, made from a 2D kernel by shifting or swapping its levels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refdesign.checks import is_whole, shown
from refdesign.design.levels import level_indices
from refdesign.design.total_variation import check_levels
from refdesign.errors import RefdesignError

__all__ = ["complement", "shift"]

PAPER_LEVELS = (0.0, 1.0, 3.0, 5.0, 7.0, 9.0)


def _plane(kernel_levels: ArrayLike, levels: ArrayLike) -> NDArray[np.int64]:
    if np.ndim(kernel_levels) != 2 or np.size(kernel_levels) == 0:
        raise RefdesignError(f"kernel: found shape {np.shape(kernel_levels)}, expected (m, n)")
    return level_indices(kernel_levels, check_levels(levels))


def shift(kernel_levels: ArrayLike, slices: int, *, levels: ArrayLike = PAPER_LEVELS) -> NDArray[np.float64]:
    """A 3D kernel whose slice q has every level moved to the q-th next one, the last one going round to the first.

    Args:
        kernel_levels: level values (m, n), slice 0.
        slices: g, at least 1.
        levels: the level set, ascending.

    Returns:
        float64 (m, n, g).

    Source: released code, `circular_shifting` to the right; files `..._shifting_n1_right_...`.

    >>> shift([[1, 9]], 3)[0].tolist()
    [[1.0, 3.0, 5.0], [9.0, 0.0, 1.0]]
    """
    if not is_whole(slices, 1):
        raise RefdesignError(f"slices: found {shown(slices)}, expected a whole number of 1 or more")
    indices = _plane(kernel_levels, levels)
    level_set = check_levels(levels)
    return np.asarray(level_set[(indices[:, :, np.newaxis] + np.arange(slices)) % level_set.size])


def complement(kernel_levels: ArrayLike, *, levels: ArrayLike = PAPER_LEVELS) -> NDArray[np.float64]:
    """A 3D kernel of two slices: the kernel, and the kernel with the levels in reverse (0/9, 1/7, 3/5 swapped).

    Returns:
        float64 (m, n, 2).

    Source: released code, `complement`; files `..._complement_...` with two slices. The released file
    `threshold_2x2x4_complement_v1` has four slices and is in truth the shift.

    >>> complement([[1, 9]])[0].tolist()
    [[1.0, 7.0], [9.0, 0.0]]
    """
    indices = _plane(kernel_levels, levels)
    level_set = check_levels(levels)
    return np.asarray(level_set[np.stack([indices, level_set.size - 1 - indices], axis=2)])
