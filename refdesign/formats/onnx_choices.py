"""Functions of a sum that take few values: what comparisons, signs and all arithmetic on their results come to.

However a sign is spelled (`Sign`, `Where`, `Cast` of a comparison, 2*x - 1, `MultiThreshold`, and their combinations),
it is a function that is constant between a few points. Following its values from point to point needs no list of
spellings, and shows where it is no sign.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError

_MOST_POINTS = 12
_LARGEST = 1 << 26


@dataclass(frozen=True, eq=False)
class Choice:
    """A function that is constant below, at, between and above its points, one for each element of a map.

    Attributes:
        points: float64, ascending, (K, *map); axes of the map can be 1 where all its elements agree.
        values: (2K + 1, *map) in the same way: below the first point, at it, above it up to the next, and so on.
    """

    points: NDArray[np.float64]
    values: NDArray[Any]

    @classmethod
    def at(cls, point: NDArray[Any], values: Sequence[float | bool]) -> Choice:
        """One point for each element: the values below, at and above it.

        >>> Choice.at(np.zeros((1, 1, 1)), (-1.0, 0.0, 1.0)).values.ravel()
        array([-1.,  0.,  1.])
        """
        ahead = (1,) * point.ndim
        return cls(np.asarray(point, np.float64)[np.newaxis], np.asarray(values).reshape(3, *ahead))

    def refined(self, points: NDArray[np.float64]) -> Choice:
        """The same function with more points, ascending for each element."""
        if points is self.points:
            return self
        extents = np.broadcast_shapes(self.points.shape[1:], self.values.shape[1:], points.shape[1:])
        if extents and (2 * len(points) + 1) * int(np.prod(extents)) > _LARGEST:
            raise RefdesignError(f"found {len(points)} comparisons of a map {extents}, expected fewer")
        values = np.broadcast_to(self.values, (len(self.values), *extents))
        found = [values[0]]
        for number, point in enumerate(points):
            below = np.broadcast_to((self.points < point).sum(axis=0), extents)
            here = np.broadcast_to((self.points <= point).sum(axis=0), extents)
            exactly = np.where(here > below, 2 * below + 1, 2 * below)
            found.append(np.take_along_axis(values, exactly[np.newaxis], axis=0)[0])
            above = np.take_along_axis(values, 2 * here[np.newaxis], axis=0)[0]
            if number + 1 < len(points):  # nothing lies between two equal points
                above = np.where(point == points[number + 1], found[-1], above)
            found.append(above)
        return Choice(points, np.stack(found))

    def simplified(self) -> Choice:
        """Without the points at which no element changes."""
        kept = [
            k for k in range(len(self.points))
            if not (np.array_equal(self.values[2 * k], self.values[2 * k + 1])
                    and np.array_equal(self.values[2 * k + 1], self.values[2 * k + 2]))
        ]  # fmt: skip
        rows = [0, *(row for k in kept for row in (2 * k + 1, 2 * k + 2))]
        return Choice(self.points[kept], self.values[rows])

    def same(self, other: Choice) -> bool:
        """Whether two functions have the same points and values."""
        return np.array_equal(self.points, other.points) and np.array_equal(self.values, other.values)

    def of(self, x: NDArray[Any]) -> NDArray[Any]:
        """The function's values, of x (N, *map).

        >>> Choice.at(np.zeros(1), (-1.0, 0.0, 1.0)).of(np.array([[3.0], [0.0]])).ravel()
        array([1., 0.])
        """
        index = np.zeros(np.broadcast_shapes(x.shape, (1, *self.values.shape[1:])), np.int64)
        for point in self.points:
            index = index + (x > point) + (x >= point)
        return np.take_along_axis(np.broadcast_to(self.values, (len(self.values), *index.shape[1:])), index, axis=0)


def combined(function: Callable[..., Any], operands: Sequence[Choice | NDArray[Any]]) -> Choice:
    """A function of functions of the same sum, and of constants over the map.

    Args:
        function: elementwise, of arrays.
        operands: at least one `Choice`; constants have the map's axes, or 1.

    Raises:
        RefdesignError: too many points.

    >>> fires = Choice.at(np.zeros(1), (False, True, True))
    >>> combined(lambda x: 2 * x - 1, [fires]).values.ravel()
    array([-1,  1,  1])
    """
    distinct: list[NDArray[np.float64]] = []
    choices = [operand for operand in operands if isinstance(operand, Choice)]
    for choice in choices:
        distinct += [row for row in choice.points if not any(np.array_equal(row, other) for other in distinct)]
    if len(distinct) > _MOST_POINTS:
        raise RefdesignError(f"found a choice between more than {_MOST_POINTS + 1} ranges of a sum, expected a sign")
    points = choices[0].points
    if any(not np.array_equal(choice.points, points) for choice in choices[1:]):
        points = np.sort(np.stack(np.broadcast_arrays(*distinct)), axis=0)
    arguments = [
        operand.refined(points).values if isinstance(operand, Choice) else operand[np.newaxis] for operand in operands
    ]
    with np.errstate(all="ignore"):
        values = np.asarray(function(*arguments))
    return Choice(points, values.astype(np.float32) if values.dtype == np.float64 else values)


def divided(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """ONNX's `Div`: that of integers cuts towards zero.

    Raises:
        RefdesignError: integers divided by zero.

    >>> divided(np.array([-3, 3]), np.array(2)), divided(np.array([-3.0, 3.0]), np.array(2.0))
    (array([-1,  1]), array([-1.5,  1.5]))
    >>> divided(np.array([2**62 - 1, 1 - 2**62]), np.array(2)) + [-(2**61), 2**61]  # beyond float64's integers
    array([-1,  1])
    """
    if a.dtype.kind not in "iu" or b.dtype.kind not in "iu":
        return np.asarray(np.divide(a, b))
    if not b.all():
        raise RefdesignError("found integers divided by zero")
    down = a // b
    return np.asarray((down + ((down < 0) & (down * b != a))).astype(a.dtype))
