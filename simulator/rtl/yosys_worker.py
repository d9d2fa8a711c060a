"""Runs Yosys in a process of its own: `python -m simulator.rtl.yosys_worker commands.json` (an error ends it)."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    """Run the commands of the file, one after the other, on one design."""
    from pyosys import libyosys

    design = libyosys.Design()
    for command in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        libyosys.run_pass(command, design)


if __name__ == "__main__":
    main()
