from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdesign.design import (
    JointDistribution,
    all_scores,
    expected_total_variation,
    max_plus,
    objective_table,
    optimal_kernel,
    optimum,
    random_joint_distribution,
    ranked_classes,
    ranking,
)
from refdesign.design.classes import canonical, translations
from refdesign.design.total_variation import FRACTION_BITS, fixed_point, row_digits
from refdesign.errors import RefdesignError
from refdesign.verify.strategies import joint_distributions
from tests.design import loops

OBJECTIVES = st.sampled_from(
    [
        {"weight": "threshold", "norm": "isotropic"},
        {"weight": "threshold", "norm": "anisotropic"},
        {"weight": "binary", "norm": "isotropic"},
        {"objective": "information"},
    ]
)
TABLES = st.tuples(st.integers(2, 3), st.integers(0, 2**32 - 1)).map(
    lambda drawn: np.random.default_rng(drawn[1]).integers(0, 9, (drawn[0],) * 3).astype(np.float64)
)


def transitions(table: np.ndarray, width: int) -> np.ndarray:
    """W, written out row by row."""
    rows = list(itertools.product(range(len(table)), repeat=width))
    return np.array([[sum(table[r[j], r[(j + 1) % width], s[j]] for j in range(width)) for s in rows] for r in rows])


@given(TABLES, st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_row_product_is_the_dense_max_plus_product(table: np.ndarray, width: int, seed: int) -> None:
    dense = transitions(table, width)
    values = np.random.default_rng(seed).integers(-9, 9, len(dense)).astype(np.float64)
    assert (max_plus.row_product(table, values, width) == (dense + values).max(axis=1)).all()
    row = int(seed % len(dense))
    digits = row_digits(len(table), width)[row]
    assert (max_plus.rows_to(table, digits) == dense[:, row]).all()
    assert (max_plus.rows_from(table, digits) == dense[row]).all()


@given(TABLES, st.integers(1, 3), st.integers(1, 20))
def test_row_bound_is_proven_by_its_potential(table: np.ndarray, width: int, iterations: int) -> None:
    dense = transitions(table, width)
    bound = max_plus.row_bound(table, width, iterations=iterations)
    h = bound.potential
    assert (dense <= bound.mean + h[:, np.newaxis] - h[np.newaxis, :]).all()
    assert (bound.slack == bound.mean + h - (dense + h).max(axis=1)).all()
    # Rotations of a row are treated alike: the search tries one of them.
    turned = np.roll(row_digits(len(table), width), 1, axis=1) @ (len(table) ** np.arange(width - 1, -1, -1))
    assert (bound.slack[turned] == bound.slack).all()


@pytest.mark.parametrize(("levels", "width"), [(2, 1), (2, 5), (3, 4), (4, 2)])
def test_necklaces_are_one_row_of_every_rotation_class(levels: int, width: int) -> None:
    rows = list(itertools.product(range(levels), repeat=width))
    smallest = sorted({min(row[j:] + row[:j] for j in range(width)) for row in rows})
    assert [rows[index] for index in max_plus.necklaces(levels, width)] == smallest


@given(joint_distributions(largest=4), st.sampled_from([(1, 1), (2, 1), (1, 3), (2, 2), (2, 3), (3, 2)]), OBJECTIVES)
def test_optimum_is_that_of_full_enumeration(
    joint: JointDistribution, shape: tuple[int, int], options: dict[str, str]
) -> None:
    m, n = shape
    levels = joint.levels
    # Every kernel, one by one, in Python's integers.
    table = fixed_point(objective_table(joint, **options))
    totals = {}
    for cells in itertools.product(range(len(levels)), repeat=m * n):
        totals[cells] = loops.integer_total(table, [cells[i * n : (i + 1) * n] for i in range(m)])
    best = max(totals.values())
    tied = {cells for cells, total in totals.items() if total >= best - m * n}
    found = optimum(joint, shape, **options)  # type: ignore[arg-type]
    assert found.candidates == len(totals)
    assert found.score == np.ldexp(best / (m * n), -FRACTION_BITS)
    assert found.bound >= found.score
    assert found.kernel_levels.ravel().tolist() == levels[list(min(tied))].tolist()
    if found.complete:
        assert sum(entry.members for entry in found.classes) == len(tied)
    else:
        assert len(tied) > 1


@pytest.mark.parametrize("shape", [(m, n) for m in range(1, 10) for n in range(1, 10) if m * n <= 9])
@pytest.mark.parametrize("objective", ["total_variation", "information"])
def test_optimum_of_six_levels_is_that_of_full_enumeration(shape: tuple[int, int], objective: str) -> None:
    # Random statistics without any symmetry.
    rng = np.random.default_rng(shape)
    counts = rng.integers(0, 50, (10, 10, 10)) * (rng.random((10, 10, 10)) < 0.4)
    joint = JointDistribution.from_counts(np.arange(-9, 10, 2), counts)
    scores = all_scores(objective_table(joint, objective=objective), shape)
    found = optimum(joint, shape, objective=objective)
    best = int(scores.argmax())
    assert found.score == scores[best]
    tied = np.flatnonzero(scores >= scores[best] - found.resolution)
    assert found.kernel_levels.ravel().tolist() == [
        joint.levels[index] for index in np.unravel_index(tied[0], (6,) * (shape[0] * shape[1]))
    ]
    assert sum(entry.members for entry in found.classes) == tied.size


@pytest.mark.parametrize(
    ("weights", "shape", "kernel", "score"),
    [
        (None, (2, 2), [[3, 3], [3, 3]], 0.21559),
        (np.ones((3, 3)), (2, 2), [[1, 3], [3, 5]], 0.14181),
        (np.ones((3, 3)), (4, 2), [[1, 3], [3, 5], [1, 3], [3, 5]], 0.14181),
    ],
)
def test_known_optima_for_random_pixels(
    weights: np.ndarray | None, shape: tuple[int, int], kernel: list[list[int]], score: float
) -> None:
    found, value = optimal_kernel(random_joint_distribution(3, weights=weights), shape)
    assert (found.tolist(), round(value, 5)) == (kernel, score)


def test_transposed_statistics_give_the_transposed_optimum() -> None:
    counts = np.random.default_rng(5).integers(0, 9, (10, 10, 10))
    joint = JointDistribution.from_counts(np.arange(-9, 10, 2), counts)
    upright, flat = optimum(joint, (4, 3)), optimum(joint.transposed(), (3, 4))
    assert upright.score == flat.score
    assert canonical(upright.kernel_levels.T.astype(np.int64)) == canonical(flat.kernel_levels.astype(np.int64))


@given(joint_distributions(k=3), st.sampled_from([(4, 3), (3, 6), (4, 2)]))
def test_the_bound_holds_and_the_score_is_the_kernels_own(joint: JointDistribution, shape: tuple[int, int]) -> None:
    found = optimum(joint, shape)
    assert found.score == pytest.approx(expected_total_variation(found.kernel_levels, joint), abs=1e-11)
    # No kernel beats a shorter one repeated below the bound of its width; repeating never loses.
    for height in (1, 2, 3):
        if max(shape) % height == 0:
            assert optimum(joint, (height, min(shape)) if shape[0] >= shape[1] else (min(shape), height)).score <= (
                found.score + found.resolution
            )
    assert found.score <= found.bound + found.resolution


def test_ties_beyond_the_limit_are_counted_as_incomplete() -> None:
    # Two levels that fire alike, with bare bits: all 2**14 kernels tie.
    counts = np.zeros((3, 3, 3), dtype=np.int64)
    counts[0, 2, 0] = counts[2, 0, 2] = 1
    joint = JointDistribution.from_counts([-3, 1, 5], counts)
    found = optimum(joint, (7, 2), levels=[2, 4], weight="binary")
    assert not found.complete
    assert found.score == pytest.approx(expected_total_variation([[2]], joint, weight="binary"))


def test_classes_and_their_symmetries() -> None:
    joint = random_joint_distribution(3, weights=np.ones((3, 3)))
    entry = optimum(joint, (2, 2)).classes[0]
    assert entry.members == 4
    assert entry.symmetries == ("shift", "row reflection", "column reflection", "transposition")


@given(TABLES, st.sampled_from([(1, 3), (2, 2), (3, 2), (2, 3)]))
def test_ranking_lists_every_class_once_in_order(table: np.ndarray, shape: tuple[int, int]) -> None:
    levels = np.arange(1.0, len(table) + 1)
    units = np.ldexp(table, -4)
    scores = all_scores(units, shape)
    order = ranked_classes(scores, shape, len(levels))
    kernels = np.array(list(itertools.product(range(len(levels)), repeat=shape[0] * shape[1])))
    expected = {canonical(cells.reshape(shape)) for cells in kernels}
    assert {tuple(cells) for cells in kernels[order].tolist()} == expected
    assert len(order) == len(expected)
    assert (np.diff(scores[order]) <= 0).all()
    classes = ranking(fixed_point(units), shape, levels, order)
    assert sum(entry.members for entry in classes) == len(kernels)
    by_score = [Fraction(entry.score) for entry in classes]
    assert by_score == sorted(by_score, reverse=True)
    assert ranking(fixed_point(units), shape, levels, order, count=1)[0].score == scores.max()


def test_translations_of_a_kernel() -> None:
    kernel = np.array([[0, 1, 2], [3, 4, 5]])
    shifts = {tuple(shift.ravel().tolist()) for shift in translations(kernel)}
    assert len(shifts) == 6
    assert canonical(np.roll(kernel, (1, 2), axis=(0, 1))) == (0, 1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((9, 9), r"9 x 9 with 6 levels would take about .*; [4-8] x [4-8] is the largest square"),
        ((40, 40), "does not fit into memory"),
        ((0, 1), "whole numbers"),
    ],
)
def test_a_search_that_cannot_end_says_so(shape: tuple[int, int], message: str) -> None:
    with pytest.raises(RefdesignError, match=message):
        optimum(random_joint_distribution(3), shape, max_seconds=60)


def test_a_search_that_the_bound_cannot_shorten_says_how_long_it_would_take() -> None:
    with pytest.raises(RefdesignError, match=r"would take about .* (seconds|minutes); 4 x 4 is"):
        optimum(random_joint_distribution(3, weights=np.ones((3, 3))), (5, 5), max_seconds=2)


def test_no_iterations_are_refused() -> None:
    with pytest.raises(RefdesignError, match="iterations: found 0"):
        max_plus.row_bound(np.ones((2, 2, 2)), 2, iterations=0)


def test_scores_of_another_shape_are_refused() -> None:
    with pytest.raises(RefdesignError, match="scores: found shape"):
        ranked_classes(np.zeros(5), (1, 2), 2)
