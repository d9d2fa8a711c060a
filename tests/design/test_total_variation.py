from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdesign.design import (
    AUTHORS_WEIGHTS,
    JointDistribution,
    all_scores,
    expected_information,
    expected_total_variation,
    information_table,
    joint_distribution,
    objective_table,
    random_joint_distribution,
    total_variation_table,
)
from refdesign.design.total_variation import FRACTION_BITS, fixed_point
from refdesign.errors import RefdesignError
from refdesign.verify.strategies import accumulator_maps, joint_distributions
from tests.design import loops

ROUNDING = 2.0 ** (-FRACTION_BITS - 1) + 1e-14
LEVELS = (0, 1, 3, 5, 7, 9)
WEIGHTS = st.sampled_from(["threshold", "binary"])
NORMS = st.sampled_from(["isotropic", "anisotropic"])


@given(accumulator_maps(3), st.sampled_from([(1, 1), (1, 2), (2, 3), (3, 2)]), WEIGHTS, NORMS, st.data())
def test_score_is_what_shifted_kernels_measure_on_the_maps(maps, shape, weight, norm, data) -> None:  # type: ignore[no-untyped-def]
    cells = data.draw(st.lists(st.sampled_from(LEVELS), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))
    kernel = np.array(cells).reshape(shape)
    score = expected_total_variation(kernel, joint_distribution(maps), weight=weight, norm=norm)
    assert abs(score - loops.map_score(maps, kernel, 9, weight, norm)) <= ROUNDING


@given(joint_distributions(), WEIGHTS, NORMS, st.data())
def test_score_is_the_sum_of_its_terms(joint: JointDistribution, weight: str, norm: str, data: st.DataObject) -> None:
    kernel = np.array(data.draw(st.lists(st.sampled_from(joint.levels.tolist()), min_size=6, max_size=6))).reshape(3, 2)
    largest = joint.levels[-1]
    expected = loops.joint_score(joint, kernel, largest, weight, norm)
    assert abs(expected_total_variation(kernel, joint, weight=weight, norm=norm) - expected) <= ROUNDING


@given(joint_distributions(largest=4))
def test_information_is_the_conditional_entropy(joint: JointDistribution) -> None:
    table = information_table(joint)
    for index in np.ndindex(table.shape):
        expected = loops.conditional_entropy(joint, joint.levels[list(index)].tolist())
        assert table[index] == pytest.approx(expected, abs=1e-12)


@given(joint_distributions(largest=3), st.sampled_from([(1, 1), (1, 3), (3, 1), (2, 2), (2, 3), (3, 2)]))
def test_all_scores_are_those_of_the_kernels_one_by_one(joint: JointDistribution, shape: tuple[int, int]) -> None:
    table = total_variation_table(joint)
    scores = all_scores(table, shape)
    units = fixed_point(table)
    cells = shape[0] * shape[1]
    for score, kernel in zip(scores, itertools.product(range(len(table)), repeat=cells), strict=True):
        rows = [kernel[i * shape[1] : (i + 1) * shape[1]] for i in range(shape[0])]
        assert score == np.ldexp(loops.integer_total(units, rows) / cells, -FRACTION_BITS)


@pytest.mark.parametrize(
    ("weights", "kernel", "score"),
    [(None, [[3]], 0.21559), (AUTHORS_WEIGHTS, [[3]], 0.23271), (np.ones((3, 3)), [[1, 3], [3, 5]], 0.14181)],
)
def test_known_scores_for_random_pixels(weights: np.ndarray | None, kernel: list[list[int]], score: float) -> None:
    joint = random_joint_distribution(3, weights=weights)
    assert round(expected_total_variation(kernel, joint), 5) == score


@pytest.mark.parametrize(("norm", "score"), [("isotropic", 2**0.5), ("anisotropic", 2.0)])
def test_bare_bits_reward_the_pattern_that_shows_nothing(norm: str, score: float) -> None:
    # An image plays no part in a chequerboard of "always" and "(nearly) never".
    joint = random_joint_distribution(3)
    assert expected_total_variation([[0, 9], [9, 0]], joint, weight="binary", norm=norm) == pytest.approx(
        score, abs=5e-3
    )
    assert expected_information([[0, 9], [9, 0]], joint) < 0.02


def test_a_3d_kernel_scores_the_mean_of_its_slices() -> None:
    joint = random_joint_distribution(3, weights=AUTHORS_WEIGHTS)
    slices = [np.array([[1, 3, 0], [5, 7, 9]]), np.array([[3, 3, 1], [9, 0, 5]])]
    mean = np.mean([expected_total_variation(kernel, joint) for kernel in slices])
    assert expected_total_variation(np.stack(slices, axis=2), joint) == pytest.approx(mean, abs=ROUNDING)
    assert expected_information(np.stack(slices, axis=2), joint) == pytest.approx(
        np.mean([expected_information(kernel, joint) for kernel in slices]), abs=ROUNDING
    )


def test_kernel_that_always_fires_carries_no_information() -> None:
    assert expected_information([[0, 0]], random_joint_distribution(3)) == 0.0


def test_levels_may_lie_between_the_values() -> None:
    joint = random_joint_distribution(3)
    between = total_variation_table(joint, [0.5, 2.5, 9.0])
    at = total_variation_table(joint, [1.0, 3.0, 9.0], weight="binary")
    assert (total_variation_table(joint, [0.5, 2.5, 9.0], weight="binary") == at).all()
    assert not np.array_equal(between, at)


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ([1, 1], "twice"),
        ([3, 1], "ascending"),
        ([-1, 1], "0 or more"),
        ([0], "above 0"),
        ([], "list of numbers"),
        ([[1, 3]], "list of numbers"),
        (["a"], "list of numbers"),
        ([1, np.inf], "finite"),
        ([True], "list of numbers"),
    ],
)
def test_unusable_levels_are_refused(levels: object, message: str) -> None:
    with pytest.raises(RefdesignError, match=f"levels: .*{message}"):
        total_variation_table(random_joint_distribution(1), levels)  # type: ignore[arg-type]


@pytest.mark.parametrize("kernel", [[], [1, 2], [[-1]], [[np.nan]], [["a"]], np.ones((1, 1, 1, 1))])
def test_unusable_kernels_are_refused(kernel: object) -> None:
    with pytest.raises(RefdesignError, match="kernel: found"):
        expected_total_variation(kernel, random_joint_distribution(1))  # type: ignore[arg-type]


def test_a_weight_above_one_is_refused() -> None:
    with pytest.raises(RefdesignError, match="at most the largest level 9"):
        expected_total_variation([[11]], random_joint_distribution(3))
    assert expected_total_variation([[11]], random_joint_distribution(3), weight="binary") == 0.0


@pytest.mark.parametrize("option", [{"weight": "bare"}, {"norm": "L2"}, {"objective": "entropy"}])
def test_unknown_options_are_refused(option: dict[str, str]) -> None:
    with pytest.raises(RefdesignError, match="expected one of"):
        objective_table(random_joint_distribution(1), **option)


@pytest.mark.parametrize("shape", [(0, 2), (2,), 4, (1.5, 2), (True, 2), (200, 200)])
def test_unusable_shapes_are_refused(shape: object) -> None:
    with pytest.raises(RefdesignError, match="shape: found"):
        all_scores(total_variation_table(random_joint_distribution(1)), shape)  # type: ignore[arg-type]


def test_a_ranking_that_is_too_long_is_refused() -> None:
    with pytest.raises(RefdesignError, match=r"2.82e\+12 kernels"):
        all_scores(total_variation_table(random_joint_distribution(3)), (4, 4))
