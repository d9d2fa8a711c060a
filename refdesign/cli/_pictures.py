"""The demo's pictures, drawn with matplotlib (extra `plot`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refdesign.cli._photograph import Dithered
from refdesign.errors import missing_extra
from refdesign.formats import atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK = "#1b1b1f"
_ACCENT = "#a63d1e"

_DPI = 150

_ACROSS = 16
"""Channels in a line; four lines at most."""


def check_installed() -> None:
    """Refuse to draw without matplotlib, before anything is made.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise missing_extra("plot", "matplotlib") from error


def _figure(width: float, height: float) -> Figure:
    """A figure without the global state of pyplot."""
    from matplotlib.figure import Figure

    return Figure((width, height), dpi=_DPI, facecolor="white")


def _save(figure: Figure, path: Path) -> None:
    with atomic.replacing(path) as stream:
        figure.savefig(stream, format="png", metadata={"Software": "refdesign"})


def _image(axes: Axes, image: NDArray[Any], low: float, high: float) -> None:
    axes.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#bbbbbb")
        spine.set_linewidth(0.6)


def photograph(rows: Sequence[tuple[str, Sequence[Dithered]]], path: Path) -> None:
    """Real values beside their bits under several activations, a row for every map.

    Args:
        rows: a row's name, and the same map under each activation.
        path: the PNG to write.

    Raises:
        RefdesignError: the file cannot be written.
    """
    columns = len(rows[0][1]) + 1
    figure = _figure(3.3 * columns, 3.75 * len(rows) + 0.6)
    grid = figure.subplots(
        len(rows), columns, squeeze=False,
        gridspec_kw={"left": 0.04, "right": 0.995, "top": 0.885, "bottom": 0.005, "wspace": 0.03, "hspace": 0.1},
    )  # fmt: skip
    figure.suptitle(
        "What one bit per pixel keeps: one threshold (Sign) against a periodic one (DeSign)",
        x=0.04, y=0.985, ha="left", fontsize=13, color=_INK, weight="bold",
    )  # fmt: skip
    figure.text(
        0.04, 0.945,
        "Likeness: correlation of the bits with the real values, both blurred as by the eye. "
        "Thresholds: k-means quantiser of the real values, folded to integers.",
        ha="left", va="center", fontsize=9, color=_INK,
    )  # fmt: skip
    for axes_row, (name, maps) in zip(grid, rows, strict=True):
        values = maps[0].values
        low, high = np.percentile(values, (0.5, 99.5))
        _image(axes_row[0], values, low, high)
        axes_row[0].set_ylabel(name, fontsize=10, color=_INK)
        axes_row[0].set_title("real values", fontsize=10, color=_INK, loc="left")
        for axes, dithered in zip(axes_row[1:], maps, strict=True):
            slices = dithered.bits.shape[2]
            _image(axes, dithered.bits.mean(axis=2), -1, 1)
            several = f", mean of {slices} one-bit channels" if slices > 1 else ""
            thresholds = ", ".join(str(value) for value in dithered.thresholds)
            axes.set_title(
                f"{dithered.name}{several}\nlikeness {dithered.likeness:.3f}, fires from {thresholds}",
                fontsize=8, color=_INK, loc="left",
            )  # fmt: skip
    _save(figure, path)


def feature_maps(
    digit: NDArray[np.uint8], rows: Sequence[tuple[str, NDArray[np.int8], NDArray[np.float32]]], path: Path
) -> None:
    """A digit and the bits of a layer's channels under several networks.

    Args:
        digit: uint8, shape (H, W).
        rows: a network's name, its bits (H, W, C) and its threshold kernel (m, n, g).
        path: the PNG to write.

    Raises:
        RefdesignError: the file cannot be written.
    """
    channels = min(bits.shape[2] for _, bits, _ in rows)
    across = min(channels, _ACROSS)
    lines = min(channels // across, _ACROSS // 4)
    figure = _figure(1.0 + 0.6 * (across + 5), (0.65 * lines + 0.45) * len(rows) + 0.9)
    figure.suptitle(
        f"One handwritten digit: {across * lines} channels of the first layer's bits, in three networks",
        x=0.02, y=0.985, ha="left", fontsize=13, color=_INK, weight="bold",
    )  # fmt: skip
    figure.text(
        0.02, 0.952,
        "A kernel of g slices T[row, column, slice] thresholds channel c by its slice c mod g: each line of maps "
        "stands beside the slice that its channels use.",
        ha="left", va="center", fontsize=9, color=_INK,
    )  # fmt: skip
    outer = figure.add_gridspec(
        len(rows),
        3,
        width_ratios=(3, 2.4, across),
        left=0.02,
        right=0.99,
        top=0.91,
        bottom=0.02,
        hspace=0.16,
        wspace=0.06,
    )
    for index, (name, bits, kernel) in enumerate(rows):
        axes = figure.add_subplot(outer[index, 0])
        _image(axes, digit, 0, 255)
        axes.set_anchor("NW")
        axes.set_title(name, fontsize=10, color=_INK, loc="left")
        slices = np.arange(across * lines) % kernel.shape[2]
        ordered = np.argsort(slices, kind="stable").reshape(lines, across)
        boxes = outer[index, 1].subgridspec(lines, 1, hspace=0.08)
        if kernel.shape[2] == 1:
            _kernel(figure.add_subplot(boxes[0, 0]), kernel[:, :, 0], "all c")
        else:
            for line, used in enumerate(slices[ordered]):
                if np.all(used == used[0]):
                    _kernel(figure.add_subplot(boxes[line, 0]), kernel[:, :, used[0]], f"slice {used[0]}")
        inner = outer[index, 2].subgridspec(lines, across, wspace=0.08, hspace=0.08)
        for (line, place), channel in np.ndenumerate(ordered):
            _image(figure.add_subplot(inner[line, place]), bits[:, :, channel], -1, 1)
    _save(figure, path)


def _kernel(axes: Axes, values: NDArray[np.float32], title: str) -> None:
    """A slice of a threshold kernel as a boxed grid of numbers, named on its left."""
    axes.imshow(np.ones_like(values), cmap="gray", vmin=0, vmax=1, aspect="equal")
    axes.set_anchor("NE")
    rows, columns = values.shape
    axes.set_xticks(np.arange(columns - 1) + 0.5, [])
    axes.set_yticks(np.arange(rows - 1) + 0.5, [])
    axes.tick_params(length=0)
    axes.grid(color=_ACCENT, linewidth=0.6)
    for spine in axes.spines.values():
        spine.set_color(_ACCENT)
    axes.set_ylabel(title, fontsize=8, color=_ACCENT, rotation=0, ha="right", va="center")
    for (i, j), value in np.ndenumerate(values):
        axes.text(j, i, f"{value:.2f}" if value else "0", ha="center", va="center", fontsize=6.5, color=_ACCENT)


def draw_maps(
    path: Path,
    image: NDArray[np.uint8],
    title: str,
    columns: Mapping[str, Sequence[NDArray[np.float32]]],
    rows: Sequence[str],
) -> None:
    """An image, and the maps that it gives: activations in columns, channels in rows.

    Args:
        path: the PNG to write.
        image: uint8, (H, W, C), C 1 or 3.
        title: above everything.
        columns: by activation, one map (H', W') for each row; each is drawn from its lowest to its highest value.
        rows: their names.

    Raises:
        RefdesignError: the file cannot be written.
    """
    figure = _figure(1.5 * (len(columns) + 1) + 0.4, 1.5 * len(rows) + 0.9)
    figure.suptitle(title, x=0.02, y=0.985, ha="left", fontsize=12, color=_INK, weight="bold")
    grid = figure.subplots(
        len(rows), len(columns) + 1, squeeze=False,
        gridspec_kw={"left": 0.02, "right": 0.965, "top": 1 - 0.75 / (1.5 * len(rows) + 0.9), "bottom": 0.01,
                     "wspace": 0.04, "hspace": 0.06},
    )  # fmt: skip
    for index, (axes_row, name) in enumerate(zip(grid, rows, strict=True)):
        if index == 0:
            _image(axes_row[0], image if image.shape[2] == 3 else image[:, :, 0], 0, 255)
            axes_row[0].set_title("image", fontsize=9, color=_INK, loc="left")
        else:
            axes_row[0].set_axis_off()
        for axes, (column, maps) in zip(axes_row[1:], columns.items(), strict=True):
            _image(axes, maps[index], float(maps[index].min()), float(maps[index].max()))
            if index == 0:
                axes.set_title(column, fontsize=9, color=_INK, loc="left")
        axes_row[-1].yaxis.set_label_position("right")
        axes_row[-1].set_ylabel(name, fontsize=8, color=_INK)
    _save(figure, path)
