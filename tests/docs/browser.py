"""A headless Chromium for tests of pages, or the reason why there is none."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CANDIDATES = ("chromium", "chromium-browser", "google-chrome")
"""What the browser is called; Debian's package is the first."""


def executable() -> str:
    """Chromium's path; skips the test where Playwright or the browser is absent."""
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("needs Playwright (extra docs)")
    found = next((path for name in CANDIDATES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("needs Chromium (Debian: apt-get install chromium)")
    return found


@contextmanager
def chromium() -> Iterator[Any]:
    """A running browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """A page in a tab, with everything that it complained about or asked for.

    Attributes:
        page: Playwright's page.
        complaints: errors and messages of the console.
        requests: addresses that were fetched, without those inside the page.
    """

    def __init__(self, browser: Any, file: Path, fragment: str = "", **options: Any) -> None:
        self.page = browser.new_page(**({"reduced_motion": "reduce"} | options))
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self._note(request.url))
        self.page.goto(file.as_uri() + fragment)

    def _note(self, address: str) -> None:
        if not address.startswith(("data:", "blob:")):
            self.requests.append(address)

    def violations(self) -> list[str]:
        """What axe finds wrong: contrast, labels, roles; skips where axe is absent."""
        pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python (extra docs)")
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        return [
            f"{entry['id']}: {node['target']} {node.get('failureSummary', '')}"
            for entry in found
            for node in entry["nodes"]
        ]
