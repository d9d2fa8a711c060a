"""A verification's report on the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from refdesign.cli import _common as common
from refdesign.verify.reports import text


def show(console: Console, report: dict[str, Any]) -> None:
    """Print a report but for its diagnosis: the verdict, findings, a table of outputs, the first difference, maps."""
    style = {0: "bold green", 1: "bold red", 2: "bold yellow"}[report["status"]]
    console.print(Text(f"{report['implementation']} against {report['network']}: {report['sentence']}", style))
    console.print(Text(f"compared: {report['compared']}"), soft_wrap=True)
    if any(count["rounded"] for count in report["outputs"].values()):
        console.print(Text(rounded(report["outputs"])), soft_wrap=True)
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


def rounded(outputs: dict[str, Any]) -> str:
    """How far logits went that are rounded otherwise, and why they may be.

    Args:
        outputs: a report's `outputs`.
    """
    furthest = max(count["furthest"] for count in outputs.values())
    share = "less than 1 %" if furthest < 0.01 else f"{furthest:.0%}".replace("%", " %")
    return (
        f"rounded otherwise: the furthest logit by {share} of its bound; a fused multiply-add, or a batch norm that an "
        "optimiser moved into the weights, rounds so"
    )


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


def show_diagnosis(console: Console, diagnosis: dict[str, Any]) -> None:
    """Print why: what a diagnosis says."""
    verdict, *rest = text.diagnosis(diagnosis)
    console.print(Text(verdict, "bold"), soft_wrap=True)
    for line in rest:
        console.print(Text(line), soft_wrap=True)
    if not diagnosis["complete"]:
        console.print(Text("   (--diagnosis-time gives it more)"))
