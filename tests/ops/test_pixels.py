from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdesign.bits import pack
from refdesign.errors import RefdesignError
from refdesign.ops.pixels import pixel_conv2d, real_conv2d
from tests.ops import loops
from tests.ops.strategies import Geometry, geometries

SEEDS = st.integers(0, 2**32 - 1)
MAPPINGS = st.sampled_from([(1, 0), (2, -255), (-3, 7), (0, 5)])


@given(geometries(max_depth=14), MAPPINGS, st.booleans(), SEEDS)
def test_pixels_equal_plain_loops(case: Geometry, mapping: tuple[int, int], packed: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = rng.integers(0, 256, (case.images, *case.extent, case.depth * case.groups), dtype=np.uint8)
    shape = (case.out, *case.kernel, case.depth)
    w = rng.choice([-1, 1], shape) if packed else rng.integers(-2000, 2000, shape, dtype=np.int32)
    multiplier, offset = mapping
    found = pixel_conv2d(p, pack(w) if packed else w, multiplier=multiplier, offset=offset, **case.keywords)
    assert found.dtype == np.int32
    x = multiplier * p.astype(np.int64) + offset
    np.testing.assert_array_equal(found, loops.convolution(x, w, **case.loop_keywords))


@given(geometries(max_depth=5), SEEDS)
def test_real_sums_lie_within_the_bound_of_the_exact_ones(case: Geometry, seed: int) -> None:
    rng = np.random.default_rng(seed)
    channels = case.depth * case.groups
    p = rng.integers(0, 256, (case.images, *case.extent, channels), dtype=np.uint8)
    w = rng.normal(size=(case.out, *case.kernel, case.depth)).astype(np.float32)
    scale = rng.uniform(0.003, 0.02, channels).astype(np.float32)
    shift = rng.uniform(-2, 2, channels).astype(np.float32)
    v, bound = real_conv2d(p, w, scale, shift, **case.keywords)
    assert v.dtype == bound.dtype == np.float32
    x = (p.astype(np.float32) * scale).astype(np.float32) + shift
    # Multiples of 2**-60 that integers hold: the exact sums by the loops over Python integers.
    grid = 2**60
    as_integers = np.vectorize(lambda value: int(Fraction(float(value)) * grid), otypes=[object])
    if x.size == 0:
        assert v.size == bound.size == 0
        return
    exact = convolution_of_fractions(as_integers(x), as_integers(w), case, grid)
    assert all(
        abs(Fraction(float(found)) - Fraction(int(sum_), grid**2)) <= Fraction(float(limit))
        for found, sum_, limit in zip(v.ravel(), exact.ravel(), bound.ravel(), strict=True)
    )
    assert all(
        abs(Fraction(float(found)) - Fraction(int(sum_), grid**2)) <= Fraction(float(np.spacing(np.abs(found))))
        or abs(sum_) < grid**2 // 1000
        for found, sum_ in zip(v.ravel(), exact.ravel(), strict=True)
    )


def convolution_of_fractions(x: np.ndarray, w: np.ndarray, case: Geometry, grid: int) -> np.ndarray:
    """The loops of `tests.ops.loops` over big integers: constants are on the grid too."""
    constant = {"ones": grid, "minus_ones": -grid}.get(case.keywords["padding_mode"], 0)
    height, width = case.extent
    n, size = x.shape[0], []
    for axis, extent in ((0, height), (1, width)):
        reach = case.keywords["dilation"][axis] * (case.kernel[axis] - 1)
        size.append((extent + 2 * case.keywords["padding"][axis] - reach - 1) // case.keywords["stride"][axis] + 1)
    result = np.zeros((n, size[0], size[1], case.out), dtype=object)
    geometry = [case.keywords[name] for name in ("stride", "padding", "padding_mode", "dilation")]
    for image, i, j, o in np.ndindex(*result.shape):
        first = o // (case.out // case.groups) * case.depth
        window = loops.taps(i, j, (height, width), case.kernel, *geometry)
        for ti, tj, row, column in window:
            for c in range(case.depth):
                value = constant if row is None or column is None else x[image, row, column, first + c]
                result[image, i, j, o] += value * w[o, ti, tj, c]
    return result


def test_bound_covers_float32_sums_in_shuffled_orders() -> None:
    rng = np.random.default_rng(11)
    p = rng.integers(0, 256, (1, 9, 7, 5), dtype=np.uint8)
    w = rng.normal(size=(4, 9, 7, 5)).astype(np.float32)
    scale, shift = np.full(5, 1 / 255, np.float32), np.full(5, -0.5, np.float32)
    v, bound = real_conv2d(p, w, scale, shift)
    x = (p.astype(np.float32) * scale + shift).ravel()
    off = 0
    for _ in range(200):
        order = rng.permutation(x.size)
        for o in range(4):
            total = np.add.accumulate(x[order] * w[o].ravel()[order], dtype=np.float32)[-1]
            assert abs(float(total) - float(v[0, 0, 0, o])) <= float(bound[0, 0, 0, o])
            off += total != v[0, 0, 0, o]
    assert off > 400


@pytest.mark.parametrize("scale", [-1403583, 1403583])
def test_sums_at_the_ends_of_int32(scale: int) -> None:
    """Terms beyond int32 on the way leave no trace in sums that it holds: x is -255*scale or 255*scale."""
    p = np.array([[[[255] * 6]], [[[0] * 6]], [[[255] * 3 + [0] * 3]]], dtype=np.uint8)
    w = pack(np.array([[[[1] * 6]], [[[-1] * 6]], [[[1] * 3 + [-1] * 3]]]))
    found = pixel_conv2d(p, w, multiplier=2 * scale, offset=-255 * scale)
    most = 255 * 6 * scale
    assert abs(most) > 2**31 - 2000
    np.testing.assert_array_equal(found.reshape(3, 3), [[most, -most, 0], [-most, most, 0], [0, 0, most]])


def test_refuses_what_does_not_fit() -> None:
    p = np.zeros((1, 4, 5, 3), dtype=np.uint8)
    w = np.ones((2, 3, 1, 3), dtype=np.int32)
    with pytest.raises(RefdesignError, match="pixels: found float64"):
        pixel_conv2d(p.astype(np.float64), w)
    with pytest.raises(RefdesignError, match="weights: found int64, expected int32 or packed bits"):
        pixel_conv2d(p, w.astype(np.int64))
    with pytest.raises(RefdesignError, match="sums reach 9180000000, expected less than 2\\*\\*31"):
        pixel_conv2d(p, w * 4_000_000)
    with pytest.raises(RefdesignError, match=r"scale: found float32 of shape \(2,\), expected float32 of shape \(3,\)"):
        real_conv2d(p, w.astype(np.float32), np.ones(2, np.float32), np.ones(3, np.float32))
    with pytest.raises(RefdesignError, match="a sum leaves the range of float32"):
        real_conv2d(p + 1, np.full((2, 3, 1, 3), 3e38, np.float32), np.ones(3, np.float32), np.ones(3, np.float32))
    with pytest.raises(RefdesignError, match="groups: found 2"):
        pixel_conv2d(p[..., :2], w[:1, ..., :1], groups=2)
