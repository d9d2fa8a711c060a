"""Which kernels are the same for their purpose: shifts of a period, and reflections and transposes that tie."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refdesign.design.total_variation import FRACTION_BITS, check_shape, row_digits
from refdesign.errors import RefdesignError

__all__ = ["KernelClass", "canonical", "group_classes", "kernel_scores", "ranked_classes", "ranking", "translations"]

Indices = NDArray[np.int64]
Table = NDArray[np.float64]

_SYMMETRIES: dict[str, Callable[[Indices], Indices]] = {
    "row reflection": lambda kernel: kernel[::-1, :],
    "column reflection": lambda kernel: kernel[:, ::-1],
    "transposition": lambda kernel: kernel.T,
}


@dataclass(frozen=True, eq=False)
class KernelClass:
    """Kernels that tie because one is another's shift, reflection or transpose.

    Attributes:
        kernel_levels: float64 (m, n), level values of the lexicographically smallest member.
        score: the expected objective per pixel.
        members: the number of different kernels in the class.
        symmetries: the operations under which the class is closed; shifts always.
    """

    kernel_levels: NDArray[np.float64]
    score: float
    members: int
    symmetries: tuple[str, ...]


def translations(kernel: Indices) -> Iterator[Indices]:
    """All shifts of a period, m*n of them (with repetitions where the kernel has a smaller period).

    >>> len(list(translations(np.zeros((2, 3), dtype=np.int64))))
    6
    """
    for i in range(kernel.shape[0]):
        down = np.roll(kernel, -i, axis=0)
        for j in range(kernel.shape[1]):
            yield np.roll(down, -j, axis=1)


def canonical(kernel: Indices) -> tuple[int, ...]:
    """The lexicographically smallest shift, row by row.

    >>> canonical(np.array([[3, 1], [1, 3]]))
    (1, 3, 3, 1)
    """
    return min(tuple(shift.ravel().tolist()) for shift in translations(kernel))


def kernel_scores(kernels: Indices, table: Table) -> NDArray[np.float64]:
    """The scores of some kernels: float64 (K,).

    Args:
        kernels: level indices (K, m, n).
        table: in fixed point.

    >>> kernel_scores(np.zeros((3, 2, 2), dtype=np.int64), np.full((1, 1, 1), 2.0**38))
    array([1., 1., 1.])
    """
    cells = kernels.shape[1] * kernels.shape[2]
    return np.asarray(np.ldexp(_totals(kernels, table) / cells, -FRACTION_BITS))


def _totals(kernels: Indices, table: Table) -> NDArray[np.float64]:
    return np.asarray(table[kernels, np.roll(kernels, -1, axis=2), np.roll(kernels, -1, axis=1)].sum(axis=(1, 2)))


def _total(kernel: Indices, table: Table) -> float:
    return float(_totals(kernel[np.newaxis], table)[0])


def _symmetries_of(shape: tuple[int, ...]) -> dict[str, Callable[[Indices], Indices]]:
    return {name: op for name, op in _SYMMETRIES.items() if name != "transposition" or shape[0] == shape[1]}


def _closure(kernel: Indices, table: Table, least: float | None) -> set[tuple[int, ...]]:
    """The smallest shifts of all kernels that tie with this one through a chain of symmetries.

    A kernel ties if its total is `least` or more, or, where that is None, within the table's rounding of this one's.
    """
    score = _total(kernel, table)
    lowest, highest = (score - kernel.size, score + kernel.size) if least is None else (least, np.inf)
    operations = _symmetries_of(kernel.shape)
    found = {canonical(kernel)}
    pending = list(found)
    while pending:
        member = np.array(pending.pop()).reshape(kernel.shape)
        for operation in operations.values():
            image = operation(member)
            key = canonical(image)
            if key not in found and lowest <= _total(image, table) <= highest:
                found.add(key)
                pending.append(key)
    return found


def _class_of(
    members: set[tuple[int, ...]], shape: tuple[int, int], table: Table, levels: NDArray[np.float64]
) -> KernelClass:
    arrays = {key: np.array(key, dtype=np.int64).reshape(shape) for key in members}
    closed = [
        name
        for name, operation in _symmetries_of(shape).items()
        if all(canonical(operation(array)) in members for array in arrays.values())
    ]
    smallest = arrays[min(members)]
    shifts = {tuple(shift.ravel().tolist()) for array in arrays.values() for shift in translations(array)}
    return KernelClass(
        kernel_levels=levels[smallest],
        score=float(np.ldexp(_total(smallest, table) / smallest.size, -FRACTION_BITS)),
        members=len(shifts),
        symmetries=("shift", *closed),
    )


def group_classes(
    kernels: Iterable[Indices], table: Table, levels: NDArray[np.float64], *, least: float | None = None
) -> tuple[KernelClass, ...]:
    """The classes of some kernels, in the order of first appearance.

    Args:
        kernels: level indices (m, n) each.
        table: in fixed point (`fixed_point`).
        levels: float64 (L,), the level values.
        least: a total in fixed point, or None.

    Two kernels tie where both totals are `least` or more or, where that is None, where their scores differ by no
    more than the rounding of the table.

    >>> kernels = [np.array([[0, 1], [1, 0]]), np.array([[1, 0], [0, 1]])]
    >>> [entry.members for entry in group_classes(kernels, np.ones((2, 2, 2)), np.array([0.0, 1.0]))]
    [2]
    """
    seen: set[tuple[int, ...]] = set()
    classes = []
    for kernel in kernels:
        if canonical(kernel) in seen:
            continue
        members = _closure(kernel, table, least)
        seen |= members
        classes.append(_class_of(members, (kernel.shape[0], kernel.shape[1]), table, levels))
    return tuple(classes)


def ranked_classes(scores: NDArray[np.float64], shape: tuple[int, int], levels: int) -> NDArray[np.int64]:
    """The full ranking up to shifts: positions in `scores` of every class's smallest member, best first.

    Args:
        scores: from `all_scores`.
        shape: (m, n).
        levels: L, the number of levels.

    >>> ranked_classes(np.array([0.0, 0.5, 0.5, 1.0]), (1, 2), 2)
    array([3, 1, 0])
    """
    m, n = check_shape(shape)
    if scores.shape != (levels ** (m * n),):
        raise RefdesignError(f"scores: found shape {scores.shape}, expected ({levels ** (m * n)},)")
    rows = levels**n
    digits = row_digits(levels, n)
    places = levels ** np.arange(n - 1, -1, -1)
    code = np.arange(scores.size, dtype=np.int32).reshape((rows,) * m)
    smallest = code.copy()
    for i in range(m):
        for j in range(n):
            turned = (np.roll(digits, -j, axis=1) @ places).astype(np.int32)
            shifted = np.zeros((1,) * m, dtype=np.int32)
            for row in range(m):
                axes = [1] * m
                axes[row] = rows
                weight = np.int32(rows ** (m - 1 - (row - i) % m))
                shifted = shifted + (turned * weight).reshape(axes)
            np.minimum(smallest, shifted, out=smallest)
    positions = np.flatnonzero(smallest.ravel() == code.ravel())
    return positions[np.argsort(-scores[positions], kind="stable")]


def ranking(
    table: Table,
    shape: tuple[int, int],
    levels: NDArray[np.float64],
    order: NDArray[np.int64],
    *,
    count: int | None = None,
) -> tuple[KernelClass, ...]:
    """Classes in a given order, with symmetries merged.

    Args:
        table: in fixed point.
        shape: (m, n).
        levels: float64 (L,).
        order: positions, for example from `ranked_classes`; `order[::-1]` for the worst first.
        count: stop after so many classes; None lists all.

    >>> table = np.arange(8.0).reshape(2, 2, 2)
    >>> scores = np.array([0.0, 3.5, 3.5, 7.0])
    >>> [entry.kernel_levels.tolist() for entry in
    ...  ranking(table, (1, 2), np.array([0.0, 1.0]), ranked_classes(scores, (1, 2), 2), count=2)]
    [[[1.0, 1.0]], [[0.0, 1.0]]]
    """
    m, n = check_shape(shape)
    seen: set[tuple[int, ...]] = set()
    classes: list[KernelClass] = []
    for position in order:
        if count is not None and len(classes) >= count:
            break
        kernel = np.array(np.unravel_index(position, (len(levels),) * (m * n))).reshape(m, n)
        if canonical(kernel) in seen:
            continue
        members = _closure(kernel, table, None)
        seen |= members
        classes.append(_class_of(members, (m, n), table, levels))
    return tuple(classes)
