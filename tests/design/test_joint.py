from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdesign.design import (
    AUTHORS_WEIGHTS,
    JointDistribution,
    accumulator_values,
    joint_distribution,
    random_joint_distribution,
)
from refdesign.errors import RefdesignError
from refdesign.verify.strategies import accumulator_maps


def windows(k: int) -> list[tuple[int, int]]:
    """The pixels under the three windows."""
    return [(i, j) for i in range(k + 1) for j in range(k + 1) if (i, j) != (k, k)]


def by_enumeration(weights: np.ndarray) -> np.ndarray:
    """The closed form the long way: every pattern of pixels, one after the other."""
    k = len(weights)
    values = accumulator_values(k).tolist()
    counts = np.zeros((len(values),) * 3)
    places = windows(k)
    for pattern in itertools.product((-1, 1), repeat=len(places)):
        pixel = dict(zip(places, pattern, strict=True))
        sums = [
            sum(int(weights[i, j]) * pixel[i + down, j + right] for i in range(k) for j in range(k))
            for down, right in ((0, 0), (0, 1), (1, 0))
        ]
        counts[tuple(values.index(s) for s in sums)] += 1
    return np.asarray(counts / 2 ** len(places))


@given(accumulator_maps(3))
def test_counts_are_those_of_a_plain_loop(maps: np.ndarray) -> None:
    joint = joint_distribution(maps)
    values = joint.values.tolist()
    counts = np.zeros((10, 10, 10))
    for a in maps:
        for i, j in itertools.product(range(a.shape[0] - 1), range(a.shape[1] - 1)):
            counts[values.index(a[i, j]), values.index(a[i, j + 1]), values.index(a[i + 1, j])] += 1
    assert joint.observations == counts.sum()
    assert (joint.probability == counts / counts.sum()).all()


@pytest.mark.parametrize("k", [1, 2])
@given(seed=st.integers(0, 2**32 - 1))
def test_closed_form_equals_enumeration(k: int, seed: int) -> None:
    weights = np.random.default_rng(seed).choice((-1, 1), (k, k))
    assert (random_joint_distribution(k, weights=weights).probability == by_enumeration(weights)).all()


def test_closed_form_equals_enumeration_for_the_authors_weights() -> None:
    joint = random_joint_distribution(3, weights=AUTHORS_WEIGHTS)
    assert (joint.probability == by_enumeration(AUTHORS_WEIGHTS)).all()


@pytest.mark.parametrize("k", [1, 2, 3])
def test_average_over_all_weights_is_the_average(k: int) -> None:
    every = np.array(list(itertools.product((-1, 1), repeat=k * k))).reshape(-1, k, k)
    listed = random_joint_distribution(k, weights=every).probability
    assert (random_joint_distribution(k).probability == listed).all()


@pytest.mark.parametrize(("k", "fixed"), [(1, False), (3, False), (5, False), (3, True), (5, True)])
def test_closed_form_against_monte_carlo(k: int, fixed: bool) -> None:
    # Independent samples: own pixels (and weights, where they are averaged over) for each.
    samples = 200_000
    rng = np.random.default_rng(17 * k + fixed)
    given_weights = rng.choice((-1, 1), (k, k))
    pixels = rng.choice(np.array([-1, 1], dtype=np.int8), (samples, k + 1, k + 1))
    weights = given_weights if fixed else rng.choice(np.array([-1, 1], dtype=np.int8), (samples, k, k))
    a, r, d = ((pixels[:, y : y + k, x : x + k] * weights).sum(axis=(1, 2)) for y, x in ((0, 0), (0, 1), (1, 0)))
    joint = random_joint_distribution(k, weights=given_weights if fixed else None)
    values = joint.values
    expected = {
        "E a": np.einsum("xyz,x->", joint.probability, values),
        "E ar": np.einsum("xyz,x,y->", joint.probability, values, values),
        "E rd": np.einsum("xyz,y,z->", joint.probability, values, values),
        "P all positive": joint.probability[values > 0][:, values > 0][:, :, values > 0].sum(),
        "E |r-a||d-a|": np.einsum(
            "xyz,xyz->",
            joint.probability,
            np.abs(values[None, :, None] - values[:, None, None])
            * np.abs(values[None, None, :] - values[:, None, None]),
        ),
    }
    measured = {
        "E a": a,
        "E ar": a * r,
        "E rd": r * d,
        "P all positive": (a > 0) & (r > 0) & (d > 0),
        "E |r-a||d-a|": np.abs(r - a) * np.abs(d - a),
    }
    for name, sample in measured.items():
        error = sample.std() / np.sqrt(samples)
        # Five quantities in five cases: 3.5 standard errors leave a chance of 1 % for one false alarm.
        assert abs(sample.mean() - expected[name]) <= 3.5 * error, name
    if k < 5:
        size = values.size
        cells = np.zeros((size,) * 3)
        np.add.at(cells, tuple(((s.astype(int) + k * k) // 2) for s in (a, r, d)), 1)
        assert (cells[joint.probability == 0] == 0).all()
        spread = np.sqrt(joint.probability * (1 - joint.probability) / samples)
        assert (np.abs(cells / samples - joint.probability) <= 5 * spread + 1e-12).mean() > 0.995


def test_transposed_maps_give_the_transposed_distribution() -> None:
    maps = 2 * np.random.default_rng(3).integers(0, 10, (2, 5, 7)) - 9
    assert (
        joint_distribution(maps.transpose(0, 2, 1)).probability == joint_distribution(maps).transposed().probability
    ).all()


def test_batch_normalised_has_mean_0_and_variance_1() -> None:
    joint = random_joint_distribution(3, weights=np.ones((3, 3))).batch_normalised()
    assert joint.marginal() @ joint.values == pytest.approx(0, abs=1e-12)
    assert joint.marginal() @ joint.values**2 == pytest.approx(1)


def test_a_constant_accumulator_cannot_be_normalised() -> None:
    with pytest.raises(RefdesignError, match="constant accumulator"):
        JointDistribution(np.array([3.0]), np.ones((1, 1, 1))).batch_normalised()


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        (np.zeros((1, 3, 2), dtype=np.int64), "found the value 0"),
        (np.full((1, 3, 2), 11), "found the value 11"),
        (np.ones((3, 2), dtype=np.int64), "expected integers"),
        (np.ones((1, 3, 2)), "found float64"),
        (np.ones((1, 1, 2), dtype=np.int64), "2 x 2 pixels"),
        (np.ones((0, 3, 2), dtype=np.int64), "at least one map"),
    ],
)
def test_unusable_maps_are_refused(maps: np.ndarray, message: str) -> None:
    with pytest.raises(RefdesignError, match=message):
        joint_distribution(maps)


@pytest.mark.parametrize("k", [0, -3, 2.5, True, "3", 7])
def test_unusable_k_is_refused(k: object) -> None:
    with pytest.raises(RefdesignError, match=r"convolution, k: found"):
        random_joint_distribution(k)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "weights", [np.zeros((3, 3)), np.ones((2, 3)), np.ones((5, 5)), np.ones(9), np.ones((0, 3, 3)), [["a"]]]
)
def test_unusable_weights_are_refused(weights: object) -> None:
    with pytest.raises(RefdesignError, match="weights: found"):
        random_joint_distribution(3, weights=weights)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "probability"),
    [
        ([1.0, 1.0], np.full((2, 2, 2), 1 / 8)),
        ([2.0, 1.0], np.full((2, 2, 2), 1 / 8)),
        ([1.0, np.nan], np.full((2, 2, 2), 1 / 8)),
        ([1.0, 2.0], np.full((2, 2), 1 / 4)),
        ([1.0, 2.0], np.full((2, 2, 2), 1 / 4)),
        ([1.0], np.full((1, 1, 1), np.nan)),
        ([1.0, 2.0], np.array([[[2.0, -1.0], [0, 0]], [[0, 0], [0, 0]]])),
    ],
)
def test_what_is_no_distribution_is_refused(values: list[float], probability: np.ndarray) -> None:
    with pytest.raises(RefdesignError, match="joint distribution"):
        JointDistribution(np.array(values), probability)
