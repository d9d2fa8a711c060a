"""Paired statistics against SciPy's and against counting by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from refdesign.errors import RefdesignError
from refdesign.training.statistics import holm, paired, sign_flip


def counted(differences: list[int]) -> float:
    signs = itertools.product((-1, 1), repeat=len(differences))
    found = abs(sum(differences))
    sums = [abs(sum(s * d for s, d in zip(each, differences, strict=True))) for each in signs]
    return sum(total >= found for total in sums) / len(sums)


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=9))
def test_the_sign_flip_test_counts_every_assignment(differences: list[int]) -> None:
    assert sign_flip(differences) == counted(differences)


def test_the_sign_flip_test_is_scipys() -> None:
    differences = [12, -7, 30, 25, 4, 18, -3, 22, 9, 16]
    scipys = scipy.stats.permutation_test(
        (np.array(differences),), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    ).pvalue
    assert sign_flip(differences) == pytest.approx(scipys)


def test_five_pairs_can_not_reach_five_per_cent_and_ten_can() -> None:
    assert paired([9] * 5).p == paired([9] * 5).least == 0.0625
    assert paired([9] * 10).p == paired([9] * 10).least == 2 / 1024


def test_many_pairs_are_exact_too() -> None:
    assert sign_flip([1] * 60) == 2 / 2**60


@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=12))
def test_the_interval_is_scipys(differences: list[int]) -> None:
    found = paired(differences, 0.01)
    values = np.array(differences) * 0.01
    error = scipy.stats.sem(values)
    assert found.mean == pytest.approx(values.mean(), abs=1e-12)
    if error > 0:
        low, high = scipy.stats.t.interval(0.95, len(values) - 1, values.mean(), error)
        assert (found.low, found.high) == pytest.approx((low, high))


def test_one_pair_has_no_interval_and_none_is_refused() -> None:
    assert paired([4]).low == -np.inf
    assert paired([4]).p == 1.0
    with pytest.raises(RefdesignError, match="found no pair"):
        paired([])


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_steps_down(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    order = np.argsort(p_values, kind="stable")
    ranked = np.array(adjusted)[order]
    assert all(ranked[i] <= ranked[i + 1] for i in range(len(ranked) - 1))
    assert all(p <= a <= 1 for p, a in zip(p_values, adjusted, strict=True))
    # Rejecting by adjusted values is Holm's procedure itself.
    for level in (0.01, 0.05, 0.3):
        rejected = 0
        for rank, index in enumerate(order):
            if p_values[index] > level / (len(p_values) - rank):
                break
            rejected += 1
        assert rejected == sum(a <= level for a in adjusted) or any(abs(a - level) < 1e-12 for a in adjusted)
