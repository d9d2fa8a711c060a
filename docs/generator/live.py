"""Examples that run while the site is built, so that what stands below them is what they print.

A fence ` ```python run ` shares its names with the page's other ones; a fence ` ```sh run ` holds `refdesign`
commands. All run in a folder of their own. What they print follows in a fence of its own; where one fails, the build
fails.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
import sys
import tempfile
from typing import Any

FENCE = re.compile(r"^```(python|sh) run\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
_LONGEST = 60


def run(markdown: str, where: str) -> str:
    """The page with what its examples print.

    Raises:
        RuntimeError: an example fails; names the page.

    >>> print(run("```python run\\nprint(1 + 1)\\n```\\n", "here").strip())
    ```python
    print(1 + 1)
    ```
    <BLANKLINE>
    ```text
    2
    ```
    """
    names: dict[str, Any] = {"__name__": "example"}

    def replace(fence: re.Match[str]) -> str:
        language, code = fence[1], fence[2]
        output = _python(code, names, where) if language == "python" else _shell(code, where)
        shown = f"```{language}\n{code}```\n"
        return shown + (f"\n```text\n{_short(output)}\n```\n" if output.strip() else "")

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # examples may write files
        return FENCE.sub(replace, markdown)


def _python(code: str, names: dict[str, Any], where: str) -> str:
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            exec(compile(code, where, "exec"), names)  # noqa: S102 (the project's own pages)
    except Exception as error:
        raise RuntimeError(f"{where}: an example fails: {error}\n{code}") from error
    return printed.getvalue()


def _shell(code: str, where: str) -> str:
    outputs = []
    for line in code.strip().splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        if words[0] != "refdesign":
            raise RuntimeError(f"{where}: found the command {words[0]!r}, expected refdesign")
        command = [sys.executable, "-m", "refdesign", *words[1:]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1):
            raise RuntimeError(f"{where}: {line}: status {done.returncode}: {done.stderr}")
        outputs.append(done.stdout.rstrip())
    return "\n".join(outputs)


def _short(text: str) -> str:
    lines = [line.rstrip() for line in text.rstrip().splitlines()]
    if len(lines) <= _LONGEST:
        return "\n".join(lines)
    return "\n".join([*lines[:_LONGEST], f"... and {len(lines) - _LONGEST} more lines"])
