"""Whether paths agree, counted value by value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Agreement:
    """How many values were compared, how many differ, and where the first one does (None: nowhere)."""

    values: int
    differences: int
    first: str | None

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(self.values + other.values, self.differences + other.differences, self.first or other.first)


def compare(ours: Mapping[str, NDArray[Any]], theirs: Mapping[str, NDArray[Any]]) -> Agreement:
    """Compare two mappings of outputs bit for bit: 0.0 and -0.0 differ, and so do dtypes and shapes.

    An output that only one side has, or whose dtype or shape differs, differs in all its values.

    >>> a = {"x": np.array([[1, 2], [3, 4]], np.int32)}
    >>> compare(a, {"x": np.array([[1, 2], [3, 5]], np.int32)})
    Agreement(values=4, differences=1, first='x[1, 1]')
    """
    total = Agreement(0, 0, None)
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        total += _compare(name, ours.get(name), theirs.get(name))
    return total


def _compare(name: str, a: NDArray[Any] | None, b: NDArray[Any] | None) -> Agreement:
    if a is None or b is None or a.dtype != b.dtype or a.shape != b.shape:
        size = max(0 if array is None else array.size for array in (a, b))
        return Agreement(size, size, name)
    differ = (_octets(a) != _octets(b)).any(axis=1)
    if not differ.any():
        return Agreement(a.size, 0, None)
    index = ", ".join(str(int(i)) for i in np.unravel_index(int(differ.argmax()), a.shape))
    return Agreement(a.size, int(differ.sum()), f"{name}[{index}]")


def _octets(array: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(array).reshape(-1, 1).view(np.uint8)
