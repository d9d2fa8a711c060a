"""Float modules: the real last layer's order, the released block, there and back, traced, compiled and exported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from refdesign.api import Network
from refdesign.conventions import PAPER, RELEASED_TORCH
from refdesign.frameworks.torch import BinaryConv2d, DeSign, from_network, layer_outputs, to_network
from refdesign.frameworks.torch.binarisers import ReCU
from refdesign.frameworks.torch.models import binarynet, resnet18, resnet20, vgg_small
from refdesign.frameworks.torch.real import RealLinear, ReleasedBatchNorm2d
from refdesign.ops.batch_norm import dithered_batch_norm
from refdesign.ops.residual import real_dense
from refdesign.ops.sign import sign
from refdesign.parameters import ThresholdKernel
from tests.frameworks.closed_forms import ReleasedBlock

KERNEL = ThresholdKernel((np.arange(16) / 8).astype(np.float32).reshape(2, 2, 4))
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "binarynet": (lambda: binarynet((8, 12, 3), 7, widths=(4, 8), dense=(5,), kernel=KERNEL), (8, 12, 3)),
    "vgg_small": (lambda: vgg_small(input_shape=(8, 12, 3), classes=7, width=1 / 16, kernel=KERNEL), (8, 12, 3)),
    "resnet18": (lambda: resnet18(input_shape=(16, 24, 3), classes=7, width=1 / 16, kernel=KERNEL), (16, 24, 3)),
    "resnet20": (lambda: resnet20(input_shape=(8, 12, 3), classes=7, width=1 / 4, kernel=KERNEL), (8, 12, 3)),
}


def made(name: str) -> tuple[nn.Module, torch.Tensor, tuple[int, int, int]]:
    """A model with statistics of its own, and images for it, NCHW."""
    torch.manual_seed(len(name))
    make, shape = MODELS[name]
    model = make()
    pixels = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (5, *shape), dtype=np.uint8)).permute(
        0, 3, 1, 2
    )
    model.train()(pixels)
    return model, pixels, shape


@pytest.mark.parametrize("inputs", [1, 127, 128, 129, 300])
@pytest.mark.parametrize("bias", [False, True])
def test_the_last_layer_sums_in_the_named_order(inputs: int, bias: bool) -> None:
    """Numbers of very different sizes, whose sums in another order differ."""
    rng = np.random.default_rng(inputs)
    torch.manual_seed(inputs)
    layer = RealLinear(inputs, 6, bias).eval()
    x, w = (
        (rng.normal(size=(rows, inputs)) * 10.0 ** rng.integers(-9, 10, (rows, inputs))).astype(np.float32)
        for rows in (5, 6)
    )
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(w))
        found = layer(torch.from_numpy(x)).numpy()
    expected = real_dense(x, w, layer.bias.detach().numpy() if bias else None)
    np.testing.assert_array_equal(found, expected, strict=True)


def test_another_order_would_show() -> None:
    one = np.ones((1, 3), np.float32)
    assert real_dense(np.array([[1, 1e18, -1e18]], np.float32), one).item() == 0
    assert real_dense(np.array([[1e18, -1e18, 1]], np.float32), one).item() == 1


def test_the_released_block() -> None:
    """The authors' block from the spec: gamma-scaled thresholds after their batch norm, exact ties give 0."""
    block = ReleasedBlock()
    bn = block.batch_norm
    norm = ReleasedBatchNorm2d(6, eps=0.0).eval()
    with torch.no_grad():
        for target, value in ((norm.weight, bn.gamma), (norm.bias, bn.beta),
                              (norm.running_mean, bn.mean), (norm.running_var, bn.variance)):  # fmt: skip
            assert target is not None
            target.copy_(torch.tensor(value))
        bits = DeSign(block.kernel, RELEASED_TORCH)(
            norm(torch.from_numpy(block.accumulators).permute(0, 3, 1, 2)), norm.weight
        )
    np.testing.assert_array_equal(bits.permute(0, 2, 3, 1).numpy(), block.bits)
    z = dithered_batch_norm(block.accumulators.astype(np.int32), bn, block.kernel, RELEASED_TORCH)
    np.testing.assert_array_equal(sign(z, RELEASED_TORCH), block.bits)


def test_the_gradient_of_recu_is_the_closed_form() -> None:
    """The bits' gradient is 1 inside the clamp and 0 outside, and goes through the standardisation."""
    torch.manual_seed(3)
    weight = torch.randn(4, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    arriving = torch.randn(4, 3, 2, 3, dtype=torch.float64)
    recu = ReCU(4, 0.9).double()
    torch.autograd.backward(recu(weight)[0], arriving)
    with torch.no_grad():
        w, g = weight.flatten(1), arriving.flatten(1)
        count = w.shape[1]
        centred = w - w.mean(1, keepdim=True)
        variance = centred.var(1, keepdim=True) + 1e-5
        factor = 2 * 2**0.5 / variance.sqrt()
        standard = centred * factor
        limit = -standard.abs().mean() * torch.log(torch.tensor(0.2, dtype=torch.float64))
        passed = g * (standard.abs() < limit)
        # standard = f(variance) * centred; d variance/d centred = 2 * centred/(count - 1).
        inner = factor * passed - centred * (passed * standard).sum(1, keepdim=True) / (variance * (count - 1))
        expected = inner - inner.mean(1, keepdim=True)
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad.flatten(1), expected, rtol=1e-6, atol=1e-9)
    assert (standard.abs() >= limit).any()


@pytest.mark.parametrize("name", MODELS)
def test_models_there_and_back_again(name: str) -> None:
    model, pixels, shape = made(name)
    network = to_network(model, name=name, input_shape=shape)
    restored = from_network(network)
    images = pixels.permute(0, 2, 3, 1).contiguous().numpy()
    ours, theirs = network.run(images, outputs="all"), layer_outputs(restored, images)
    for output, array in ours.items():
        np.testing.assert_array_equal(theirs[output], array, err_msg=output, strict=True)
    again: Network = to_network(restored, name=name, input_shape=shape)
    for output, array in again.run(images, outputs="all").items():
        np.testing.assert_array_equal(array, ours[output], err_msg=output, strict=True)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore")  # the exporter's own imports warn
def test_exported_programs_give_the_same(name: str) -> None:
    model, pixels, _ = made(name)
    model.eval()
    program = torch.export.export(model, (pixels,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},))
    for some in (pixels, pixels[:3]):
        with torch.no_grad():
            assert torch.equal(program.module()(some), model(some))


@pytest.mark.parametrize("name", ["binarynet", "vgg_small"])
@pytest.mark.filterwarnings("ignore")
def test_a_step_of_training_is_one_graph(name: str) -> None:
    """Nothing in a model breaks the graph; operation by operation the graph gives the same bits and gradients."""

    def step(compiled: bool) -> list[torch.Tensor]:
        torch._dynamo.reset()
        model, pixels, _ = made(name)
        run: Any = torch.compile(model, fullgraph=True, backend="aot_eager") if compiled else model
        out = run(pixels)
        out.square().sum().backward()
        return [out, *(p.grad for p in model.parameters() if p.grad is not None)]

    for compiled, eager in zip(step(True), step(False), strict=True):
        assert torch.equal(compiled, eager)


@pytest.mark.cuda
def test_cuda_accumulators_are_exact() -> None:
    """Without TF32, float32 sums of ±1 are exact there too; the batch norm behind them is a program without a name."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        torch.manual_seed(2)
        layer = BinaryConv2d(70, 33, 3, padding=1, padding_mode="symmetric")
        x = torch.randint(0, 2, (3, 70, 9, 11)) * 2.0 - 1
        with torch.no_grad():
            assert torch.equal(layer.cuda()(x.cuda()).cpu(), layer.cpu()(x))
            design = DeSign(ThresholdKernel(np.array([[0.5, 1.0]], np.float32)), PAPER)
            assert torch.equal(design.cuda()(x.cuda()).cpu(), design.cpu()(x))
    finally:
        torch.backends.cudnn.allow_tf32 = before
