"""The notebooks as pages: each is run, and its text, code and results are written as Markdown."""

from __future__ import annotations

import ast
import importlib.util
import pprint
import re
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"


def paths() -> list[Path]:
    """The notebooks, in the order of the course."""
    return sorted(FOLDER.glob("[0-9]*.py"))


def pages() -> list[tuple[str, str]]:
    """Name and title of every page."""
    return [(f"notebooks/{path.stem}.md", title(path)) for path in paths()]


def title(path: Path) -> str:
    """The notebook's first heading."""
    found = re.search(r"^\s*# (.+)$", path.read_text(encoding="utf-8").split("mo.md(", 1)[-1], re.MULTILINE)
    if found is None:
        raise ValueError(f"{path.name}: found no heading in its first text")
    return found[1]


def load(path: Path) -> ModuleType:
    """The notebook as a module; its `app` is not run yet."""
    spec = importlib.util.spec_from_file_location(f"notebook_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path}: cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cells(path: Path) -> list[str]:
    """The code of the cells, without what only hands names on."""
    found = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.decorator_list:
            body = node.body[:-1] if isinstance(node.body[-1], ast.Return) else node.body
            lines = path.read_text(encoding="utf-8").splitlines()
            text = lines[body[0].lineno - 1 : body[-1].end_lineno] if body else []
            found.append("\n".join(line[4:] if line.startswith("    ") else line for line in text))
    return found


def render(path: Path) -> str:
    """The notebook, run, as Markdown."""
    outputs, _ = load(path).app.run()
    parts = []
    codes = cells(path)
    # The first cell holds the imports: they follow the heading; marimo's own only where code that is shown needs it.
    shown = [code for code, output in zip(codes, outputs, strict=True) if not hasattr(output, "_markdown_text")]
    marimo = any(re.search(r"\bmo\.", code) for code in shown[1:])
    imports = "\n".join(line for line in codes[0].splitlines() if marimo or "marimo" not in line).strip()
    for code, output in list(zip(codes, outputs, strict=True))[1:]:
        text = getattr(output, "_markdown_text", None)
        if text is not None:
            parts.append(text.strip())
            if imports:
                parts.append(f"```python\n{imports}\n```")
                imports = ""
            continue
        parts.append(f"```python\n{code}\n```")
        parts.append(_shown(output))
    parts.append(f"*This page is the notebook `notebooks/{path.name}`, run when the site was built. "
                 f"To change it and run it: `marimo edit notebooks/{path.name}`.*")  # fmt: skip
    return "\n\n".join(part for part in parts if part) + "\n"


def _shown(output: Any) -> str:
    if output is None:
        return ""
    html = getattr(output, "text", None)
    if isinstance(html, str):
        return f'<div class="output">{html}</div>'
    shown = output if isinstance(output, str) else pprint.pformat(output, width=110, sort_dicts=False)
    return f"```text\n{shown}\n```"


def render_all() -> dict[str, str | bytes]:
    """Every notebook's page, by name."""
    return {f"notebooks/{path.stem}.md": render(path) for path in paths()}
