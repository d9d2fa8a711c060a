"""The best threshold kernel of a shape, proven.

Search: every closed walk of m rows contains a row whose slack under a proven bound (`max_plus.RowBound`) is
at most the m-th part of what the best kernel found so far leaves below that bound. Rows are tried in the
order of their slack until none is left that could: then no better kernel exists. Ties are listed, not chosen
among.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refdesign.design.classes import Indices, KernelClass, group_classes
from refdesign.design.joint import JointDistribution
from refdesign.design.max_plus import BOUND_ITERATIONS, Table, closed_walks, necklaces, row_bound, rows_from
from refdesign.design.parallel import Checkpoint, Progress, check_jobs, fingerprint, ordered
from refdesign.design.total_variation import (
    FRACTION_BITS,
    check_levels,
    check_shape,
    fixed_point,
    objective_table,
)
from refdesign.errors import RefdesignError

__all__ = ["Optimum", "optimal_kernel", "optimum", "search_cost"]

STEPS_PER_SECOND = 4e8
"""Max-plus steps a second of one core, measured on the development machine; only for estimates of time."""
LARGEST_VECTOR = 1 << 26
"""Elements of the largest intermediate, L**(n+1): 512 MiB each, three of them at once."""
TIES_LISTED = 4096
ROWS_A_PIECE = 256


@dataclass(frozen=True, eq=False)
class Optimum:
    """A proven best kernel and all that ties with it.

    Attributes:
        kernel_levels: float64 (m, n), the lexicographically smallest of all best kernels.
        score: its expected objective per pixel.
        classes: the tied kernels, one entry a class.
        complete: whether all ties are listed (False beyond 4096 of them).
        candidates: how many kernels there are, L**(m*n).
        rows_tried: first rows from which a search ran; all others are excluded by the bound.
        rows: first rows up to rotation.
        bound: what no kernel of this many columns (of rows, where there are fewer) can exceed, whatever its
            other extent. Where it equals the score, larger kernels of this width gain nothing.
        resolution: kernels whose scores differ by less count as tied: the rounding of the table, 2**-38.
    """

    kernel_levels: NDArray[np.float64]
    score: float
    classes: tuple[KernelClass, ...]
    complete: bool
    candidates: int
    rows_tried: int
    rows: int
    bound: float
    resolution: float = 2.0**-FRACTION_BITS


def search_cost(levels: int, shape: tuple[int, int]) -> float:
    """Seconds that the search takes on one core at most, were the bound to exclude no row.

    >>> search_cost(6, (4, 4)) < 10 < search_cost(6, (9, 9))
    True
    """
    height, width = max(shape), min(shape)
    # Burnside's count of necklaces is L**n / n to within a few per cent.
    return math.pow(levels, width) / width * _row_seconds(levels, height, width) + BOUND_ITERATIONS * _row_seconds(
        levels, 2, width
    )


def _row_seconds(levels: int, height: int, width: int) -> float:
    return max(1, height - 1) * width * math.pow(levels, width + 2) / STEPS_PER_SECOND


def _best_through(table: Table, rows: NDArray[np.int64], height: int, width: int) -> NDArray[np.float64]:
    """The best closed walk through each of these rows."""
    levels = table.shape[0]
    best = np.empty(len(rows))
    for index, row in enumerate(rows):
        target = np.array(np.unravel_index(row, (levels,) * width))
        best[index] = closed_walks(table, target, height)[-1][row]
    return best


def _walks_at_least(table: Table, row: int, height: int, width: int, least: float) -> Iterator[tuple[int, ...]]:
    """All closed walks of `height` rows from `row` with a total of `least` or more."""
    digits = np.stack(np.unravel_index(np.arange(table.shape[0] ** width), (table.shape[0],) * width), axis=1)
    walks = closed_walks(table, digits[row], height)
    stack: list[tuple[tuple[int, ...], float]] = [((row,), 0.0)]
    while stack:
        prefix, total = stack.pop()
        forward = total + rows_from(table, digits[prefix[-1]])
        if len(prefix) == height:
            if forward[row] >= least:
                yield prefix
            continue
        reach = forward + walks[height - len(prefix) - 1]
        stack.extend(((*prefix, int(s)), float(forward[s])) for s in np.flatnonzero(reach >= least)[::-1])


def _to_kernels(walks: Iterable[tuple[int, ...]], levels: int, width: int, turned: bool) -> Iterator[Indices]:
    for walk in walks:
        kernel = np.stack([np.array(np.unravel_index(row, (levels,) * width)) for row in walk])
        yield np.asarray(kernel.T if turned else kernel)


def _largest_feasible(levels: int, max_seconds: float) -> str:
    size = 1
    while levels ** (size + 2) <= LARGEST_VECTOR and search_cost(levels, (size + 1, size + 1)) <= max_seconds:
        size += 1
    return f"{size} x {size}"


def _check_feasible(levels: int, shape: tuple[int, int], seconds: float, max_seconds: float) -> None:
    fits = levels ** (min(shape) + 1) <= LARGEST_VECTOR
    if fits and seconds <= max_seconds:
        return
    why = f"would take about {_duration(seconds)}" if fits else "does not fit into memory"
    raise RefdesignError(
        f"shape: the search over {shape[0]} x {shape[1]} with {levels} levels {why}; "
        f"{_largest_feasible(levels, max_seconds)} is the largest square that is sure to end within "
        f"{_duration(max_seconds)}"
    )


def _duration(seconds: float) -> str:
    for unit, length in (("years", 31_557_600.0), ("days", 86_400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} seconds"


def optimum(
    joint: JointDistribution,
    shape: tuple[int, int],
    *,
    levels: ArrayLike | None = None,
    objective: str = "total_variation",
    weight: str = "threshold",
    norm: str = "isotropic",
    jobs: int | None = 1,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    max_seconds: float = 3600.0,
) -> Optimum:
    """The proven best kernel of a shape, with all its ties.

    Args:
        joint: the statistics.
        shape: (m, n).
        levels, objective, weight, norm: see `objective_table`.
        jobs: see `refdesign.design.parallel.ordered`; the result does not depend on it.
        checkpoint: a file that keeps what is done; the same call takes it up again.
        progress: called with the iterations of a long bound, then with the first rows tried and to be tried.
        max_seconds: refuse a search that is estimated to take longer on one core.

    Raises:
        RefdesignError: an option that is not known, or a search that cannot end in time (it says how long it
            would take and which shape can be done).

    Source: paper, design of the threshold kernel; the exact search is this project's.

    >>> from refdesign.design import random_joint_distribution
    >>> best = optimum(random_joint_distribution(3), (3, 4))
    >>> best.candidates, round(best.score, 5), best.classes[0].members, best.score >= best.bound - best.resolution
    (2176782336, 0.21559, 1, True)
    """
    m, n = check_shape(shape)
    level_set = check_levels(levels, joint)
    check_jobs(jobs)
    table = fixed_point(objective_table(joint, level_set, objective=objective, weight=weight, norm=norm))
    turned = n > m
    height, width = max(m, n), min(m, n)
    walk_table = np.ascontiguousarray(table.swapaxes(1, 2)) if turned else table
    size = level_set.size
    # Before anything is allocated: the bound alone takes as many products.
    _check_feasible(size, (m, n), BOUND_ITERATIONS * _row_seconds(size, 2, width), max_seconds)
    bound_seconds = BOUND_ITERATIONS * _row_seconds(size, 2, width)
    # A bar for what takes long enough to be seen.
    bound = row_bound(walk_table, width, progress=progress if bound_seconds > 1 else None)
    rows = necklaces(size, width)
    # The bound treats rotations of a row alike (all steps commute with rotation, in whole numbers).
    rows = rows[np.argsort(bound.slack[rows], kind="stable")]
    values = np.full(len(rows), np.nan)
    keeper = Checkpoint(checkpoint, fingerprint(walk_table, height, width))
    kept = keeper.load()
    if kept is not None:
        if set(kept) != {"values"} or kept["values"].shape != values.shape:
            raise RefdesignError(f"{checkpoint}: found a damaged checkpoint")
        values = kept["values"]
    tolerance = float(m * n)

    def needed() -> int:
        """How many rows, in the order of slack, could still be on a kernel as good as the best."""
        done = values[~np.isnan(values)]
        if done.size == 0:
            return len(rows)
        room = (height * bound.mean - float(done.max()) + tolerance) / height
        return int(np.searchsorted(bound.slack[rows], room, side="right"))

    seconds = _row_seconds(size, height, width)
    per_piece = max(1, min(ROWS_A_PIECE, int(1.0 / seconds)))
    pieces_at_once = 1
    try:
        while (pending := np.flatnonzero(np.isnan(values[: needed()]))).size:
            if not np.isnan(values).all():
                _check_feasible(size, (m, n), pending.size * seconds, max_seconds)
            pieces = [
                (walk_table, rows[chunk], height, width)
                for chunk in np.array_split(pending[: per_piece * pieces_at_once], pieces_at_once)
                if chunk.size
            ]
            done = 0
            for result in ordered(_best_through, pieces, jobs):
                values[pending[done : done + result.size]] = result
                done += result.size
                keeper.save({"values": values})
                if progress is not None:
                    progress(int((~np.isnan(values)).sum()), max(needed(), int((~np.isnan(values)).sum())))
            pieces_at_once = min(64, 2 * pieces_at_once) if jobs != 1 else 1
    except BaseException:
        keeper.save({"values": values}, force=True)
        raise
    best = float(np.nanmax(values))
    kernels: list[Indices] = []
    complete = True
    for position in np.flatnonzero(values >= best - tolerance):
        walks = _walks_at_least(walk_table, int(rows[position]), height, width, best - tolerance)
        for kernel in _to_kernels(walks, size, width, turned):
            kernels.append(kernel)
            complete = len(kernels) < TIES_LISTED
            if not complete:
                break
        if not complete:
            break
    classes = group_classes(kernels, table, level_set, least=best - tolerance)
    keeper.remove()
    return Optimum(
        kernel_levels=min(classes, key=lambda entry: entry.kernel_levels.ravel().tolist()).kernel_levels,
        score=float(np.ldexp(best / (m * n), -FRACTION_BITS)),
        classes=classes,
        complete=complete,
        candidates=size ** (m * n),
        rows_tried=int((~np.isnan(values)).sum()),
        rows=len(rows),
        bound=float(np.ldexp(bound.mean / width, -FRACTION_BITS)),
    )


def optimal_kernel(
    joint: JointDistribution,
    shape: tuple[int, int],
    *,
    levels: ArrayLike | None = None,
    weight: str = "threshold",
    norm: str = "isotropic",
) -> tuple[NDArray[np.float64], float]:
    """The best kernel of a shape and its score, proven best.

    Args:
        joint: the statistics.
        shape: (m, n).
        levels: threshold levels, ascending; None: the joint distribution's own.
        weight, norm: see `total_variation_table`.

    Returns:
        kernel_levels, float64 (m, n): level values, the lexicographically smallest of all best kernels; and
        its expected total variation.

    >>> from refdesign.design import random_joint_distribution
    >>> kernel, score = optimal_kernel(random_joint_distribution(3, weights=np.ones((3, 3))), (2, 2))
    >>> kernel.tolist(), round(score, 5)
    ([[1.0, 3.0], [3.0, 5.0]], 0.14181)
    """
    best = optimum(joint, shape, levels=levels, weight=weight, norm=norm)
    return best.kernel_levels, best.score
