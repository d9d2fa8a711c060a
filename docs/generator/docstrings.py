"""Docstrings as Markdown: examples become code, and the contract's sections become links."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

_METHOD = re.compile(r"docs/method\.md((?:,)? sections? (\d))")


def markdown(text: str) -> str:
    """A docstring's text with `>>>` examples fenced.

    >>> print(markdown("Add.\\n\\n>>> 1 + [1][0]\\n2\\n\\nEnd [a][b]."))
    Add.
    <BLANKLINE>
    ```pycon
    >>> 1 + [1][0]
    2
    ```
    <BLANKLINE>
    End [a]\\[b].
    """
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


class Examples(Extension):
    """Griffe's extension: rewrites each docstring before it is parsed."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rewrite one object's docstring."""
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)
