"""Fields of layers and networks that are of another kind than their classes say: refused when a network is made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from refdesign import PackedBits, RefdesignError, pack
from refdesign.network import (
    AveragePool,
    BinaryConv2d,
    BinaryDense,
    CombinedConv2d,
    MaxPool,
    NetworkData,
    PixelConv2d,
    RealConv2d,
    RealDense,
    Shortcut,
)

ONE = np.ones(2, np.float32)
TWO = np.int64(2)


def bits(*shape: int) -> PackedBits:
    return pack(np.ones(shape, np.int8))


def with_zeros(*shape: int) -> PackedBits:
    """Weights of which some may be 0, as activations under `sign_at_zero=0` may."""
    words = bits(*shape).words
    return PackedBits(words, shape[-1], words)


def network(*layers: Any, **more: Any) -> NetworkData:
    fields: dict[str, Any] = {"name": "n", "input_shape": (5, 7, 2), "layers": layers} | more
    return NetworkData(**fields)


def first(**more: Any) -> PixelConv2d:
    fields: dict[str, Any] = {"name": "first", "weights": bits(3, 2, 2, 2)} | more
    return PixelConv2d(**fields)


def second(**more: Any) -> BinaryConv2d:
    fields: dict[str, Any] = {"name": "second", "weights": bits(3, 1, 1, 3)} | more
    return BinaryConv2d(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stride": 2}, "stride: found 2, expected two integers, at least 1"),
        ({"stride": (TWO, TWO)}, "stride: found (np.int64(2), np.int64(2)), expected two integers, at least 1"),
        ({"padding": (1.0, 1.0)}, "padding: found (1.0, 1.0), expected two integers, at least 0"),
        ({"dilation": (0, 1)}, "dilation: found (0, 1), expected two integers, at least 1"),
        ({"groups": "2"}, "groups: found '2', expected an integer, at least 1"),
        ({"multiplier": 1.5}, "multiplier: found 1.5, expected an integer"),
        ({"offset": float("nan")}, "offset: found nan, expected an integer"),
        ({"hardtanh": 1}, "hardtanh: found 1, expected True or False"),
        ({"pool": 2}, "pool: found 2, expected a MaxPool or None"),
        ({"pool": MaxPool(size=(2, 0))}, "pool, size: found (2, 0), expected two integers, at least 1"),
        ({"batch_norm": ONE}, "batch_norm: found array([1., 1.], dtype=float32), expected a BatchNorm or None"),
        ({"kernel": [[0.5]]}, "kernel: found [[0.5]], expected a ThresholdKernel or None"),
        ({"weights": [[[[1, -1]]]]}, "weights: found a list, expected packed bits"),
        ({"weights": with_zeros(3, 2, 2, 2)}, "weights: found elements that may be 0, expected ±1"),
        ({"weights": np.ones((3, 0, 2, 2), np.int32)}, "weights: found shape (3, 0, 2, 2), expected extents of"),
    ],
)
def test_pixel_layers(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RefdesignError) as caught:
        network(first(**fields))
    assert str(caught.value).startswith(f"layer 'first', {message}")


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (second(weights=np.ones((3, 1, 1, 3), np.int8)), "weights: found a ndarray, expected packed bits"),
        (second(weights=with_zeros(3, 1, 1, 3)), "weights: found elements that may be 0, expected ±1"),
        (second(shortcut="first"), "shortcut: found 'first', expected a Shortcut or None"),
        (
            second(shortcut=Shortcut(source="first", average_pool=0)),
            "shortcut, average_pool: found 0, expected an integer, at least 1",
        ),
        (BinaryDense(name="second", weights=with_zeros(3, 72)), "weights: found elements that may be 0, expected ±1"),
        (
            RealDense(name="second", weights=np.ones((0, 72), np.float32)),
            "weights: found shape (0, 72), expected extents",
        ),
        (
            RealDense(name="second", weights=np.ones((3, 72))),  # type: ignore[arg-type]
            "weights: found float64 of shape (3, 72), expected finite",
        ),
        (
            RealDense(name="second", weights=np.ones((3, 72), np.float32), bias=ONE),
            "bias: found float32 of shape (2,), expected finite float32 of shape (3,)",
        ),
        (AveragePool(name="second", size=2), "size: found 2, expected two integers, at least 1"),  # type: ignore[arg-type]
        (
            CombinedConv2d(name="second", weights=(), scales=np.ones((0, 3), np.float32)),
            "weights: found (), expected a",
        ),
        (
            CombinedConv2d(
                name="second", weights=(bits(3, 1, 1, 3), bits(3, 1, 2, 3)), scales=np.ones((2, 3), np.float32)
            ),
            "weights: found bases of shapes (3, 1, 1, 3) and (3, 1, 2, 3)",
        ),
    ],
)
def test_later_layers(layer: Any, message: str) -> None:
    with pytest.raises(RefdesignError) as caught:
        network(first(), layer)
    assert str(caught.value).startswith(f"layer 'second', {message}")


def test_real_first_layers() -> None:
    weights = np.ones((3, 2, 2, 2), np.float32)
    with pytest.raises(
        RefdesignError, match=r"layer 'first', shift: found list, expected finite float32 of shape \(2,\)"
    ):
        network(RealConv2d(name="first", weights=weights, scale=ONE, shift=[0.0, 0.0]))  # type: ignore[arg-type]
    with pytest.raises(RefdesignError, match=r"layer 'first', weights: found float32 of shape \(3, 2, 2, 2\)"):
        network(RealConv2d(name="first", weights=np.inf * weights, scale=ONE, shift=ONE))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layers": None}, "network 'n', layers: found None, expected a tuple"),
        ({"layers": (None,)}, "network 'n', layers: found a NoneType as layer 0, expected a Layer"),
        ({"layers": (first(name=3),)}, "layer 3, name: expected a name of its own"),
        ({"input_shape": (5.0, 7.0, 2.0)}, "network 'n', input_shape: found (5.0, 7.0, 2.0), expected (H, W, C)"),
        ({"input_shape": None}, "network 'n', input_shape: found None, expected (H, W, C)"),
        ({"conventions": "torch"}, "network 'n', conventions: found 'torch', expected a Conventions"),
        ({"metadata": {"accuracy": 0.97}}, "network 'n', metadata: found {'accuracy': 0.97}, expected texts by key"),
    ],
)
def test_networks(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RefdesignError) as caught:
        network(**({"layers": (first(),)} | fields))
    assert str(caught.value).startswith(message)
