"""Changes of the dither's phase: which cell of the threshold kernel stands over which pixel."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from refdesign.ops.dither import first_phase
from refdesign.verify.change import Change, Decision

Phases = NDArray[np.intp]
_P = "phase"


def _rephased(d: Decision, rows: Phases, columns: Phases) -> bool:
    m, n = d.period
    if (m, n) == (1, 1):
        return False
    d.rows, d.columns = rows % m, columns % n
    return True


def _grid(d: Decision) -> tuple[Phases, Phases]:
    """The row and the column of every pixel, (H, W) each."""
    height, width = d.rows.shape
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    return rows, columns


def _shifted(d: Decision, rows: int, columns: int) -> bool:
    """Shifts below the period; where that is 1, there is nothing to shift along that axis."""
    pairs = tuple(zip((rows, columns), d.period, strict=True))
    if any(abs(shift) >= period > 1 for shift, period in pairs) or not any(shift % period for shift, period in pairs):
        return False
    return _rephased(d, d.rows + rows, d.columns + columns)


def _running_columns(d: Decision) -> bool:
    height, width = d.columns.shape
    return _rephased(d, d.rows, np.arange(height * width).reshape(height, width) + d.origin()[1])


def _running_rows(d: Decision) -> bool:
    height, width = d.rows.shape
    return _rephased(d, np.arange(height * width).reshape(height, width), d.columns)


def _swapped(d: Decision) -> bool:
    """Row and column exchange their places, each with its own period."""
    m, n = d.period
    height, width = d.rows.shape
    origin = d.conventions.kernel_origin
    rows, columns = _grid(d)
    return _rephased(d, columns + first_phase(width, m, origin), rows + first_phase(height, n, origin))


def _mirrored(d: Decision, rows: bool, columns: bool) -> bool:
    m, n = d.period
    return _rephased(d, m - 1 - d.rows if rows else d.rows, n - 1 - d.columns if columns else d.columns)


def _stuck(d: Decision, rows: bool, columns: bool) -> bool:
    return _rephased(d, d.rows * 0 if rows else d.rows, d.columns * 0 if columns else d.columns)


def _from_the_end(d: Decision) -> bool:
    """The last row and column have phase -1: the kernel is aligned at the bottom right."""
    return _rephased(d, d.rows - d.rows[-1, 0] - 1, d.columns - d.columns[0, -1] - 1)


def _stretched(d: Decision) -> bool:
    m, n = d.period
    height, width = d.rows.shape
    rows, columns = np.meshgrid(np.arange(height) * m // height, np.arange(width) * n // width, indexing="ij")
    return _rephased(d, rows, columns)


def _unpooled(d: Decision) -> bool:
    """The phase of each window's first pixel, counted before the pool."""
    if d.layer.pool is None:
        return False
    rows, columns = _grid(d)
    top, left = d.origin()
    step = d.layer.pool.stride
    return _rephased(d, rows * step[0] + top, columns * step[1] + left)


def _centred_late(d: Decision) -> bool:
    """The centre is cropped with the larger half of an odd margin before the map."""
    m, n = d.period
    height, width = d.rows.shape
    margins = [-(-extent // period) * period - extent for extent, period in ((height, m), (width, n))]
    rows, columns = _grid(d)
    return _rephased(d, rows + (margins[0] + 1) // 2, columns + (margins[1] + 1) // 2)


_SHIFTS = sorted(
    ((r, c) for r in range(-1, 4) for c in range(-1, 4) if (r, c) != (0, 0)),
    key=lambda shift: (max(map(abs, shift)), min(shift) < 0, sum(map(abs, shift)), -sum(shift)),
)
_MIRRORS = (
    ("kernel mirrored in rows", "T[m-1-i, j]", True, False),
    ("kernel mirrored in columns", "T[i, n-1-j]", False, True),
    ("kernel turned by half", "T[m-1-i, n-1-j]", True, True),
)
_STUCK = (
    ("row phase stuck", "every row has the first row's phase", True, False),
    ("column phase stuck", "every column has the first column's phase", False, True),
    ("phase stuck", "only the cell (0, 0) is used", True, True),
)
_OTHERS = (
    ("row phase steps with every pixel", "the row phase counts pixels", _running_rows),
    ("kernel aligned at the end", "the kernel's last cell is over the last pixel", _from_the_end),
    ("kernel stretched, not repeated", "each cell covers a block of the map", _stretched),
    ("phase counts pixels before the pool", "the phase is that of each window's first pixel", _unpooled),
    ("kernel centred, its larger margin first", "an odd margin's larger half is cropped before the map", _centred_late),
)

PHASES: tuple[Change, ...] = (
    Change(
        name="phase runs on over row ends",
        group=_P,
        says="the column phase is not reset at the row's end",
        decide=_running_columns,
    ),
    Change(name="phase rows and columns swapped", group=_P, says="T[j, i] stands for T[i, j]", decide=_swapped),
    *(
        Change(
            name=f"phase shifted by {shift}",
            group=_P,
            says=f"the dither starts {shift} cells further",
            decide=partial(_shifted, rows=shift[0], columns=shift[1]),
        )
        for shift in _SHIFTS
    ),
    *(
        Change(name=name, group=_P, says=says, decide=partial(_stuck, rows=rows, columns=columns))
        for name, says, rows, columns in _STUCK
    ),
    *(
        Change(name=name, group=_P, says=says, decide=partial(_mirrored, rows=rows, columns=columns))
        for name, says, rows, columns in _MIRRORS
    ),
    *(Change(name=name, group=_P, says=says, decide=change) for name, says, change in _OTHERS),
)
"""Changes of the phase."""
