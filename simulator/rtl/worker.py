"""Runs cocotb in a process of its own: `python -m simulator.rtl.worker verilator work.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    """Run a build as the file says; the exit status is not 0 where that fails."""
    from cocotb_tools.runner import get_runner

    simulator, file = sys.argv[1:]
    get_runner(simulator).test(**json.loads(Path(file).read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
