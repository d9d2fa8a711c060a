"""The seeded faults of the RTL: their names and numbers, read from `faults.svh`."""

from __future__ import annotations

import re

from simulator.rtl.design import FOLDER


def seeded_faults() -> dict[str, int]:
    """Name to number of every fault that `+fault=<number>` switches on in a build with FAULTS defined.

    >>> seeded_faults()["PHASE_COLUMN_KEPT_AT_ROW_END"], len(seeded_faults()) >= 18
    (1, True)
    """
    text = (FOLDER / "faults.svh").read_text(encoding="utf-8")
    return {name: int(number) for name, number in re.findall(r"^`define (\w+) (\d+)$", text, re.MULTILINE)}
