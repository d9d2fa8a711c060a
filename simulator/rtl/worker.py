"""Runs cocotb's runner in a process of its own: `python -m simulator.rtl.worker work.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    """Build or run what the file says; the exit status is not 0 where that fails."""
    from cocotb_tools.runner import get_runner

    plan = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    runner = get_runner(plan["simulator"])
    if "build" in plan:
        runner.build(**plan["build"])
    if "test" in plan:
        runner.test(**plan["test"])


if __name__ == "__main__":
    main()
