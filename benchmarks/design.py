"""Scores of threshold kernels: all at once from a table, beside a loop over kernels on images as the authors do it.

    python -m benchmarks.design [--kernels 30] [--json]

Both sides see the same hundred images of 32 x 32 (pieces of the photograph that ships with refdesign) through the
authors' convolution and measure the weighted, isotropic total variation. The loop is given what can be given: the
convolution is made once, all images are scored at a time, only the kernel changes. Our time includes everything:
counting the images, the table, and all scores. The proven optima beyond full enumeration have no peer to stand
beside; their times are listed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import _measure
from benchmarks.memory import largest_resident_mb
from refdesign import datasets, design

IMAGES, SIDE = 100, 32
LEVELS = np.array([0, 1, 3, 5, 7, 9])


def pieces_of_the_photograph() -> NDArray[np.uint8]:
    """A hundred images, uint8 (100, 32, 32)."""
    photograph = datasets.photograph()
    count = photograph.shape[0] // SIDE
    pieces = photograph.reshape(count, SIDE, count, SIDE).swapaxes(1, 2).reshape(-1, SIDE, SIDE)
    return np.asarray(pieces[np.linspace(0, len(pieces) - 1, IMAGES).astype(int)])


def scores_by_loop(maps: NDArray[np.int32], kernels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The released procedure: for every kernel, binarise all maps, weigh the bits, measure the variation."""
    positive = np.maximum(maps, 0)
    height, width = maps.shape[1:]
    scores = []
    for kernel in kernels:
        m, n = kernel.shape
        thresholds = np.tile(kernel, (height // m, width // n))
        output = (positive >= thresholds) * thresholds / 9
        dx = np.diff(output, axis=2)[:, :-1, :]
        dy = np.diff(output, axis=1)[:, :, :-1]
        scores.append(np.sqrt(dx**2 + dy**2).mean())
    return np.array(scores)


def scores_by_table(images: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.float64]:
    """From the images to the scores of all kernels."""
    joint = design.image_joint_distribution(images, weights=design.AUTHORS_WEIGHTS)
    return design.all_scores(design.objective_table(joint), shape)


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.design", description=__doc__.splitlines()[0])
    parser.add_argument("--kernels", type=int, default=30, help="kernels that the loop scores")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    images = pieces_of_the_photograph()
    maps = design.binary_maps(design.binarise_images(images), design.AUTHORS_WEIGHTS)
    rng = np.random.default_rng(3)
    rows: list[tuple[object, ...]] = []
    per_kernel: dict[str, float] = {}
    for shape in ((2, 2), (3, 3)):
        kernels = rng.integers(0, len(LEVELS), (arguments.kernels, *shape))
        count = len(LEVELS) ** kernels[0].size
        scores_by_loop(maps, LEVELS[kernels[:2]])
        loop, measured = timed(partial(scores_by_loop, maps, LEVELS[kernels]))
        table, scores = timed(partial(scores_by_table, images, shape))
        positions = np.ravel_multi_index(
            tuple(kernels.reshape(arguments.kernels, -1).T), (len(LEVELS),) * kernels[0].size
        )
        ratio = (loop / arguments.kernels) / (table / count)
        # A check that both measure the same thing: they differ by the borders of the maps only.
        difference = float(np.abs(scores[positions] - measured).max() / measured.max())
        name = f"{shape[0]}x{shape[1]}"
        per_kernel[name] = ratio
        rows.append(
            (f"all {count:,} of {name}", table, 1e6 * loop / arguments.kernels, 1e6 * table / count, ratio, difference)
        )
    text = _measure.table(
        ("scores", "all, s", "loop, us a kernel", "table, us a kernel", "times as fast", "largest difference"), rows
    )
    searches: list[tuple[object, ...]] = []
    photograph = design.image_joint_distribution(images, weights=design.AUTHORS_WEIGHTS)
    ones = design.random_joint_distribution(3, weights=np.ones((3, 3)))
    for source, joint, shapes in (
        ("photograph", photograph, ((2, 2), (3, 3), (4, 4), (5, 5), (6, 6))),
        ("random pixels, weights of ones", ones, ((3, 3), (4, 4), (6, 6))),
    ):
        for shape in shapes:
            seconds, best = timed(partial(design.optimum, joint, shape))
            name = f"{shape[0]}x{shape[1]}, {source}"
            searches.append(
                (name, f"{float(best.candidates):.1e}", seconds, best.rows_tried, best.rows, f"{best.score:.6f}")
            )
    text += "\n\n" + _measure.table(("proven optimum", "candidates", "s", "rows tried", "of", "score"), searches)
    peak = largest_resident_mb()
    text += f"\n\npeak memory of all this {peak:.0f} MB"
    result = {
        "scores": [
            {"kernels": row[0], "seconds": row[1], "loop_us": row[2], "table_us": row[3], "ratio": row[4]}
            for row in rows
        ],
        "optima": [{"shape": row[0], "seconds": row[2], "rows_tried": row[3], "score": row[5]} for row in searches],
        "peak_mb": peak,
    }
    _measure.report(result, text, arguments.json)


if __name__ == "__main__":
    main()
