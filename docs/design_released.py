"""The authors' scores of all 2x2 kernels, as they published them and by their procedure; for `docs.design_study`."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import scipy.io
from numpy.typing import NDArray

LEVELS = (0, 1, 3, 5, 7, 9)


def released_scores(file: Path) -> NDArray[np.float64]:
    """The authors' total variation of all 2x2 kernels, in the order of `all_scores`."""
    metrics = scipy.io.loadmat(file)["metric_means"][3]
    scores = np.empty(6**4)
    for score, cells in zip(metrics, itertools.product((1, 3, 5, 7, 9, 0), repeat=4), strict=True):
        kernel = np.array(cells).reshape(2, 2, order="F")
        scores[np.ravel_multi_index(tuple(LEVELS.index(level) for level in kernel.ravel()), (6,) * 4)] = score
    return scores


def scores_as_released(maps: NDArray[np.int32]) -> NDArray[np.float64]:
    """The released `tv.m` to the letter: horizontal and vertical differences are flattened, column by column, from
    arrays of different shapes, so that each pair of them comes from two different pixels.
    """
    scores = []
    for cells in itertools.product(LEVELS, repeat=4):
        thresholds = np.tile(np.array(cells).reshape(2, 2), (maps.shape[1] // 2, maps.shape[2] // 2))
        output = (np.maximum(maps, 0) >= thresholds) * thresholds / 9
        dx, dy = np.diff(output, axis=2), np.diff(output, axis=1)
        flat = [d.transpose(0, 2, 1).reshape(len(maps), -1) for d in (dx, dy)]
        scores.append(np.sqrt(flat[0] ** 2 + flat[1] ** 2).mean())
    return np.array(scores)
