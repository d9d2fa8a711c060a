"""The design step's plots, drawn with matplotlib (extra `plot`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refdesign import datasets
from refdesign.cli._pictures import _ACCENT, _DPI, _INK, _figure, _image, _save
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
    scaled: NDArray[np.float32],
) -> list[Path]:
    """Write `scores.png`, `kernel.png` and `photograph.png` into a folder, which is made where it is absent.

    The photograph is shown through one binary `convolution` (k, k); `scaled` is the kernel (m, n) re-scaled.

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
    middling, worst = (
        Shown(name, levels[kernels[at]].reshape(shape), float(scores[at]))
        for name, at in (("middling", order[len(order) // 2]), ("worst", order[-1]))
    )
    proven = Shown(f"best {shape[0]}×{shape[1]}", best.kernel_levels, best.score)
    paths = [folder / name for name in ("scores.png", "kernel.png", "photograph.png")]
    plain, small = no_dither(table, levels), best_2x2(table, levels)
    scores_plot(np.sort(scores)[::-1], len(levels) ** (shape[0] * shape[1]), best, plain, objective, paths[0])
    kernel_plot(proven, scaled, levels, objective, paths[1])
    last = (proven, middling, worst) if shape == (2, 2) or small is None else (small, proven, middling)
    photograph_plot((plain, *last), convolution, objective, paths[2])
    return paths


@dataclass(frozen=True, eq=False)
class Shown:
    """A kernel (m, n) of level values, what it is called, and its score under the design's statistics."""

    name: str
    kernel_levels: NDArray[np.float64]
    score: float

    @property
    def rows(self) -> str:
        """The level values row by row, where they are few."""
        if self.kernel_levels.size == 1:
            return f"{self.kernel_levels.item():g} everywhere"
        if self.kernel_levels.size > 16:
            return ""
        return " / ".join(" ".join(f"{level:g}" for level in row) for row in self.kernel_levels)


def no_dither(table: NDArray[np.float64], levels: NDArray[np.float64]) -> Shown:
    """The best kernel of one cell: one threshold for all pixels.

    >>> table = np.zeros((2, 2, 2))
    >>> table[1, 1, 1] = 0.25
    >>> no_dither(table, np.array([0.0, 9.0])).rows
    '9 everywhere'
    """
    scores = all_scores(table, (1, 1))
    return Shown("no dither", levels[[[scores.argmax()]]], float(scores.max()))


def best_2x2(table: NDArray[np.float64], levels: NDArray[np.float64]) -> Shown | None:
    """The best 2x2 kernel; None where there are too many to try them all."""
    if len(levels) ** 4 > LARGEST_ENUMERATION:
        return None
    scores = all_scores(table, (2, 2))
    cells = np.unravel_index(int(scores.argmax()), (len(levels),) * 4)
    return Shown("best 2×2", levels[np.array(cells)].reshape(2, 2), float(scores.max()))


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


def scores_plot(
    scores: NDArray[np.float64], count: int, best: Optimum, plain: Shown, objective: str, path: Path
) -> None:
    """The candidates' scores in descending order, with the optimum, the bound, and the best without dither."""
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
    axes.axhline(plain.score, color=_INK, linewidth=0.9, linestyle="--")
    axes.annotate(
        f"no dither, level {plain.rows}: {plain.score:.5f}", (0, plain.score), xytext=(6, -11),
        textcoords="offset points", color=_INK, fontsize=9,
    )  # fmt: skip
    axes.set_title(
        f"Scores of {count:,} kernels, best first", fontsize=11, color=_INK, loc="left", weight="bold", y=1.06
    )
    if len(scores) == count:
        drawn = "every kernel is scored"
    elif count <= LARGEST_ENUMERATION:
        drawn = f"every kernel is scored; the line goes through {SAMPLE:,} drawn at random, the best and the worst"
    else:
        drawn = f"too many to score each: the line goes through {SAMPLE:,} drawn at random"
    axes.text(0, 1.02, drawn, transform=axes.transAxes, fontsize=8.5, color=_INK)
    axes.set_xlabel("rank, % of the kernels", fontsize=9)
    axes.set_ylabel(UNITS[objective], fontsize=9)
    axes.margins(x=0.01)
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def kernel_plot(
    proven: Shown, scaled: NDArray[np.float32], levels: NDArray[np.float64], objective: str, path: Path
) -> None:
    """A kernel's level values as a picture, and under each what it is re-scaled to."""
    m, n = proven.kernel_levels.shape
    width, height = max(4.2, 0.75 * n + 0.4), 0.75 * m + 1.2
    figure = _figure(width, height)
    axes = figure.add_axes((0.2 / width, 0.15 / height, 0.75 * n / width, 0.75 * m / height))
    draw_kernel(axes, proven.kernel_levels, float(levels[-1]), scaled)
    known = ", ".join(f"{level:g}" for level in levels[:8]) + (", …" if len(levels) > 8 else "")
    for line, text, size, weight in (
        (0.2, f"Threshold kernel, {proven.name}", 10, "bold"),
        (0.43, f"score {proven.score:.5f}, {UNITS[objective]}", 8, "normal"),
        (0.63, f"large: the level, one of {known}", 8, "normal"),
        (0.83, "small: the level re-scaled, which is the threshold that is written", 8, "normal"),
    ):
        figure.text(0.2 / width, 1 - line / height, text, fontsize=size, color=_INK, weight=weight, va="center")
    _save(figure, path)


def draw_kernel(axes: Axes, kernel_levels: NDArray[np.float64], largest: float, scaled: NDArray[np.float32]) -> None:
    """A kernel's cells in grey, each with its level and its re-scaled value."""
    _image(axes, kernel_levels, 0, largest)
    for (i, j), level in np.ndenumerate(kernel_levels):
        colour = "white" if level < largest / 2 else "black"
        axes.text(j, i - 0.1, f"{level:.3g}", ha="center", va="center", color=colour, fontsize=12)
        axes.text(j, i + 0.28, f"{scaled[i, j]:.4g}", ha="center", va="center", color=colour, fontsize=7)


def photograph_plot(kernels: Sequence[Shown], convolution: NDArray[np.int64], objective: str, path: Path) -> None:
    """A photograph, one binary convolution of it, and its bits under several kernels; one dot a pixel."""
    picture = datasets.photograph()
    accumulators = np.maximum(binary_maps(binarise_images(picture[np.newaxis]), convolution)[0], 0)
    height, width = accumulators.shape
    cut = tuple(slice((extent - kept) // 2, (extent - kept) // 2 + kept)
                for extent, kept in zip(picture.shape, accumulators.shape, strict=True))  # fmt: skip
    # Beyond the 99th percentile all is white: nearly all sums are small, and would look black on the whole range.
    white = max(1.0, float(np.percentile(accumulators, 99)))
    panels: list[tuple[str, NDArray[Any], float]] = [
        ("photograph", picture[cut], 255),
        (f"max(a, 0), black 0 to white {white:g} and more", accumulators, white),
    ]
    for shown in kernels:
        m, n = shown.kernel_levels.shape
        thresholds = np.tile(shown.kernel_levels, (-(-height // m), -(-width // n)))[:height, :width]
        title = f"{shown.name}: {shown.rows}" if shown.rows else shown.name
        panels.append((f"{title}\nscore {shown.score:.5f}", accumulators >= thresholds, 1))
    across, gap, head = 3, 24, 56
    down = -(-len(panels) // across)
    size = (across * (width + gap) + gap, down * (height + head) + gap + 70)
    figure = _figure(size[0] / _DPI, size[1] / _DPI)
    signs = " / ".join("".join("+" if weight > 0 else "−" for weight in row) for row in convolution)
    figure.text(
        gap / size[0], 1 - 24 / size[1], "One photograph's bits under threshold kernels: max(a, 0) ≥ level",
        fontsize=12, color=_INK, weight="bold", va="center",
    )  # fmt: skip
    figure.text(
        gap / size[0], 1 - 54 / size[1],
        f"a: the binary convolution of ±1 pixels (+1 above half grey), weights {signs}. "
        f"Score: {UNITS[objective]}, over the statistics designed for.",
        fontsize=8.5, color=_INK, va="center",
    )  # fmt: skip
    for place, (title, image, high) in enumerate(panels):
        row, column = divmod(place, across)
        left, top = gap + column * (width + gap), 70 + row * (height + head) + head
        axes = figure.add_axes((left / size[0], 1 - (top + height) / size[1], width / size[0], height / size[1]))
        _image(axes, image, 0, high)
        axes.set_title(title, fontsize=8.5, color=_INK, loc="left")
    _save(figure, path)
