from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdesign.bits import PackedBits, pack, pack_bool
from refdesign.errors import RefdesignError
from refdesign.ops.conv import binary_conv2d
from tests.ops import loops
from tests.ops.strategies import Geometry, geometries

SEEDS = st.integers(0, 2**32 - 1)


def ternary(rng: np.random.Generator, shape: tuple[int, ...]) -> PackedBits:
    """Packed elements of {-1, 0, +1}."""
    values = rng.integers(-1, 2, shape)
    return PackedBits(pack_bool(values > 0).words, shape[-1], pack_bool(values != 0).words)


@given(geometries(), SEEDS)
def test_equals_plain_loops(case: Geometry, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.choice([-1, 1], (case.images, *case.extent, case.depth * case.groups))
    w = rng.choice([-1, 1], (case.out, *case.kernel, case.depth))
    found = binary_conv2d(pack(x), pack(w), **case.keywords)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, loops.convolution(x, w, **case.loop_keywords))


@given(geometries(), SEEDS)
def test_ties_count_for_nothing(case: Geometry, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(-1, 2, (case.images, *case.extent, case.depth * case.groups))
    x = PackedBits(pack_bool(values > 0).words, values.shape[-1], pack_bool(values != 0).words)
    w = rng.choice([-1, 1], (case.out, *case.kernel, case.depth))
    found = binary_conv2d(x, pack(w), **case.keywords)
    np.testing.assert_array_equal(found, loops.convolution(values, w, **case.loop_keywords))


@pytest.mark.parametrize("fan_in", [2**16 - 1, 2**16 + 3, 2**20])
def test_large_fan_in_does_not_overflow(fan_in: int) -> None:
    minus = pack_bool(np.zeros((1, 1, 1, fan_in), dtype=np.bool_))
    plus = pack_bool(np.ones((1, 1, 1, fan_in), dtype=np.bool_))
    assert binary_conv2d(minus, plus).item() == -fan_in
    assert binary_conv2d(plus, plus).item() == fan_in


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "settings", "message"),
    [
        ((1, 5, 4, 3), (2, 3, 3, 4), {}, r"inputs: found shape \(1, 5, 4, 3\), expected \(N, H, W, 4\)"),
        ((5, 4, 3), (2, 3, 3, 3), {}, "inputs: found shape"),
        ((1, 5, 4, 3), (2, 3, 3), {}, "weights: found shape"),
        ((1, 5, 4, 6), (2, 3, 3, 2), {"groups": 3}, "groups: found 3, expected a divisor of 2"),
        ((1, 5, 2, 3), (2, 3, 3, 3), {}, "the window spans 3 pixels, the padded map has 2"),
        ((1, 5, 4, 3), (2, 3, 3, 3), {"stride": 0}, "stride: found 0"),
        ((1, 5, 4, 3), (2, 3, 3, 3), {"padding": (1, -1)}, "padding: found"),
        ((1, 5, 4, 3), (2, 3, 3, 3), {"padding": 1, "padding_mode": "same"}, "padding_mode: found 'same'"),
        ((1, 5, 2, 3), (2, 3, 3, 3), {"padding": 2, "padding_mode": "reflect"}, "expected at most 1 with 'reflect'"),
    ],
)
def test_refuses(x_shape: tuple[int, ...], w_shape: tuple[int, ...], settings: dict[str, object], message: str) -> None:
    with pytest.raises(RefdesignError, match=message):
        binary_conv2d(pack(np.ones(x_shape)), pack(np.ones(w_shape)), **settings)  # type: ignore[arg-type]


def test_refuses_weights_that_carry_zeros() -> None:
    w = ternary(np.random.default_rng(5), (2, 1, 1, 3))
    with pytest.raises(RefdesignError, match="elements that are 0"):
        binary_conv2d(pack(np.ones((1, 2, 4, 3))), w)
