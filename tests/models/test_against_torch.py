"""The four networks against their released forward passes, written anew in PyTorch on NCHW float32.

The convolutions' sums are integers below 2**24, so float32 has them exactly and bits are compared with equality;
averages and the last dense layer are sums of reals and are compared within a bound.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from refdesign.api import Network
from refdesign.bits import PackedBits, unpack
from refdesign.conventions import PAPER, RELEASED_TORCH
from refdesign.models import LayerParameters, binarynet, resnet18, resnet20, vgg_small
from refdesign.network import BinaryConv2d, BinaryDense, PixelConv2d, RealDense
from refdesign.normalisation import positive_scale
from refdesign.parameters import BatchNorm, ThresholdKernel

torch = pytest.importorskip("torch", reason="the released models are PyTorch code (extra 'torch')")
functional = torch.nn.functional

KERNEL_2D = ThresholdKernel(np.array([[0.3118, 0.9671], [1.3352, 0.6310]], np.float32))
KERNEL_3D = ThresholdKernel((np.arange(16) / 8).astype(np.float32).reshape(2, 2, 4))
Tensor = Any


class Released:
    """The released operations on the parameters of one of our networks."""

    def __init__(self, network: Network, images: NDArray[np.uint8]) -> None:
        self.network = network
        self.pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float() * 2 - 255
        self.bits: dict[str, Tensor] = {}

    def weights(self, name: str) -> Tensor:
        layer = self.network.layer(name)
        assert isinstance(layer, (BinaryConv2d, PixelConv2d, BinaryDense, RealDense))
        array = unpack(layer.weights) if isinstance(layer.weights, PackedBits) else layer.weights
        tensor = torch.from_numpy(array.astype(np.float32))
        return tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor

    def conv(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        """`BinarizeConv2d` in eval mode: sign of the input, convolution, scale."""
        if name not in ("conv0", "conv1") or isinstance(self.network.layer(name), BinaryConv2d):
            x = torch.sign(x)
        a = functional.conv2d(x, self.weights(name), stride=stride, padding=1)
        return a * self.vector(name, "alpha")

    def vector(self, name: str, field: str) -> Tensor:
        batch_norm = getattr(self.network.layer(name), "batch_norm", None)
        assert isinstance(batch_norm, BatchNorm)
        return torch.from_numpy(getattr(batch_norm, field).copy()).reshape(1, -1, 1, 1)

    def norm(self, name: str, x: Tensor) -> Tensor:
        """The released `BatchNorm` in prediction mode."""
        standardised = (x - self.vector(name, "mean")) / torch.sqrt(self.vector(name, "variance") + 1e-5)
        return self.vector(name, "gamma") * standardised + self.vector(name, "beta")

    def threshold(self, name: str, x: Tensor) -> Tensor:
        """`Threshold3D`: the kernel tiled over rows, columns and channels, times gamma."""
        kernel = getattr(self.network.layer(name), "kernel", None)
        if kernel is None:
            return x
        m, n, g = kernel.shape
        period = torch.from_numpy(kernel.values.transpose(2, 0, 1).copy())
        tiled = period.repeat(x.shape[1] // g, x.shape[2] // m, x.shape[3] // n)
        return x - tiled[None] * self.vector(name, "gamma")

    def linear(self, name: str, x: Tensor) -> Tensor:
        """Input batch norm and dense layer on maps flattened as (channel, row, column), as PyTorch does."""
        layer = self.network.layer(name)
        assert isinstance(layer, RealDense)
        assert layer.bias is not None
        channels, height, width = x.shape[1:]
        weights = self.weights(name).reshape(-1, height, width, channels).permute(0, 3, 1, 2)
        if layer.input_batch_norm is not None:
            b = layer.input_batch_norm
            values = [torch.from_numpy(v.copy()) for v in (b.mean, b.variance, b.gamma, b.beta)]
            mean, variance, gamma, beta = (v.reshape(height, width, channels).permute(2, 0, 1).ravel() for v in values)
            flat = functional.batch_norm(x.flatten(1), mean, variance, gamma, beta, eps=1e-5)
        else:
            flat = x.flatten(1)
        return functional.linear(flat, weights.flatten(1), torch.from_numpy(layer.bias))

    def shortcut(self, x: Tensor, planes: int, stride: int) -> Tensor:
        if stride == 1:
            return x
        return functional.pad(functional.avg_pool2d(x, 2), (0, 0, 0, 0, planes // 4, planes // 4))

    def keep(self, name: str, real: Tensor) -> Tensor:
        self.bits[name] = torch.sign(real)
        return real


def released_vgg_small(network: Network, images: NDArray[np.uint8]) -> tuple[dict[str, Tensor], Tensor]:
    r = Released(network, images)
    x = r.keep("conv0", functional.hardtanh(r.norm("conv0", r.conv("conv0", r.pixels))))
    for number in range(1, 6):
        name = f"conv{number}"
        x = r.conv(name, x)
        if number in (1, 3, 5):
            x = functional.max_pool2d(x, 2)
        x = r.keep(name, functional.hardtanh(r.threshold(name, r.norm(name, x))))
    return r.bits, r.linear("fc", x)


def released_resnet18(network: Network, images: NDArray[np.uint8]) -> tuple[dict[str, Tensor], Tensor]:
    r = Released(network, images)
    x = r.keep("conv1", r.norm("conv1", r.conv("conv1", r.pixels)))
    for group in range(1, 5):
        for block in range(2):
            first, second = f"layer{group}_{block}_conv1", f"layer{group}_{block}_conv2"
            stride = 2 if group > 1 and block == 0 else 1
            out = functional.hardtanh(r.threshold(first, r.norm(first, r.conv(first, x, stride))))
            r.keep(first, out)
            out = r.threshold(second, r.norm(second, r.conv(second, out)))
            x = r.keep(second, functional.hardtanh(out + r.shortcut(x, out.shape[1], stride)))
    return r.bits, r.linear("linear", functional.avg_pool2d(x, min(4, x.shape[2])))


def released_resnet20(network: Network, images: NDArray[np.uint8]) -> tuple[dict[str, Tensor], Tensor]:
    r = Released(network, images)
    x = r.keep("conv1", functional.hardtanh(r.norm("conv1", r.conv("conv1", r.pixels))))
    for group in range(1, 4):
        for block in range(3):
            for number in (1, 2):
                name = f"layer{group}_{block}_conv{number}"
                stride = 2 if group > 1 and block == 0 and number == 1 else 1
                out = r.threshold(name, r.norm(name, r.conv(name, x, stride)))
                x = r.keep(name, functional.hardtanh(out + r.shortcut(x, out.shape[1], stride)))
    return r.bits, r.linear("linear", functional.avg_pool2d(x, x.shape[2:]))


@pytest.mark.parametrize("kernel", [None, KERNEL_2D, KERNEL_3D], ids=["sign", "2d", "3d"])
@pytest.mark.parametrize(
    ("make", "released", "size"),
    [
        (vgg_small, released_vgg_small, (16, 32)),
        (resnet18, released_resnet18, (32, 48)),
        (resnet20, released_resnet20, (16, 24)),
    ],
)
def test_bits_are_those_of_the_released_code(
    make: Any, released: Any, size: tuple[int, int], kernel: ThresholdKernel | None
) -> None:
    network = make(
        input_shape=(*size, 3),
        classes=7,
        width=0.25,
        kernel=kernel,
        conventions=RELEASED_TORCH,
        seed=len(make.__name__),
    )
    images = np.random.default_rng(3).integers(0, 256, (5, *size, 3), dtype=np.uint8)
    with torch.no_grad():
        bits, logits = released(network, images)
    outputs = network.run(images, outputs=[*(f"{name}.bits" for name in bits), "logits"])
    for name, expected in bits.items():
        assert np.array_equal(outputs[f"{name}.bits"], expected.permute(0, 2, 3, 1).numpy().astype(np.int8)), name
    np.testing.assert_allclose(outputs["logits"], logits.numpy(), rtol=0, atol=2e-5)


@pytest.mark.parametrize("kernel", [None, KERNEL_3D], ids=["sign", "3d"])
def test_binarynet_is_the_released_structure(kernel: ThresholdKernel | None) -> None:
    """Symmetric padding by hand, pools after 2, 4 and 6, `torch.nn.functional.batch_norm`, sign at 0 = +1."""
    conventions = PAPER.replace(arithmetic="torch")
    network = binarynet(
        input_shape=(16, 24, 3), classes=7, width=1 / 16, kernel=kernel, conventions=conventions, seed=4
    )
    images = np.random.default_rng(5).integers(0, 256, (3, 16, 24, 3), dtype=np.uint8)
    r = Released(network, images)
    x = r.pixels
    found = network.run(images, outputs="all")
    for layer in network.layers:
        assert isinstance(layer, (PixelConv2d, BinaryConv2d, BinaryDense))
        bn = layer.batch_norm
        assert bn is not None
        if isinstance(layer, BinaryDense):
            # The order of a dense layer's inputs is (row, column, channel).
            flat = x if x.ndim == 2 else x.permute(0, 2, 3, 1).flatten(1)
            x = flat @ r.weights(layer.name).T
        else:
            padded = torch.from_numpy(np.pad(x.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="symmetric"))
            x = functional.conv2d(padded, r.weights(layer.name))
            if layer.name in ("conv2", "conv4", "conv6"):
                x = functional.max_pool2d(x, 2)
        values = [torch.from_numpy(v.copy()) for v in (bn.mean, bn.variance, bn.gamma, bn.beta)]
        x = functional.batch_norm(x, *values, eps=1e-4)
        if layer.name == "dense3":
            break
        if kernel is not None and layer.name.startswith("conv"):
            rows, columns, channels = (torch.arange(extent) for extent in (x.shape[2], x.shape[3], x.shape[1]))
            table = torch.from_numpy(kernel.values.copy())
            x = x - table[rows[:, None, None] % 2, columns[None, :, None] % 2, channels % 4].permute(2, 0, 1)
        x = torch.where(x >= 0, 1.0, -1.0)
        expected = x if x.ndim == 2 else x.permute(0, 2, 3, 1)
        assert np.array_equal(found[f"{layer.name}.bits"], expected.numpy().astype(np.int8)), layer.name
    assert np.array_equal(found["logits"], x.numpy())


def test_a_negative_scale_before_a_pool_is_turned_round() -> None:
    """The released code pools alpha*a; given parameters with negative alpha must give its bits all the same."""
    rng = np.random.default_rng(8)
    plain = vgg_small(input_shape=(16, 24, 3), classes=7, width=1 / 8, conventions=RELEASED_TORCH, seed=9)
    given: dict[str, LayerParameters] = {}
    signed: dict[str, Any] = {}
    for layer in plain.layers:
        assert isinstance(layer, (PixelConv2d, BinaryConv2d, RealDense))
        if isinstance(layer, RealDense):
            given[layer.name] = LayerParameters(weights=layer.weights, bias=layer.bias)
            signed[layer.name] = layer
            continue
        bn = layer.batch_norm
        assert bn is not None
        assert bn.alpha is not None
        if isinstance(layer, BinaryConv2d):
            bn = replace(bn, alpha=bn.alpha * rng.choice(np.array([-1, 1], np.float32), bn.channels))
        given[layer.name] = LayerParameters(weights=layer.weights, batch_norm=bn)
        signed[layer.name] = replace(layer, batch_norm=bn)
    network = vgg_small(input_shape=(16, 24, 3), classes=7, width=1 / 8, conventions=RELEASED_TORCH, parameters=given)
    as_given = Network(
        name="as given", input_shape=(16, 24, 3), layers=tuple(signed.values()), conventions=RELEASED_TORCH
    )
    images = rng.integers(0, 256, (3, 16, 24, 3), dtype=np.uint8)
    with torch.no_grad():
        expected, _ = released_vgg_small(as_given, images)
    found = network.run(images, outputs="all")
    naively = as_given.run(images, outputs="all")
    assert not np.array_equal(naively["conv1.bits"], found["conv1.bits"])
    for name, bits in expected.items():
        assert np.array_equal(found[f"{name}.bits"], bits.permute(0, 2, 3, 1).numpy().astype(np.int8)), name


def test_a_positive_scale_is_left_alone() -> None:
    bits = PackedBits(np.array([[5], [2]], np.uint64), 3)
    one = np.ones(2, np.float32)
    for alpha in (None, np.array([0.5, 0.0], np.float32)):
        batch_norm = BatchNorm(one, one, one, one, 0.0, alpha)
        assert positive_scale(bits, batch_norm) == (bits, batch_norm)
