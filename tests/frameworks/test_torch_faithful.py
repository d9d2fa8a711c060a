"""What a module computes is what its network computes, or the export is refused: nothing is lost on the way."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from refdesign.conventions import PAPER, Conventions
from refdesign.errors import RefdesignError
from refdesign.frameworks.exporting import shared_conventions
from refdesign.frameworks.torch import (
    BinaryConv2d,
    BinaryLinear,
    DeSign,
    PixelInput,
    Sign,
    layer_outputs,
    to_network,
)
from refdesign.frameworks.torch.binarisers import Binariser, ReCU
from refdesign.frameworks.torch.real import CombinedConv2d, GridConv2d, ReleasedBatchNorm2d
from refdesign.frameworks.torch.residual import BinaryNetwork, Stage
from refdesign.network import PixelConv2d
from refdesign.parameters import ThresholdKernel

SHAPE = (6, 7, 2)
IMAGES = np.random.default_rng(3).integers(0, 256, (5, *SHAPE), np.uint8)
KERNEL = ThresholdKernel([[0.5, -1.0, 2.0]])
TORCH = PAPER.replace(arithmetic="torch")


class ResidualSequential(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return x + self[0](x)  # type: ignore[no-any-return]


class HalvedConv2d(BinaryConv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / 2


class ShiftedBatchNorm2d(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1


class ShiftedDeSign(DeSign):
    def dithered(self, y: Tensor, gamma: Tensor | None = None) -> Tensor:
        return super().dithered(y - 1, gamma)


class UnitPixels(PixelInput):
    def forward(self, pixels: Tensor) -> Tensor:
        return super().forward(pixels) / 255


class ThreeByThree(BinaryConv2d):
    """Another constructor, the same computation."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)


class Ternary(Binariser):
    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor | None]:
        return torch.sign(weight) * (weight.abs() > 0.1), None


def sequential(**replaced: nn.Module) -> nn.Sequential:
    torch.manual_seed(5)
    parts: dict[str, nn.Module] = {
        "pixels": PixelInput(), "conv": BinaryConv2d(2, 3, 3), "pool": nn.MaxPool2d((2, 1)),
        "norm": nn.BatchNorm2d(3), "sign": DeSign(KERNEL), "flat": nn.Flatten(), "dense": BinaryLinear(30, 4),
    }  # fmt: skip
    model = nn.Sequential()
    for name, part in (parts | replaced).items():
        model.add_module(name, part)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 9)  # type: ignore[union-attr]
            norm.running_var.fill_(30)  # type: ignore[union-attr]
    return model


def assert_faithful(model: nn.Module) -> None:
    network = to_network(model, name="n", input_shape=SHAPE)
    ours, theirs = layer_outputs(model, IMAGES), network.run(IMAGES, outputs="all")
    assert list(ours) == list(theirs)
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"sign": ResidualSequential(DeSign(KERNEL))}, "'sign': found ResidualSequential, a Sequential with a forward"),
        ({"conv": HalvedConv2d(2, 3, 3)}, "'conv': found HalvedConv2d, a BinaryConv2d with a forward of its own"),
        ({"norm": ShiftedBatchNorm2d(3)}, "'norm': found ShiftedBatchNorm2d, a BatchNorm2d with a forward"),
        ({"sign": ShiftedDeSign(KERNEL)}, "'sign': found ShiftedDeSign, a DeSign with a dithered of its own"),
        ({"pixels": UnitPixels()}, "'pixels': found UnitPixels, a PixelInput with a forward"),
        ({"conv": GridConv2d(2, 3, 3)}, "'conv': found GridConv2d, a BinaryConv2d with a binarised of its own"),
        ({"conv": CombinedConv2d(2, 3, 3, bases=2)}, "'conv': found CombinedConv2d, a BinaryConv2d with a forward"),
        ({"conv": BinaryConv2d(2, 3, 3, binariser=Ternary())}, "layer 'conv', the binariser's weights: .* value -?0.0"),
    ],
)
def test_what_a_sequential_export_would_lose_is_refused(replaced: dict[str, nn.Module], message: str) -> None:
    with pytest.raises(RefdesignError, match=message):
        to_network(sequential(**replaced), name="n", input_shape=SHAPE)


def test_the_released_batch_norm_is_exported_under_its_own_arithmetic() -> None:
    model = sequential(norm=ReleasedBatchNorm2d(3))
    assert to_network(model, name="n", input_shape=SHAPE).conventions.arithmetic == "released_torch"
    assert_faithful(model)
    model.add_module("last", nn.BatchNorm1d(4))
    with pytest.raises(
        RefdesignError, match=r"'dense': found BatchNorm1d, which computes 'torch', where the .* 'relea"
    ):
        to_network(model, name="n", input_shape=SHAPE)


def test_a_method_put_on_one_module_is_refused() -> None:
    model = sequential()
    vars(model.norm)["forward"] = nn.Identity().forward
    with pytest.raises(RefdesignError, match="'norm': found BatchNorm2d, a BatchNorm2d with a forward of its own"):
        to_network(model, name="n", input_shape=SHAPE)


def test_a_class_with_another_constructor_is_exported() -> None:
    assert_faithful(sequential(conv=ThreeByThree(2, 3), dense=BinaryLinear(63, 4)))


def test_scaled_weights_before_a_pool_are_traced_as_the_network_sums_them() -> None:
    binariser = ReCU(3)
    with torch.no_grad():
        binariser.alpha.copy_(torch.tensor([0.75, -0.5, -1.25]))
    assert_faithful(sequential(conv=BinaryConv2d(2, 3, 3, binariser=binariser)))


def test_thresholds_that_a_state_dict_brings_are_exported() -> None:
    other = sequential(sign=DeSign(ThresholdKernel([[1.5, 0.25, -2.0]])))
    model = sequential()
    model.load_state_dict(other.state_dict())
    assert_faithful(model)
    first = to_network(model, name="n", input_shape=SHAPE).layers[0]
    assert isinstance(first, PixelConv2d)
    assert first.kernel is not None
    assert first.kernel.values.ravel().tolist() == [1.5, 0.25, -2.0]


def test_the_kernel_keeps_its_levels() -> None:
    kernel = ThresholdKernel([[0.5, 1.0]], levels=[[0, 1]])
    assert DeSign(kernel).kernel is kernel


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_traced_inside_autocast_a_module_computes_in_float32(dtype: torch.dtype) -> None:
    model = sequential()
    with torch.autocast("cpu", dtype=dtype):
        assert_faithful(model)


def network(conventions: Conventions, norm: Callable[[int], nn.BatchNorm2d], sign: Conventions) -> BinaryNetwork:
    torch.manual_seed(6)
    stages = {
        "a": Stage(BinaryConv2d(2, 3, 3), DeSign(KERNEL, sign), batch_norm=norm(3)),
        "b": Stage(BinaryLinear(60, 4), Sign(sign), batch_norm=nn.BatchNorm1d(4)),
    }
    return BinaryNetwork(PixelInput(), stages, conventions)


@pytest.mark.parametrize(
    ("conventions", "norm", "sign", "message"),
    [
        (PAPER, nn.BatchNorm2d, PAPER, "layer 'a': found BatchNorm2d, which computes 'torch', where the .* is 'real'"),
        (TORCH, ReleasedBatchNorm2d, TORCH, "'a': found ReleasedBatchNorm2d, which computes 'released_torch', .* 'to"),
        (TORCH, ShiftedBatchNorm2d, TORCH, "'layers.a.batch_norm': found ShiftedBatchNorm2d, a BatchNorm2d with"),
        (
            TORCH, nn.BatchNorm2d, TORCH.replace(kernel_origin="center_crop"),
            "'a', conventions, kernel_origin: found 'center_crop', expected 'top_left' as in 'BinaryNetwork'",
        ),
        (
            TORCH, nn.BatchNorm2d, TORCH.replace(sign_at_zero=-1),
            "'a', conventions, sign_at_zero: found -1, expected 1 as in 'BinaryNetwork'",
        ),
    ],
)  # fmt: skip
def test_what_a_network_s_export_would_lose_is_refused(
    conventions: Conventions, norm: Callable[[int], nn.BatchNorm2d], sign: Conventions, message: str
) -> None:
    with pytest.raises(RefdesignError, match=message):
        to_network(network(conventions, norm, sign), name="n", input_shape=SHAPE)


def test_a_network_of_its_own_conventions_is_exported() -> None:
    # What is meant may be said, and the arithmetic that a sign's conventions name is nobody's.
    assert_faithful(network(TORCH, nn.BatchNorm2d, PAPER))
    meant = to_network(network(PAPER, nn.BatchNorm2d, PAPER), name="n", input_shape=SHAPE, arithmetic="real")
    assert meant.conventions == PAPER


def test_conventions_that_differ_are_named_by_field() -> None:
    with pytest.raises(RefdesignError, match="layer 'b', conventions, channel_map: found 'repeat', expected 'tile' as"):
        shared_conventions([("a", PAPER, True), ("b", PAPER.replace(channel_map="repeat"), True)])
