"""Windows and sums against NumPy's padding and torch's convolution, and against windows written out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from refdesign.bits import pack
from refdesign.naive.geometry import padded_position, window
from refdesign.naive.sums import BinaryConvolution, PixelConvolution, RealConvolution
from refdesign.network import PADDING_MODES, BinaryConv2d, NetworkData, PixelConv2d, RealConv2d
from refdesign.verify import strategies

NUMPY_MODES: dict[str, dict[str, Any]] = {
    "zeros": {"mode": "constant"},
    "ones": {"mode": "constant", "constant_values": 1},
    "minus_ones": {"mode": "constant", "constant_values": -1},
    "symmetric": {"mode": "symmetric"},
    "reflect": {"mode": "reflect"},
    "edge": {"mode": "edge"},
    "circular": {"mode": "wrap"},
}


def tick() -> None:
    """Nobody counts here."""


def torch_convolution(x: NDArray[Any], w: NDArray[Any], geometry: dict[str, Any], groups: int) -> NDArray[np.float64]:
    """x (H, W, I) padded by NumPy, then convolved by torch in float64, which is exact for these integers."""
    torch = pytest.importorskip("torch")
    rows, columns = geometry["padding"]
    padded = np.pad(x, ((rows, rows), (columns, columns), (0, 0)), **NUMPY_MODES[geometry["padding_mode"]])
    result = torch.nn.functional.conv2d(
        torch.tensor(padded.astype(np.float64)).permute(2, 0, 1)[None],
        torch.tensor(w.astype(np.float64)).permute(0, 3, 1, 2),
        stride=geometry["stride"],
        dilation=geometry["dilation"],
        groups=groups,
    )
    array: NDArray[np.float64] = result[0].permute(1, 2, 0).numpy()
    return array


@pytest.mark.parametrize("mode", PADDING_MODES)
def test_padding_is_numpys(mode: str) -> None:
    for extent in range(1, 7):
        most = {"symmetric": extent, "reflect": extent - 1, "circular": extent}.get(mode, 9)
        padded = np.pad(np.arange(extent) + 5, most, **NUMPY_MODES[mode])
        for position in range(-most, extent + most):
            source = padded_position(position, extent, mode)
            fill = {"zeros": 0, "ones": 1, "minus_ones": -1}.get(mode)
            assert padded[position + most] == (fill if source is None else source + 5)


def test_a_window_written_out() -> None:
    layer = BinaryConv2d(
        name="c",
        weights=pack(np.ones((1, 2, 3, 1))),
        stride=(2, 1),
        padding=(1, 1),
        dilation=(3, 2),
        padding_mode="reflect",
    )
    # Rows -1 + 2*1 + {0, 3} = 1, 4 (4 is outside of 4 rows: reflected to 2); columns -1 + 0 + {0, 2, 4}.
    assert window(layer, (4, 4, 1), 1, 0) == [(1, 1), (1, 1), (1, 3), (2, 1), (2, 1), (2, 3)]
    zeros = BinaryConv2d(name="c", weights=layer.weights, stride=(2, 1), padding=(1, 1), dilation=(3, 2))
    assert window(zeros, (4, 4, 1), 1, 0) == [None, (1, 1), (1, 3), None, None, None]


@given(st.data())
def test_binary_and_pixel_sums_are_torchs(data: st.DataObject) -> None:
    height, width, groups = 5, 7, data.draw(st.sampled_from((1, 2, 3)))
    depth, outputs = data.draw(st.integers(1, 4)), groups * data.draw(st.sampled_from((1, 3)))
    geometry = data.draw(strategies.geometries(height, width))
    weight_shape = (outputs, *geometry.pop("kernel"), depth)
    w = data.draw(strategies.bits(weight_shape))
    x = data.draw(strategies.bits((height, width, depth * groups), ternary=data.draw(st.booleans())))
    binary = BinaryConv2d(name="c", weights=pack(w), groups=groups, **geometry)
    expected = torch_convolution(x, w, geometry, groups)
    found = BinaryConvolution(binary, binary.weights, x.shape, expected.shape)(x.tolist(), tick)
    np.testing.assert_array_equal(found, expected)

    image = data.draw(strategies.images(x.shape))
    integers = data.draw(strategies.images(weight_shape)).astype(np.int32) - 100
    pixels = PixelConv2d(name="p", weights=integers, multiplier=-3, offset=11, groups=groups, **geometry)
    expected = torch_convolution(image.astype(np.int64) * -3 + 11, integers, geometry, groups)
    np.testing.assert_array_equal(PixelConvolution(pixels, x.shape, expected.shape)(image.tolist(), tick), expected)


@given(st.data())
def test_real_sums_of_other_orders_lie_within_the_bound(data: st.DataObject) -> None:
    """Torch's float32 convolution, and NumPy's float32 sums forwards and backwards."""
    height, width, channels, outputs = 4, 6, 3, 5
    geometry = data.draw(strategies.geometries(height, width))
    w = data.draw(strategies.real_arrays((outputs, *geometry.pop("kernel"), channels)))
    scale, shift = data.draw(strategies.real_arrays((channels,))), data.draw(strategies.real_arrays((channels,)))
    image = data.draw(strategies.images((height, width, channels)))
    layer = RealConv2d(name="r", weights=w, scale=scale, shift=shift, **geometry)
    x = image.astype(np.float32) * scale + shift
    assert x.dtype == np.float32
    shape = NetworkData(name="n", input_shape=image.shape, layers=(layer,)).shapes["r"].accumulator
    sums, bounds = (np.array(m) for m in RealConvolution(layer, image.shape, shape)(image.tolist(), tick))
    exact = torch_convolution(x, w, geometry, 1)  # float64: nearer than any float32 order
    assert np.all(np.abs(sums - exact) <= bounds)
    torch = pytest.importorskip("torch")
    rows, columns = geometry["padding"]
    padded = np.pad(x, ((rows, rows), (columns, columns), (0, 0)), **NUMPY_MODES[geometry["padding_mode"]])
    single = torch.nn.functional.conv2d(
        torch.tensor(padded).permute(2, 0, 1)[None],
        torch.tensor(w).permute(0, 3, 1, 2),
        stride=geometry["stride"],
        dilation=geometry["dilation"],
    )
    difference = np.abs(single[0].permute(1, 2, 0).numpy().astype(np.float64) - sums)
    assert np.all(difference <= bounds)


def test_real_sum_by_hand() -> None:
    """x = fl(fl(p*scale) + shift) and the sum rounded once: 2**24 + 1 + 1 is 2**24 + 2, not twice rounded down."""
    w = np.array([[[[2.0**24, 1.0, 1.0]]]], dtype=np.float32)
    layer = RealConv2d(name="r", weights=w, scale=np.ones(3, np.float32), shift=np.array([0, 0, -1], dtype=np.float32))
    sums, bounds = RealConvolution(layer, (1, 1, 3), (1, 1, 1))([[[1, 1, 2]]], tick)
    assert sums == [[[2.0**24 + 2]]]
    assert bounds[0][0][0] >= 3.0
