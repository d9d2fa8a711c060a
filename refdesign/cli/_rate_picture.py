"""The pictures of `refdesign explore` and `refdesign faults`, drawn with matplotlib (extra `plot`)."""

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


def error_rate_picture(summary: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw accuracy over the error rate with its interval: a panel for each structure, a line for each network.

    Args:
        summary: of `simulator.campaign.summarise`, by network, structure and rate.
        path: the PNG.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    check_installed()
    structures, networks = (list(dict.fromkeys(row[name] for row in summary)) for name in ("structure", "network"))
    figure = _figure(3.6 * len(structures) + 0.6, 3.4)
    panels = figure.subplots(1, len(structures), sharey=True, squeeze=False)[0]
    for axes, structure in zip(panels, structures, strict=True):
        for network in networks:
            rows = [row for row in summary if (row["structure"], row["network"]) == (structure, network)]
            rates, found = [row["rate"] for row in rows], [row["accuracy"] for row in rows]
            (line,) = axes.plot(rates, [one.mean for one in found], "o-", markersize=3, label=network)
            axes.fill_between(
                rates, [one.low for one in found], [one.high for one in found], color=line.get_color(), alpha=0.15
            )
        axes.set_xscale("symlog", linthresh=min([row["rate"] for row in summary if row["rate"] > 0], default=1.0))
        axes.set_title(structure, loc="left", fontsize=10)
        axes.set_xlabel("share of wrong bits")
        axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    panels[0].set_ylabel("accuracy")
    panels[0].set_ylim(0, 1)
    panels[0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    _save(figure, path)
