"""The design step's plots, drawn with matplotlib (extra `plot`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from refdesign import datasets
from refdesign.cli._pictures import _ACCENT, _INK, _figure, _image, _save
from refdesign.design import Optimum, all_scores, binarise_images, binary_maps, fixed_point
from refdesign.design.classes import kernel_scores
from refdesign.design.total_variation import LARGEST_ENUMERATION
from refdesign.errors import RefdesignError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SAMPLE = 200_000
"""Kernels drawn at random where there are too many to score them all."""
UNITS = {"total_variation": "expected total variation a pixel", "information": "bits a pixel"}


def all_plots(
    folder: Path,
    table: NDArray[np.float64],
    shape: tuple[int, int],
    levels: NDArray[np.float64],
    best: Optimum,
    objective: str,
    convolution: NDArray[np.int64],
) -> list[Path]:
    """Write `scores.png`, `kernel.png` and `photograph.png` into a folder, which is made where it is absent.

    The photograph is shown through one binary `convolution` (k, k).

    Raises:
        MissingExtra: matplotlib is not installed.
        RefdesignError: the files cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RefdesignError(f"{folder}: cannot be made: {error.strerror}") from error
    kernels, scores = _scored(table, shape)
    order = np.argsort(-scores, kind="stable")
    middling, worst = (levels[kernels[order[at]]].reshape(shape) for at in (len(order) // 2, -1))
    paths = [folder / name for name in ("scores.png", "kernel.png", "photograph.png")]
    scores_plot(np.sort(scores)[::-1], len(levels) ** (shape[0] * shape[1]), best, objective, paths[0])
    kernel_plot(best.kernel_levels, float(levels[-1]), paths[1])
    photograph_plot({"best": best.kernel_levels, "middling": middling, "worst": worst}, convolution, paths[2])
    return paths


def _scored(table: NDArray[np.float64], shape: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Level indices (K, m*n) and scores of all kernels, or of a sample where they are too many."""
    levels, cells = len(table), shape[0] * shape[1]
    count = levels**cells
    rng = np.random.default_rng(0)
    if count <= LARGEST_ENUMERATION:
        scores = all_scores(table, shape)
        # A plot shows no more than this many; the best, the worst and a random choice of the others.
        keep = np.arange(count) if count <= SAMPLE else np.sort(rng.choice(count, SAMPLE, replace=False))
        keep = np.union1d(keep, [scores.argmax(), scores.argmin()])
        return np.stack(np.unravel_index(keep, (levels,) * cells), axis=1), scores[keep]
    kernels = rng.integers(0, levels, (SAMPLE, cells))
    return kernels, kernel_scores(kernels.reshape(-1, *shape), fixed_point(table))


def scores_plot(scores: NDArray[np.float64], count: int, best: Optimum, objective: str, path: Path) -> None:
    """All candidates' scores in descending order, with the optimum and the bound."""
    figure = _figure(7.0, 4.2)
    axes = figure.subplots(gridspec_kw={"left": 0.11, "right": 0.97, "top": 0.86, "bottom": 0.13})
    rank = np.linspace(0, 100, len(scores))
    axes.plot(rank, scores, color=_INK, linewidth=1.4)
    axes.axhline(best.score, color=_ACCENT, linewidth=1.0)
    axes.annotate(
        f"proven optimum {best.score:.5f}", (100, best.score), xytext=(0, -11), textcoords="offset points",
        ha="right", color=_ACCENT, fontsize=9,
    )  # fmt: skip
    if best.bound > best.score * 1.001:
        axes.axhline(best.bound, color=_ACCENT, linewidth=1.0, linestyle=":")
        axes.annotate(
            f"bound for any height {best.bound:.5f}", (100, best.bound), xytext=(0, 4), textcoords="offset points",
            ha="right", color=_ACCENT, fontsize=9,
        )  # fmt: skip
    shown = f"all {count:,} kernels" if len(scores) == count else f"{len(scores):,} of {count:,} kernels"
    axes.set_title(f"Scores of {shown}, best first", fontsize=11, color=_INK, loc="left", weight="bold")
    axes.set_xlabel("rank, % of the kernels", fontsize=9)
    axes.set_ylabel(UNITS[objective], fontsize=9)
    axes.margins(x=0.01)
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def kernel_plot(kernel_levels: NDArray[np.float64], largest: float, path: Path) -> None:
    """A kernel's level values as a picture."""
    m, n = kernel_levels.shape
    figure = _figure(0.6 * n + 1.0, 0.6 * m + 1.0)
    draw_kernel(figure.add_axes((0.08, 0.08, 0.84, 0.84)), kernel_levels, largest)
    _save(figure, path)


def draw_kernel(axes: Axes, kernel_levels: NDArray[np.float64], largest: float) -> None:
    """A kernel's cells in grey, each with its number."""
    _image(axes, kernel_levels, 0, largest)
    for (i, j), level in np.ndenumerate(kernel_levels):
        axes.text(j, i, f"{level:.3g}", ha="center", va="center", color="white" if level < largest / 2 else "black")


def photograph_plot(kernels: dict[str, NDArray[np.float64]], convolution: NDArray[np.int64], path: Path) -> None:
    """A photograph, and the bits of one binary convolution of it under several kernels."""
    picture = datasets.photograph()[128:384, 128:384]
    bits = binarise_images(picture[np.newaxis])
    accumulators = np.maximum(binary_maps(bits, convolution)[0], 0)
    height, width = accumulators.shape
    figure = _figure(3.2 * (len(kernels) + 2), 3.6)
    grid = figure.subplots(
        1, len(kernels) + 2, gridspec_kw={"left": 0.01, "right": 0.99, "top": 0.86, "bottom": 0.02, "wspace": 0.05}
    )
    _image(grid[0], picture, 0, 255)
    grid[0].set_title("photograph", fontsize=10, color=_INK, loc="left")
    _image(grid[1], accumulators, 0, convolution.size)
    grid[1].set_title("ReLU of its binary convolution", fontsize=10, color=_INK, loc="left")
    for axes, (name, kernel) in zip(grid[2:], kernels.items(), strict=True):
        m, n = kernel.shape
        thresholds = np.tile(kernel, (-(-height // m), -(-width // n)))[:height, :width]
        _image(axes, accumulators >= thresholds, 0, 1)
        rows = " / ".join(" ".join(f"{level:g}" for level in row) for row in kernel)
        axes.set_title(f"{name}: {rows}" if kernel.size <= 9 else name, fontsize=10, color=_INK, loc="left")
    _save(figure, path)
