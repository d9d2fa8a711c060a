"""Docstrings as Markdown: examples become code, and the contract's sections become links."""

from __future__ import annotations

import re

_METHOD = re.compile(r"docs/method\.md((?:,)? sections? (\d))")


def markdown(text: str) -> str:
    """A docstring's text with its `>>>` examples fenced, and with links to the contract."""
    lines: list[str] = []
    inside = False
    for line in text.splitlines():
        example = line.lstrip().startswith(">>>")
        if example and not inside:
            inside = True
            lines += [*([""] if lines and lines[-1].strip() else []), "```pycon"]
        elif inside and not line.strip():
            inside = False
            lines.append("```")
        lines.append(line if inside or line.startswith("    ") else _linked(line.replace("][", "]\\[")))
    return "\n".join([*lines, "```"] if inside else lines)


def _linked(line: str) -> str:
    return _METHOD.sub(r"[What is computed, exactly\1](../method.md)", line)
