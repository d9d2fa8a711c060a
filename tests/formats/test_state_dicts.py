"""State dicts and foreign safetensors mapped onto architectures: the bits of the module that they were saved from."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refdesign import models as golden
from refdesign.api import Network
from refdesign.bits import unpack
from refdesign.conventions import PAPER, RELEASED_TORCH
from refdesign.errors import RefdesignError
from refdesign.formats import conversion, native
from refdesign.network import NetworkData, RealConv2d
from refdesign.parameters import ThresholdKernel

pytest.importorskip("torch", reason="the extra 'torch' is not installed")

import safetensors.torch
import torch
from torch import nn

from refdesign.frameworks.torch import models, to_network
from tests.formats.state_dicts import mapped, same, trained

KERNEL = ThresholdKernel(np.array([[0.5, 1.0, 0.25], [1.5, -0.5, 0.75]], np.float32))


def test_this_projects_own_sequential_model(tmp_path: Path) -> None:
    module = trained(models.binarynet((9, 7, 3), 5, widths=(4, 8, 6), dense=(11,), kernel=KERNEL))
    torch.save(module.state_dict(), tmp_path / "net.pt")
    architecture = golden.binarynet(input_shape=(9, 7, 3), classes=5, widths=(4, 8, 6), dense=(11,))
    found = conversion.read(tmp_path / "net.pt", architecture=architecture, binarise="sign")
    assert same(found.network, to_network(module, name="n", input_shape=(9, 7, 3))) == []
    assert "thresholds from 'conv1.activation.threshold'" in found.recognised[0]
    assert found.format == "a PyTorch state dict"
    assert len(found.recognised) == 5
    assert found.assumed == (
        "sign_at_zero 1, arithmetic 'torch': the file does not say how signs and sums are meant (--conventions, "
        "--arithmetic)",
        "pixels p enter as 2*p-255, as the architecture has it",
    )


@pytest.mark.parametrize("name", ["vgg_small", "resnet18", "resnet20"])
def test_this_projects_own_recu_models(name: str, tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"input_shape": (16, 24, 3), "classes": 7, "width": 1 / 16, "kernel": KERNEL}
    module = trained(getattr(models, name)(**sizes), seed=3)
    torch.save({"epoch": 1, "state_dict": module.state_dict()}, tmp_path / "best.pth.tar")
    architecture = getattr(golden, name)(**sizes)
    found = conversion.read(tmp_path / "best.pth.tar", architecture=architecture)
    assert same(found.network, to_network(module, name="n", input_shape=(16, 24, 3))) == []
    assert "ReCU" in found.recognised[1]
    without = getattr(golden, name)(**{**sizes, "kernel": None})
    assert same(conversion.read(tmp_path / "best.pth.tar", architecture=without).network, found.network) == []
    other = getattr(golden, name)(**{**sizes, "kernel": ThresholdKernel([[1.0, 2.0]])})
    with pytest.raises(RefdesignError, match="found other thresholds in"):
        conversion.read(tmp_path / "best.pth.tar", architecture=other)


class Released(nn.Module):
    """The ReCU code's ResNet-20 in its layers' names and parameters, without its forward pass."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        inputs = width
        for group in range(3):
            blocks = []
            for _ in range(3):
                planes = width << group
                block = nn.Module()
                block.conv1, block.bn1 = self.binary(inputs, planes), nn.BatchNorm2d(planes)
                block.conv2, block.bn2 = self.binary(planes, planes), nn.BatchNorm2d(planes)
                blocks.append(block)
                inputs = planes
            setattr(self, f"layer{group + 1}", nn.Sequential(*blocks))
        self.bn2 = nn.BatchNorm1d(inputs)
        self.linear = nn.Linear(inputs, 7)

    @staticmethod
    def binary(inputs: int, outputs: int) -> nn.Module:
        conv = nn.Conv2d(inputs, outputs, 3, bias=False)
        conv.alpha = nn.Parameter(torch.rand(outputs, 1, 1) - 0.3)
        conv.register_buffer("tau", torch.tensor(0.99))
        return conv


def test_the_released_recu_names() -> None:
    module = trained(nn.DataParallel(Released(2)), seed=4)
    stream = io.BytesIO()
    torch.save({"state_dict": module.state_dict(), "best_acc1": torch.tensor(91.0)}, stream)
    architecture = golden.resnet20(input_shape=(8, 12, 3), classes=7, width=1 / 8, conventions=RELEASED_TORCH)
    network, report = mapped(stream.getvalue(), architecture, pixels=[(0.02, -1.5)], conventions=RELEASED_TORCH)
    state = module.state_dict()
    assert isinstance(network.layers[0], RealConv2d)
    conv = state["module.layer2.1.conv2.weight"]
    layer: Any = network.layer("layer2_1_conv2")
    expected = (conv - conv.mean((1, 2, 3), keepdim=True) >= 0).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(unpack(layer.weights) > 0, expected)
    np.testing.assert_array_equal(layer.batch_norm.alpha, state["module.layer2.1.conv2.alpha"].flatten().numpy())
    np.testing.assert_array_equal(layer.batch_norm.mean, state["module.layer2.1.bn2.running_mean"].numpy())
    last: Any = network.layers[-1]
    np.testing.assert_array_equal(last.input_batch_norm.gamma, state["module.bn2.weight"].numpy())
    assert network.conventions == RELEASED_TORCH
    assert same(native.from_bytes(native.to_bytes(network)), network) == []
    images = np.random.default_rng(1).integers(0, 256, (2, 8, 12, 3), np.uint8)
    outputs = [Network.from_data(network).run(images, outputs="all", path=path) for path in ("packed", "naive")]
    for key in outputs[0]:
        np.testing.assert_array_equal(outputs[0][key], outputs[1][key], key)
    assert "batch norms are matched in the order of the file: linear module.bn2" in report.assumed
    with pytest.raises(RefdesignError, match="layer 'conv1', pixels: the file does not say how 8-bit pixels"):
        mapped(stream.getvalue(), architecture)


def test_other_names_are_matched_in_the_files_order_and_said(tmp_path: Path) -> None:
    module = trained(models.binarynet((9, 7, 3), 5, widths=(4, 8), dense=(11,)))
    renamed = {f"features.{key.replace('conv', 'c')}": value for key, value in module.state_dict().items()}
    renamed = {key.replace("dense", "d").replace("batch_norm", "n"): value for key, value in renamed.items()}
    torch.save(renamed, tmp_path / "net.pt")
    architecture = golden.binarynet(input_shape=(9, 7, 3), classes=5, widths=(4, 8), dense=(11,))
    found = conversion.read(tmp_path / "net.pt", architecture=architecture, binarise="sign")
    assert same(found.network, to_network(module, name="n", input_shape=(9, 7, 3))) == []
    assert any(line.startswith("layers are matched in the order of the file: conv1 ") for line in found.assumed)
    # safetensors has no order: names must do, or be given.
    safetensors.torch.save_file(renamed, tmp_path / "net.safetensors")
    with pytest.raises(RefdesignError, match=r"found no weights for conv1, conv2, dense1, dense2 among .*\(--map\)"):
        conversion.read(tmp_path / "net.safetensors", architecture=architecture, binarise="sign")
    entries = [
        {"name": name, "weights": f"features.{name[0]}{name[-1]}.product.weight",
         "batch_norm": f"features.{name[0]}{name[-1]}.n"}
        for name in ("conv1", "conv2", "dense1", "dense2")
    ]  # fmt: skip
    (tmp_path / "map.json").write_text(json.dumps({"layers": entries}))
    by_map = conversion.read(
        tmp_path / "net.safetensors", architecture=architecture, binarise="sign", layer_map=tmp_path / "map.json"
    )
    assert same(by_map.network, found.network) == []


def small() -> tuple[dict[str, Any], NetworkData]:
    module = trained(models.binarynet((6, 5, 2), 3, widths=(4,), dense=()))
    return dict(module.state_dict()), golden.binarynet(input_shape=(6, 5, 2), classes=3, widths=(4,), dense=())


def without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda state: state.pop(name)


def replaced(name: str, value: Callable[[Any], Any]) -> Callable[[dict[str, Any]], None]:
    return lambda state: state.update({name: value(state[name])})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("conv1.product.weight"), r"found no weights for conv1 among dense1.product \(1 for 2 layers\)"),
        (without("conv1.batch_norm.running_var"),
         "layer 'conv1', batch_norm: found 'conv1.batch_norm' without its running mean and variance, expected both: "
         "register them as buffers"),
        (replaced("dense1.product.weight", lambda w: w[:, :-1]),
         "layer 'dense1', tensor 'dense1.product.weight': found 119 inputs, expected 120 of a map"),
        (replaced("conv1.product.weight", lambda w: w[:3]),
         "layer 'conv1', tensor 'conv1.batch_norm.running_mean': found shape .4,., expected 3 channels"),
        (replaced("conv1.batch_norm.weight", lambda w: w.double() + 1e-12), "which float32 does not hold"),
        (replaced("conv1.batch_norm.bias", lambda w: w * float("nan")), "not finite"),
        (replaced("conv1.batch_norm.running_var", lambda w: -w), "layer 'conv1', batch norm, variance: found -"),
        (lambda state: state.update({"extra.weight": torch.ones(2, 3)}),
         "found extra in the file, for which the architecture has no place"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(change: Callable[[dict[str, Any]], None], message: str, tmp_path: Path) -> None:
    state, architecture = small()
    change(state)
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(RefdesignError, match=message) as caught:
        conversion.read(tmp_path / "net.pt", architecture=architecture, binarise="sign")
    assert str(caught.value).startswith(f"{tmp_path}/net.pt: ")
    assert "\n" not in str(caught.value)


def test_latent_weights_and_missing_answers_are_named(tmp_path: Path) -> None:
    state, architecture = small()
    path = tmp_path / "net.pt"
    torch.save(state, path)
    with pytest.raises(
        RefdesignError, match=r"layer 'conv1', found latent weights, \|w\| from .* expected weights of ±1"
    ):
        conversion.read(path, architecture=architecture)
    with pytest.raises(RefdesignError, match="expected an architecture to map them onto"):
        conversion.read(path)
    with pytest.raises(RefdesignError, match="binarise: found 'x', expected one of sign"):
        conversion.read(path, architecture=architecture, binarise="x")
    with pytest.raises(RefdesignError, match="no k for the arithmetic 'keras'"):
        conversion.read(path, architecture=architecture, binarise="sign", arithmetic="keras")
    with pytest.raises(RefdesignError, match="'form', which a PyTorch state dict does not take"):
        conversion.read(path, form="folded")


def test_released_batch_norms_lack_their_statistics() -> None:
    """The authors' own BatchNorm keeps moving_mean and moving_var as plain attributes: no state dict has them."""
    state = {
        "conv1.weight": torch.ones(4, 2, 3, 3), "bn1.gamma": torch.ones(1, 4, 1, 1), "bn1.beta": torch.ones(1, 4, 1, 1),
        "dense1.weight": torch.ones(3, 120), "dense1_bn.weight": torch.ones(3), "dense1_bn.bias": torch.ones(3),
    }  # fmt: skip
    stream = io.BytesIO()
    torch.save(state, stream)
    with pytest.raises(RefdesignError, match="'bn1' without its running mean and variance"):
        mapped(stream.getvalue(), small()[1])


def test_biases_before_a_batch_norm_are_exact_or_refused() -> None:
    state, architecture = small()
    state["conv1.product.bias"] = torch.tensor([0.1, -2.5, 0.0, 7.0])
    stream = io.BytesIO()
    torch.save(state, stream)
    with pytest.raises(RefdesignError, match="bias before a batch norm, which only exact arithmetic moves into it"):
        mapped(stream.getvalue(), architecture, binarise="sign")
    network, _ = mapped(stream.getvalue(), architecture, binarise="sign", arithmetic="real")
    affine = network.layers[0].batch_norm.affine
    assert [offset / affine.denominator for offset in affine.offsets] == state["conv1.product.bias"].tolist()
    assert affine.numerator == affine.denominator
    assert network.conventions == PAPER
    assert same(native.from_bytes(native.to_bytes(network)), network) == []
