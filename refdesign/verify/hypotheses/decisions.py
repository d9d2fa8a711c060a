"""Changes of how accumulators become bits: thresholds, direction, phase of the dither, pool."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from refdesign.network import fold_channels
from refdesign.ops.dither import slices
from refdesign.parameters import NO_DITHER
from refdesign.verify.variant import Change, Decision


def _later(d: Decision) -> bool:
    d.threshold += d.direction.astype(np.int64) * d.step
    return True


def _earlier(d: Decision) -> bool:
    d.threshold -= d.direction.astype(np.int64) * d.step
    return True


def _shift(d: Decision, by: int) -> bool:
    d.threshold += by * d.step
    return True


def _later_downwards(d: Decision) -> bool:
    down = d.direction < 0
    d.threshold -= np.where(down, d.step, 0)
    return bool(down.any())


def _earlier_downwards(d: Decision) -> bool:
    down = d.direction < 0
    d.threshold += np.where(down, d.step, 0)
    return bool(down.any())


def _always_upwards(d: Decision) -> bool:
    down = d.direction < 0
    d.direction[down] = 1
    return bool(down.any())


def _upwards_above(d: Decision) -> bool:
    down = d.direction < 0
    d.threshold += np.where(down, d.step, 0)
    d.direction[down] = 1
    return bool(down.any())


def _all_downwards(d: Decision) -> bool:
    turned = d.direction > 0
    d.direction[turned] = -1
    return bool(turned.any())


def _threshold_negated(d: Decision, only_down: bool) -> bool:
    chosen = d.direction < 0 if only_down else d.direction != 0
    d.threshold = np.where(chosen, -d.threshold, d.threshold)
    return bool(chosen.any())


def _constant_as(d: Decision, value: int | None) -> bool:
    """Channels that are constant give another value; None: they compare with 0."""
    chosen = d.direction == 0
    if value is None:
        d.direction[chosen] = 1
    else:
        d.constant[chosen] = value
    return bool(chosen.any())


def _inverted(d: Decision) -> bool:
    d.bits = -d.decide()
    return True


def _saturated(d: Decision, bits: int) -> bool:
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    clipped = np.clip(d.threshold, low, high)
    changed = bool((clipped != d.threshold).any())
    d.threshold = clipped
    return changed


def _wrapped(d: Decision, bits: int) -> bool:
    half = 1 << (bits - 1)
    wrapped = (d.threshold + half) % (2 * half) - half
    changed = bool((wrapped != d.threshold).any())
    d.threshold = wrapped
    return changed


def _ternary_as(d: Decision, value: int) -> bool:
    ties = d.zero_low <= d.zero_high
    if not ties.any():
        return False
    bits = d.decide()
    d.bits = np.where(bits == 0, value, bits).astype(np.int8)
    return True


def _rephase(d: Decision, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> bool:
    m, n, _ = d.threshold.shape
    if (m, n) == (1, 1):
        return False
    d.rows, d.columns = rows % m, columns % n
    return True


def _shifted(d: Decision, by: tuple[int, int]) -> bool:
    m, n, _ = d.threshold.shape
    return by[0] < m and by[1] < n and _rephase(d, d.rows + by[0], d.columns + by[1])


def _running_columns(d: Decision) -> bool:
    height, width = d.columns.shape
    return _rephase(d, d.rows, np.arange(height * width).reshape(height, width) + d.columns[0, 0])


def _running_over_images(d: Decision) -> bool:
    """The row phase goes on from image to image within a batch."""
    m, n, _ = d.threshold.shape
    height = d.rows.shape[0]
    if (m, n) == (1, 1) or height % m == 0:
        return False
    d.bits = np.concatenate([d.compare(d.a[i : i + 1], (d.rows + i * height) % m, d.columns) for i in range(len(d.a))])
    return True


def _running_rows(d: Decision) -> bool:
    height, width = d.rows.shape
    return _rephase(d, np.arange(height * width).reshape(height, width), d.columns)


def _swapped(d: Decision) -> bool:
    return _rephase(d, d.columns, d.rows)


def _mirrored(d: Decision, rows: bool, columns: bool) -> bool:
    m, n, _ = d.threshold.shape
    return _rephase(d, m - 1 - d.rows if rows else d.rows, n - 1 - d.columns if columns else d.columns)


def _stuck(d: Decision, rows: bool, columns: bool) -> bool:
    return _rephase(d, d.rows * 0 if rows else d.rows, d.columns * 0 if columns else d.columns)


def _from_the_end(d: Decision) -> bool:
    """The last row and column have phase -1: the kernel is aligned at the bottom right."""
    return _rephase(d, d.rows - d.rows[-1, 0] - 1, d.columns - d.columns[0, -1] - 1)


def _blocks(d: Decision) -> bool:
    """The kernel is stretched over the map instead of repeated."""
    m, n, _ = d.threshold.shape
    height, width = d.rows.shape
    rows, columns = np.meshgrid(np.arange(height) * m // height, np.arange(width) * n // width, indexing="ij")
    return _rephase(d, rows, columns)


def _windows(d: Decision, values: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Values before the pool, (N, H, rows, W, columns, C), in their windows; None without a pool."""
    if d.pooled is None or d.layer.pool is None or d.layer.pool.stride != d.pooled:
        return None
    rows, columns = d.pooled
    samples, height, width, channels = values.shape
    height, width = height // rows, width // columns
    cut = values[:, : height * rows, : width * columns]
    return cut.reshape(samples, height, rows, width, columns, channels)


def _before_the_pool(d: Decision, own_phase: bool, pool: str) -> bool:
    """Bits before the pool, by the pixel's own phase or its window's, pooled by OR, AND or the right one."""
    windows = _windows(d, d.before_pool)
    if windows is None or d.pooled is None:
        return False
    samples, height, rows, width, columns, channels = windows.shape
    m, n, _ = d.threshold.shape
    if own_phase:
        if (m, n) == (1, 1):
            return False
        row, column = np.meshgrid(np.arange(height * rows) % m, np.arange(width * columns) % n, indexing="ij")
    else:
        row, column = (np.repeat(np.repeat(p, rows, axis=0), columns, axis=1) for p in (d.rows, d.columns))
    flat = windows.reshape(samples, height * rows, width * columns, channels)
    bits = d.compare(flat, row, column).reshape(windows.shape)
    either, both = bits.max(axis=(2, 4)), bits.min(axis=(2, 4))
    if pool == "or":
        d.bits = either
    elif pool == "and":
        d.bits = both
    else:
        d.bits = np.where(d.direction[d.rows, d.columns] < 0, both, either).astype(np.int8)
    return True


def _other_pool(d: Decision, kind: str) -> bool:
    windows = _windows(d, d.before_pool)
    if windows is None:
        return False
    if kind == "minimum":
        d.a = windows.min(axis=(2, 4))
    elif kind == "average":
        count = windows.shape[2] * windows.shape[4]
        d.a = np.floor_divide(windows.sum(axis=(2, 4)), count)
    else:
        d.a = windows[:, :, 0, :, 0]
    return True


def _folded(d: Decision, rounding: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> bool:
    """The threshold by algebra in float32, as converters do: mean + (T - beta)*std/gamma, rounded."""
    bn = fold_channels(d.layer)
    kernel = d.layer.kernel or NO_DITHER
    _, _, g = kernel.shape
    t = kernel.values[:, :, slices(bn.channels, g, d.conventions.channel_map)]
    std = np.sqrt(bn.variance + np.float32(bn.epsilon))
    with np.errstate(all="ignore"):
        boundary = bn.mean + (t - bn.beta) * std / bn.gamma
        if bn.alpha is not None:
            boundary = boundary / bn.alpha
    if not np.isfinite(boundary).all() or d.zero_low.shape != d.threshold.shape:
        return False
    d.threshold = np.clip(rounding(boundary), -(2.0**40), 2.0**40).astype(np.int64)
    return True


_PHASES = [(r, c) for r in range(4) for c in range(4) if (r, c) != (0, 0)]
_T, _P, _D, _O = "threshold", "phase", "direction", "pool"

DECISIONS: tuple[Change, ...] = (
    Change(name="fires above the threshold, not at it", group=_T, says="> stands for >= (and < for <=)", decide=_later),
    Change(
        name="fires one step before the threshold", group=_T, says="one attainable value too early", decide=_earlier
    ),
    Change(name="threshold + 1 step", group=_T, says="thresholds are too high by a step", decide=partial(_shift, by=1)),
    Change(name="threshold - 1 step", group=_T, says="thresholds are too low by a step", decide=partial(_shift, by=-1)),
    Change(
        name="direction of negative gamma ignored",
        group=_D,
        says="a >= t everywhere, for gamma < 0 too",
        decide=_always_upwards,
    ),
    Change(
        name="negative gamma as its inverse",
        group=_D,
        says="where gamma < 0 it fires above t instead of at or below",
        decide=_upwards_above,
    ),
    Change(name="a < t for negative gamma", group=_D, says="< stands for <= where gamma < 0", decide=_later_downwards),
    Change(
        name="one step late for negative gamma",
        group=_D,
        says="thresholds of gamma < 0 are a step too high",
        decide=_earlier_downwards,
    ),
    Change(
        name="threshold of negative gamma not negated back",
        group=_D,
        says="-t stands for t where gamma < 0",
        decide=partial(_threshold_negated, only_down=True),
    ),
    Change(name="direction always downwards", group=_D, says="a <= t stands for a >= t", decide=_all_downwards),
    Change(
        name="threshold negated",
        group=_T,
        says="-t stands for t everywhere",
        decide=partial(_threshold_negated, only_down=False),
    ),
    Change(name="bits inverted", group="polarity", says="the sign is turned round", decide=_inverted),
    Change(
        name="constant channels as -1",
        group=_T,
        says="constant channels never fire",
        decide=partial(_constant_as, value=-1),
    ),
    Change(
        name="constant channels as +1",
        group=_T,
        says="constant channels always fire",
        decide=partial(_constant_as, value=1),
    ),
    Change(
        name="constant channels compare with 0",
        group=_T,
        says="gamma = 0 is not seen",
        decide=partial(_constant_as, value=None),
    ),
    Change(
        name="ties carried as -1", group="sign", says="a zero is stored as -1", decide=partial(_ternary_as, value=-1)
    ),
    Change(
        name="ties carried as +1", group="sign", says="a zero is stored as +1", decide=partial(_ternary_as, value=1)
    ),
    Change(
        name="phase runs on over row ends",
        group=_P,
        says="the column phase is not reset at the row's end",
        decide=_running_columns,
    ),
    Change(name="phase rows and columns swapped", group=_P, says="T[j, i] stands for T[i, j]", decide=_swapped),
    *(
        Change(
            name=f"phase shifted by {by}",
            group=_P,
            says=f"the dither starts at cell {by}",
            decide=partial(_shifted, by=by),
        )
        for by in _PHASES
    ),
    Change(
        name="row phase stuck",
        group=_P,
        says="every row has the first row's phase",
        decide=partial(_stuck, rows=True, columns=False),
    ),
    Change(
        name="column phase stuck",
        group=_P,
        says="every column has the first column's phase",
        decide=partial(_stuck, rows=False, columns=True),
    ),
    Change(
        name="phase stuck",
        group=_P,
        says="only the cell (0, 0) is used",
        decide=partial(_stuck, rows=True, columns=True),
    ),
    Change(name="row phase steps with every pixel", group=_P, says="the row phase counts pixels", decide=_running_rows),
    Change(
        name="row phase runs on over images",
        group=_P,
        says="the row phase is not reset between images",
        decide=_running_over_images,
    ),
    Change(
        name="kernel mirrored in rows",
        group=_P,
        says="T[m-1-i, j]",
        decide=partial(_mirrored, rows=True, columns=False),
    ),
    Change(
        name="kernel mirrored in columns",
        group=_P,
        says="T[i, n-1-j]",
        decide=partial(_mirrored, rows=False, columns=True),
    ),
    Change(
        name="kernel turned by half",
        group=_P,
        says="T[m-1-i, n-1-j]",
        decide=partial(_mirrored, rows=True, columns=True),
    ),
    Change(
        name="kernel aligned at the end",
        group=_P,
        says="the kernel's last cell is over the last pixel",
        decide=_from_the_end,
    ),
    Change(name="kernel stretched, not repeated", group=_P, says="each cell covers a block of the map", decide=_blocks),
    Change(
        name="phase of unpooled pixels",
        group=_O,
        says="thresholds stand before the pool, by the unpooled pixel's phase",
        decide=partial(_before_the_pool, own_phase=True, pool="right"),
    ),
    Change(
        name="phase of unpooled pixels, pooled by OR",
        group=_O,
        says="the same, and OR where the direction is -1",
        decide=partial(_before_the_pool, own_phase=True, pool="or"),
    ),
    Change(
        name="bits pooled by OR for negative gamma too",
        group=_O,
        says="bits are pooled by OR whatever the direction",
        decide=partial(_before_the_pool, own_phase=False, pool="or"),
    ),
    Change(
        name="bits pooled by AND",
        group=_O,
        says="bits are pooled by AND",
        decide=partial(_before_the_pool, own_phase=False, pool="and"),
    ),
    Change(
        name="minimum pool", group=_O, says="the pool takes the smallest", decide=partial(_other_pool, kind="minimum")
    ),
    Change(
        name="average pool",
        group=_O,
        says="the pool takes the floor of the mean",
        decide=partial(_other_pool, kind="average"),
        between=True,
    ),
    Change(
        name="pool takes the first",
        group=_O,
        says="the pool takes each window's first pixel",
        decide=partial(_other_pool, kind="first"),
    ),
    Change(
        name="threshold rounded down",
        group=_T,
        says="folded in float32 by algebra, then floor",
        decide=partial(_folded, rounding=np.floor),
    ),
    Change(
        name="threshold rounded up",
        group=_T,
        says="folded in float32 by algebra, then ceil",
        decide=partial(_folded, rounding=np.ceil),
    ),
    Change(
        name="threshold rounded to nearest",
        group=_T,
        says="folded in float32 by algebra, then rounded",
        decide=partial(_folded, rounding=np.rint),
    ),
    Change(
        name="threshold truncated",
        group=_T,
        says="folded in float32 by algebra, then towards zero",
        decide=partial(_folded, rounding=np.trunc),
    ),
    *(
        Change(
            name=f"thresholds saturate at {b} bits",
            group="width",
            says=f"thresholds are clipped to {b} bits",
            decide=partial(_saturated, bits=b),
        )
        for b in (8, 16)
    ),
    *(
        Change(
            name=f"thresholds wrap at {b} bits",
            group="width",
            says=f"thresholds are cut to {b} bits",
            decide=partial(_wrapped, bits=b),
        )
        for b in (8, 16)
    ),
)
"""Changes of the decision."""
