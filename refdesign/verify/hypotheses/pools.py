"""Changes of the max pool: its kind, its windows, and its order with dither and sign."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from refdesign.verify.change import Change, Decision

_O = "pool"


def _windows(d: Decision, values: NDArray[Any], *, from_the_end: bool = False) -> NDArray[Any] | None:
    """Values before the pool in their windows, (N, H, W, C, rows, columns); None without a pool."""
    pool = d.layer.pool
    if pool is None:
        return None
    windows = sliding_window_view(values, pool.size, axis=(1, 2))
    rows, columns = pool.stride
    top = (windows.shape[1] - 1) % rows if from_the_end else 0
    left = (windows.shape[2] - 1) % columns if from_the_end else 0
    return windows[:, top::rows, left::columns]


def _before_the_pool(d: Decision, own_phase: bool, pool: str) -> bool:
    """Bits before the pool, by the pixel's own phase or its window's, pooled by OR, AND or the right one."""
    if own_phase:
        if d.period == (1, 1):
            return False
        bits = _windows(d, d.compare(d.before_pool, *d.phases(*d.before_pool.shape[1:3])))
        if bits is None:
            return False
        either, both = bits.max(axis=(-2, -1)), bits.min(axis=(-2, -1))
    else:
        sums = _windows(d, d.before_pool)
        if sums is None:
            return False
        # A window's phase is one, and bits are monotone in sums: the extremes decide.
        ends = [d.compare(end, d.rows, d.columns) for end in (sums.max(axis=(-2, -1)), sums.min(axis=(-2, -1)))]
        either, both = np.maximum(*ends), np.minimum(*ends)
    if pool == "right":
        either = np.where(d.direction[d.rows, d.columns] < 0, both, either).astype(np.int8)
    d.bits = both if pool == "and" else either
    return True


def _other_pool(d: Decision, kind: str) -> bool:
    windows = _windows(d, d.before_pool, from_the_end=kind == "from the end")
    if windows is None:
        return False
    if kind == "minimum":
        d.a = windows.min(axis=(-2, -1))
    elif kind == "average":
        d.a = np.floor_divide(windows.sum(axis=(-2, -1)), windows.shape[-2] * windows.shape[-1])
    elif kind == "from the end":
        d.a = windows.max(axis=(-2, -1))
    else:
        corner = 0 if kind == "first" else -1
        d.a = windows[..., corner, corner].copy()
    return True


_ORDERS = (
    ("phase of unpooled pixels", "thresholds stand before the pool, by the unpooled pixel's phase", True, "right"),
    ("phase of unpooled pixels, pooled by OR", "the same, and OR where the direction is -1", True, "or"),
    ("phase of unpooled pixels, pooled by AND", "the same, and AND where the direction is +1", True, "and"),
    ("bits pooled by OR for negative gamma too", "bits are pooled by OR whatever the direction", False, "or"),
    ("bits pooled by AND", "bits are pooled by AND", False, "and"),
)
_KINDS = (
    ("minimum pool", "the pool takes the smallest", "minimum", False),
    ("average pool", "the pool takes the floor of the mean", "average", True),
    ("pool takes the first", "the pool takes each window's first pixel", "first", False),
    ("pool takes the last", "the pool takes each window's last pixel", "last", False),
    ("pool aligned at the end", "what fills no window is cut off at the top and left", "from the end", False),
)

POOLS: tuple[Change, ...] = (
    *(
        Change(name=name, group=_O, says=says, decide=partial(_before_the_pool, own_phase=own, pool=pool))
        for name, says, own, pool in _ORDERS
    ),
    *(
        Change(name=name, group=_O, says=says, decide=partial(_other_pool, kind=kind), between=between)
        for name, says, kind, between in _KINDS
    ),
)
"""Changes of the pool."""
