from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdesign.bits import PackedBits, pack, pack_bool, unpack
from refdesign.errors import RefdesignError
from refdesign.ops.dense import binary_dense, flatten_bits


def ternary(values: np.ndarray) -> PackedBits:
    return PackedBits(pack_bool(values > 0).words, values.shape[-1], pack_bool(values != 0).words)


@given(st.integers(0, 5), st.integers(1, 260), st.integers(1, 7), st.booleans(), st.integers(0, 2**32 - 1))
def test_equals_integer_products(images: int, inputs: int, out: int, ties: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(-1, 2, (images, inputs)) if ties else rng.choice([-1, 1], (images, inputs))
    w = rng.choice([-1, 1], (out, inputs))
    expected = [[sum(p * q for p, q in zip(row, column, strict=True)) for column in w.tolist()] for row in x.tolist()]
    found = binary_dense(ternary(x) if ties else pack(x), pack(w))
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, np.reshape(expected, (images, out)))


@pytest.mark.parametrize(("images", "inputs", "out"), [(1, 8190, 1030), (37, 1000, 2100), (70, 90, 600), (1500, 70, 3)])
def test_products_of_many_blocks(images: int, inputs: int, out: int) -> None:
    rng = np.random.default_rng(23)
    x, w = rng.choice([-1, 1], (images, inputs)), rng.choice([-1, 1], (out, inputs))
    np.testing.assert_array_equal(binary_dense(pack(x), pack(w)), x @ w.T)


@pytest.mark.parametrize("inputs", [2**16 - 1, 2**16, 2**20 + 1])
def test_large_fan_in_does_not_overflow(inputs: int) -> None:
    plus, minus = (pack_bool(np.full((1, inputs), bit)) for bit in (True, False))
    assert binary_dense(plus, minus).item() == -inputs
    assert binary_dense(plus, plus).item() == inputs


@given(st.integers(0, 3), st.sampled_from([1, 5, 63, 64, 65, 128]), st.booleans(), st.integers(0, 2**32 - 1))
def test_flatten_keeps_the_order_row_column_channel(images: int, channels: int, ties: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (images, 2, 3, channels)
    values = rng.integers(-1, 2, shape) if ties else rng.choice([-1, 1], shape)
    flat = flatten_bits(ternary(values) if ties else pack(values))
    np.testing.assert_array_equal(unpack(flat), values.reshape(images, 6 * channels))
    assert flatten_bits(flat) is flat


def test_refuses_what_does_not_fit() -> None:
    with pytest.raises(RefdesignError, match=r"inputs: found shape \(2, 3\), expected \(N, 4\)"):
        binary_dense(pack(np.ones((2, 3))), pack(np.ones((5, 4))))
    with pytest.raises(RefdesignError, match="weights: found shape"):
        binary_dense(pack(np.ones((2, 3))), pack(np.ones(3)))
    with pytest.raises(RefdesignError, match="elements that are 0"):
        binary_dense(pack(np.ones((2, 3))), ternary(np.zeros((1, 3), dtype=int)))
    with pytest.raises(RefdesignError, match="expected \\(N, H, W, C\\)"):
        flatten_bits(pack(np.ones((2, 3, 4))))
