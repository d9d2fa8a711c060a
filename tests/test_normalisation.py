from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from refdesign.api import Network, load
from refdesign.bits import pack, unpack
from refdesign.conventions import ARITHMETICS, PAPER, Conventions
from refdesign.errors import RefdesignError
from refdesign.fold import fold
from refdesign.network import BinaryDense, NetworkData, PixelConv2d
from refdesign.normalisation import normalise_pixels, positive_slope
from refdesign.ops.batch_norm import batch_norm
from refdesign.ops.exact import exact_sign
from refdesign.ops.pixels import pixel_conv2d
from refdesign.parameters import AFFINE_LIMIT, BatchNorm, Float32Array, RationalAffine, ThresholdKernel
from refdesign.run import run
from tests.exactly import nearest_float32, square_root

IMAGENET = [Fraction("0.485"), Fraction("0.456"), Fraction("0.406")]
KERNEL = ThresholdKernel(np.array([[0.5, -0.25], [0.0, 1.0], [0.125, 2.0]], dtype=np.float32))


def vector(*values: float) -> Float32Array:
    return np.array(values, dtype=np.float32)


def first_layer(seed: int, *, grid: bool = False, groups: int = 1) -> PixelConv2d:
    generator = np.random.default_rng(seed)
    shape = (6, 2, 3, 3 // groups)
    weights = generator.integers(-9, 10, shape, dtype=np.int32) if grid else pack(generator.choice([-1, 1], shape))
    normal = generator.normal(size=(4, 6)).astype(np.float32)
    bn = BatchNorm(normal[0], normal[1], normal[2], normal[3] ** 2, 1e-5, alpha=vector(1, -1, 0.5, 0.1, 2, -0.3))
    return PixelConv2d(
        name="first", weights=weights, padding=(1, 2), padding_mode="edge", groups=groups, batch_norm=bn, kernel=KERNEL
    )


def exact_y(layer: PixelConv2d, pixels: NDArray[np.uint8], mean: list[Fraction], deviation: Fraction) -> list[Fraction]:
    """gamma*(alpha*v - mean) of each channel under one window, v a sum of normalised pixels times weights."""
    weights = unpack(layer.weights) if not isinstance(layer.weights, np.ndarray) else layer.weights
    bn, sums = layer.batch_norm, []
    assert bn is not None
    assert bn.alpha is not None
    for c in range(len(weights)):
        first = c // (len(weights) // layer.groups) * weights.shape[3]
        v = sum(
            (
                (Fraction(int(pixels[i, j, first + k]), 255) - mean[first + k]) / deviation * int(weights[c, i, j, k])
                for i, j, k in np.ndindex(weights.shape[1:])
            ),
            Fraction(0),
        )
        sums.append(Fraction(float(bn.gamma[c])) * (Fraction(float(bn.alpha[c])) * v - Fraction(float(bn.mean[c]))))
    return sums


@pytest.mark.parametrize(("grid", "groups"), [(False, 1), (True, 1), (False, 3)])
def test_y_is_that_of_the_normalised_pixels(grid: bool, groups: int) -> None:
    """Against every product of a normalised pixel and a weight, in rationals."""
    layer = replace(first_layer(4, grid=grid, groups=groups), padding=(0, 0))
    deviation = Fraction("0.229")
    bn = normalise_pixels(layer, IMAGENET, deviation).batch_norm
    assert bn is not None
    image = np.random.default_rng(3).integers(0, 256, (1, 5, 7, 3), dtype=np.uint8)
    accumulators = pixel_conv2d(image, layer.weights, groups=groups)
    y = batch_norm(accumulators, bn, "real")
    for i, j in np.ndindex(y.shape[1:3]):
        products = exact_y(layer, image[0, i : i + 2, j : j + 3], IMAGENET, deviation)
        for c, p in enumerate(products):
            roots = square_root(Fraction(float(bn.variance[c])) + Fraction(bn.epsilon), 400)
            beta = Fraction(float(bn.beta[c]))
            assert y[0, i, j, c] == nearest_float32(p / roots[0] + beta, p / roots[1] + beta)


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.fractions(-2, 2, max_denominator=10_000), min_size=3, max_size=3),
    st.fractions(Fraction(1, 100), 3, max_denominator=10_000),
    st.sampled_from([1, -1, 0]),
)
def test_fold_is_the_exact_sign(seed: int, mean: list[Fraction], deviation: Fraction, at_zero: int) -> None:
    bn = normalise_pixels(first_layer(seed), mean, deviation).batch_norm
    assert bn is not None
    conventions = PAPER.replace(sign_at_zero=at_zero)
    a = np.random.default_rng(seed).integers(-4590, 4591, (3, 4, 5, 6), dtype=np.int32)
    thresholds = fold(bn, KERNEL, fan_in=18 * 255, conventions=conventions)
    assert np.array_equal(unpack(thresholds.apply(a)), exact_sign(a, bn, KERNEL, conventions))


def test_a_boundary_that_is_a_rational_pixel_sum() -> None:
    """(a/255 - 18*0.3)/0.2 = 0 at a = 1377, exactly, although none of these numbers is a float."""
    bn = BatchNorm(vector(1), vector(0), vector(0), vector(3), 0.0)
    layer = PixelConv2d(name="first", weights=pack(np.ones((1, 2, 3, 3))), batch_norm=bn)
    normalised = normalise_pixels(layer, [Fraction("0.3")] * 3, Fraction("0.2")).batch_norm
    assert normalised is not None
    for at_zero, threshold in ((1, 1377), (-1, 1378)):
        thresholds = fold(normalised, None, fan_in=18 * 255, conventions=Conventions(sign_at_zero=at_zero))
        assert thresholds.threshold.item() == threshold
    a = np.array([[1376], [1377], [1378]], dtype=np.int32)
    assert exact_sign(a, normalised, None, Conventions(sign_at_zero=0)).ravel().tolist() == [-1, 0, 1]
    certificate = fold(normalised, None, fan_in=18 * 255, conventions=PAPER).certificate
    assert [neighbour.accumulator for neighbour in certificate.entry(0, 0, 0).neighbours] == [1376, 1377]
    assert certificate.entry(0, 0, 0).neighbours[1].z == (Fraction(0), Fraction(0))
    assert certificate.agrees is None
    assert "affine" in certificate.refusal


def test_the_three_paths_and_the_file(tmp_path: Path) -> None:
    layer = normalise_pixels(first_layer(8), IMAGENET, Fraction("0.229"))
    last = BinaryDense(name="last", weights=pack(np.random.default_rng(1).choice([-1, 1], (4, 6 * 8 * 6))))
    network = NetworkData(name="elsewhere", input_shape=(5, 6, 3), layers=(layer, last))
    Network.from_data(network).save(tmp_path / "net")
    images = np.random.default_rng(2).integers(0, 256, (3, 5, 6, 3), dtype=np.uint8)
    want = run(network, images, path="naive", outputs="all")
    for data in (network, load(tmp_path / "net")):
        for path in ("packed", "float"):
            found = run(data, images, path=path, outputs="all")
            assert list(found) == list(want)
            for name, values in want.items():
                assert np.array_equal(found[name], values), (path, name)


def test_float_programs_refuse_it() -> None:
    bn = normalise_pixels(first_layer(1), IMAGENET, 1).batch_norm
    assert bn is not None
    for arithmetic in set(ARITHMETICS) - {"real"}:
        with pytest.raises(RefdesignError, match="affine: found an exact map of the accumulators"):
            fold(bn, None, fan_in=9, conventions=PAPER.replace(arithmetic=arithmetic))


@pytest.mark.parametrize(
    ("changes", "mean", "deviation", "message"),
    [
        ({"padding_mode": "zeros"}, IMAGENET, 1, "padding_mode: found 'zeros', expected padding with the map's own"),
        ({"padding_mode": "ones"}, IMAGENET, 1, "padding_mode: found 'ones'"),
        ({"multiplier": 2, "offset": -255}, IMAGENET, 1, "found multiplier 2 and offset -255, expected 1 and 0"),
        ({"batch_norm": None}, IMAGENET, 1, "batch_norm: found none"),
        ({}, IMAGENET[:2], 1, "mean: found 2 numbers, expected 3"),
        ({}, IMAGENET, 0, "deviation: found 0, expected a positive number"),
        ({}, IMAGENET, float("nan"), "deviation nan, expected finite numbers"),
        ({}, [Fraction(1, 3**90), Fraction(1, 5**90), 1], 1, r"affine, numerator: found \d+, expected an integer"),
    ],
)
def test_refusals(changes: dict[str, object], mean: list[Fraction], deviation: float, message: str) -> None:
    with pytest.raises(RefdesignError, match=message):
        normalise_pixels(replace(first_layer(1), **changes), mean, deviation)  # type: ignore[arg-type]


def test_zero_padding_of_no_pixels_is_none() -> None:
    layer = replace(first_layer(1), padding=(0, 0), padding_mode="zeros")
    assert normalise_pixels(layer, IMAGENET, 1).batch_norm is not None
    with pytest.raises(RefdesignError, match="found one with an affine map"):
        normalise_pixels(normalise_pixels(layer, IMAGENET, 1), IMAGENET, 1)


def test_affine_maps_are_checked() -> None:
    for arguments, message in (
        ((0, (0,), 1), "affine, numerator: found 0"),
        ((1, (0,), -1), "affine, denominator: found -1"),
        ((1, (AFFINE_LIMIT,), 1), "affine, offsets, channel 0"),
        ((1.5, (0,), 1), "affine, numerator: found 1.5"),
    ):
        with pytest.raises(RefdesignError, match=message):
            RationalAffine(*arguments)
    with pytest.raises(RefdesignError, match="affine: found 2 offsets, expected 1"):
        BatchNorm(vector(1), vector(0), vector(0), vector(1), 0.0, affine=RationalAffine(1, (0, 0), 1))
    with pytest.raises(RefdesignError, match="affine: found k beside it"):
        BatchNorm(vector(1), vector(0), vector(0), vector(1), 0.0, k=vector(1), affine=RationalAffine(1, (0,), 1))


@given(st.integers(0, 2**32), st.sampled_from([name for name in ARITHMETICS if name != "keras"]))
def test_channels_that_fall_are_turned_without_changing_a_value(seed: int, arithmetic: str) -> None:
    layer = first_layer(seed)
    assert layer.batch_norm is not None
    bits = layer.weights
    assert not isinstance(bits, np.ndarray)
    turned_bits, turned = positive_slope(bits, layer.batch_norm)
    assert turned.alpha is not None
    assert (turned.gamma >= 0).all()
    assert (turned.alpha >= 0).all()
    signs = unpack(turned_bits)[:, 0, 0, 0] * unpack(bits)[:, 0, 0, 0]
    np.testing.assert_array_equal(unpack(turned_bits), unpack(bits) * signs[:, np.newaxis, np.newaxis, np.newaxis])
    sums = np.random.default_rng(seed).integers(-5000, 5001, (7, 6)).astype(np.int32)
    before = batch_norm(sums, layer.batch_norm, arithmetic)
    after = batch_norm(sums * signs.astype(np.int32), turned, arithmetic)
    np.testing.assert_array_equal(before, after)


def test_a_batch_norm_with_k_is_not_turned() -> None:
    layer = first_layer(0)
    assert layer.batch_norm is not None
    norm = replace(layer.batch_norm, k=np.ones(6, np.float32))
    with pytest.raises(RefdesignError, match="found k or an affine map"):
        positive_slope(layer.weights, norm)  # type: ignore[arg-type]
