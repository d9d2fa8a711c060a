"""What every benchmark shares: threads on both sides, interleaved timing, and how results are printed."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def with_one_thread(module: str) -> None:
    """Start this program again with NumPy's matrix products on one thread, unless it is already so.

    The libraries read the variables when they are loaded, so that they have to stand before the start.
    """
    if all(os.environ.get(name) == "1" for name in _VARIABLES):
        return
    environment = {**os.environ, **dict.fromkeys(_VARIABLES, "1")}
    os.execve(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]], environment)


def interleaved(functions: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each function, taken in turns so that whatever disturbs the machine disturbs all of them."""
    for function in functions.values():
        function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Median and least of the times, in milliseconds."""
    return {"median_ms": 1e3 * statistics.median(seconds), "least_ms": 1e3 * min(seconds)}


def ratios(ours: Mapping[str, float], theirs: Mapping[str, float]) -> dict[str, float]:
    """Our time over theirs, of the medians and of the least times."""
    return {
        "median": ours["median_ms"] / theirs["median_ms"],
        "least": ours["least_ms"] / theirs["least_ms"],
    }


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    cpu = platform.processor()
    information = Path("/proc/cpuinfo")
    if information.exists():
        names = [line.split(":", 1)[1].strip() for line in information.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    versions = {name: version(name) for name in ("numpy", "scipy", "torch")}
    return {"cpu": cpu, "cores": os.cpu_count(), "load": load, "python": platform.python_version(), **versions}


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows of text and numbers under their headings, numbers with three decimals."""
    texts = [[f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row] for row in (headings, *rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(headings))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in texts
    )


def report(result: Mapping[str, Any], text: str, as_json: bool) -> None:
    """Print the result: as JSON, or the text under a line about the machine."""
    if as_json:
        print(json.dumps({"machine": machine(), **result}, indent=2))
        return
    facts = machine()
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    print(text)
