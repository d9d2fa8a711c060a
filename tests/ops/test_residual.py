from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdesign.errors import RefdesignError
from refdesign.network import Shortcut
from refdesign.ops.residual import combine, hardtanh, real_dense, shortcut

SEEDS = st.integers(0, 2**32 - 1)


def test_shortcut_pools_and_pads_channels() -> None:
    x = np.random.default_rng(3).normal(size=(2, 5, 7, 3)).astype(np.float32)
    found = shortcut(x, Shortcut(source="before", average_pool=2, channel_padding=(1, 2)))
    assert found.shape == (2, 2, 3, 6)
    assert found.dtype == np.float32
    for n, i, j, c in np.ndindex(found.shape):
        expected = np.float32(0)
        if 1 <= c < 4:
            a, b, d, e = x[n, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c - 1].ravel()
            expected = (((a + b) + d) + e) / np.float32(4)
        assert found[n, i, j, c] == expected


def test_shortcut_without_settings_changes_nothing() -> None:
    x = np.random.default_rng(3).normal(size=(2, 5, 7, 3)).astype(np.float32)
    np.testing.assert_array_equal(shortcut(x, Shortcut(source="before")), x)


@given(st.integers(1, 4), SEEDS)
def test_combine_rounds_every_product_and_sum(bases: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    accumulators = [rng.integers(-5000, 5000, (2, 3, 5), dtype=np.int32) for _ in range(bases)]
    before = [a.copy() for a in accumulators]
    scales = rng.normal(size=(bases, 5)).astype(np.float32)
    found = combine(accumulators, scales)
    for index in np.ndindex(found.shape):
        total = np.float32(accumulators[0][index]) * scales[0, index[-1]]
        for a, scale in zip(accumulators[1:], scales[1:], strict=True):
            total = total + np.float32(a[index]) * scale[index[-1]]
        assert found[index] == total
    for a, kept in zip(accumulators, before, strict=True):
        np.testing.assert_array_equal(a, kept)


@given(st.integers(0, 3), st.booleans(), SEEDS)
def test_real_dense_sums_in_order_in_float64(images: int, biased: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(images, 37)).astype(np.float32)
    w = rng.normal(size=(5, 37)).astype(np.float32)
    bias = rng.normal(size=5).astype(np.float32) if biased else None
    found = real_dense(x, w, bias)
    assert found.shape == (images, 5)
    for n, o in np.ndindex(found.shape):
        total = 0.0
        for value, weight in zip(x[n].tolist(), w[o].tolist(), strict=True):
            total += value * weight
        assert found[n, o] == np.float32(total + (0.0 if bias is None else float(bias[o])))


def test_hardtanh_clamps() -> None:
    x = np.array([-1.5, -1, -0.25, 0, 0.75, 1, 7], dtype=np.float32)
    np.testing.assert_array_equal(hardtanh(x), np.array([-1, -1, -0.25, 0, 0.75, 1, 1], dtype=np.float32))
    assert hardtanh(x).dtype == np.float32


def test_refuses_what_does_not_fit() -> None:
    with pytest.raises(RefdesignError, match="found float64"):
        shortcut(np.zeros((1, 2, 3, 4)), Shortcut(source="before"))  # type: ignore[arg-type]
    with pytest.raises(RefdesignError, match="scales"):
        combine([np.zeros((1, 3), np.int32)], np.zeros((2, 3), np.float32))
    with pytest.raises(RefdesignError, match="magnitude 16777217, expected at most 2\\*\\*24"):
        combine([np.full((1, 3), -(2**24) - 1, np.int32)], np.ones((1, 3), np.float32))
    with pytest.raises(RefdesignError, match="real_dense: found inputs"):
        real_dense(np.zeros((1, 3), np.float32), np.zeros((2, 4), np.float32))
