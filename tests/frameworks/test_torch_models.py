"""The ReCU models, their binarisers and batch norm: exported to the bit, trainable, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from refdesign import models as reference
from refdesign.conventions import PAPER, RELEASED_TORCH, Conventions
from refdesign.errors import RefdesignError
from refdesign.frameworks.torch import BinaryConv2d, PixelInput, Sign, from_network, layer_outputs, to_network
from refdesign.frameworks.torch.binarisers import DoReFa, ReCU, XNORNet, abc_bases
from refdesign.frameworks.torch.models import resnet18, resnet20, vgg_small
from refdesign.frameworks.torch.real import ABCConv2d, GridConv2d, ReleasedBatchNorm2d
from refdesign.network import describe
from refdesign.parameters import ThresholdKernel

KERNEL = ThresholdKernel((np.arange(16) / 8).astype(np.float32).reshape(2, 2, 4))
TORCH = PAPER.replace(arithmetic="torch", threshold_scale="gamma")
SIZES = {"vgg_small": (8, 12), "resnet18": (16, 24), "resnet20": (8, 12)}
MODELS = {"vgg_small": vgg_small, "resnet18": resnet18, "resnet20": resnet20}


@pytest.mark.parametrize("conventions", [TORCH, RELEASED_TORCH], ids=["torch", "released"])
@pytest.mark.parametrize("name", MODELS)
def test_a_step_of_training_then_exported_to_the_bit(name: str, conventions: Conventions) -> None:
    torch.manual_seed(len(name))
    shape = (*SIZES[name], 3)
    model = MODELS[name](input_shape=shape, classes=7, width=1 / 4, kernel=KERNEL, conventions=conventions)
    images = np.random.default_rng(2).integers(0, 256, (3, *shape), dtype=np.uint8)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(2):
        loss = nn.functional.cross_entropy(model(torch.tensor(images).permute(0, 3, 1, 2)), torch.tensor([1, 4, 6]))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    latent = [p.grad for key, p in model.named_parameters() if key.endswith("product.weight")]
    assert all(grad is not None and grad.isfinite().all() for grad in latent)
    assert sum(bool(grad.any()) for grad in latent if grad is not None) >= len(latent) - 1
    network = to_network(model, name=name, input_shape=shape)
    theirs = layer_outputs(model, images)
    for output, expected in network.run(images, outputs="all").items():
        np.testing.assert_array_equal(theirs[output], expected, err_msg=output, strict=True)


@pytest.mark.parametrize("name", MODELS)
def test_the_architecture_is_the_references(name: str) -> None:
    shape = (*SIZES[name], 3)
    ours = to_network(
        MODELS[name](input_shape=shape, classes=7, width=1 / 4, kernel=KERNEL), name=name, input_shape=shape
    )
    theirs = getattr(reference, name)(input_shape=shape, classes=7, width=1 / 4, kernel=KERNEL)
    assert [describe(layer) for layer in ours.layers] == [describe(layer) for layer in theirs.layers]


def test_a_state_dict_loads_into_another_model() -> None:
    one, two = (resnet20(input_shape=(8, 12, 3), classes=5, width=1 / 4) for _ in range(2))
    images = np.random.default_rng(3).integers(0, 256, (2, 8, 12, 3), dtype=np.uint8)
    before = layer_outputs(two, images)["logits"]
    two.load_state_dict(one.state_dict())
    after = layer_outputs(two, images)["logits"]
    np.testing.assert_array_equal(after, layer_outputs(one, images)["logits"])
    assert not np.array_equal(before, after)


@pytest.mark.parametrize("binariser", [ReCU(6), XNORNet(), DoReFa()], ids=["recu", "xnor", "dorefa"])
@pytest.mark.parametrize("norm", [nn.BatchNorm2d, ReleasedBatchNorm2d])
def test_scaled_weights_export(binariser: Any, norm: Any) -> None:
    torch.manual_seed(5)
    if isinstance(binariser, ReCU):
        with torch.no_grad():
            binariser.alpha[::2] *= -1  # before a pool, a negative scale is turned round
    model = nn.Sequential(
        PixelInput(), BinaryConv2d(3, 4, 3), nn.BatchNorm2d(4), Sign(),
        BinaryConv2d(4, 6, (2, 3), binariser=binariser), nn.MaxPool2d(2), norm(6), Sign(), BinaryConv2d(6, 2, 1),
    ).eval()  # fmt: skip
    images = np.random.default_rng(6).integers(0, 256, (5, 9, 11, 3), dtype=np.uint8)
    arithmetic = "torch" if norm is nn.BatchNorm2d else "released_torch"
    model[2] = norm(4).eval()
    network = to_network(model, name="n", input_shape=(9, 11, 3), arithmetic=arithmetic)
    batch_norm = network.layers[1].batch_norm  # type: ignore[attr-defined]
    assert (batch_norm.alpha > 0).all()
    with torch.no_grad():
        x = torch.tensor(images).permute(0, 3, 1, 2)
        found = network.run(images, outputs=["4.bits", "logits"])
        for stop, name in ((8, "4.bits"), (9, "logits")):
            expected = model[:stop](x).permute(0, 2, 3, 1).numpy()
            np.testing.assert_array_equal(found[name], expected.astype(found[name].dtype))


def test_recu_clamps_at_the_laplace_quantile_and_keeps_signs() -> None:
    weight = torch.randn(3, 5, 3, 3, requires_grad=True)
    recu = ReCU(3, 0.9)
    bits, scale = recu(weight)
    assert torch.equal(bits, torch.where(weight - weight.mean((1, 2, 3), keepdim=True) >= 0, 1.0, -1.0))
    assert scale is recu.alpha
    with pytest.raises(RefdesignError, match="ReCU, tau: found 1, expected at least"):
        recu.set_tau(1)


def test_abc_bases_are_the_least_squares_ones() -> None:
    weight = torch.randn(4, 3, 2, 3)
    bits, scales = abc_bases(weight, 3)
    left = weight - (bits * scales[:, :, None, None, None]).sum(0)
    # The residual is orthogonal to every basis.
    np.testing.assert_allclose((bits * left).sum((2, 3, 4)).numpy(), 0, atol=1e-4)
    single, scale = abc_bases(weight, 1)
    assert left.norm() < (weight - single[0] * scale[0][:, None, None, None]).norm()
    with pytest.raises(RefdesignError, match="ABC-Net, bases: found 0"):
        abc_bases(weight, 0)
    conv = ABCConv2d(3, 4, (2, 3), bases=3)
    conv(torch.ones(1, 3, 4, 5)).sum().backward()
    assert conv.weight.grad is not None
    assert conv.weight.grad.any()


@pytest.mark.parametrize("binariser", [XNORNet("clipped"), DoReFa("clipped")], ids=["xnor", "dorefa"])
def test_gradients_of_scaled_weights_are_the_closed_form(binariser: XNORNet | DoReFa) -> None:
    """Multiples of 1/16 in rows of four: all sums are exact. DoReFa's scale is a constant, XNOR-Net's is not."""
    weight = torch.tensor([[0.5, -1.5, 0.25, -0.0625], [1.0, -1.0, 2.0, -0.75]], requires_grad=True)
    arriving = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, -8.0]])
    bits, scale = binariser(weight)
    assert scale is not None
    torch.autograd.backward(bits * scale[:, None], arriving)
    w = weight.detach()
    expected = arriving * scale[:, None].detach() * (w.abs() <= 1)
    if isinstance(binariser, XNORNet):
        expected += w.sign() / 4 * (arriving * w.sign()).sum(1, keepdim=True)
    assert weight.grad is not None
    assert torch.equal(weight.grad, expected)


def test_gradients_of_abc_bases_are_the_closed_form() -> None:
    """Each basis is sign(w - mean + u*deviation), estimated by the identity; the scales have no gradient."""
    torch.manual_seed(8)
    weight = torch.randn(4, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    arriving = torch.randn(3, 4, 3, 2, 3, dtype=torch.float64)
    bits, scales = abc_bases(weight, 3)
    assert not scales.requires_grad
    torch.autograd.backward(bits, arriving)
    w = weight.detach()
    centred, total = w - w.mean(), arriving.sum((1, 2, 3, 4))
    through_deviation = (total * torch.tensor([-1.0, 0.0, 1.0])).sum() * centred / (w.numel() * w.std(correction=0))
    expected = arriving.sum(0) - arriving.sum(0).mean() + through_deviation
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, expected)


def test_a_grid_keeps_its_integers() -> None:
    with pytest.raises(RefdesignError, match="GridConv2d, limit: found 0"):
        GridConv2d(1, 2, 3, limit=0)
    integers = torch.arange(-127, 128, dtype=torch.float32)
    conv = GridConv2d(255, 1, 1)
    with torch.no_grad():
        conv.weight.copy_((integers / 127)[None, :, None, None])
    assert torch.equal(conv.binarised()[0].flatten(), integers)


def test_the_released_batch_norm_trains_as_pytorchs() -> None:
    x = torch.randn(4, 3, 5, 2)
    ours, theirs = ReleasedBatchNorm2d(3), nn.BatchNorm2d(3)
    assert torch.equal(ours(x), theirs(x))
    np.testing.assert_allclose(ours.eval()(x).detach(), theirs.eval()(x).detach(), atol=1e-5)
    with pytest.raises(RefdesignError, match="no running statistics"):
        ReleasedBatchNorm2d(3, track_running_stats=False).eval()(x)


def test_what_the_modules_have_not_is_refused() -> None:
    real = reference.resnet20(input_shape=(8, 12, 3), width=1 / 4)
    with pytest.raises(RefdesignError, match="arithmetic: found 'real', expected one of torch, released_torch"):
        from_network(real)
