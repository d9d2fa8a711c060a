"""The site: what is generated for it, and, in the slow tests, all of it, built strictly, its links followed."""

from __future__ import annotations

import dataclasses
import html.parser
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from docs.generator import examples, generated
from refdesign import design
from refdesign.cli import COMMANDS
from refdesign.conventions import PRESETS, Conventions
from tests.docs.browser import Visit, chromium, executable
from tests.shared_data import CHECKOUT


def test_the_conventions_table_has_every_field_and_value() -> None:
    page = generated.conventions()
    for field in dataclasses.fields(Conventions):
        row = next(line for line in page.splitlines() if line.startswith(f"| `{field.name}`"))
        for preset in PRESETS.values():
            assert f"`{getattr(preset, field.name)}`" in row


def test_every_kernel_and_command_is_there() -> None:
    kernels, commands = generated.kernels(), generated.commands()
    assert all(f"`{name}`" in kernels for name in design.published_names())
    assert "| `threshold_3x3x2_complement_v1` | 3×3×2 | `" in kernels
    assert "1 2 1 / 2 1 2 / 1 2 1<br>4 3 4 / 3 4 3 / 4 3 4" in kernels
    assert all(f"## refdesign {name}\n" in commands for name in COMMANDS)


def test_benchmarks_come_from_the_readme_and_the_folder() -> None:
    page = generated.benchmarks(CHECKOUT)
    assert "| ratio of times |" in page
    assert "`python -m benchmarks.conv`" in page


def test_the_reference_names_every_public_module_once() -> None:
    modules = [line for name, _ in generated.reference_pages() for line in generated.reference(name).splitlines()]
    named = [line.removeprefix("::: ") for line in modules if line.startswith("::: ")]
    assert len(named) == len(set(named))
    assert {"refdesign.fold", "refdesign.ops.dither", "simulator.units.mvtu", "refdesign.naive.explain"} <= set(named)
    assert not any(".cli" in name or "._" in name for name in named)


def test_docstrings_examples_become_code() -> None:
    assert examples.markdown("A.\n\n>>> f[1][2]\n3") == "A.\n\n```pycon\n>>> f[1][2]\n3\n```"
    assert examples.markdown("See docs/method.md, section 4.") == (
        "See [What is computed, exactly, section 4](../method.md)."
    )


class Page(html.parser.HTMLParser):
    """The links, the identifiers and the things fetched of one page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.fetched: set[str] = set()
        self.identifiers: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.identifiers |= {value for name, value in attrs if name in ("id", "name") and value}
        if tag == "a" and given.get("href"):
            self.links.add(str(given["href"]))
        for name in ("src", "href") if tag != "a" else ():
            if given.get(name) and given.get("rel") not in ("canonical", "prev", "next"):
                self.fetched.add(str(given[name]))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for name in ("mkdocs", "material", "mkdocstrings", "marimo"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"needs {name} (extra docs)")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[:2000]
    return folder


@pytest.mark.slow
def test_links_lead_somewhere_and_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    pages = {path: Page(path) for path in site.rglob("*.html")}
    assert len(pages) > 40
    broken = []
    for path, page in pages.items():
        assert not [address for address in page.fetched if urlsplit(address).scheme in ("http", "https")], path
        for address in page.links | page.fetched:
            parts = urlsplit(address)
            if parts.scheme or path.name == "404.html":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            missing = not target.exists()
            if missing or (target in pages and parts.fragment not in {"", "__skip"} | pages[target].identifiers):
                broken.append(f"{path.relative_to(site)}: {address}")
    assert broken == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["index.html", "start.html", "notebooks/01_dithering.html", "reference/refdesign.fold.html"]
)
def test_a_page_opens_without_a_network(site: Path, name: str) -> None:
    executable()
    with chromium() as browser:
        visit = Visit(browser, site / name)
        visit.page.wait_for_timeout(300)
        assert all(address.startswith("file://") for address in visit.requests)
        assert visit.complaints == []
        assert visit.page.locator("h1").count() == 1


THEME = ("landmark-unique", "scrollable-region-focusable")
"""Rules about what the theme's own script adds: a bar over each block of code, a frame around each wide table."""


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "name", ["index.html", "start.html", "notebooks/02_from_sign_to_design.html", "conventions.html"]
)
def test_contrast_and_labels(site: Path, name: str, scheme: str) -> None:
    executable()
    with chromium() as browser:
        visit = Visit(browser, site / name, color_scheme=scheme)
        visit.page.wait_for_timeout(300)
        assert [found for found in visit.violations() if not found.startswith(THEME)] == []
