"""Threshold kernels as files: `.mat` as the authors have them, `.json` and `.npz` with everything known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.design import (
    LEVEL_SETS,
    JointDistribution,
    Optimum,
    complement,
    half_wave_levels,
    shift,
    write_mat,
)
from refdesign.design.levels import level_indices
from refdesign.errors import RefdesignError
from refdesign.formats import atomic
from refdesign.parameters import ThresholdKernel

SUFFIXES = (".mat", ".json", ".npz")


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
    if kernel.level_set is None or kernel.levels is None:
        raise TypeError("a designed kernel carries its levels")
    exact = np.array(kernel.level_set)[kernel.levels]
    suffix = path.suffix.lower()
    if suffix == ".mat":
        write_mat(path, exact)
        return
    with atomic.replacing(path) as stream:
        if suffix == ".npz":
            np.savez(
                stream,
                allow_pickle=False,
                values=kernel.values,
                levels=kernel.levels,
                level_set=np.array(kernel.level_set),
            )
            return
        described = {
            "shape": list(kernel.shape),
            "values": exact.tolist(),
            "levels": kernel.levels.tolist(),
            "level_set": list(kernel.level_set),
            "designed": {
                **how,
                "kernel_levels": best.kernel_levels.tolist(),
                "score": best.score,
                "bound_for_any_height": best.bound,
                "candidates": best.candidates,
                "observations": joint.observations,
            },
        }
        stream.write(json.dumps(described, indent=2).encode() + b"\n")
