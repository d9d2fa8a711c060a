"""Threshold kernels as files: `.mat` as the authors have them, `.json` and `.npz` with everything known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.design import (
    LEVEL_SETS,
    JointDistribution,
    Optimum,
    complement,
    expected_information,
    expected_total_variation,
    half_wave_levels,
    shift,
)
from refdesign.design.levels import level_indices
from refdesign.errors import RefdesignError
from refdesign.formats import kernels
from refdesign.parameters import ThresholdKernel

SUFFIXES = kernels.SUFFIXES


def check_suffix(path: Path) -> None:
    """Refuse a file that is to be written in an unknown format, before the work begins.

    Raises:
        RefdesignError: the suffix is none of `.mat`, `.json`, `.npz`.

    >>> check_suffix(Path("kernel.txt"))
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: kernel.txt: found the suffix '.txt', expected one of .mat .json .npz
    """
    if path.suffix.lower() not in SUFFIXES:
        raise RefdesignError(f"{path}: found the suffix {path.suffix!r}, expected one of {' '.join(SUFFIXES)}")


def scaled_kernel(
    kernel_levels: NDArray[np.float64],
    levels: NDArray[np.float64],
    scale: str,
    slices: int | None,
    complemented: bool,
) -> ThresholdKernel:
    """The kernel that is written: made 3D if asked for, its levels re-scaled.

    Args:
        kernel_levels: (m, n), level values.
        levels: the level set, ascending.
        scale: `"half-wave"` (the converged quantiser), a released level set's name, or `"none"`.
        slices: g of a shifted 3D kernel, or None.
        complemented: two slices, levels swapped in the second.

    Raises:
        RefdesignError: a released level set of another size than `levels`.

    >>> scaled_kernel(np.array([[0.0, 9.0]]), np.array([0.0, 9.0]), "none", 2, False).values[0].tolist()
    [[0.0, 9.0], [9.0, 0.0]]
    """
    made: NDArray[np.float64] = kernel_levels
    if complemented:
        made = complement(kernel_levels, levels=levels)
    elif slices is not None:
        made = shift(kernel_levels, slices, levels=levels)
    if scale == "none":
        target = levels
    elif scale == "half-wave":
        target = half_wave_levels(len(levels))
    else:
        target = np.array(LEVEL_SETS[scale])
    if len(target) != len(levels):
        raise RefdesignError(f"--scale: found {scale} with {len(target)} levels, expected {len(levels)}")
    return ThresholdKernel.from_levels(level_indices(made, levels), target.tolist())


def write(path: Path, kernel: ThresholdKernel, best: Optimum, joint: JointDistribution, how: dict[str, Any]) -> None:
    """Write the kernel in the format of the suffix.

    Raises:
        RefdesignError: the file cannot be written.
    """
    designed = {
        **how,
        "kernel_levels": best.kernel_levels.tolist(),
        "score": best.score,
        "bound_for_any_height": best.bound,
        "candidates": best.candidates,
        "observations": joint.observations,
    }
    kernels.write(kernel, path, designed)


def compared(
    name: str,
    kernel: ThresholdKernel,
    best: Optimum,
    joint: JointDistribution,
    levels: NDArray[np.float64],
    how: dict[str, Any],
) -> dict[str, Any]:
    """Another kernel's score under the statistics, levels and options of an optimum; of a 3D one the slices' mean.

    Raises:
        RefdesignError: it has no levels, or not as many as were searched.
    """
    known = 0 if kernel.level_set is None else len(kernel.level_set)
    if kernel.levels is None or known != len(levels):
        found = f"a kernel of {known} levels" if known else "thresholds alone"
        raise RefdesignError(
            f"--compare {name}: found {found}, expected one of {len(levels)} levels, as .json has them"
        )
    values = levels[kernel.levels]
    if how["objective"] == "information":
        score = expected_information(values, joint)
    else:
        score = expected_total_variation(values, joint, levels=levels, weight=how["weight"], norm=how["norm"])
    return {
        "kernel": name,
        "kernel_levels": values,
        "score": score,
        "of_best": score / best.score if best.score else 1.0,
    }


def described(source: str, kernel: ThresholdKernel) -> dict[str, Any]:
    """A kernel as plain data: its shape, thresholds, and what is known of them.

    >>> from refdesign.design import published
    >>> described("k.mat", published("threshold_2x2_v1"))["published"]
    ['threshold_2x2_v1']
    """
    exact = kernels.exact_values(kernel)
    return {
        "kernel": source,
        "shape": list(kernel.shape),
        "published": list(kernels.published_as(exact)),
        "values": exact.tolist(),
        "levels": None if kernel.levels is None else kernel.levels.tolist(),
        "level_set": None if kernel.level_set is None else list(kernel.level_set),
    }


def in_words(kernel: dict[str, Any]) -> str:
    """A kernel, as `described`, in a line.

    >>> from refdesign.design import published
    >>> in_words(described("k.mat", published("threshold_2x2_v1")))
    'a threshold kernel 2x2x1, published as threshold_2x2_v1, its thresholds among 6 levels'
    """
    parts = [f"a threshold kernel {'x'.join(map(str, kernel['shape']))}"]
    if kernel["published"]:
        parts.append(f"published as {' and '.join(kernel['published'])}")
    if kernel["level_set"] is not None:
        parts.append(f"its thresholds among {len(kernel['level_set'])} levels")
    return ", ".join(parts)
