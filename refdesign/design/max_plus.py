"""Max-plus algebra on the rows of a kernel: a best kernel is a best closed walk of m rows.

A kernel of n columns is a sequence of rows; a row r above a row s contributes W[r, s], the sum over columns j
of table[r[j], r[j+1], s[j]], and the last row stands above the first again. W has L**n rows and columns and
is never formed: the product max_s (W[r, s] + v[s]) is taken one cell at a time in n * L**(n+2) steps
(`row_product`), because a cell of s meets two neighbouring cells of r only.

All numbers are whole (`fixed_point`), so sums and comparisons are exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refdesign.design.parallel import Progress
from refdesign.errors import RefdesignError

__all__ = ["RowBound", "closed_walks", "necklaces", "row_bound", "row_product", "rows_from", "rows_to"]

Table = NDArray[np.float64]
Vector = NDArray[np.float64]

BOUND_ITERATIONS = 60
PATIENCE = 12
"""Iterations without progress after which the bound is taken as it is."""


def row_product(table: Table, values: Vector, width: int) -> Vector:
    """The max-plus product of W with a vector: max over s of W[r, s] + values[s], float64 (L**width,).

    Args:
        table: (L, L, L), axes (own, right, lower).
        values: (L**width,), rows in lexicographic order of their level indices.
        width: n, the number of columns.

    Source: this project; variable elimination (bucket elimination) on a ring of cells.

    >>> row_product(np.zeros((2, 2, 2)), np.array([1.0, 5.0, 2.0, 3.0]), 2)
    array([5., 5., 5., 5.])
    """
    levels = table.shape[0]
    if width == 1:
        own = np.arange(levels)
        return np.asarray((table[own, own, :] + values[np.newaxis, :]).max(axis=1))
    rest = levels ** (width - 1)
    # Invariant of the axes: (s_j, s_{j+1}, ..., s_{n-1}, r_0, ..., r_j). Step j maximises over s_j and
    # appends r_{j+1}; the last one closes the ring with r_0.
    columns = [np.ascontiguousarray(table[:, :, s]) for s in range(levels)]
    source = values.reshape(levels, rest, 1)
    for _ in range(width - 1):
        grown = np.full((rest, levels, levels), -np.inf)
        for s in range(levels):
            np.maximum(grown, source[s][:, :, np.newaxis] + columns[s], out=grown)
        source = grown.reshape(levels, rest, levels)
    ring = source.reshape(levels, levels, rest // levels, levels)
    result = np.full((levels, rest // levels, levels), -np.inf)
    for s in range(levels):
        np.maximum(result, ring[s] + columns[s].T[:, np.newaxis, :], out=result)
    return result.reshape(levels**width)


def rows_to(table: Table, target: NDArray[np.int64]) -> Vector:
    """W[r, target] for all rows r, float64 (L**n,).

    >>> rows_to(np.arange(8.0).reshape(2, 2, 2), np.array([0, 1]))
    array([ 1.,  7.,  7., 13.])
    """
    levels, width = table.shape[0], target.size
    if width == 1:
        own = np.arange(levels)
        return np.asarray(table[own, own, target[0]])
    total = np.zeros((levels,) * width)
    for j in range(width):
        following = (j + 1) % width
        pair = table[:, :, target[j]]
        axes = [1] * width
        axes[j] = axes[following] = levels
        total += (pair if j < following else pair.T).reshape(axes)
    return total.reshape(-1)


def rows_from(table: Table, source: NDArray[np.int64]) -> Vector:
    """W[source, s] for all rows s, float64 (L**n,).

    >>> rows_from(np.arange(8.0).reshape(2, 2, 2), np.array([0, 1]))
    array([6., 7., 7., 8.])
    """
    total = np.zeros(1)
    for own, right in zip(source, np.roll(source, -1), strict=True):
        total = (total[:, np.newaxis] + table[own, right]).reshape(-1)
    return total


def closed_walks(table: Table, target: NDArray[np.int64], height: int) -> list[Vector]:
    """The best walks of 1, 2, ..., `height` rows that end in `target`: a list of vectors over the first row.

    The last one, at the target itself, is the best kernel that contains that row.

    >>> [vector.tolist() for vector in closed_walks(np.ones((2, 2, 2)), np.array([0]), 2)]
    [[1.0, 1.0], [2.0, 2.0]]
    """
    walks = [rows_to(table, target)]
    for _ in range(height - 1):
        walks.append(row_product(table, walks[-1], target.size))
    return walks


def necklaces(levels: int, width: int) -> NDArray[np.int64]:
    """The rows that are the smallest among their own rotations, as indices in lexicographic order: int64.

    >>> necklaces(2, 3)
    array([0, 1, 3, 7])
    """
    index = np.arange(levels**width, dtype=np.int64)
    smallest, rotated = index.copy(), index
    top = levels ** (width - 1)
    for _ in range(width - 1):
        rotated = (rotated % top) * levels + rotated // top
        np.minimum(smallest, rotated, out=smallest)
    return np.flatnonzero(smallest == index)


@dataclass(frozen=True, eq=False)
class RowBound:
    """A proof that no closed walk of rows has a mean above `mean`, whatever its length.

    With the potential h: W[r, s] <= mean + h[r] - h[s] for all rows r, s, which sums up along any closed
        walk.
    `slack[r]` is what the best continuation of row r leaves below the bound, so a closed walk of m rows and
    total score t has slacks that sum up to no more than m * mean - t, and one of its rows has at most the
    m-th part.

    Attributes:
        mean: the bound, in fixed point per row.
        potential: float64 (L**n,), whole numbers.
        slack: float64 (L**n,), whole numbers, not negative.
    """

    mean: float
    potential: Vector
    slack: Vector


def row_bound(
    table: Table, width: int, *, iterations: int = BOUND_ITERATIONS, progress: Progress | None = None
) -> RowBound:
    """A potential by averaged value iteration, and the bound that it proves.

    Any potential proves a bound; more iterations prove a tighter one. h is moved half-way towards its product
    with W (Krasnoselskii-Mann), which converges where plain value iteration goes round in a cycle.

    Args:
        table: in fixed point.
        width: n, the number of columns.
        iterations: at most so many; fewer where they no longer help.
        progress: called with the iterations done and their largest number.

    Source: this project; weak duality of the maximum cycle mean.

    >>> row_bound(np.ones((2, 2, 2)), 3).mean
    3.0
    """
    if iterations < 1:
        raise RefdesignError(f"iterations: found {iterations}, expected 1 or more")
    potential = np.zeros(table.shape[0] ** width)
    gain = row_product(table, potential, width)
    best = RowBound(float(gain.max()), potential, float(gain.max()) - gain)
    improved = 0
    for iteration in range(1, iterations):
        if best.mean == float(gain.min()) or iteration - improved > PATIENCE:
            break
        if progress is not None:
            progress(iteration, iterations)
        potential = potential + np.rint((gain - gain.max()) / 2)
        gain = row_product(table, potential, width) - potential
        mean = float(gain.max())
        if mean < best.mean:
            # Less than the rounding of one row's look-ups is no progress.
            improved = iteration if mean < best.mean - width else improved
            best = RowBound(mean, potential, mean - gain)
    return best
