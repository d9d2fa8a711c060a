from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from refdesign.bits import PackedBits, tail_mask, unpack
from refdesign.conventions import PAPER, PRESETS, RELEASED_TORCH, Conventions
from refdesign.errors import RefdesignError
from refdesign.fold import Thresholds, fold
from refdesign.ops.batch_norm import dithered_batch_norm
from refdesign.ops.dither import phases
from refdesign.ops.exact import exact_sign
from refdesign.ops.pool import max_pool2d
from refdesign.ops.sign import sign
from refdesign.parameters import BatchNorm, Float32Array, ThresholdKernel
from refdesign.verify.strategies import batch_norms, conventions, threshold_kernels

CHANNELS = 6


def vector(*values: float) -> Float32Array:
    return np.array(values, dtype=np.float32)


def plain(gamma: float = 1, beta: float = 0, mean: float = 0, variance: float = 1) -> BatchNorm:
    return BatchNorm(vector(gamma), vector(beta), vector(mean), vector(variance), 0.0)


def unfolded(
    a: NDArray[np.int32], bn: BatchNorm, kernel: ThresholdKernel | None, choices: Conventions
) -> NDArray[np.int8]:
    if choices.arithmetic == "real":
        return exact_sign(a, bn, kernel, choices)
    return sign(dithered_batch_norm(a, bn, kernel, choices), choices)


def folded(
    data: st.DataObject, choices: Conventions, height: int, width: int, fan_in: int
) -> tuple[BatchNorm, ThresholdKernel, Thresholds, NDArray[np.int32]]:
    """A layer, its thresholds, and attainable accumulators (5, height, width, CHANNELS)."""
    kernel = data.draw(threshold_kernels(CHANNELS, height, width))
    bn = data.draw(batch_norms(CHANNELS, fan_in, kernel=kernel, conventions=choices))
    step = data.draw(st.sampled_from((1, 2)))
    domain = None if step == 1 else (-fan_in, fan_in, 2)
    try:
        thresholds = fold(bn, kernel, fan_in=fan_in, conventions=choices, domain=domain)
    except RefdesignError as error:
        assume("finite" not in str(error) and "overflow" not in str(error))
        raise
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    shape = (5, height, width, CHANNELS)
    a = generator.integers(0, 2 * fan_in // step + 1, shape, dtype=np.int32) * np.int32(step) - np.int32(fan_in)
    return bn, kernel, thresholds, a


@given(st.data(), conventions())
def test_folded_bits_are_the_unfolded_ones(data: st.DataObject, choices: Conventions) -> None:
    bn, kernel, thresholds, a = folded(data, choices, *data.draw(st.sampled_from([(3, 7), (5, 2), (1, 11)])), fan_in=9)
    bits = thresholds.apply(a)
    want = unfolded(a, bn, kernel, choices)
    assert np.array_equal(unpack(bits), want)
    assert (bits.nonzero is None) == bool(np.all(want != 0))
    dense = a[:, 0, 0]
    assert np.array_equal(unpack(thresholds.apply(dense)), unfolded(dense, bn, kernel, choices))


@given(st.data(), conventions(), st.sampled_from([(1, 2), (2, 2), (3, 2), (2, 1)]))
def test_thresholds_before_the_pool(data: st.DataObject, choices: Conventions, size: tuple[int, int]) -> None:
    """Hardware that thresholds first and pools bits gives the bits of the pool that stands first."""
    height, width = 3 * size[0] + size[0] // 2, 5 * size[1] + size[1] // 2
    kernel_map = height // size[0], width // size[1]
    kernel = data.draw(threshold_kernels(CHANNELS, *kernel_map))
    bn = data.draw(batch_norms(CHANNELS, 9, kernel=kernel, conventions=choices))
    try:
        thresholds = fold(bn, kernel, fan_in=9, conventions=choices)
    except RefdesignError as error:
        assume("finite" not in str(error) and "overflow" not in str(error))
        raise
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    a = generator.integers(-9, 10, (2, height, width, CHANNELS), dtype=np.int32)
    before = thresholds.apply_before_pool(a, size)
    after = thresholds.apply(max_pool2d(a, size))
    assert np.array_equal(unpack(before), unpack(after))


@given(st.data(), conventions())
def test_what_the_arrays_say_is_what_apply_does(data: st.DataObject, choices: Conventions) -> None:
    """threshold, direction, constant and the zeros, read as their documentation says, one element at a time."""
    height, width = 3, 5
    _, _, thresholds, a = folded(data, choices, height, width, fan_in=4)
    m, n, _ = thresholds.shape
    rows, columns = phases(height, m, choices.kernel_origin), phases(width, n, choices.kernel_origin)
    bits = unpack(thresholds.apply(a))
    for i, j, c in np.ndindex(height, width, CHANNELS):
        where = (rows[i], columns[j], c)
        for value, bit in zip(a[:, i, j, c], bits[:, i, j, c], strict=True):
            if thresholds.zero_low[where] <= value <= thresholds.zero_high[where]:
                want = 0
            elif thresholds.direction[where] == 0:
                want = int(thresholds.constant[where])
            elif thresholds.direction[where] > 0:
                want = 1 if value >= thresholds.threshold[where] else -1
            else:
                want = 1 if value <= thresholds.threshold[where] else -1
            assert bit == want


def test_signs_of_gamma_and_alpha_turn_the_direction() -> None:
    gamma, alpha = vector(1, -1, 1, -1, 0, 0), vector(1, 1, -1, -1, 1, 1)
    beta, mean = vector(0, 0, 0, 0, 2, -2), vector(0.5, 0.5, -0.5, -0.5, 3, 3)
    bn = BatchNorm(gamma, beta, mean, np.ones_like(gamma), 0.0, alpha=alpha)
    thresholds = fold(bn, None, fan_in=5, conventions=PAPER)
    assert thresholds.direction.ravel().tolist() == [1, -1, -1, 1, 0, 0]
    assert thresholds.threshold.ravel().tolist() == [1, 0, 0, 1, 0, 0]
    assert thresholds.constant.ravel().tolist() == [0, 0, 0, 0, 1, -1]
    assert [thresholds.rule(0, 0, c) for c in (0, 1, 4, 5)] == ["a >= 1", "a <= 0", "always +1", "always -1"]


def test_thresholds_out_of_range_are_constants() -> None:
    bn = BatchNorm(vector(1, 1, -1, -1), vector(0, 0, 0, 0), vector(9, -9, 9, -9), vector(1, 1, 1, 1), 0.0)
    thresholds = fold(bn, None, fan_in=5, conventions=PAPER)
    assert thresholds.direction.ravel().tolist() == [0, 0, 0, 0]
    assert thresholds.constant.ravel().tolist() == [-1, 1, 1, -1]


def test_the_threshold_is_attainable() -> None:
    """With accumulators of one parity the threshold is the nearest of them on the firing side."""
    for gamma, want in ((1, 1), (-1, -1)):
        thresholds = fold(plain(gamma), None, fan_in=5, conventions=PAPER, domain=(-5, 5, 2))
        assert thresholds.threshold.item() == want


@pytest.mark.parametrize(
    ("beta", "gamma", "direction", "constant", "zeros"),
    [
        (0, 1, 1, 0, (0, 0)),
        (0, -1, -1, 0, (0, 0)),
        (-3, 1, 0, -1, (3, 3)),  # only the largest ties, none fires
        (-3, -1, 0, -1, (-3, -3)),
        (3, 1, 1, 0, (-3, -3)),  # only the smallest ties, all others fire
        (3, -1, -1, 0, (3, 3)),
        (0, 0, 0, 0, (-3, 3)),  # all tie
        (0.5, 1, 1, 0, (1, 0)),
    ],
)
def test_ternary_ties(beta: float, gamma: float, direction: int, constant: int, zeros: tuple[int, int]) -> None:
    thresholds = fold(plain(gamma, beta), None, fan_in=3, conventions=Conventions(sign_at_zero=0))
    assert thresholds.direction.item() == direction
    assert thresholds.constant.item() == constant
    assert (thresholds.zero_low.item(), thresholds.zero_high.item()) == zeros
    assert bool(thresholds.ternary.item()) == (zeros[0] <= zeros[1])
    a = np.arange(-3, 4, dtype=np.int32)[:, np.newaxis]
    assert unpack(thresholds.apply(a)).ravel().tolist() == np.sign(gamma * a + beta).ravel().tolist()


def test_a_rounded_z_can_tie_at_many_accumulators() -> None:
    """gamma*a underflows to zero in float32: a plateau of ties that exact arithmetic does not have."""
    bn = BatchNorm(vector(2.0**-149), vector(0), vector(0), vector(2.0**40), 0.0)
    program = fold(bn, None, fan_in=5, conventions=RELEASED_TORCH)
    assert (program.zero_low.item(), program.zero_high.item(), program.constant.item()) == (-5, 5, 0)
    exact = fold(bn, None, fan_in=5, conventions=RELEASED_TORCH.replace(arithmetic="real"))
    assert (exact.zero_low.item(), exact.zero_high.item(), exact.direction.item()) == (0, 0, 1)
    assert exact.certificate.agrees is not None
    assert not exact.certificate.agrees.item()


@pytest.mark.parametrize("arithmetic", ["real", "torch", "onnxruntime", "released_torch"])
def test_fan_ins_up_to_2_to_the_20(arithmetic: str) -> None:
    generator = np.random.default_rng(11)
    channels, fan_in = 70, 2**20
    planted = generator.integers(-fan_in, fan_in + 1, channels)
    planted[:4] = (fan_in, -fan_in, fan_in - 1, 1 - fan_in)
    signs = generator.choice(vector(-1, 1), channels)
    bn = BatchNorm(
        signs, np.zeros(channels, np.float32), planted.astype(np.float32), np.full(channels, 2.0**22, np.float32), 0.0
    )
    thresholds = fold(bn, None, fan_in=fan_in, conventions=PAPER.replace(arithmetic=arithmetic))
    fires = np.where(signs > 0, planted == -fan_in, planted == fan_in)
    assert np.array_equal(thresholds.direction[0, 0], np.where(fires, 0, signs))
    assert np.array_equal(thresholds.threshold[0, 0], np.where(fires, 0, planted))
    a = np.clip(planted.astype(np.int32) + np.array([[-1], [0], [1]], dtype=np.int32), -fan_in, fan_in)
    assert np.array_equal(unpack(thresholds.apply(a)), unfolded(a, bn, None, thresholds.conventions))


def test_pooling_where_one_phase_hides_the_slope() -> None:
    """A huge T swallows every y in one phase, so z does not move there; in the other phase it falls."""
    kernel = ThresholdKernel(vector(-(2.0**60), 0.25).reshape(1, 2))
    conventions_ = PAPER.replace(arithmetic="torch")
    thresholds = fold(plain(gamma=-1), kernel, fan_in=9, conventions=conventions_)
    assert thresholds.direction.ravel().tolist() == [0, -1]
    a = np.random.default_rng(4).integers(-9, 10, (3, 4, 10, 1), dtype=np.int32)
    assert np.array_equal(
        unpack(thresholds.apply_before_pool(a, (2, 2))), unpack(thresholds.apply(max_pool2d(a, (2, 2))))
    )


def test_float_programs_reach_2_to_the_24() -> None:
    bn = plain(mean=2.0**24)
    thresholds = fold(bn, None, fan_in=2**24, conventions=PAPER.replace(arithmetic="torch"))
    assert thresholds.threshold.item() == 2**24


def test_the_largest_accumulators_of_int32() -> None:
    bn = BatchNorm(vector(1, -1), vector(0, 0), vector(2.0**31 - 128, -(2.0**31)), vector(1, 1), 0.0)
    ends = np.array([-(2**31), 2**31 - 1], dtype=np.int32)
    thresholds = fold(bn, None, fan_in=1, conventions=PAPER, domain=(-(2**31), 2**31 - 1, 1))
    assert thresholds.threshold.ravel().tolist() == [2**31 - 128, -(2**31)]
    assert unpack(thresholds.apply(ends[:, np.newaxis].repeat(2, axis=1))).tolist() == [[-1, 1], [1, -1]]


def test_domains_per_channel() -> None:
    bn = BatchNorm(vector(1, 1, 1), vector(0, 0, 0), vector(2, 2, 2), vector(1, 1, 1), 0.0)
    domain = (np.array([-3, 3, -7]), np.array([1, 9, 5]), 2)
    thresholds = fold(bn, None, fan_in=9, conventions=PAPER, domain=domain)
    assert thresholds.direction.ravel().tolist() == [0, 0, 1]
    assert thresholds.constant.ravel().tolist() == [-1, 1, 0]
    assert thresholds.threshold.ravel().tolist() == [0, 0, 3]


@pytest.mark.parametrize("channels", [1, 7, 8, 63, 64, 65, 130])
def test_packing_of_any_number_of_channels(channels: int) -> None:
    generator = np.random.default_rng(channels)
    normal = generator.normal(size=(3, channels)).astype(np.float32)
    bn = BatchNorm(normal[0], normal[1], normal[2], np.ones(channels, np.float32), 0.0)
    kernel = ThresholdKernel(generator.normal(size=(2, 3)).astype(np.float32))
    thresholds = fold(bn, kernel, fan_in=9, conventions=PAPER)
    a = generator.integers(-9, 10, (3, 5, 4, channels), dtype=np.int32)
    bits = thresholds.apply(a)
    assert bits.shape == a.shape
    assert not np.any(bits.words & ~tail_mask(channels))
    assert np.array_equal(unpack(bits), exact_sign(a, bn, kernel, PAPER))


def test_blocks_of_images_and_views_and_no_images() -> None:
    bn = BatchNorm(vector(1, -1, 1), vector(0, 0, 1), vector(0.5, 0, 0), vector(1, 1, 1), 0.0)
    kernel = ThresholdKernel(vector(0, 1, 2, 3).reshape(2, 2))
    thresholds = fold(bn, kernel, fan_in=9, conventions=PAPER)
    a = np.random.default_rng(2).integers(-9, 10, (11, 101, 103, 3), dtype=np.int32)
    want = exact_sign(a, bn, kernel, PAPER)
    assert np.array_equal(unpack(thresholds.apply(a)), want)
    assert np.array_equal(unpack(thresholds.apply(np.asfortranarray(a))), want)
    assert thresholds.apply(a[:0]).shape == (0, 101, 103, 3)
    assert thresholds.apply(a[:0, 0, 0]).shape == (0, 3)


def test_presets_without_keras_fold() -> None:
    for name, conventions_ in PRESETS.items():
        if conventions_.arithmetic == "keras":
            with pytest.raises(RefdesignError, match="expected the scale that Keras computed"):
                fold(plain(), None, fan_in=3, conventions=conventions_)
        else:
            assert fold(plain(), None, fan_in=3, conventions=conventions_).direction.item() == 1, name


def test_to_dict_is_json_and_table_has_all_rows() -> None:
    kernel = ThresholdKernel(vector(0, 1, 2, 3, 4, 5).reshape(2, 3))
    thresholds = fold(plain(), kernel, fan_in=9, conventions=RELEASED_TORCH)
    data = json.loads(json.dumps(thresholds.to_dict()))
    assert data["threshold"] == thresholds.threshold.tolist()
    assert data["shape"] == [2, 3, 1]
    assert data["domain"] == {"low": [-9], "high": [9], "step": 1}
    assert Conventions.from_dict(data["conventions"]) == RELEASED_TORCH
    rows = thresholds.table()
    assert [(row["row"], row["column"]) for row in rows] == [(i, j) for i in range(2) for j in range(3)]
    assert rows[1]["rule"] == "a >= 2, 0 at 1 <= a <= 1"


def test_refusals() -> None:
    bn = BatchNorm(vector(1, 2, 3), vector(0, 1, 2), vector(1, 2, 3), vector(1, 2, 3), 0.0)
    for arguments, message in (
        ({"fan_in": 0}, "fan_in: found 0, expected a positive integer"),
        ({"fan_in": 2**31}, "expected accumulators that int32 holds"),
        ({"fan_in": 9, "domain": (0, 5, 2)}, "found 0 to 5 in steps of 2 in channel 0"),
        ({"fan_in": 9, "domain": (5, 0, 1)}, "expected low <= high"),
        ({"fan_in": 9, "domain": (0, 5, 0)}, "found the step 0"),
        ({"fan_in": 9, "domain": (np.zeros(2, np.int64), 5, 1)}, "expected an integer or one for each of 3 channels"),
        ({"fan_in": 9, "domain": (0, 5.5, 1)}, "found high as float64"),
    ):
        with pytest.raises(RefdesignError, match=message):
            fold(bn, None, conventions=PAPER, **arguments)
    with pytest.raises(RefdesignError, match=r"found -16777217 to 16777217 in channel 0, expected at most 2\*\*24"):
        fold(bn, None, fan_in=2**24 + 1, conventions=PAPER.replace(arithmetic="torch"))
    with pytest.raises(RefdesignError, match="g = 2 slices, expected a divisor of 3 channels"):
        fold(bn, ThresholdKernel(np.zeros((1, 1, 2), np.float32)), fan_in=9, conventions=PAPER)
    overflowing = BatchNorm(vector(1, 1), vector(0, 3e38), vector(0, 0), vector(1, 1), 0.0, alpha=vector(1, 3e38))
    huge = ThresholdKernel(vector(0, 3e38).reshape(1, 2))
    scaled = PAPER.replace(arithmetic="released_torch", threshold_scale="gamma")
    wrong = BatchNorm(vector(1, 1e10), vector(0, 3e38), vector(0, 0), vector(1, 1), 0.0, alpha=vector(1, 3e38))
    fold(overflowing, huge, fan_in=9, conventions=scaled)
    with pytest.raises(RefdesignError, match=r"channel 1, phase \(0, 1\): z is not a number at an end of the domain"):
        fold(wrong, huge, fan_in=9, conventions=scaled)


def test_lists_are_taken_and_kept_as_float32() -> None:
    """The annotations accept them too: this file is type-checked."""
    bn, kernel = BatchNorm([1, 2.5], [0, 0], [0.5, 0], [1, 1], 0.0), ThresholdKernel([[0, 1.5]])
    assert [bn.gamma.dtype, kernel.values.dtype] == [np.float32] * 2
    assert fold(bn, kernel, fan_in=3, conventions=PAPER).shape == (1, 2, 2)


def test_apply_refuses() -> None:
    thresholds = fold(plain(), None, fan_in=3, conventions=PAPER)
    a = np.zeros((2, 3, 5, 1), dtype=np.int32)
    with pytest.raises(RefdesignError, match="found int64, expected int32"):
        thresholds.apply(a.astype(np.int64))
    with pytest.raises(RefdesignError, match=r"found accumulators of shape \(2, 3, 5\)"):
        thresholds.apply(a[..., 0])
    with pytest.raises(RefdesignError, match=r"with C = 1"):
        thresholds.apply(np.zeros((2, 3), dtype=np.int32))
    with pytest.raises(RefdesignError, match=r"a window of \(4, 1\)"):
        thresholds.apply_before_pool(a, (4, 1))
    with pytest.raises(RefdesignError, match="size: found 0"):
        thresholds.apply_before_pool(a, 0)
    with pytest.raises(RefdesignError, match=r"\(2, 1\), expected one that fits into a map"):
        thresholds.apply_before_pool(a[:, 0, 0], 1)
    assert isinstance(thresholds.apply(a), PackedBits)


def test_accumulators_outside_the_domain_are_refused() -> None:
    """A fan-in that is too small would give wrong bits in silence: here 5 fires as 3 does, yet z falls nowhere."""
    bn = BatchNorm(vector(1, 1, 1), vector(0, 0, 0), vector(0.5, 4, 0.5), vector(1, 1, 1), 0.0)
    low, high = np.array([-3, -5, -9]), np.array([3, 5, 7])
    thresholds = fold(bn, None, fan_in=3, conventions=PAPER, domain=(low, high, 2))
    a = np.array([[3, 5, -9], [-3, -5, 7]], dtype=np.int32)
    assert unpack(thresholds.apply(a)).tolist() == [[1, 1, -1], [-1, -1, 1]]
    for channel, value, expected in ((0, 5, "-3 to 3"), (1, -7, "-5 to 5"), (2, 9, "-9 to 7"), (2, -11, "-9 to 7")):
        wrong = a.copy()
        wrong[1, channel] = value
        with pytest.raises(RefdesignError, match=rf"channel {channel}: found the accumulator {value}, .*{expected}"):
            thresholds.apply(wrong)
        with pytest.raises(RefdesignError, match=f"channel {channel}"):
            thresholds.apply_before_pool(wrong[:, np.newaxis, np.newaxis], 1)
        assert thresholds.apply(wrong, checked=False).shape == (2, 3)
    with pytest.raises(RefdesignError, match=r"channel 1: found the accumulator 2, .* -5 to 5 in steps of 2"):
        thresholds.apply(np.array([[1, 2, 3]], dtype=np.int32))
    by_three = fold(bn, None, fan_in=9, conventions=PAPER, domain=(-9, 9, 3))
    assert by_three.apply(np.array([[-9, 0, 9]], dtype=np.int32)).shape == (1, 3)
    with pytest.raises(RefdesignError, match=r"channel 2: found the accumulator 4, .* in steps of 3"):
        by_three.apply(np.array([[-9, 0, 4]], dtype=np.int32))
