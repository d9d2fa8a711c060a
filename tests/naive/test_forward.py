"""Whole networks along the slow path, computed by hand, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from refdesign import naive
from refdesign.bits import pack
from refdesign.conventions import Conventions
from refdesign.errors import RefdesignError
from refdesign.network import (
    AveragePool,
    BinaryConv2d,
    BinaryDense,
    CombinedConv2d,
    MaxPool,
    NetworkData,
    PixelConv2d,
    RealDense,
    Shortcut,
)
from refdesign.parameters import BatchNorm, ThresholdKernel


def float32(values: Any) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """An array of float32."""
    return np.array(values, dtype=np.float32)


def plain_network(conventions: Conventions | None = None) -> NetworkData:
    """A pixel layer with pool, batch norm and dither, then a dense layer of two outputs."""
    first = PixelConv2d(
        name="conv",
        weights=pack(np.array([[[[1]]], [[[-1]]]])),
        multiplier=2,
        offset=-255,
        pool=MaxPool(size=(1, 2), stride=(1, 2)),
        batch_norm=BatchNorm(float32([1, -2]), float32([0, 1]), float32([-55, 0]), float32([4, 1]), 0.0),
        kernel=ThresholdKernel(float32([[0, 50]])),
    )
    second = BinaryDense(name="dense", weights=pack(np.array([[1, 1, 1, 1], [1, -1, 1, -1]])))
    return NetworkData(
        name="plain", input_shape=(1, 5, 1), layers=(first, second), conventions=conventions or Conventions()
    )


IMAGE = np.array([[[[100], [80], [140], [150], [7]]]], dtype=np.uint8)


@pytest.mark.parametrize("arithmetic", ["real", "torch", "onnxruntime", "released_torch"])
def test_a_network_by_hand(arithmetic: str) -> None:
    """2p - 255 = -55, -95, 25, 45, (-241); the pool drops the fifth.

    Channel 0: pooled -55 and 45; y = (a + 55)/2 = 0 and 50; z = 0 - 0 and 50 - 50: two exact ties.
    Channel 1: a = 55, 95, -25, -45, pooled 95 and -25; y = 1 - 2a = -189 and 51; z = -189 and 1.
    """
    for at_zero in (1, -1, 0):
        conventions = Conventions(arithmetic=arithmetic, sign_at_zero=at_zero)
        results = naive.run(plain_network(conventions), IMAGE)
        assert list(results) == ["conv.accumulator", "conv.pooled", "conv.bits", "dense.accumulator", "logits"]
        assert results["conv.accumulator"].tolist() == [[[[-55, 55], [-95, 95], [25, -25], [45, -45], [-241, 241]]]]
        assert results["conv.pooled"].tolist() == [[[[-55, 95], [45, -25]]]]
        assert results["conv.bits"].tolist() == [[[[at_zero, -1], [at_zero, 1]]]]
        assert results["logits"].tolist() == [[2 * at_zero, 2 * at_zero]]
        assert [array.dtype.name for array in results.values()] == ["int32", "int32", "int8", "int32", "int32"]


def residual_network() -> NetworkData:
    """Two convolutions with shortcuts, of which one halves the map and adds channels, and a real end."""
    identity = pack(np.array([[[[1]]]]))
    first = PixelConv2d(
        name="a",
        weights=identity,
        batch_norm=BatchNorm(float32([1]), float32([0]), float32([10]), float32([16]), 0.0),
    )
    negation = pack(np.array([[[[-1]]]]))
    second = BinaryConv2d(name="b", weights=negation, shortcut=Shortcut(source="a"), hardtanh=True)
    third = CombinedConv2d(
        name="c",
        weights=(pack(np.ones((3, 2, 2, 1))), pack(-np.ones((3, 2, 2, 1)))),
        scales=float32([[1, 2, 3], [0.5, 0.25, 0]]),
        stride=(2, 2),
        shortcut=Shortcut(source="b", average_pool=2, channel_padding=(1, 1)),
    )
    pool = AveragePool(name="pool", size=(1, 2))
    dense = RealDense(
        name="end",
        weights=float32([[1, 2, 4]]),
        bias=float32([0.5]),
        input_batch_norm=BatchNorm(float32([1, 1, 2]), float32([0, 0, 1]), float32([0, 1, 0]), float32([1, 1, 1]), 0.0),
    )
    return NetworkData(name="residual", input_shape=(2, 5, 1), layers=(first, second, third, pool, dense))


def test_a_residual_network_by_hand() -> None:
    image = np.array([[[[12], [0], [10], [14], [255]], [[8], [10], [18], [2], [0]]]], dtype=np.uint8)
    results = naive.run(residual_network(), image)
    # a: (p - 10)/4
    real_a = [[0.5, -2.5, 0.0, 1.0, 61.25], [-0.5, 0.0, 2.0, -2.0, -2.5]]
    bits_a = [[1, -1, 1, 1, 1], [-1, 1, 1, -1, -1]]
    assert results["a.real"][0, :, :, 0].tolist() == real_a
    assert results["a.bits"][0, :, :, 0].tolist() == bits_a
    # b: the sign of real_a - bits_a, of which the real output is clamped
    assert results["b.accumulator"][0, :, :, 0].tolist() == [[-bit for bit in row] for row in bits_a]
    assert results["b.real"][0, :, :, 0].tolist() == [[-0.5, -1, -1, 0, 1], [0.5, -1, 1, -1, -1]]
    assert results["b.bits"][0, :, :, 0].tolist() == [[-1, -1, -1, 1, 1], [1, -1, 1, -1, -1]]
    # c: the bits of b sum to a = -2 and 0 in the two windows; v = s0*a - s1*a; the shortcut adds -0.5 and -0.25
    expected = [[-1.0, -3.5 - 0.5, -6.0], [0.0, -0.25, 0.0]]
    assert results["c.real"][0, 0].tolist() == expected
    assert results["c.bits"][0, 0].tolist() == [[-1, -1, -1], [1, -1, 1]]
    average = [(x + y) / 2 for x, y in zip(*expected, strict=True)]
    assert results["pool.real"][0, 0, 0].tolist() == average
    assert results["logits"].tolist() == [[average[0] + 2 * (average[1] - 1) + 4 * (2 * average[2] + 1) + 0.5]]
    assert results["logits"].dtype == np.float32


def test_only_what_is_asked_for_is_computed() -> None:
    seen: list[tuple[int, int]] = []
    images = np.concatenate([IMAGE, IMAGE[:, :, ::-1]])
    results = naive.run(plain_network(), images, ("conv.bits",), progress=lambda *call: seen.append(call))
    assert list(results) == ["conv.bits"]
    assert seen == [(done, 10) for done in range(1, 11)], "five accumulator pixels an image, no dense layer"
    complete = naive.run(plain_network(), images, "all", progress=lambda *call: seen.append(call))
    assert seen[-1] == (12, 12)
    np.testing.assert_array_equal(complete["conv.bits"], results["conv.bits"], strict=True)


def test_no_images_give_empty_outputs() -> None:
    results = naive.run(residual_network(), np.zeros((0, 2, 5, 1), dtype=np.uint8))
    assert results["c.real"].shape == (0, 1, 2, 3)
    assert results["logits"].shape == (0, 1)


@pytest.mark.parametrize(
    ("images", "outputs", "message"),
    [
        (
            IMAGE.astype(np.int64),
            "all",
            r"images: found int64 of shape \(1, 1, 5, 1\), expected uint8 of shape \(N, 1,",
        ),
        (IMAGE[0], "all", r"images: found uint8 of shape \(1, 5, 1\)"),
        (IMAGE, "conv.pool", r"outputs: found 'conv.pool', expected 'all' or some of conv.accumulator"),
        (None, "all", "images: found NoneType"),
    ],
)
def test_wrong_input_is_refused(images: Any, outputs: Any, message: str) -> None:
    with pytest.raises(RefdesignError, match=message):
        naive.run(plain_network(), images, outputs)
