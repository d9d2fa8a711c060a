from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdesign.bits import PackedBits, pack, pack_bool, unpack
from refdesign.errors import RefdesignError
from refdesign.ops.pool import average_pool2d, max_pool2d, pool_bits
from tests.ops import loops

SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.sampled_from([(2, 2), (1, 2), (3, 2), (2, 3), (1, 1)])


@given(SIZES, st.sampled_from([None, (1, 2), (2, 1), (3, 3)]), st.integers(0, 2), SEEDS)
def test_max_pool_equals_plain_loops(
    size: tuple[int, int], stride: tuple[int, int] | None, images: int, seed: int
) -> None:
    a = np.random.default_rng(seed).integers(-999, 999, (images, 5, 7, 3), dtype=np.int32)
    found = max_pool2d(a, size, stride)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, loops.pool(a, size, stride or size, max))


@given(SIZES, SEEDS)
def test_max_pool_takes_the_first_of_several_zeros_as_torch_does(size: tuple[int, int], seed: int) -> None:
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(seed).choice(np.array([-1, -0.0, 0.0], np.float32), (2, 5, 7, 3), p=(0.6, 0.2, 0.2))
    pooled = torch.nn.functional.max_pool2d(torch.tensor(x).permute(0, 3, 1, 2), size).permute(0, 2, 3, 1).numpy()
    for expected in (pooled, loops.pool(x, size, size, max)):
        np.testing.assert_array_equal(max_pool2d(x, size), expected)
        np.testing.assert_array_equal(np.signbit(max_pool2d(x, size)), np.signbit(expected))


def test_max_pool_passes_on_what_is_no_number() -> None:
    x = np.array([[[[1], [np.nan], [2]], [[np.nan], [3], [4]]]], np.float32)
    np.testing.assert_array_equal(max_pool2d(x, (2, 1)).ravel(), [np.nan, np.nan, 4])


@given(SIZES, st.integers(1, 70), st.booleans(), st.booleans(), SEEDS)
def test_pooling_bits_equals_thresholding_the_pooled(
    size: tuple[int, int], channels: int, per_pixel: bool, ties: bool, seed: int
) -> None:
    """Where a maximum is thresholded, bits pooled by direction are the same, ties at the threshold included."""
    rng = np.random.default_rng(seed)
    a = rng.integers(-3, 4, (2, 7, 11, channels), dtype=np.int32)
    rows, columns = 7 // size[0], 11 // size[1]
    direction = rng.choice(np.array([-1, 1], dtype=np.int8), (rows, columns, channels) if per_pixel else (channels,))
    threshold = rng.integers(-2, 3, (rows, columns, channels)) + (0 if ties else 0.5)
    slope = np.broadcast_to(direction, (rows, columns, channels))
    expected = np.sign(slope * (max_pool2d(a, size) - threshold))
    cut = a[:, : rows * size[0], : columns * size[1]]
    unpooled = np.sign(
        np.repeat(np.repeat(slope, size[0], axis=0), size[1], axis=1)
        * (cut - np.repeat(np.repeat(threshold, size[0], axis=0), size[1], axis=1))
    )
    bits = PackedBits(pack_bool(unpooled > 0).words, channels, pack_bool(unpooled != 0).words if ties else None)
    np.testing.assert_array_equal(unpack(pool_bits(bits, direction, size)), expected)


@given(SIZES, SEEDS)
def test_average_pool_is_one_float32_sum_after_another(size: tuple[int, int], seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(2, 5, 7, 3)).astype(np.float32)

    def mean(window: list[float]) -> float:
        total = np.float32(window[0])
        for value in window[1:]:
            total = np.float32(total + np.float32(value))
        return float(total / np.float32(len(window)))

    found = average_pool2d(x, size)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, loops.pool(x, size, size, mean).astype(np.float32))


def test_refuses_what_does_not_fit() -> None:
    a = np.zeros((1, 2, 5, 3), dtype=np.int32)
    with pytest.raises(RefdesignError, match=r"size: found \(3, 3\) for a map of \(2, 5\) pixels"):
        max_pool2d(a, 3)
    with pytest.raises(RefdesignError, match="expected \\(N, H, W, C\\)"):
        max_pool2d(a[0], 2)
    with pytest.raises(RefdesignError, match="found int32, expected float32"):
        average_pool2d(a, 2)  # type: ignore[arg-type]
    with pytest.raises(RefdesignError, match=r"direction: found shape \(4,\), expected one .* to \(1, 2, 3\)"):
        pool_bits(pack(a + 1), np.ones(4, dtype=np.int8), 2)
