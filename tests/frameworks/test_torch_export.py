"""Exported networks compute what their modules compute, in every layer, bit for bit; and back again."""

from __future__ import annotations

import copy
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from refdesign.api import Network
from refdesign.bits import PackedBits
from refdesign.conventions import PAPER, Conventions
from refdesign.errors import RefdesignError
from refdesign.frameworks.torch import (
    BinaryConv2d,
    BinaryLayer,
    BinaryLinear,
    DeSign,
    PixelInput,
    Sign,
    from_network,
    layer_outputs,
    to_network,
)
from refdesign.frameworks.torch.models import binarynet, resnet20
from refdesign.frameworks.torch.residual import as_output
from refdesign.network import PADDING_MODES
from refdesign.parameters import BatchNorm, ThresholdKernel

Case = tuple[nn.Sequential, tuple[int, int, int], NDArray[np.uint8]]


def randomise(batch_norm: nn.BatchNorm1d | nn.BatchNorm2d, fan_in: int, random: np.random.Generator) -> None:
    """Parameters as they come and as they hurt: negative, zero and subnormal gamma, ties on attainable integers."""
    channels = batch_norm.num_features
    gamma = random.normal(size=channels)
    gamma = np.where(random.random(channels) < 0.2, random.choice([0.0, 1e-40, -1e-30, 1.0], channels), gamma)
    mean = np.where(
        random.random(channels) < 0.5, random.integers(-3, 4, channels), random.normal(size=channels) * fan_in**0.5
    )
    variance = np.where(
        random.random(channels) < 0.2, random.choice([0.0, 1e-12, 1.0], channels), random.random(channels) * fan_in
    )
    beta = np.where(random.random(channels) < 0.4, 0.0, random.normal(size=channels))
    with torch.no_grad():
        for target, values in (
            (batch_norm.weight, gamma), (batch_norm.bias, beta),
            (batch_norm.running_mean, mean), (batch_norm.running_var, variance),
        ):  # fmt: skip
            assert target is not None
            target.copy_(torch.from_numpy(values.astype(np.float32)))


@st.composite
def models(draw: st.DrawFn) -> Case:
    """Random sequential networks: two convolutions, a hidden dense layer and a last one."""
    seed = draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    torch.manual_seed(seed)
    slices = draw(st.integers(1, 3))
    first, second = slices * draw(st.integers(1, 3)), slices * draw(st.integers(1, 23))
    input_shape = (draw(st.integers(6, 9)), draw(st.integers(14, 17)), draw(st.integers(1, 3)))
    conventions = PAPER.replace(
        sign_at_zero=draw(st.sampled_from([1, -1, 0])),
        threshold_scale=draw(st.sampled_from(["unit", "gamma"])),
        kernel_origin=draw(st.sampled_from(["top_left", "center_crop"])),
        channel_map=draw(st.sampled_from(["tile", "repeat"])),
    )
    kernel = ThresholdKernel(
        random.normal(size=(draw(st.integers(1, 3)), draw(st.integers(1, 4)), slices)).astype(np.float32)
    )
    pixels = PixelInput(*draw(st.sampled_from([(2, -255), (1, 0)])))

    def conv(inputs: int, outputs: int, stride: int) -> BinaryConv2d:
        return BinaryConv2d(
            inputs, outputs, (draw(st.integers(1, 3)), draw(st.integers(1, 3))), padding=(1, draw(st.integers(0, 2))),
            stride=(1, stride), padding_mode=draw(st.sampled_from(PADDING_MODES)),
        )  # fmt: skip

    design = DeSign(kernel, conventions)
    layers = [
        BinaryLayer(
            conv(input_shape[2], first, draw(st.integers(1, 2))), batch_norm=nn.BatchNorm2d(first), activation=design
        ),
        BinaryLayer(
            conv(first, second, 1),
            pool=nn.MaxPool2d((2, 3), 2),
            batch_norm=nn.BatchNorm2d(second, eps=1e-3),
            activation=design,
        ),
    ]
    height, width, _ = input_shape
    with torch.no_grad():
        map_ = nn.Sequential(pixels, *layers).eval()(torch.zeros(1, input_shape[2], height, width))
    hidden = draw(st.integers(1, 70))
    model = nn.Sequential(
        pixels, *layers, nn.Flatten(), BinaryLinear(map_.numel(), hidden), nn.BatchNorm1d(hidden), Sign(conventions),
        BinaryLinear(hidden, 7), nn.BatchNorm1d(7),
    )  # fmt: skip
    for module, product in (
        (layers[0].batch_norm, layers[0].product), (layers[1].batch_norm, layers[1].product),
        (model[5], model[4]), (model[8], model[7]),
    ):  # fmt: skip
        assert isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))
        assert isinstance(product, (BinaryConv2d, BinaryLinear))
        randomise(module, product.weight[0].numel(), random)
    return model, input_shape, random.integers(0, 256, size=(3, *input_shape), dtype=np.uint8)


def assert_same(ours: dict[str, NDArray[Any]], theirs: dict[str, NDArray[Any]]) -> None:
    assert list(ours) == list(theirs)
    for name, array in ours.items():
        assert array.dtype == theirs[name].dtype, name
        # Bit patterns, so that a zero of another sign is seen too.
        np.testing.assert_array_equal(array.view(np.uint8), theirs[name].view(np.uint8), err_msg=name)


@given(models(), st.sampled_from(["packed", "float"]))
def test_the_exported_network_computes_what_the_module_does(case: Case, path: str) -> None:
    model, input_shape, images = case
    network = to_network(model, name="random", input_shape=input_shape)
    outputs = {
        name: np.ascontiguousarray(array) for name, array in network.run(images, path=path, outputs="all").items()
    }
    assert_same(layer_outputs(model, images), outputs)


@given(models())
def test_there_and_back_again(case: Case) -> None:
    model, input_shape, images = case
    network = to_network(model, name="random", input_shape=input_shape)
    restored = from_network(network)
    assert_same(layer_outputs(model, images), layer_outputs(restored, images))
    again = to_network(restored, name="random", input_shape=input_shape)
    assert again.conventions == network.conventions
    for ours, theirs in zip(network.layers, again.layers, strict=True):
        assert type(ours) is type(theirs)
        for field in fields(ours):
            assert same(getattr(ours, field.name), getattr(theirs, field.name)), (ours.name, field.name)


def same(a: object, b: object) -> bool:
    if isinstance(a, (PackedBits, BatchNorm, ThresholdKernel)):
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    return np.array_equal(a, b) if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) else a == b


def test_a_sequential_of_plain_modules_is_the_same_network() -> None:
    torch.manual_seed(11)
    conv, batch_norm = BinaryConv2d(1, 6, 3, padding=1, padding_mode="symmetric"), nn.BatchNorm2d(6)
    sign, dense = Sign(), BinaryLinear(6 * 2 * 3, 5)
    flat = nn.Sequential(PixelInput(), conv, nn.MaxPool2d(2), batch_norm, sign, nn.Dropout(), nn.Flatten(), dense, sign,
                         BinaryLinear(5, 3))  # fmt: skip
    nested = nn.Sequential(
        flat[0], BinaryLayer(conv, pool=nn.MaxPool2d(2), batch_norm=batch_norm, activation=sign),
        nn.Sequential(nn.Flatten(), nn.Identity(), dense, sign), BinaryLayer(flat[9]),  # type: ignore[arg-type]
    )  # fmt: skip
    images = np.random.default_rng(11).integers(0, 256, size=(4, 5, 7, 1), dtype=np.uint8)
    outputs = [
        to_network(model, name="n", input_shape=(5, 7, 1)).run(images, outputs="all") for model in (flat, nested)
    ]
    assert list(outputs[0])[:3] == ["1.accumulator", "1.pooled", "1.bits"]
    assert list(outputs[1])[3:5] == ["2_2.accumulator", "2_2.bits"]
    assert_same(layer_outputs(flat, images), dict(outputs[0]))
    assert_same(layer_outputs(nested, images), dict(outputs[1]))
    for flat_array, nested_array in zip(outputs[0].values(), outputs[1].values(), strict=True):
        np.testing.assert_array_equal(flat_array, nested_array)
    assert outputs[0]["logits"].dtype == np.int32


def test_tracing_leaves_the_model_as_it_was() -> None:
    model = binarynet((8, 8, 1), 10, widths=(4, 8), dense=())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    layer_outputs(model, np.zeros((2, 8, 8, 1), np.uint8))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(not module._forward_hooks for module in model.modules())


GAMMA = PAPER.replace(threshold_scale="gamma")
KERNEL = ThresholdKernel(np.array([[0.5, 1.0]], np.float32))
CONV, DENSE = BinaryConv2d(1, 2, 3), BinaryLinear(12, 4)


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ([], "found an empty model first, expected PixelInput"),
        ([CONV], "found BinaryConv2d first, expected PixelInput"),
        ([PixelInput()], "found no layer"),
        ([PixelInput(), nn.Conv2d(1, 2, 3)], "module '1': found Conv2d"),
        ([PixelInput(), CONV, Sign(), nn.BatchNorm2d(2)], "module '3': found BatchNorm2d"),
        ([PixelInput(), CONV, nn.MaxPool2d(2), nn.MaxPool2d(2)], "module '3': found MaxPool2d"),
        ([PixelInput(), nn.BatchNorm2d(1), CONV], "module '1': found BatchNorm2d"),
        ([PixelInput(), CONV, Sign()], "layer '1': found a sign in the last layer"),
        ([PixelInput(), CONV, nn.Flatten(), DENSE], "layer '1': found no DeSign or Sign"),
        (
            [PixelInput(), CONV, Sign(), DENSE],
            r"layer '3': found weights \(4, 12\) on a map \(2, 3, 2\), expected Flatten",
        ),
        ([PixelInput(), CONV, Sign(), nn.Flatten(), BinaryLinear(11, 4)], "layer '4'.* and 12 inputs"),
        ([PixelInput(), CONV, Sign(), nn.Flatten(2), DENSE], r"module '3': expected Flatten\(1, -1\)"),
        ([PixelInput(), BinaryLinear(20, 3)], "layer '1': found BinaryLinear first"),
        ([PixelInput(), CONV, nn.MaxPool2d(2, padding=1)], "layer '1': expected a max pool without padding"),
        (
            [PixelInput(), CONV, nn.BatchNorm2d(2, track_running_stats=False)],
            "layer '1': .* without running statistics",
        ),
        ([PixelInput(), CONV, DeSign(KERNEL), CONV, DeSign(KERNEL, GAMMA), CONV], "layer '3', conventions"),
        ([PixelInput(), CONV.__class__(1, 2, 3).double()], r"parameters of torch\.float64"),
    ],
)
def test_what_has_no_counterpart_is_refused(modules: list[nn.Module], message: str) -> None:
    with pytest.raises(RefdesignError, match=message):
        to_network(nn.Sequential(*modules), name="n", input_shape=(4, 5, 1))


def test_statistics_that_are_not_finite_are_refused_by_layer() -> None:
    batch_norm = nn.BatchNorm2d(2)
    assert batch_norm.running_mean is not None
    batch_norm.running_mean[1] = torch.nan
    with pytest.raises(RefdesignError, match="layer '1': batch norm, mean: found nan in channel 1"):
        to_network(nn.Sequential(PixelInput(), CONV, batch_norm), name="n", input_shape=(4, 5, 1))


def network(conventions: Conventions | None = None) -> Network:
    model = nn.Sequential(PixelInput(), CONV, nn.BatchNorm2d(2))
    exported = to_network(model, name="n", input_shape=(4, 5, 1))
    return exported if conventions is None else replace(exported, conventions=conventions)


def test_from_network_refuses_what_torch_does_not_compute() -> None:
    with pytest.raises(RefdesignError, match="arithmetic: found 'real', expected one of torch, released_torch"):
        from_network(network(PAPER))
    layer = network().layers[0]
    for arithmetic in ("torch", "released_torch"):
        own = PAPER.replace(arithmetic=arithmetic)
        bn = BatchNorm([1.0, 1.0], [0.0, 0.0], [0.0, 0.0], [1.0, 1.0], 1e-5, k=[0.5, 2.0])
        carried = replace(network(own), layers=(replace(layer, batch_norm=bn),))  # type: ignore[call-arg]
        with pytest.raises(RefdesignError, match="layer '1', batch_norm: found k"):
            from_network(carried)
    renamed = replace(network(), layers=(replace(layer, name="pixels"),))
    with pytest.raises(RefdesignError, match="layer 'pixels': these modules use that name themselves"):
        from_network(renamed)


def test_images_of_another_kind_are_refused() -> None:
    model = binarynet((8, 8, 1), 10, widths=(4, 8), dense=())
    with pytest.raises(RefdesignError, match=r"images: found float64 of shape \(2, 8, 8, 1\), expected uint8"):
        layer_outputs(model, np.zeros((2, 8, 8, 1)))  # type: ignore[arg-type]


@pytest.mark.parametrize("model", [binarynet((8, 8, 1), 10, widths=(4, 8), dense=()), resnet20(width=1 / 8)])
def test_a_module_on_another_device_needs_an_arithmetic(model: nn.Module) -> None:
    with pytest.raises(RefdesignError, match="to_network: found a module on 'meta', whose batch norm is no arithmetic"):
        to_network(copy.deepcopy(model).to("meta"), name="n", input_shape=(8, 8, 1))


def test_sums_that_are_no_integers_are_refused() -> None:
    sums = torch.tensor([[3.0, 4.0000005]])
    assert as_output("1.real", sums).dtype == np.float32
    for name in ("1.accumulator", "1.pooled", "1.bits"):
        with pytest.raises(RefdesignError, match=f"output '{name}': found values that are no integers"):
            as_output(name, sums)
