"""Pages of the documentation whose commands and samples are run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.shared_data import CHECKOUT

_BLOCK = re.compile(r"(?:<!-- status: (\d) -->\n)?```(sh|python)\n(.*?)```\n(?:\n```text\n(.*?)```)?", re.DOTALL)


def run_page(page: str, folder: Path) -> int:
    """Run a page's commands and samples in a folder, in their order; each prints the lines that stand below it.

    Returns:
        How many of them are commands.
    """
    programs = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(CHECKOUT)}
    blocks = _BLOCK.findall(page)
    for status, language, commands, printed in blocks:
        program = ["sh", "-e", "-c", commands] if language == "sh" else [sys.executable, "-c", commands]
        ran = subprocess.run(program, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
        assert ran.returncode == int(status or 0), ran.stderr
        found = (ran.stdout + ran.stderr).splitlines()
        for line in printed.splitlines():
            assert any(other.startswith(line) for other in found), (line, found)
    return sum(language == "sh" for _, language, _, _ in blocks)
