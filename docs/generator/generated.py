"""Pages that are made of what the code says: conventions, kernels, commands, benchmarks, the reference; figures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import click
import numpy as np

import refdesign
import simulator
from docs import design_plots
from docs.generator import measured
from refdesign import design
from refdesign.cli import COMMANDS, cli
from refdesign.conventions import PRESETS

FIELDS = {
    "sign_at_zero": "what sign(0) is",
    "sign_rule": "how z becomes a bit",
    "arithmetic": "exact, or which float program",
    "threshold_scale": "whether the threshold is scaled by γ",
    "kernel_origin": "where the kernel's phase starts",
    "channel_map": "which slice of a 3D kernel a channel uses",
    "bit_one": "what a 1 bit means in exports",
    "bit_order": "the order of bits in exported words",
    "word_order": "the order of exported words",
}
LEFT_OUT = re.compile(r"\.(_|cli|__main__|verify\.mutants\.subject|rtl\.(\w+_)?worker)")
"""Modules that are no interface."""


def pages(root: Path) -> dict[str, str | bytes]:
    """All generated pages, by name."""
    made: dict[str, str | bytes] = {
        "conventions.md": conventions(),
        "kernels.md": kernels(),
        "commands.md": commands(),
        "benchmarks.md": benchmarks(root),
    }
    for name, _ in reference_pages():
        made[name] = reference(name)
    for name, picture in design_plots.pictures(measured.result("kernels")["figures"]).items():
        made[f"figures/design_{name}.png"] = picture
    return made


def table(headings: Sequence[str], rows: Sequence[Sequence[object]], right: int = 0) -> str:
    """A Markdown table; its last `right` columns hold numbers."""
    rule = ["---"] * (len(headings) - right) + ["---:"] * right
    lines = [headings, rule, *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def conventions() -> str:
    """The table of presets."""
    values = {name: preset.to_dict() for name, preset in PRESETS.items()}
    rows = []
    for field, meaning in FIELDS.items():
        row = [f"`{preset[field]}`" for preset in values.values()]
        odd = [f"**{cell}**" if cell != row[0] else cell for cell in row]
        rows.append([f"`{field}`", meaning, *odd])
    missing = set(next(iter(values.values()))) - set(FIELDS)
    if missing:
        raise ValueError(f"conventions: no words for {', '.join(sorted(missing))}")
    return (
        "# Conventions\n\nEvery choice in which implementations differ is a field of "
        "[`refdesign.Conventions`](reference/refdesign.conventions.md). Bold is what differs from `PAPER`. "
        "What each value means: [What is computed, exactly](method.md).\n\n"
        + table(["field", "what it says", *(f"`{name}`" for name in values)], rows)
    )


def kernels() -> str:
    """The published kernels and the level sets."""
    text = ["# Published kernels\n", "By the names that `refdesign.design.published` takes; slices of 3D kernels one "]
    text += ["below the other. A cell holds an index in its kernel's level set, 0 the lowest.\n\n## Level sets\n"]
    text.append(
        table(["set", "levels"], [[f"`{n}`", ", ".join(f"{v:.5f}" for v in s)] for n, s in design.LEVEL_SETS.items()])
    )
    rows = []
    for name in design.published_names():
        kernel = design.published(name)
        indices, chosen = kernel.levels, kernel.level_set
        if indices is None or chosen is None:
            raise ValueError(f"{name}: expected level indices and a level set")
        slices = [" / ".join(" ".join(map(str, row)) for row in indices[:, :, q]) for q in range(kernel.shape[2])]
        (levels,) = (name for name, levels in design.LEVEL_SETS.items() if np.array_equal(levels, chosen))
        rows.append([f"`{name}`", "×".join(map(str, kernel.shape)), f"`{levels}`", "<br>".join(slices)])
    return "\n".join([*text, "## Kernels\n", table(["name", "shape", "level set", "cells, row / row"], rows)])


def commands() -> str:
    """The help of every command."""
    text = ["# Command line\n", "Each command's own `--help`, as this version prints it.\n"]
    with click.Context(cli, info_name="refdesign") as root:
        for name in COMMANDS:
            command = cli.get_command(root, name)
            if command is None:
                raise ValueError(f"{name}: expected a command")
            with click.Context(command, parent=root, info_name=name, max_content_width=100) as context:
                text.append(f"## refdesign {name}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(text)


def benchmarks(root: Path) -> str:
    """The README's tables of ratios, and what every benchmark is."""
    readme = (root / "README.md").read_text(encoding="utf-8")
    found = re.search(r"^## Speed and memory\n(.*?)^## ", readme, re.MULTILINE | re.DOTALL)
    if found is None:
        raise ValueError("README.md: found no section 'Speed and memory'")
    section = measured.written(found[1]).replace("](docs/", "](")  # the README links from the checkout
    rows = []
    for path in sorted((root / "benchmarks").glob("[a-z]*.py")):
        summary = re.match(r'"""(.+?)(?:\n\n|""")', path.read_text(encoding="utf-8"), re.DOTALL)
        rows.append([f"`python -m benchmarks.{path.stem}`", " ".join(summary[1].split()) if summary else ""])
    return (
        f"# Benchmarks\n\nEach compares two things in one run and prints a ratio; `make bench` runs all.\n{section}"
        f"\n## All benchmarks\n\n{table(['command', 'what it measures'], rows)}"
        f"\n## Where measured figures come from\n\n{data_files()}"
    )


def data_files() -> str:
    """The data files from which pages are written."""
    lines = []
    for name in measured.SOURCES:
        kept = measured.kept(name)
        machine = f"{kept['machine']['cores']} cores of {kept['machine']['cpu']}"
        lines.append(f"- [{name}](measured/{name}.json), at `{kept['commit']}` on {machine}: `{kept['command']}`")
    return (
        "Tables and figures that take long to make are written from what a command printed once; "
        "`python -m docs.generator.measured NAME` prints it again.\n\n" + "\n".join(lines) + "\n"
    )


@cache
def _modules() -> dict[str, list[str]]:
    """By page, the modules on it: one page for each module or package right below the two packages."""
    by_page: dict[str, list[str]] = {}
    for package in (refdesign, simulator):
        folder = Path(package.__path__[0])
        for path in sorted(folder.rglob("*.py")):  # by their files: importing all would import every framework
            parts = path.relative_to(folder.parent).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            if not LEFT_OUT.search(name):
                by_page.setdefault(".".join(name.split(".")[:2]), []).append(name)
    return by_page


def reference_pages() -> list[tuple[str, str]]:
    """Name and title of every page of the reference."""
    return [(f"reference/{name}.md", name) for name in _modules()]


def reference(page: str) -> str:
    """A page of the reference."""
    name = page.removeprefix("reference/").removesuffix(".md")
    return f"# {name}\n\n" + "\n\n".join(f"::: {module}" for module in _modules()[name]) + "\n"
