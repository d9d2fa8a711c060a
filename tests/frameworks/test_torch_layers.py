"""Binary layers: accumulators equal the reference's operators, gradients the closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from refdesign.bits import pack
from refdesign.conventions import PAPER
from refdesign.errors import RefdesignError
from refdesign.frameworks.torch import BinaryConv2d, BinaryLayer, BinaryLinear, DeSign, PixelInput, clamp_latent, pad
from refdesign.network import PADDING_MODES, Pair
from refdesign.ops.conv import binary_conv2d
from refdesign.ops.dense import binary_dense
from refdesign.ops.pixels import pixel_conv2d
from refdesign.parameters import ThresholdKernel
from tests.frameworks import closed_forms

NUMPY_MODE = {"symmetric": "symmetric", "reflect": "reflect", "edge": "edge", "circular": "wrap"}
NUMPY_FILL = {"zeros": 0, "ones": 1, "minus_ones": -1}


def bits(random: np.random.Generator, *shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return (random.integers(0, 2, size=shape) * 2 - 1).astype(np.float32)


@pytest.mark.parametrize("mode", PADDING_MODES)
@pytest.mark.parametrize("padding", [(0, 0), (1, 0), (2, 3), (4, 1)])
def test_padding_equals_numpy(mode: str, padding: Pair) -> None:
    x = np.random.default_rng(3).normal(size=(2, 3, 5, 7)).astype(np.float32)
    widths = ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2)
    if mode in NUMPY_FILL:
        expected = np.pad(x, widths, constant_values=NUMPY_FILL[mode])
    else:
        expected = np.pad(x, widths, mode=NUMPY_MODE[mode])  # type: ignore[call-overload]
    np.testing.assert_array_equal(pad(torch.from_numpy(x), padding, mode).numpy(), expected)


@pytest.mark.parametrize("mode", PADDING_MODES)
def test_the_gradient_of_padding_counts_each_pixel_as_often_as_it_appears(mode: str) -> None:
    x = torch.arange(15.0).reshape(1, 1, 3, 5).requires_grad_()
    padded = pad(x, (2, 1), mode)
    torch.autograd.backward(padded.sum())
    marked = padded.detach().flatten().tolist()
    # Fills of 0, 1 and -1 stand in the padded map too; where they are pixel values they are counted out.
    fills = padded.numel() - x.numel() if mode in NUMPY_FILL else 0
    counts = [marked.count(value) - (fills if NUMPY_FILL.get(mode) == value else 0) for value in range(15)]
    assert x.grad is not None
    assert x.grad.flatten().tolist() == counts


def test_padding_beyond_the_map_is_refused() -> None:
    with pytest.raises(RefdesignError, match="found 3, expected at most 2 with 'reflect' on a map of 3 pixels"):
        pad(torch.zeros(1, 1, 3, 5), (3, 0), "reflect")
    with pytest.raises(RefdesignError, match="padding_mode: found 'same', expected one of zeros"):
        pad(torch.zeros(1, 1, 3, 5), (1, 1), "same")


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[BinaryConv2d, tuple[int, int], np.random.Generator]:
    groups = draw(st.integers(1, 3))
    size = (draw(st.integers(1, 3)), draw(st.integers(1, 4)))
    dilation = (draw(st.integers(1, 2)), draw(st.integers(1, 3)))
    seed = draw(st.integers(0, 2**32 - 1))
    torch.manual_seed(seed)
    conv = BinaryConv2d(
        groups * draw(st.integers(1, 30)), groups * draw(st.integers(1, 5)), size,
        stride=(draw(st.integers(1, 2)), draw(st.integers(1, 3))),
        padding=(draw(st.integers(0, 2)), draw(st.integers(0, 3))),
        padding_mode=draw(st.sampled_from(PADDING_MODES)), dilation=dilation, groups=groups,
    )  # fmt: skip
    with torch.no_grad():
        conv.weight[conv.weight.abs() < 0.05] = 0.0  # a latent weight of 0 is +1
    return conv, (draw(st.integers(5, 8)), draw(st.integers(10, 13))), np.random.default_rng(seed)


@given(convolutions())
def test_convolution_equals_the_reference(case: tuple[BinaryConv2d, tuple[int, int], np.random.Generator]) -> None:
    conv, (height, width), random = case
    channels = conv.weight.shape[1] * conv.groups
    weights = pack(conv.weight.detach().permute(0, 2, 3, 1).numpy() >= 0)
    geometry: dict[str, Any] = {
        "stride": conv.stride, "padding": conv.padding, "padding_mode": conv.padding_mode,
        "dilation": conv.dilation, "groups": conv.groups,
    }  # fmt: skip
    x = bits(random, 2, height, width, channels)
    with torch.no_grad():
        ours = conv(torch.from_numpy(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(ours, binary_conv2d(pack(x), weights, **geometry))
    pixels = random.integers(0, 256, size=x.shape, dtype=np.uint8)
    with torch.no_grad():
        ours = conv(PixelInput(2, -255)(torch.from_numpy(pixels).permute(0, 3, 1, 2))).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(ours, pixel_conv2d(pixels, weights, multiplier=2, offset=-255, **geometry))


@pytest.mark.parametrize(("batch", "inputs", "outputs"), [(2, 5, 3), (3, 130, 7), (5, 64, 11)])
def test_dense_equals_the_reference(batch: int, inputs: int, outputs: int) -> None:
    torch.manual_seed(inputs)
    layer = BinaryLinear(inputs, outputs)
    x = bits(np.random.default_rng(inputs), batch, inputs)
    with torch.no_grad():
        ours = layer(torch.from_numpy(x)).numpy()
    np.testing.assert_array_equal(ours, binary_dense(pack(x), pack(layer.weight.detach().numpy() >= 0)))


@pytest.mark.parametrize("estimator", closed_forms.ESTIMATORS)
def test_latent_weights_get_the_estimators_gradient(estimator: str) -> None:
    layer = BinaryLinear(4, 3, estimator=estimator)
    latent = torch.tensor([[-2.0, -1.0, -0.5, -0.0], [0.0, 0.25, 1.0, 1.5], [0.75, -0.75, 3.0, -0.125]])
    with torch.no_grad():
        layer.weight.copy_(latent)
    x = torch.tensor([[1.0, -1.0, 1.0, 1.0], [1.0, 1.0, -1.0, 1.0]])
    arriving = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    torch.autograd.backward(layer(x), arriving)
    slope = torch.from_numpy(closed_forms.ESTIMATORS[estimator](latent.numpy()))
    assert layer.weight.grad is not None
    assert torch.equal(layer.weight.grad, arriving.T @ x * slope)


def test_a_layer_hands_gamma_to_its_activation() -> None:
    kernel = ThresholdKernel(np.array([[0.5, 2.0], [-1.0, 0.25], [1.0, -3.0]], np.float32))
    design = DeSign(kernel, PAPER.replace(threshold_scale="gamma"))
    torch.manual_seed(5)
    layer = BinaryLayer(BinaryConv2d(3, 4, 3), pool=nn.MaxPool2d(2), batch_norm=nn.BatchNorm2d(4), activation=design)
    assert isinstance(layer.batch_norm, nn.BatchNorm2d)
    nn.init.normal_(layer.batch_norm.weight)
    layer.eval()
    x = torch.from_numpy(bits(np.random.default_rng(5), 2, 3, 12, 16))
    assert layer.pool is not None
    expected = design(layer.batch_norm(layer.pool(layer.product(x))), layer.batch_norm.weight)
    assert torch.equal(layer(x), expected)


def test_clamping_reaches_latent_weights_only() -> None:
    model = nn.Sequential(BinaryConv2d(1, 2, 3), nn.BatchNorm2d(2), BinaryLinear(3, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(-7.0)
    clamp_latent(model)
    assert [parameter.flatten()[0].item() for parameter in model.parameters()] == [-1.0, -7.0, -7.0, -1.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": 3}, "groups: found 3, expected a divisor of 4 and 6 channels"),
        ({"stride": 0}, "stride: found 0"),
        ({"padding": (1, -1)}, r"padding: found \(1, -1\)"),
        ({"dilation": (1, 2, 3)}, r"dilation: found \(1, 2, 3\)"),
        ({"padding_mode": "same"}, "padding_mode: found 'same'"),
        ({"estimator": "cubic"}, "estimator: found 'cubic'"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(RefdesignError, match=message):
        BinaryConv2d(4, 6, 3, **arguments)  # type: ignore[arg-type]


def test_a_fan_in_beyond_exact_float32_is_refused() -> None:
    with pytest.raises(RefdesignError, match="at most 16777216 inputs"):
        BinaryLinear(2**24 + 1, 1)
