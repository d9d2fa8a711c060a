"""Parts of a verification's report as lines of text, for terminals and for what a test bench raises."""

from __future__ import annotations

from typing import Any

_SHADES = " ·░▒▓█"
_WIDEST = 64


def lines(report: dict[str, Any]) -> list[str]:
    """A report (`data.to_dict`) in words: the verdict, findings, the first difference, where it differs, and why.

    >>> from refdesign.api import pretrained
    >>> import numpy as np
    >>> from refdesign.verify.compare import compare
    >>> from refdesign.verify.doors.callable import CallableDoor
    >>> from refdesign.verify.reports.data import to_dict
    >>> digits = pretrained("digits")
    >>> verdict = compare(digits, CallableDoor(digits.run, digits), np.zeros((2, 8, 8, 1), np.uint8))
    >>> lines(to_dict(digits, verdict))[0]
    'equal: 20 values of 2 images in 1 of 14 outputs (logits), 0.05 % of all'
    """
    found = [report["sentence"], *(finding(entry) for entry in report["findings"])]
    if report["first_difference"] is not None:
        place, values, *behind = first_difference(report["first_difference"])
        found += [place + values, *behind]
    differing = next(((name, count) for name, count in report["outputs"].items() if count["differing"]), None)
    if differing is not None:
        found += where_it_differs(*differing)
    if report["diagnosis"] is not None:
        found += diagnosis(report["diagnosis"])
    return found


def diagnosis(entry: dict[str, Any]) -> list[str]:
    """A diagnosis: its verdict, and for each explanation what it is, what to do about it, and what it rests on.

    >>> why = {"verdict": "no known change or pair explains it (9 tried)", "explanations": [], "complete": True}
    >>> diagnosis(why | {"go_on": "refdesign explain ..."})
    ['diagnosis: no known change or pair explains it (9 tried)', '   to go on: refdesign explain ...']
    """
    found = [f"diagnosis: {entry['verdict']}"]
    for number_, explanation in enumerate(entry["explanations"]):
        if number_ == 1:
            found.append("   the following fit as well and could not be told apart:")
        for change in explanation["changes"]:
            where = "" if change["where"] == "everywhere" else f" in {change['where']}"
            name = f"{change['name']}{where} [{change['group']}]"
            found.append(f"   {name}: your implementation behaves as if: {change['says']}")
            if number_ == 0:
                found.append(f"   to mend: {change['mend']}")
        if number_ == 0:
            found.append(f"   {rests_on(explanation)}")
    if not entry["complete"]:
        found.append("   the time was over before everything was tried")
    if entry["go_on"] is not None:
        found.append(f"   to go on: {entry['go_on']}")
    return found


def rests_on(explanation: dict[str, Any]) -> str:
    """How many images an explanation was tried on.

    >>> rests_on({"images": 72, "fresh_images": 48})
    'all 72 images that were tried are answered so: 24 of the comparison, 48 made for the diagnosis'
    """
    images, fresh = explanation["images"], explanation["fresh_images"]
    made = f", {fresh} made for the diagnosis" if fresh else ""
    return f"all {images} images that were tried are answered so: {images - fresh} of the comparison{made}"


def finding(entry: dict[str, Any]) -> str:
    """One finding.

    >>> finding({"kind": "hung", "message": "no answer", "output": None, "image": 3, "fault": True})
    'finding, image 3: hung: no answer'
    """
    place = "" if entry["output"] is None else f", {entry['output']}"
    image = "" if entry["image"] is None else f", image {entry['image']}"
    return f"{'finding' if entry['fault'] else 'note'}{place}{image}: {entry['kind']}: {entry['message']}"


def first_difference(first: dict[str, Any]) -> list[str]:
    """The place, the two values, and then line by line what is behind it on our side."""
    place = f"channel {first['channel']}"
    if first["output"].endswith(".bits"):
        place += f" (word {first['word']}, bit {first['bit']})"
    if first["row"] is not None:
        place = f"row {first['row']}, column {first['column']}, {place}"
    found = [
        f"first difference: {first['output']}, image {first['image']}, {place}: ",
        f"ours {number(first['ours'])}, theirs {number(first['theirs'])}",
    ]
    if first["accumulator"] is not None and first["rule"] is not None:
        phase = "" if first["phase"] is None else f", phase ({first['phase'][0]}, {first['phase'][1]})"
        margin = "" if first["margin"] is None else f", margin {first['margin']}"
        found.append(f"   our accumulator {first['accumulator']}, fires at {first['rule']}{margin}{phase}")
    if first["their_accumulator"] is not None:
        found.append(f"   their accumulator {number(first['their_accumulator'])}")
    if first["inputs_agree"] is not None:
        found.append(f"   the layer's input bits {'agree' if first['inputs_agree'] else 'differ already'}")
    return found


def number(value: float | str) -> str:
    """A number as people write it: whole ones without a point.

    >>> number(-3.0), number(0.5), number("nan")
    ('-3', '0.5', 'nan')
    """
    if isinstance(value, str):
        return value
    return str(int(value)) if value == int(value) else f"{value:.9g}"


def where_it_differs(name: str, count: dict[str, Any]) -> list[str]:
    """Where an output differs: what the places have in common; by phase, by position, by channel."""
    found = [f"{name} differs {pattern}" for pattern in count["patterns"]]
    if count["by_phase"] is not None and len(count["by_phase"]) * len(count["by_phase"][0]) > 1:
        rows = " / ".join(" ".join(f"{value:,}" for value in row) for row in count["by_phase"])
        found.append(f"{name} differs by phase: {rows}")
    if count["by_position"] is not None:
        most = max(max(row) for row in count["by_position"]) or 1
        found.append(f"{name} differs by position (█ is {most:,}):")
        rows_shown = count["by_position"][:_WIDEST]
        found += ["   " + "".join(_shade(value, most) * 2 for value in row[:_WIDEST]) for row in rows_shown]
    channels = count["by_channel"]
    wrong = [channel for channel, value in enumerate(channels) if value]
    if len(wrong) == len(channels):
        return [*found, f"{name} differs in all {len(channels)} channels"]
    some = ", ".join(str(channel) for channel in wrong[:16]) + (", …" if len(wrong) > 16 else "")
    return [*found, f"{name} differs in {len(wrong)} of {len(channels)} channels: {some}"]


def _shade(value: int, most: int) -> str:
    return _SHADES[0] if not value else _SHADES[1 + (value * (len(_SHADES) - 2)) // most]
