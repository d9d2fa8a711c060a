"""Exports that the frameworks' own tools make here come in with the framework's bits."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")

from refdesign.api import Network
from refdesign.conventions import PAPER, RELEASED_TORCH, Conventions
from refdesign.formats import onnx_in
from refdesign.network import CombinedConv2d, NetworkData, Stage
from refdesign.parameters import ThresholdKernel
from refdesign.verify.fuzz.networks import residual_sample

torch = pytest.importorskip("torch", reason="the extra 'torch' is not installed")
from torch import nn  # noqa: E402

KERNEL = ThresholdKernel(np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 4)
EXPORTERS = [
    pytest.param(False, id="TorchScript"),
    pytest.param(True, id="dynamo"),
]


def export(module: nn.Module, shape: tuple[int, ...], path: Path, dynamo: bool) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own, about its own exporters
        if dynamo:
            pytest.importorskip("onnxscript", reason="PyTorch's newer exporter needs onnxscript")
            torch.onnx.export(module, (torch.zeros(1, *shape),), path, dynamo=True, verbose=False)
        else:
            axes = {"x": {0: "N"}}
            torch.onnx.export(
                module, (torch.zeros(2, *shape),), path, dynamo=False, input_names=["x"], dynamic_axes=axes
            )
    return path


def trained(module: nn.Module) -> nn.Module:
    """The module with batch norms whose channels differ."""
    torch.manual_seed(6)
    for part in module.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.normal_(part.weight)
            nn.init.normal_(part.bias)
            part.running_mean = torch.randn(part.num_features) * 2
            part.running_var = torch.rand(part.num_features) * 20 + 0.5
    return module.eval()


def assert_its_bits(
    module: Any, read: NetworkData, shape: tuple[int, int, int], kinds: tuple[str, ...], *, exact: bool = True
) -> None:
    """Every output of these kinds, and the logits, as the module computes them."""
    from refdesign.frameworks.torch.residual import network_outputs

    x = np.random.default_rng(7).integers(0, 256, (4, *shape), dtype=np.uint8)
    found = Network.from_data(read).run(x, outputs="all")
    names = dict(zip([layer.name for layer in read.layers], module.layers, strict=True))
    compared = 0
    for key, array in found.items():
        name, _, kind = key.rpartition(".")
        if key == "logits" or kind in kinds:
            theirs = key if key == "logits" else f"{names[name]}.{kind}"
            wanted = network_outputs(module, (theirs,), x)[theirs]
            if exact or kind == "bits":
                np.testing.assert_array_equal(array, wanted, err_msg=key)
            else:
                np.testing.assert_allclose(array, wanted, rtol=1e-5, atol=1e-6, err_msg=key)
            compared += 1
    assert compared >= len(read.layers) - 1


def with_bases(rules: Conventions) -> NetworkData:
    """A small residual network, one of whose layers has three bases."""
    network = residual_sample()
    layers = list(network.layers)
    first = layers[1]
    assert isinstance(first, Stage)
    rng = np.random.default_rng(8)
    from refdesign.bits import pack_bool

    layers[1] = CombinedConv2d(
        name="first", weights=tuple(pack_bool(rng.random((2, 3, 3, 2)) < 0.5) for _ in range(3)),
        scales=rng.random((3, 2)).astype(np.float32), padding=(1, 1), batch_norm=first.batch_norm,
        kernel=first.kernel, shortcut=first.shortcut, hardtanh=True,
    )  # fmt: skip
    return NetworkData(name="bases", input_shape=network.input_shape, layers=tuple(layers), conventions=rules)


@pytest.mark.parametrize("dynamo", EXPORTERS)
@pytest.mark.parametrize("rules", [PAPER.replace(arithmetic="torch"), RELEASED_TORCH], ids=["torch", "released"])
def test_residual_modules_with_bases_and_a_real_last_layer(dynamo: bool, rules: Conventions, tmp_path: Path) -> None:
    from refdesign.frameworks.torch.restore import network_module

    network = with_bases(rules)
    module = trained(network_module(network))
    path = export(module, (1, 4, 6), tmp_path / "net.onnx", dynamo)
    read, report = onnx_in.read(path, arithmetic=rules.arithmetic)
    assert [layer.kind for layer in read.layers] == [layer.kind for layer in network.layers]
    assert [getattr(layer, "shortcut", None) is None for layer in read.layers] == [True, False, False, True, True]
    assert any("+ conv1, hardtanh" in line for line in report.recognised)
    # The newer exporter merges a plain batch norm into its convolution, which rounds the real values otherwise.
    exact = not dynamo or rules is RELEASED_TORCH
    assert_its_bits(module, read, network.input_shape, ("bits", "real"), exact=exact)


@pytest.mark.parametrize("rules", [None, RELEASED_TORCH], ids=["torch", "released"])
@pytest.mark.parametrize("depth", [20, 18])
def test_resnets(depth: int, rules: Conventions | None, tmp_path: Path) -> None:
    from refdesign.frameworks.torch import models

    shape = (8, 12, 3) if depth == 20 else (32, 32, 3)
    options: dict[str, Any] = {"input_shape": shape, "classes": 5, "kernel": KERNEL}
    options |= {} if rules is None else {"conventions": rules}
    make = models.resnet20 if depth == 20 else models.resnet18
    module = trained(make(width=0.25 if depth == 20 else 1 / 16, **options))
    path = export(module, (3, *shape[:2]), tmp_path / "net.onnx", dynamo=False)
    read, report = onnx_in.read(path, arithmetic="torch" if rules is None else "released_torch")
    assert len(read.layers) == depth + 1
    assert sum(", + " in line for line in report.recognised) == (18 if depth == 20 else 8)
    assert read.conventions.threshold_scale == "gamma"  # the thresholds in the file are gamma*T
    kernels = [layer.kernel for layer in read.layers if isinstance(layer, Stage) and layer.kernel is not None]
    assert len(kernels) >= 8
    assert all(kernel.shape == KERNEL.shape for kernel in kernels)
    np.testing.assert_array_equal(kernels[-1].values, KERNEL.values)
    assert_its_bits(module, read, shape, ("bits",))


@pytest.mark.slow
def test_a_resnet_by_the_newer_exporter(tmp_path: Path) -> None:
    from refdesign.frameworks.torch import models

    module = trained(models.resnet20(input_shape=(8, 12, 3), classes=5, kernel=KERNEL, width=0.25))
    path = export(module, (3, 8, 12), tmp_path / "net.onnx", dynamo=True)
    assert_its_bits(module, onnx_in.read(path, arithmetic="torch")[0], (8, 12, 3), ("bits", "real"))


class Ties(nn.Module):
    """Batch norms behind convolutions, as exporters merge them, with boundaries at common sums of pixels 0 and 1."""

    def __init__(self) -> None:
        super().__init__()
        convolutions = [nn.Conv2d(2, 10, 3, padding=1, bias=False), nn.Conv2d(10, 5, 3, bias=False)]
        norms = [nn.BatchNorm2d(10), nn.BatchNorm2d(5)]
        dense = nn.Linear(5 * 5 * 7, 3, bias=False)
        self.conv, self.norm = nn.ModuleList(convolutions), nn.ModuleList(norms)
        self.last = nn.Sequential(nn.Flatten(), dense, nn.BatchNorm1d(3))
        self.bits: list[Any] = []
        trained(self)
        products: list[Any] = [*convolutions, dense]
        for product in products:
            product.weight.data = torch.where(product.weight < 0, -1.0, 1.0)
        for norm in norms:
            norm.running_mean = torch.round(torch.randn(norm.num_features) * 2)
            nn.init.zeros_(norm.bias)

    def forward(self, x: Any) -> Any:
        for conv, norm in zip(self.conv, self.norm, strict=True):
            x = torch.where(norm(conv(x)) >= 0, 1.0, -1.0)
            self.bits.append(x)
        return self.last(x)


KEPT = [
    pytest.param(
        {"dynamo": False, "training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}, id="TorchScript"
    ),
    pytest.param({"dynamo": True, "optimize": False, "verbose": False}, id="dynamo"),
]


@pytest.mark.parametrize("options", KEPT)
def test_exports_that_keep_their_batch_norms_give_pytorchs_bits_at_ties(options: Any, tmp_path: Path) -> None:
    if options["dynamo"]:
        pytest.importorskip("onnxscript", reason="PyTorch's newer exporter needs onnxscript")
    module = Ties()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own, about its own exporters
        torch.onnx.export(module, (torch.zeros(1, 2, 7, 9),), tmp_path / "kept.onnx", **options)
    network, report = onnx_in.read(tmp_path / "kept.onnx", arithmetic="torch")
    x = np.random.default_rng(8).integers(0, 2, (30, 2, 7, 9), dtype=np.uint8)
    module.bits.clear()
    with torch.no_grad():
        logits = module(torch.tensor(x).float()).numpy()
    found = Network.from_data(network).run(np.ascontiguousarray(x.transpose(0, 2, 3, 1)), outputs="all")
    bits = [array for name, array in found.items() if name.endswith(".bits")]
    for ours, theirs in zip(bits, module.bits, strict=True):
        np.testing.assert_array_equal(ours, theirs.numpy().transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(found["logits"], logits)
    assert not any("rounded products" in line for line in report.assumed)


@pytest.mark.filterwarnings("ignore")  # Brevitas' and PyTorch's own
def test_brevitas(tmp_path: Path) -> None:
    qnn = pytest.importorskip("brevitas.nn", reason="Brevitas is not installed", exc_type=ImportError)
    pytest.importorskip("onnxoptimizer", reason="onnxoptimizer, which Brevitas exports with, is not installed")
    from brevitas.export import export_qonnx
    from brevitas.quant import SignedBinaryActPerTensorConst, SignedBinaryWeightPerTensorConst

    torch.manual_seed(9)
    binary = {"bias": False, "weight_quant": SignedBinaryWeightPerTensorConst}

    def act() -> Any:
        return qnn.QuantIdentity(act_quant=SignedBinaryActPerTensorConst)

    module: Any = trained(
        nn.Sequential(
            qnn.QuantConv2d(2, 4, 3, **binary), nn.BatchNorm2d(4), act(),
            qnn.QuantConv2d(4, 6, 3, **binary), nn.MaxPool2d(2), nn.BatchNorm2d(6), act(),
            nn.Flatten(), qnn.QuantLinear(6 * 2 * 3, 3, **binary),
        )
    )  # fmt: skip
    export_qonnx(module, args=torch.zeros(1, 2, 9, 11), export_path=str(tmp_path / "net.onnx"))
    read, report = onnx_in.read(tmp_path / "net.onnx")
    assert any("its weights are ±s" in line for line in report.assumed)
    x = np.random.default_rng(10).integers(0, 256, (20, 9, 11, 2), dtype=np.uint8)
    found = Network.from_data(read).run(x, outputs="all")
    with torch.no_grad():
        value = torch.tensor(x).permute(0, 3, 1, 2).float()
        for number, part in enumerate(module):
            value = part(value)
            if number in (2, 6):
                bits = torch.sign(getattr(value, "value", value)).permute(0, 2, 3, 1).numpy()
                np.testing.assert_array_equal(found[f"conv{1 if number == 2 else 2}.bits"], bits)
        logits = getattr(value, "value", value).numpy()
    np.testing.assert_allclose(found["logits"], logits, rtol=1e-5, atol=1e-5)


def keras_bits(model: Any, layers: list[Any], x: NDArray[np.uint8]) -> list[NDArray[Any]]:
    """What some of a Keras model's layers give."""
    import keras

    parts = keras.Model(model.inputs, [layer.output for layer in layers])
    return [np.asarray(value) for value in parts(x.astype(np.float32), training=False)]


@pytest.mark.filterwarnings("ignore")  # TensorFlow's and tf2onnx's own
@pytest.mark.parametrize("activation", ["where", "released"])
def test_keras(activation: str, tmp_path: Path) -> None:
    keras = pytest.importorskip("keras", reason="the extra 'keras' is not installed", exc_type=ImportError)
    pytest.importorskip("tensorflow", reason="the extra 'keras' is not installed", exc_type=ImportError)
    pytest.importorskip("tf2onnx", reason="tf2onnx is not installed", exc_type=ImportError)
    if keras.backend.backend() != "tensorflow":
        pytest.skip(f"Keras runs on {keras.backend.backend()} here, and exports to ONNX from TensorFlow")
    ops, layers = keras.ops, keras.layers
    rng = np.random.default_rng(11)
    kernel = np.tile(rng.integers(0, 8, (2, 3, 2)).astype(np.float32) / 4, (2, 2, 3))[:3, :4]

    def sign(z: Any) -> Any:
        if activation == "where":
            return ops.where(z >= 0, 1.0, -1.0)
        return 2 * ops.round(ops.clip((z + 1) / 2, 0, 1)) - 1

    inputs = keras.Input((9, 11, 2))
    h = layers.BatchNormalization()(layers.Conv2D(4, 3, use_bias=False)(inputs))
    h = layers.Lambda(sign)(h)
    h = layers.MaxPooling2D(2)(layers.Conv2D(6, 3, padding="same", use_bias=False)(h))
    h = layers.Lambda(lambda z: sign(z - kernel))(layers.BatchNormalization()(h))
    h = layers.BatchNormalization()(layers.Dense(3, use_bias=False)(layers.Flatten()(h)))
    model = keras.Model(inputs, h)
    for weight in model.weights:
        value = rng.normal(size=weight.shape)
        if "kernel" in weight.path:
            value = np.where(value >= 0, 1, -1)
        if "variance" in weight.path:
            value = np.abs(value) * 30 + 0.5
        weight.assign(value)
    x = rng.integers(0, 256, (20, 9, 11, 2), dtype=np.uint8)
    signs = [layer for layer in model.layers if isinstance(layer, layers.Lambda)]
    bits = keras_bits(model, [*signs, model.layers[-1]], x)
    model(x[:1].astype(np.float32))
    model.export(tmp_path / "net.onnx", format="onnx", verbose=False)
    read, report = onnx_in.read(tmp_path / "net.onnx")
    found = Network.from_data(read).run(x, outputs="all")
    np.testing.assert_array_equal(found["conv1.bits"], bits[0])
    np.testing.assert_array_equal(found["conv2.bits"], bits[1])
    np.testing.assert_allclose(found["logits"], bits[2], rtol=1e-5)
    assert any("period 2x3" in line for line in report.recognised)
