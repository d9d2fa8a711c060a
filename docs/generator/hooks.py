"""Hooks of MkDocs: the navigation, the pages that are generated, and the examples that run while the site is built."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # `mkdocs` as a command does not have the checkout on its path

from docs.explorable import page as explorable  # noqa: E402
from docs.generator import generated, live, measured, notebooks  # noqa: E402

GUIDES = {
    "verify.md": "Judge your implementation",
    "hardware.md": "Hardware and the simulator",
    "engines.md": "Fast engines",
    "interchange.md": "Networks from elsewhere",
    "importing.md": "From PyTorch, Keras and Larq",
    "training.md": "Training and experiments",
    "conformance.md": "The conformance suite",
    "experiments/cifar10.md": "The experiment, in full",
}
"""The guides, by who needs them; those that exist are in the navigation."""
BACKGROUND = {
    "method.md": "What is computed, exactly",
    "arithmetic.md": "What frameworks compute",
    "design.md": "Designing kernels",
    "mutants.md": "The kill matrix",
}
WRITTEN = {"index.md", "start.md", "questions.md", "exercises.md", "glossary.md"}
"""Pages with a place of their own."""


def on_config(config: Any) -> Any:
    """Make the navigation from the pages that are there."""
    folder = Path(config["docs_dir"])
    present = {str(path.relative_to(folder)) for path in folder.rglob("*.md")}
    known = {*WRITTEN, *GUIDES, *BACKGROUND}
    others = sorted(present - known)
    guides = [{title: name} for name, title in GUIDES.items() if name in present]
    guides += [{_title(folder / name): name} for name in others]
    background = [{title: name} for name, title in BACKGROUND.items() if name in present]
    background += [
        {"Conventions": "conventions.md"},
        {"Published kernels": "kernels.md"},
        {"Benchmarks": "benchmarks.md"},
    ]
    learn = [{"The explorable": "explorable.html"}, *({title: name} for name, title in notebooks.pages())]
    learn += [{"Check yourself": "questions.md"}, {"Exercises": "exercises.md"}, {"Glossary": "glossary.md"}]
    reference = [{"Command line": "commands.md"}, *({title: name} for name, title in generated.reference_pages())]
    config["nav"] = [
        {"Home": "index.md"},
        {"Start in five minutes": "start.md"},
        {"Learn": learn},
        {"Guides": guides},
        {"Background": background},
        {"Reference": reference},
    ]
    return config


def _title(path: Path) -> str:
    found = re.search(r"^# (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else path.stem


def on_files(files: Any, config: Any) -> Any:
    """Add what is generated."""
    contents: dict[str, str | bytes] = {"explorable.html": explorable.html(home="index.html")}
    contents["figures/one-bit.png"] = explorable.png(explorable.hero())
    contents |= generated.pages(ROOT)
    contents |= notebooks.render_all()
    for name, content in contents.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Write measured figures, run live examples, and name files outside the site instead of linking to them."""
    text = live.run(measured.written(markdown), page.file.src_uri)
    return re.sub(r"\[([^\]]+)\]\(\.\./([^)#]+)[^)]*\)", lambda link: _outside(link, page), text)


SHIM = "https://unpkg.com/iframe-worker/shim"
"""What Material fetches so that the search works in pages opened from a file; the site has it with it."""


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Fetch nothing from elsewhere; give the search a name for those who cannot see it."""
    output = output.replace(
        'data-md-component="search" role="dialog"', 'data-md-component="search" role="dialog" aria-label="Search"'
    )
    return output.replace(SHIM, "../" * page.url.count("/") + "vendor/iframe-worker.js")


def on_post_template(output: str, template_name: str, config: Any) -> str:
    """The same in the page for what is not found."""
    return output.replace(SHIM, "/vendor/iframe-worker.js")


def _outside(link: re.Match[str], page: Any) -> str:
    if "/" in page.file.src_uri:  # a page in a folder: `../` stays inside the site
        return link[0]
    return link[1] if link[1].strip("`") == link[2] else f"{link[1]} (`{link[2]}` in the repository)"
