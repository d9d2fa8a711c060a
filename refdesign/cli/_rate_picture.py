"""The picture of `refdesign explore`, drawn with matplotlib (extra `plot`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refdesign.cli._pictures import _ACCENT, _INK, _figure, _save, check_installed


def rate_picture(network: str, clock: float, rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the fewest lanes, and the block RAMs, over the rate, both on logarithmic axes.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    check_installed()
    figure = _figure(6.4, 4.0)
    axes = figure.add_subplot()
    rising = sorted(rows, key=lambda row: row["images_per_second"])
    rates = [row["images_per_second"] for row in rising]
    for name, label, style, colour in (
        ("lanes", "lanes: PE × SIMD of all layers", "o-", _ACCENT),
        ("weight_block_rams", "block RAMs of weights", "s--", _INK),
    ):
        # A rate between two accelerators takes the faster one.
        axes.plot(rates, [row[name] for row in rising], style, drawstyle="steps-pre", color=colour, label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(f"images a second at {clock:g} MHz")
    axes.set_title(f"{network}: the cheapest accelerators", loc="left", fontsize=10)
    axes.grid(visible=True, which="major", color="#dddddd", linewidth=0.6)
    axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    _save(figure, path)
