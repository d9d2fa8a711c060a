"""A verification's report on the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from refdesign.cli import _common as common
from refdesign.verify.reports import text


def show(console: Console, report: dict[str, Any]) -> None:
    """Print a report: the verdict, findings, a table of outputs, the first difference, maps and the diagnosis."""
    style = {0: "bold green", 1: "bold red", 2: "bold yellow"}[report["status"]]
    console.print(Text(f"{report['implementation']} against {report['network']}: {report['sentence']}", style))
    furthest = max((count["furthest"] for count in report["outputs"].values()), default=0.0)
    nearness = f" (the furthest at {furthest:.0%} of its bound)".replace("%", " %") if furthest else ""
    console.print(Text(f"compared: {report['compared']}{nearness}"), soft_wrap=True)
    for finding in report["findings"]:
        console.print(Text(text.finding(finding)), soft_wrap=True)
    if report["not_compared"]:
        console.print(Text(f"not compared: {', '.join(report['not_compared'])}"), soft_wrap=True)
    differing = {name: count for name, count in report["outputs"].items() if count["differing"]}
    if differing:
        _table(console, report)
        if report["first_difference"] is not None:
            place, values, *behind = text.first_difference(report["first_difference"])
            console.print(Text(place, "bold") + Text(values))
            for line in behind:
                console.print(Text(line))
        for line in text.where_it_differs(*next(iter(differing.items()))):
            console.print(Text(line))
    if report["layers_at_fault"]:
        console.print(Text(f"wrong by themselves, on their own inputs: {', '.join(report['layers_at_fault'])}"))
    if report["diagnosis"] is not None:
        _diagnosis(console, report["diagnosis"])


def _table(console: Console, report: dict[str, Any]) -> None:
    made = common.table("output", "compared", "differ", "images", "layer alone", left=("output",))
    for name, count in report["outputs"].items():
        alone = report["layers_alone"].get(name)
        made.add_row(
            common.cell(name),
            f"{count['values']:,}",
            f"{count['differing']:,}" if count["differing"] else "equal",
            f"{count['images_differing']:,}",
            "" if alone is None else (f"{alone['differing']:,}" if alone["differing"] else "equal"),
        )
    console.print(made)


def _diagnosis(console: Console, diagnosis: dict[str, Any]) -> None:
    console.print(Text(f"diagnosis: {diagnosis['verdict']}", "bold"), soft_wrap=True)
    for number_, explanation in enumerate(diagnosis["explanations"]):
        for change in explanation["changes"]:
            where = "" if change["where"] == "everywhere" else f" in {change['where']}"
            console.print(Text(f"   {change['name']}{where} [{change['group']}]: {change['says']}"), soft_wrap=True)
        if number_ == 0:
            console.print(
                Text(f"   explains {explanation['images']} images, {explanation['fresh_images']} of them fresh")
            )
            if len(diagnosis["explanations"]) > 1:
                console.print(Text("   the following fit as well and could not be told apart:"))
    if not diagnosis["complete"]:
        console.print(Text("   the time was over before all pairs were tried (--diagnosis-time)"))
