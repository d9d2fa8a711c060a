"""The demo's pictures, drawn with matplotlib (extra `plot`)."""

from __future__ import annotations

from collections.abc import Sequence
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

    return Figure((width, height), dpi=150, facecolor="white")


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
        gridspec_kw={"left": 0.03, "right": 0.995, "top": 0.885, "bottom": 0.005, "wspace": 0.03, "hspace": 0.1},
    )  # fmt: skip
    figure.suptitle(
        "What one bit per pixel keeps: one threshold (Sign) against a periodic one (DeSign)",
        x=0.03, y=0.985, ha="left", fontsize=13, color=_INK, weight="bold",
    )  # fmt: skip
    figure.text(
        0.03, 0.945,
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
            several = f", mean of {slices} channels" if slices > 1 else ""
            thresholds = ", ".join(str(value) for value in dithered.thresholds)
            axes.set_title(
                f"{dithered.name}{several}: likeness {dithered.likeness:.3f}\nfires from {thresholds}",
                fontsize=8.5, color=_INK, loc="left",
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
    figure = _figure(1.0 + 0.6 * (across + 5), (0.65 * lines + 0.4) * len(rows) + 0.7)
    figure.suptitle(
        f"One handwritten digit: {across * lines} channels of the first layer's bits, in three networks",
        x=0.02, y=0.985, ha="left", fontsize=13, color=_INK, weight="bold",
    )  # fmt: skip
    outer = figure.add_gridspec(
        len(rows),
        3,
        width_ratios=(3, 2.4, across),
        left=0.02,
        right=0.99,
        top=0.92,
        bottom=0.02,
        hspace=0.16,
        wspace=0.06,
    )
    for index, (name, bits, kernel) in enumerate(rows):
        axes = figure.add_subplot(outer[index, 0])
        _image(axes, digit, 0, 255)
        axes.set_anchor("NW")
        axes.set_title(name, fontsize=10, color=_INK, loc="left")
        _kernel(figure.add_subplot(outer[index, 1]), kernel)
        inner = outer[index, 2].subgridspec(lines, across, wspace=0.08, hspace=0.08)
        for channel in range(across * lines):
            _image(figure.add_subplot(inner[channel // across, channel % across]), bits[:, :, channel], -1, 1)
    _save(figure, path)


def _kernel(axes: Axes, kernel: NDArray[np.float32]) -> None:
    """A threshold kernel as numbers, its slices beside each other."""
    m, n, g = kernel.shape
    axes.axis("off")
    if not kernel.any():
        axes.text(0.5, 0.5, "T = 0", ha="center", va="center", fontsize=9, color=_ACCENT)
        return
    axes.set_title("thresholds T", fontsize=8, color=_ACCENT, loc="left")
    across = 1 if g == 1 else 2
    for q in range(g):
        left, top = q % across, q // across
        down = -(-g // across)
        for i in range(m):
            for j in range(n):
                axes.text(
                    (left + (j + 0.5) / n * 0.88) / across,
                    1 - (top + (i + 0.5) / m * 0.8) / down,
                    f"{kernel[i, j, q]:.2f}",
                    ha="center", va="center", fontsize=9 if g == 1 else 6.5, color=_ACCENT,
                )  # fmt: skip
