"""A batch norm found again in a table of its values: proven value by value, or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.formats.onnx_flow import Flow, Step
from refdesign.ops.batch_norm import fused_multiply_add
from refdesign.parameters import BatchNorm

_PLACES = 8
"""Last places in which scale and shift are searched around their estimates."""


def table_step(flow: Flow, table: NDArray[Any]) -> Step:
    """The look-up of integer sums in a table (float32, one row of equal length for each channel) as a step.

    Args:
        flow: the index: sums less their lowest value, divided by their step, plus the start of the channel's row.
        table: float32, one axis.

    Raises:
        RefdesignError: an index of another form, or rows that do not fill the table.
    """
    channels = flow.shape[-1]
    lowest, unit, start = (np.full(channels, v, np.int64) for v in (0, 1, 0))
    allowed = ["sub", "quotient", "add"]
    if flow.kind != "sums" or table.ndim != 1 or table.dtype != np.float32 or not np.isfinite(table).all():
        raise RefdesignError("found a look-up of something else than sums in a float32 table")
    for kind, values in flow.steps:
        if kind not in allowed or values.dtype != np.int32 or values.ndim != 1:
            raise RefdesignError("found an index that is no integer sum per channel")
        allowed = allowed[allowed.index(kind) + 1 :]
        values = values.astype(np.int64)
        lowest, unit, start = (
            values if kind == name else old for name, old in (("sub", lowest), ("quotient", unit), ("add", start))
        )
    size = table.size // channels
    if size < 2 or np.any(start != np.arange(channels) * size) or size * channels != table.size or np.any(unit < 1):
        raise RefdesignError(f"found a table of {table.size} values for {channels} channels, expected equal rows")
    accumulators = lowest[:, np.newaxis] + unit[:, np.newaxis] * np.arange(size)
    return "table", np.stack([accumulators.astype(np.float64), table.reshape(channels, size).astype(np.float64)])


def batch_norm_of(values: NDArray[np.float64]) -> tuple[BatchNorm, str]:
    """The batch norm y = k*a + c whose values a table holds, and the float program that gives all of them.

    Args:
        values: accumulators and y, shape (2, C, size).

    Raises:
        RefdesignError: no scale and shift give every value.

    >>> a = np.arange(-2.0, 3.0)
    >>> norm, program = batch_norm_of(np.array([[a], [0.5 * a + 1]]))
    >>> norm.gamma, norm.beta, program
    (array([0.5], dtype=float32), array([1.], dtype=float32), 'onnxruntime')
    """
    for program in ("onnxruntime", "torch"):
        found = [_line(a, y, program) for a, y in zip(*values, strict=True)]
        lines = [line for line in found if line is not None]
        if len(lines) == len(found):
            k, c = (np.array(parameter, np.float32) for parameter in zip(*lines, strict=True))
            ones, zeros = np.ones(k.size, np.float32), np.zeros(k.size, np.float32)
            return BatchNorm(k, c, zeros, ones, 0.0, k=k, c=c), program
    raise RefdesignError(
        "found a table of values that no scale and shift give exactly, in separate or fused operations; its batch norm "
        "cannot be found again"
    )


def _line(a: NDArray[np.float64], y: NDArray[np.float64], program: str) -> tuple[float, float] | None:
    """The scale and shift, both float32, that give every y of one channel."""
    slope = (y[-1] - y[0]) / (a[-1] - a[0]) if a[-1] != a[0] else 0.0
    middle = int(np.abs(a).argmin())
    v, expected = a.astype(np.float32), y.astype(np.float32)
    for k in _around(slope, _PLACES):
        shifts = [expected[middle]] if a[middle] == 0 else _around(y[middle] - float(k) * a[middle], _PLACES)
        for c in shifts:
            if program == "torch":
                computed = fused_multiply_add(v, k.reshape(1), c.reshape(1))
            else:
                computed = v * k + c
            if np.array_equal(computed, expected):
                return float(k), float(c)
    return None


def _around(value: float, places: int) -> list[np.float32]:
    """float32 numbers around a value, nearest first."""
    found = [np.float32(value)]
    above = below = found[0]
    for _ in range(places):
        above, below = np.nextafter(above, np.float32(np.inf)), np.nextafter(below, np.float32(-np.inf))
        found += [above, below]
    return found
