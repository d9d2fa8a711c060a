from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate

from refdesign.design import (
    LEVEL_SETS,
    complement,
    empirical_levels,
    half_wave_levels,
    half_wave_quantiser,
    lloyd_max,
    rescaled,
    shift,
)
from refdesign.errors import RefdesignError


def half_wave_density(x: float) -> float:
    return float(np.sqrt(2 / np.pi) * np.exp(-x * x / 2))


@pytest.mark.parametrize("n", [1, 2, 6, 13])
def test_boundaries_lie_midway_between_means_taken_by_quadrature(n: int) -> None:
    quantiser = half_wave_quantiser(n)
    edges = [0.0, *quantiser.boundaries, np.inf]
    distortion = 0.0
    for lower, upper, centre in zip(edges[:-1], edges[1:], quantiser.centres, strict=True):
        mass = integrate.quad(half_wave_density, lower, upper)[0]
        mean = integrate.quad(lambda x: x * half_wave_density(x), lower, upper)[0] / mass
        distortion += integrate.quad(lambda x, c=centre: (x - c) ** 2 * half_wave_density(x), lower, upper)[0]
        assert centre == pytest.approx(mean, abs=1e-8)
    midway = (quantiser.centres[:-1] + quantiser.centres[1:]) / 2
    assert np.abs(quantiser.boundaries - midway).max() == quantiser.residual
    assert quantiser.residual < 1e-14
    assert quantiser.distortion == pytest.approx(distortion, abs=1e-8)


def test_known_levels() -> None:
    assert half_wave_levels(6).round(4).tolist() == [0.2935, 0.5959, 0.918, 1.2766, 1.7031, 2.2818]
    assert half_wave_levels(1)[0] == pytest.approx(0.98159882)


@pytest.mark.parametrize("n", [64, 256])
def test_many_levels_converge(n: int) -> None:
    quantiser = half_wave_quantiser(n)
    assert (np.diff(quantiser.boundaries) > 0).all()
    assert quantiser.residual < 1e-12
    # Bennett's high-resolution formula: (integral of density**(1/3))**3 / (12 N**2).
    third = integrate.quad(lambda x: half_wave_density(x) ** (1 / 3), 0, np.inf)[0]
    assert quantiser.distortion == pytest.approx(third**3 / (12 * (n + 1) ** 2), rel=0.05)


def test_released_levels_are_not_converged() -> None:
    assert np.abs(np.array(LEVEL_SETS["A"]) - half_wave_levels(6)).min() > 0.01


@given(st.lists(st.integers(-50, 50), min_size=4, unique=True), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_lloyd_max_is_a_fixed_point(values: list[int], n: int, seed: int) -> None:
    weights = np.random.default_rng(seed).integers(1, 9, len(values))
    quantiser = lloyd_max(values, n, weights=weights)
    cells = np.searchsorted(quantiser.boundaries, values, side="right")
    # A value on a boundary may belong to either side.
    on_boundary = np.isin(values, quantiser.boundaries)
    if not on_boundary.any():
        means = [np.average(np.array(values)[cells == c], weights=weights[cells == c]) for c in range(n + 1)]
        assert quantiser.centres == pytest.approx(means)
        assert quantiser.distortion == pytest.approx(
            np.average((np.array(values) - np.array(means)[cells]) ** 2, weights=weights)
        )
    assert quantiser.residual == 0
    assert quantiser.boundaries == pytest.approx((quantiser.centres[:-1] + quantiser.centres[1:]) / 2)


def test_weights_are_repetitions() -> None:
    values, weights = [0.0, 1.0, 1.5, 4.0, 9.0], [3, 1, 2, 5, 1]
    assert (empirical_levels(values, 2, weights=weights) == empirical_levels(np.repeat(values, weights), 2)).all()


def test_samples_of_the_half_wave_give_its_levels() -> None:
    x = np.abs(np.random.default_rng(0).standard_normal(400_000))
    assert empirical_levels(x, 6) == pytest.approx(half_wave_levels(6), abs=0.02)


@pytest.mark.parametrize("n", [0, 257, 2.0, True])
def test_unusable_numbers_of_levels_are_refused(n: object) -> None:
    with pytest.raises(RefdesignError, match="levels: found"):
        half_wave_levels(n)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([1.0, 1.0], {}, "found 1 distinct"),
        ([1.0, np.nan], {}, "finite"),
        ([1.0, 2.0], {"weights": [1, -1]}, "0 or more"),
        ([1.0, 2.0], {"weights": [1]}, "weight of 0 or more each"),
        ([1.0, 2.0], {"iterations": 0}, "iterations"),
    ],
)
def test_unusable_values_are_refused(values: list[float], options: dict[str, object], message: str) -> None:
    with pytest.raises(RefdesignError, match=message):
        lloyd_max(values, 1, **options)  # type: ignore[arg-type]


def test_rescaling_replaces_levels_by_rank() -> None:
    kernel = rescaled([[1, 3], [9, 0]], (0, 1, 3, 5, 7, 9), LEVEL_SETS["A"])
    a = LEVEL_SETS["A"]
    assert kernel.tolist() == [[a[1], a[2]], [a[5], a[0]]]
    with pytest.raises(RefdesignError, match=r"found the value 2\.0"):
        rescaled([[2]], (0, 1, 3), (0.1, 0.2, 0.3))
    with pytest.raises(RefdesignError, match="found 2 scaled ones for 3"):
        rescaled([[1]], (0, 1, 3), (0.1, 0.2))


def test_shift_goes_round() -> None:
    made = shift([[0, 7, 9]], 4)
    assert made.shape == (1, 3, 4)
    assert made[0].tolist() == [[0, 1, 3, 5], [7, 9, 0, 1], [9, 0, 1, 3]]


def test_complement_swaps_the_pairs() -> None:
    made = complement([[0, 1, 3, 5, 7, 9]])
    assert made[0, :, 1].tolist() == [9, 7, 5, 3, 1, 0]
    assert (complement(made[:, :, 1])[:, :, 1] == made[:, :, 0]).all()


@pytest.mark.parametrize("slices", [0, 1.5, True])
def test_unusable_slices_are_refused(slices: object) -> None:
    with pytest.raises(RefdesignError, match="slices: found"):
        shift([[1]], slices)  # type: ignore[arg-type]


def test_3d_kernels_come_from_2d_ones() -> None:
    with pytest.raises(RefdesignError, match=r"kernel: found shape \(1, 1, 1\)"):
        complement([[[1]]])
    with pytest.raises(RefdesignError, match=r"found the value 4\.0"):
        shift([[4]], 2)
