"""A verification's report on the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from refdesign.cli import _common as common

_SHADES = " ·░▒▓█"
_WIDEST = 64


def show(console: Console, report: dict[str, Any]) -> None:
    """Print a report: the verdict, findings, a table of outputs, the first difference, maps and the diagnosis."""
    style = {0: "bold green", 1: "bold red", 2: "bold yellow"}[report["status"]]
    console.print(Text(f"{report['implementation']} against {report['network']}: {report['sentence']}", style))
    furthest = max((count["furthest"] for count in report["outputs"].values()), default=0.0)
    nearness = f" (the furthest at {furthest:.0%} of its bound)".replace("%", " %") if furthest else ""
    console.print(Text(f"compared: {report['compared']}{nearness}"), soft_wrap=True)
    for finding in report["findings"]:
        place = "" if finding["output"] is None else f" {finding['output']}"
        image = "" if finding["image"] is None else f", image {finding['image']}"
        what = "finding" if finding["fault"] else "note"
        console.print(Text(f"{what}:{place}{image}: {finding['kind']}: {finding['message']}"), soft_wrap=True)
    if report["not_compared"]:
        console.print(Text(f"not compared: {', '.join(report['not_compared'])}"), soft_wrap=True)
    differing = {name: count for name, count in report["outputs"].items() if count["differing"]}
    if differing:
        _table(console, report)
        if report["first_difference"] is not None:
            _first(console, report["first_difference"])
        _maps(console, *next(iter(differing.items())))
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


def _first(console: Console, first: dict[str, Any]) -> None:
    place = f"channel {first['channel']} (word {first['word']}, bit {first['bit']})"
    if first["row"] is not None:
        place = f"row {first['row']}, column {first['column']}, {place}"
    console.print(
        Text(f"first difference: {first['output']}, image {first['image']}, {place}: ", "bold")
        + Text(f"ours {number(first['ours'])}, theirs {number(first['theirs'])}")
    )
    if first["accumulator"] is not None and first["rule"] is not None:
        phase = "" if first["phase"] is None else f", phase ({first['phase'][0]}, {first['phase'][1]})"
        margin = "" if first["margin"] is None else f", margin {first['margin']}"
        console.print(Text(f"   our accumulator {first['accumulator']}, fires at {first['rule']}{margin}{phase}"))
    if first["their_accumulator"] is not None:
        console.print(Text(f"   their accumulator {number(first['their_accumulator'])}"))
    if first["inputs_agree"] is not None:
        agree = "agree" if first["inputs_agree"] else "differ already"
        console.print(Text(f"   the layer's input bits {agree}"))


def number(value: float | str) -> str:
    """A number as people write it: whole ones without a point.

    >>> number(-3.0), number(0.5), number("nan")
    ('-3', '0.5', 'nan')
    """
    if isinstance(value, str):
        return value
    return str(int(value)) if value == int(value) else f"{value:.9g}"


def _maps(console: Console, name: str, count: dict[str, Any]) -> None:
    """Where an output differs: by phase, by position, by channel."""
    if count["by_phase"] is not None and len(count["by_phase"]) * len(count["by_phase"][0]) > 1:
        rows = " / ".join(" ".join(f"{value:,}" for value in row) for row in count["by_phase"])
        console.print(Text(f"{name} differs by phase: {rows}"))
    if count["by_position"] is not None:
        most = max(max(row) for row in count["by_position"]) or 1
        console.print(Text(f"{name} differs by position (█ is {most:,}):"))
        for row in count["by_position"][:_WIDEST]:
            console.print(Text("   " + "".join(_shade(value, most) * 2 for value in row[:_WIDEST])))
    channels = count["by_channel"]
    wrong = [channel for channel, value in enumerate(channels) if value]
    if len(wrong) == len(channels):
        console.print(Text(f"{name} differs in all {len(channels)} channels"))
    else:
        some = ", ".join(str(channel) for channel in wrong[:16]) + (", …" if len(wrong) > 16 else "")
        console.print(Text(f"{name} differs in {len(wrong)} of {len(channels)} channels: {some}"))


def _shade(value: int, most: int) -> str:
    return _SHADES[0] if not value else _SHADES[1 + (value * (len(_SHADES) - 2)) // most]


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
