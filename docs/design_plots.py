"""The figures of `design.md`, drawn from what `docs.design_study` printed."""

from __future__ import annotations

import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from docs.design_released import LEVELS
from refdesign import design
from refdesign.cli._design_pictures import Shown, photograph_plot

INK, ACCENT, COOL = "#1b1b1f", "#a63d1e", "#2b5d8a"
UNITS = {"total_variation": "expected total variation a pixel", "information": "bits a pixel"}


def pictures(figures: dict[str, Any]) -> dict[str, bytes]:
    """All figures as PNG, by name.

    Args:
        figures: the part `figures` of what the study printed.
    """
    scores = {name: np.array(values) for name, values in figures["scores"].items()}
    theirs = scores.pop("released")
    sized = {(name, objective): np.array(values) for name, objective, values in figures["sizes"]}
    return {
        "released": _png(released(scores["total_variation"], theirs)),
        "sizes": _png(sizes(sized)),
        "objectives": _png(objectives(scores, {name: (x, y) for name, (x, y) in figures["points"].items()})),
        "levels": _png(levels()),
        "photograph": photograph(figures["kernels"], scores["total_variation"]),
    }


def _png(figure: Figure) -> bytes:
    drawn = BytesIO()
    figure.savefig(drawn, metadata={"Software": "refdesign"})
    return _small(drawn.getvalue())


def _small(png: bytes) -> bytes:
    """The same picture with a palette: a third of the bytes."""
    with Image.open(BytesIO(png)) as opened:
        small = opened.convert("RGB").quantize(48, dither=Image.Dither.NONE)
    written = BytesIO()
    small.save(written, format="PNG", optimize=True)
    return written.getvalue()


def released(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> Figure:
    """Each kernel's score beside the authors'."""
    figure = Figure((4.6, 4.2), dpi=110)
    axes = figure.subplots(gridspec_kw={"left": 0.15, "right": 0.96, "top": 0.9, "bottom": 0.13})
    axes.plot(theirs, ours, ".", color=INK, markersize=2.5, alpha=0.5)
    axes.plot(theirs[ours.argmax()], ours.max(), "o", color=ACCENT, markersize=5)
    axes.annotate(
        "1 3 / 3 1",
        (theirs[ours.argmax()], ours.max()),
        xytext=(-8, -3),
        textcoords="offset points",
        ha="right",
        color=ACCENT,
    )
    axes.set_title("All 1,296 kernels of 2 × 2", fontsize=11, loc="left", color=INK, weight="bold")
    axes.set_xlabel("released score (100 images of CIFAR-100)", fontsize=9)
    axes.set_ylabel("score from the joint distribution of CIFAR-10", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def sizes(found: dict[tuple[str, str], NDArray[np.float64]]) -> Figure:
    """The best score of every shape, a map for every kind of statistics and objective."""
    names = list(dict.fromkeys(name for name, _ in found))
    figure = Figure((3.0 * len(names), 6.4), dpi=110)
    grid = figure.subplots(
        2,
        len(names),
        gridspec_kw={"left": 0.04, "right": 0.995, "top": 0.9, "bottom": 0.06, "wspace": 0.12, "hspace": 0.28},
    )
    for row, objective in enumerate(UNITS):
        for column, name in enumerate(names):
            scores, axes = found[name, objective], grid[row, column]
            axes.imshow(scores, cmap="cividis", vmin=scores.min() - 1e-3, vmax=scores.max())
            for (m, n), score in np.ndenumerate(scores):
                bright = score > scores.min() - 1e-3 + 0.6 * (np.ptp(scores) + 1e-3)
                axes.text(
                    n,
                    m,
                    f"{score:.4f}"[1:] if score < 1 else f"{score:.2f}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="black" if bright else "white",
                )
            axes.set_xticks(range(5), range(1, 6), fontsize=8)
            axes.set_yticks(range(5), range(1, 6), fontsize=8)
            axes.set_title(name, fontsize=9, loc="left", color=INK)
            if column == 0:
                axes.set_ylabel(objective.replace("_", " "), fontsize=9)
    figure.suptitle(
        "The best score of every shape, rows × columns", x=0.01, ha="left", fontsize=11, color=INK, weight="bold"
    )
    return figure


def objectives(scores: dict[str, NDArray[np.float64]], points: dict[str, tuple[float, float]]) -> Figure:
    """All kernels under both objectives."""
    figure = Figure((6.2, 4.6), dpi=110)
    axes = figure.subplots(gridspec_kw={"left": 0.11, "right": 0.97, "top": 0.92, "bottom": 0.12})
    axes.plot(scores["total_variation"], scores["information"], ".", color=INK, markersize=2.5, alpha=0.4)
    labelled: list[tuple[float, float]] = []
    for name, point in points.items():
        axes.plot(*point, "o", color=ACCENT, markersize=5)
        # Below the point where the label of one close by stands above.
        crowded = any(abs(point[0] - x) < 0.02 and abs(point[1] - y) < 0.02 for x, y in labelled)
        right = point[0] > 0.06
        offset, side = (-7 if right else 7, -12 if crowded else 3), "right" if right else "left"
        axes.annotate(
            name.strip("`"), point, xytext=offset, textcoords="offset points", ha=side, fontsize=8, color=ACCENT
        )
        labelled.append(point)
    axes.set_title(
        "All 2 × 2 kernels under both objectives (CIFAR-10)", fontsize=11, loc="left", color=INK, weight="bold"
    )
    axes.set_xlabel(UNITS["total_variation"], fontsize=9)
    axes.set_ylabel(f"information, {UNITS['information']}", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def photograph(kernels: dict[str, list[int]], scores: NDArray[np.float64]) -> bytes:
    """A photograph under the best, a middling and the worst kernel; `scores` are those of all kernels."""
    shown = []
    for name, levels in kernels.items():
        place = np.ravel_multi_index([LEVELS.index(level) for level in levels], (len(LEVELS),) * 4)
        shown.append(Shown(name, np.array(levels, dtype=float).reshape(2, 2), float(scores[place])))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "photograph.png")
        photograph_plot(shown, design.AUTHORS_WEIGHTS, "total_variation", path)
        return _small(path.read_bytes())


def levels() -> Figure:
    """The half-wave Gaussian with the boundaries of its quantiser, and the released levels."""
    figure = Figure((6.2, 3.4), dpi=110)
    axes = figure.subplots(gridspec_kw={"left": 0.1, "right": 0.97, "top": 0.88, "bottom": 0.15})
    x = np.linspace(0, 3.5, 400)
    density = np.sqrt(2 / np.pi) * np.exp(-(x**2) / 2)
    axes.fill_between(x, density, color="#e4e4e8")
    for values, color, label, height in (
        (design.half_wave_levels(6), INK, "converged", 1.0),
        (design.LEVEL_SETS["A"], ACCENT, "released set A", 0.82),
        (design.LEVEL_SETS["B"], COOL, "released set B", 0.64),
    ):
        axes.vlines(values, 0, height * 0.8, color=color, linewidth=1.3, label=label)
    axes.legend(frameon=False, fontsize=9)
    axes.set_xlim(0, 4)
    axes.set_title("Six thresholds on |N(0, 1)|", fontsize=11, loc="left", color=INK, weight="bold")
    axes.set_xlabel("batch-normalised accumulator", fontsize=9)
    axes.set_ylabel("density", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
