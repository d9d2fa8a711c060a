"""How long the page takes: to its first picture, and to answer each control.

    python -m docs.explorable measure

Needs Playwright (extra `docs`) and Chromium.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

from docs.explorable import page

_LOADS = 5
_ANSWER = """async (name) => {
  const node = [...document.querySelectorAll(`[data-bind="${name}"]`)].pop(), taken = [];
  node.scrollIntoView({ block: "center", behavior: "instant" });
  await new Promise((resolve) => setTimeout(resolve, 300));
  for (let i = Number(node.min); i <= Math.min(Number(node.max), 20); i++) {
    const start = performance.now();
    node.value = i;
    node.dispatchEvent(new Event("input"));
    await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
    taken.push(performance.now() - start);
  }
  return taken;
}"""
_PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


def measure() -> list[str]:
    """The measurements, a line each."""
    from playwright.sync_api import sync_playwright

    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = Path(folder, "index.html")
        file.write_text(page.html(), encoding="utf-8")
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        paints, ready = [], []
        for _ in range(_LOADS):
            tab = browser.new_page(reduced_motion="reduce", viewport={"width": 1280, "height": 900})
            tab.goto(file.as_uri())
            tab.wait_for_selector("html[data-ready]")
            paints.append(tab.evaluate(_PAINT))
            ready.append(tab.evaluate("performance.now()"))
            if len(paints) < _LOADS:
                tab.close()
        lines = [
            f"page: {file.stat().st_size / 1e6:.2f} MB, one file",
            f"first picture: {statistics.median(paints):.0f} ms (median of {_LOADS} loads, at most {max(paints):.0f})",
            f"everything drawn: {statistics.median(ready):.0f} ms (at most {max(ready):.0f})",
        ]
        session = tab.context.new_cdp_session(tab)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        for name in ("light", "gamma", "beta", "cycle", "rank"):
            before = _processor(session)
            taken = tab.evaluate(_ANSWER, name)
            work = 1000 * (_processor(session) - before) / len(taken)
            lines.append(
                f"{name}: answers in {statistics.median(taken):.0f} ms (at most {max(taken):.0f}), "
                f"of which {work:.0f} ms of processor time"
            )
        browser.close()
    return lines


def _processor(session: Any) -> float:
    """Seconds of processor time that the page's main thread has taken."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return float(next(entry["value"] for entry in metrics if entry["name"] == "TaskDuration"))
