"""The published threshold kernels and the level sets that they use.

The values are facts of the released code, kept as level indices in `published.json`.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from refdesign.errors import RefdesignError
from refdesign.parameters import ThresholdKernel

__all__ = ["LEVEL_SETS", "published", "published_names"]


@cache
def _data() -> dict[str, Any]:
    text = files("refdesign.design").joinpath("published.json").read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text)
    return data


LEVEL_SETS: dict[str, tuple[float, ...]] = {name: tuple(values) for name, values in _data()["level_sets"].items()}
"""The released re-scaled levels: `"A"` and the older `"B"` for (0, 1, 3, 5, 7, 9), `"baseline"` of four levels."""


def published_names() -> tuple[str, ...]:
    """The names that `published` knows: the released files' without `.mat`.

    >>> published_names()[:2]
    ('2x2_threshold_proposed_Hprof', 'baseline2x2')
    """
    return tuple(_data()["kernels"])


def published(name: str) -> ThresholdKernel:
    """A published kernel: values float32 (m, n, g), level indices and the level set (float64).

    `kernel.level_set[kernel.levels]` are the released float64 values within 1e-12 (one released file is rounded
    to 15 digits); `kernel.values` are those in float32.

    Raises:
        RefdesignError: a name that is not published; the message lists those that are.

    Source: released code, files in `thresholds/` and `Mat/`.

    >>> kernel = published("threshold_3x3_symmetric_v1")
    >>> kernel.shape, kernel.levels[0, :, 0].tolist(), kernel.level_set[2]
    ((3, 3, 1), [2, 1, 2], 0.9671384551810105)
    """
    kernels = _data()["kernels"]
    if not isinstance(name, str) or name not in kernels:
        raise RefdesignError(f"kernel: found the name {name!r}, expected one of {', '.join(published_names())}")
    entry = kernels[name]
    return ThresholdKernel.from_levels(entry["levels"], LEVEL_SETS[entry["level_set"]])
