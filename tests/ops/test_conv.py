from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdesign.bits import PackedBits, pack, pack_bool
from refdesign.errors import RefdesignError
from refdesign.network import PADDING_MODES
from refdesign.ops import unpacked
from refdesign.ops.conv import PreparedConv, binary_conv2d
from tests.ops import loops
from tests.ops.strategies import Geometry, geometries

Pair = tuple[int, int]
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


@pytest.mark.parametrize("mode", PADDING_MODES)
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [((5, 2), (3, 4), (4, 3), (1, 3)), ((1, 4), (5, 1), (0, 4), (2, 2)), ((4, 3), (1, 3), (5, 0), (3, 4))],
)
def test_wide_windows_strides_and_paddings(
    kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, mode: str
) -> None:
    rng = np.random.default_rng(17)
    x, w = rng.choice([-1, 1], (2, 7, 11, 6)), rng.choice([-1, 1], (9, *kernel, 2))
    found = binary_conv2d(
        pack(x), pack(w), stride=stride, padding=padding, padding_mode=mode, dilation=dilation, groups=3
    )
    expected = loops.convolution(x, w, stride=stride, padding=padding, mode=mode, dilation=dilation, groups=3)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(
    ("images", "extent", "channels", "out"),
    [(1, (40, 39), 65, 70), (2, (9, 11), 130, 520), (3, (46, 45), 3, 16), (40, (5, 7), 64, 33), (5, (6, 7), 20, 1100)],
)
def test_maps_of_many_blocks(images: int, extent: Pair, channels: int, out: int, ties: bool) -> None:
    """Sizes that take several blocks, either way round, beside products of unpacked integers."""
    rng = np.random.default_rng(18)
    values = (
        rng.integers(-1, 2, (images, *extent, channels)) if ties else rng.choice([-1, 1], (images, *extent, channels))
    )
    x = PackedBits(pack_bool(values > 0).words, channels, pack_bool(values != 0).words if ties else None)
    w = rng.choice([-1, 1], (out, 3, 2, channels))
    found = binary_conv2d(x, pack(w), padding=1)
    expected = unpacked.conv2d(values, w, padding=(1, 1))
    assert found.dtype == np.int32
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, expected)


def test_prepared_convolution_serves_many_batches() -> None:
    rng = np.random.default_rng(19)
    w = pack(rng.choice([-1, 1], (5, 3, 3, 7)))
    prepared = PreparedConv(w, (4, 6), padding=(1, 2), padding_mode="ones")
    for images in (1, 3, 0):
        x = pack(rng.choice([-1, 1], (images, 4, 6, 7)))
        np.testing.assert_array_equal(prepared(x), binary_conv2d(x, w, padding=(1, 2), padding_mode="ones"))
    with pytest.raises(RefdesignError, match=r"inputs: found shape \(1, 4, 5, 7\), expected \(N, 4, 6, 7\)"):
        prepared(pack(np.ones((1, 4, 5, 7))))


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
