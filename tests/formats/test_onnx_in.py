"""ONNX files come in as the networks that they are, or are refused node by node."""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")

import onnx
from onnx import TensorProto, helper, numpy_helper

from refdesign import datasets
from refdesign.api import Network, pretrained, pretrained_names
from refdesign.errors import RefdesignError
from refdesign.formats import onnx_in, onnx_out
from refdesign.network import PADDING_MODES, Stage
from refdesign.ops.sign import KERAS_ROUND_BOUNDARY
from refdesign.verify.strategies import conventions, images, networks
from tests.formats.onnx_runs import runtime

torch = pytest.importorskip("torch", reason="the extra 'torch' is not installed")
from torch import nn  # noqa: E402


def imported(model: Any, **options: Any) -> Network:
    return Network.from_data(onnx_in.from_bytes(model.SerializeToString(), **options)[0])


@pytest.mark.parametrize("name", ["digits", "digits-2d", "digits-sign"])
def test_a_folded_export_comes_back_with_every_bit_and_logit(name: str) -> None:
    network = pretrained(name)
    x = datasets.load("digits", "test")[0][:20]
    back = imported(onnx_out.to_model(network))
    wanted = network.run(x, outputs="all")
    for key, array in back.run(x, outputs="all").items():
        np.testing.assert_array_equal(array, wanted[key], err_msg=key, strict=True)
    assert back.conventions.arithmetic == "torch"  # found in the table of logits


@settings(max_examples=15, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.data())
def test_exports_of_drawn_networks_come_back(data: st.DataObject) -> None:
    """What is read back gives the bits of what was written; what is not read names its node or layer."""
    rules = data.draw(conventions(arithmetics=("onnxruntime", "released_torch", "keras", "real")))
    network = data.draw(networks(conventions=st.just(rules)))
    x = data.draw(images((2, *network.input_shape)))
    form = data.draw(st.sampled_from(onnx_out.FORMS))
    try:
        wanted = Network.from_data(network).run(x, path="float", outputs="all")
        model = onnx_out.to_model(network, form=form, inlined=form == "float" and data.draw(st.booleans()))
    except RefdesignError:
        return
    try:
        back = imported(model)
    except RefdesignError as error:
        assert re.search(r"^(node|layer) '|batch norms: found|no batch norm|no scale and shift", str(error)), error  # noqa: PT017
        return
    read_on = {layer.name for layer, following in pairwise(network.layers) if isinstance(following, Stage)}
    found = back.run(x, path="float", outputs="all")
    for key, array in found.items():
        name, _, kind = key.partition(".")
        if kind == "bits" and name not in read_on:
            # Bits that nothing reads are in no file; at zero they have the sign that the report says is assumed.
            decided = np.abs(wanted[f"{name}.real"]) > KERAS_ROUND_BOUNDARY
            np.testing.assert_array_equal(array[decided], wanted[key][decided], err_msg=key)
        elif key not in wanted:  # one basis with a scale comes back as a binary layer, whose sums are outputs
            assert key.endswith((".accumulator", ".pooled"))
        elif key != "logits" or form == "folded" or rules.arithmetic in ("onnxruntime", "keras", "released_torch"):
            np.testing.assert_array_equal(array, wanted[key], err_msg=key)


class Plain(nn.Module):
    """A binary network as people write it: modules of PyTorch only, a threshold map by `repeat`, one padding."""

    def __init__(self, sign: Callable[[Any], Any], pad: str) -> None:
        super().__init__()
        self.sign, self.pad = sign, pad
        self.conv1 = nn.Conv2d(2, 4, 3, padding=1 if pad == "zeros" else 0, bias=False)
        self.conv2 = nn.Conv2d(4, 6, (3, 2), stride=(2, 1), bias=False)
        self.pool = nn.MaxPool2d((1, 2))
        self.dense1 = nn.Linear(6 * 4 * 5, 5, bias=False)
        self.dense2 = nn.Linear(5, 3, bias=False)
        self.bn1, self.bn2, self.bn3, self.bn4 = nn.BatchNorm2d(4), nn.BatchNorm2d(6), nn.BatchNorm1d(5), None
        self.threshold = nn.Buffer(torch.rand(1, 2, 3, 2))
        with torch.no_grad():
            for module in (self.conv1, self.conv2, self.dense1, self.dense2):
                module.weight.copy_(torch.where(module.weight >= 0, 1.0, -1.0))
            for norm in (self.bn1, self.bn2, self.bn3):
                nn.init.normal_(norm.weight)
                nn.init.normal_(norm.bias)
                norm.running_mean = torch.randn(norm.num_features) * 3
                norm.running_var = torch.rand(norm.num_features) * 30 + 0.5

    def forward(self, x: Any) -> Any:
        if self.pad != "zeros":
            x = nn.functional.pad(x, (1, 1, 1, 1), mode=self.pad)
        h = self.sign(self.bn1(self.conv1(x)))
        y = self.bn2(self.pool(self.conv2(h)))
        threshold = self.threshold.repeat(1, 3, 2, 3)[:, :, : y.shape[2], : y.shape[3]]
        h = self.sign(y - threshold)
        return self.dense2(self.sign(self.bn3(self.dense1(h.flatten(1)))))


SIGNS: dict[str, tuple[Callable[[Any], Any], int]] = {
    "sign": (torch.sign, 0),
    "where": (lambda z: torch.where(z >= 0, 1.0, -1.0), +1),
    "where_greater": (lambda z: torch.where(z > 0, 1.0, -1.0), -1),
    "where_less": (lambda z: torch.where(z < 0, -1.0, 1.0), +1),
    "cast": (lambda z: (z >= 0).float() * 2 - 1, +1),
    "twice": (lambda z: torch.sign(torch.sign(z) + 0.1), +1),
}


def export(model: nn.Module, example: Any, dynamo: bool, folder: Path) -> Path:
    path = folder / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own, about its own exporters
        if dynamo:
            pytest.importorskip("onnxscript", reason="PyTorch's newer exporter needs onnxscript")
            shapes = ({0: torch.export.Dim("N")},)
            torch.onnx.export(model, (example,), path, dynamo=True, verbose=False, dynamic_shapes=shapes)
        else:
            torch.onnx.export(model, (example,), path, dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "N"}})
    return path


@pytest.mark.parametrize(
    ("spelling", "pad", "dynamo"),
    [(spelling, "zeros", False) for spelling in SIGNS]
    + [("where", "zeros", True), ("sign", "circular", True), ("cast", "reflect", True), ("cast", "replicate", False)],
)
def test_exports_of_pytorch_give_its_bits(spelling: str, pad: str, dynamo: bool, tmp_path: Path) -> None:
    torch.manual_seed(3)
    sign, at_zero = SIGNS[spelling]
    model = Plain(sign, pad).eval()
    bits: dict[str, Any] = {}
    calls = iter(("conv1", "conv2", "dense3"))

    def watched(z: Any) -> Any:
        bits[next(calls)] = result = sign(z)
        return result

    x = np.random.default_rng(4).integers(0, 256, (5, 2, 9, 11), dtype=np.uint8)
    network, report = onnx_in.read(export(model, torch.zeros(2, 2, 9, 11), dynamo, tmp_path))
    model.sign = watched
    with torch.no_grad():
        logits = model(torch.tensor(x).float()).numpy()
    found = Network.from_data(network).run(np.ascontiguousarray(x.transpose(0, 2, 3, 1)), outputs="all")
    for name, expected in bits.items():
        array = expected.numpy()
        np.testing.assert_array_equal(
            found[f"{name}.bits"], array.transpose(0, 2, 3, 1) if array.ndim == 4 else array, err_msg=name
        )
    np.testing.assert_array_equal(found["logits"], logits)
    assert network.conventions.sign_at_zero == at_zero
    second = network.layers[1]
    assert isinstance(second, Stage)
    assert second.kernel is not None
    assert second.kernel.shape == (3, 2, 2)
    assert any("threshold kernel of period 3x2 with 2 slices" in line for line in report.recognised)


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("mode", PADDING_MODES)
def test_the_projects_own_modules_in_every_padding(mode: str, dynamo: bool, tmp_path: Path) -> None:
    from refdesign.frameworks import torch as layers
    from refdesign.parameters import ThresholdKernel

    if dynamo and mode not in ("symmetric", "ones"):
        pytest.skip("the newer exporter is slow; two modes stand for all")
    torch.manual_seed(5)
    kernel = ThresholdKernel(np.arange(12, dtype=np.float32).reshape(2, 3, 2))
    model = nn.Sequential(
        layers.PixelInput(), layers.BinaryConv2d(3, 4, 3, padding=(1, 2), padding_mode=mode), nn.BatchNorm2d(4),
        layers.DeSign(kernel), nn.Flatten(), layers.BinaryLinear(4 * 5 * 9, 2),
    ).eval()  # fmt: skip
    network, _ = onnx_in.read(export(model, torch.zeros(2, 3, 5, 7), dynamo, tmp_path))
    x = np.random.default_rng(6).integers(0, 256, (3, 5, 7, 3), dtype=np.uint8)
    wanted = layers.to_network(model, name="n", input_shape=(5, 7, 3)).run(x, outputs="all")
    found = Network.from_data(network).run(x, outputs="all")
    for mine, theirs in zip(found.values(), wanted.values(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert network.layers[0].padding_mode == mode  # type: ignore[attr-defined]


def graph(*nodes: Any, shape: tuple[Any, ...] = ("N", 1, 4, 5), opset: int = 18, **weights: NDArray[Any]) -> Any:
    """A model of these nodes on the input x, whose output is y."""
    made = helper.make_graph(
        list(nodes), "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)])


CONV = helper.make_node("Conv", ["x", "w"], ["a"], name="conv")
W = np.sign(np.random.default_rng(7).normal(size=(3, 1, 2, 2))).astype(np.float32)


def signed(*more: Any, **weights: Any) -> Any:
    """A convolution and its sign b, and what follows."""
    return graph(CONV, helper.make_node("Sign", ["a"], ["b"]), *more, w=W, **weights)


def node(kind: str, inputs: str, output: str = "y", **attributes: Any) -> Any:
    return helper.make_node(kind, inputs.split(), [output], name="node", **attributes)


ONE = np.ones(3, np.float32)
LATENT = np.where(np.arange(6).reshape(2, 3, 1, 1) == 1, 0.5, 1.0).astype(np.float32)
REFUSED: dict[str, tuple[Any, str]] = {
    "unknown": (graph(CONV, node("Relu", "a"), w=W), r"node 'node' \(Relu\): found Relu, which no layer"),
    "dynamic": (graph(CONV, w=W, shape=("N", 1, "H", 5)), "input 'x': found shape .*dynamic.*export with an example"),
    "opset": (graph(CONV, w=W, opset=99), "opset: found 99, expected 7 to"),
    "latent": (
        signed(node("Conv", "b v"), v=LATENT),
        r"\(Conv\): layer 'conv2': found weights that are not two-valued: output 0 has magnitudes from 0.5 to 1",
    ),
    "quantised": (graph(CONV, node("QuantizeLinear", "a w"), w=W), "node 'node'.*found QuantizeLinear"),
    "missing": (graph(node("Conv", "x none")), "node 'node'.*'none' that nothing computes"),
    "lopsided": (graph(node("Conv", "x w", pads=[0, 0, 1, 1]), w=W), "same before and behind"),
    "statistics": (graph(CONV, node("BatchNormalization", "a g g g"), w=W, g=ONE), "without the four float32 stat"),
    "bits": (graph(CONV, node("Sign", "a"), w=W), "output 'y': found a choice between values of a layer"),
    "residual": (signed(node("Add", "a b")), "node 'node'.*found an operation on a layer's real values"),
    "unprintable": (graph(CONV, node("Gather\n", "a"), w=W), r"operator 'Gather\\n', expected a name in print"),
    "huge": (graph(node("ConstantOfShape", "s"), CONV, w=W, s=np.array([2**20, 2**20])), "elements, expected at most"),
    "padded sums": (graph(CONV, node("Pad", "a p"), w=W, p=np.array([0, 0, 1, 1] * 2)), "found a part of the logits"),
    "part": (
        graph(CONV, node("Gather", "a i", axis=1), w=W, i=np.array([0, 1])), "output 'y': found a part of the logits",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("model", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_match_is_named(model: Any, message: str) -> None:
    with pytest.raises(RefdesignError, match=message) as caught:
        imported(model)
    assert "\n" not in str(caught.value)


BESIDE = "expected a file beside the model"


@pytest.mark.parametrize(
    ("location", "refusal"),
    [
        ("good.bin", None), ("../secret.bin", BESIDE), ("link.bin", BESIDE), ("", BESIDE), (".", BESIDE),
        ("{folder}/good.bin", BESIDE),
        ("none.bin", "cannot be read: No such file or directory"), ("folder", "cannot be read: Is a directory"),
        ("pipe", "found something else than a regular file"), ("short.bin", "found 3 bytes, expected 48 from 0 on"),
    ],
)  # fmt: skip
def test_external_data_stays_in_the_files_folder(location: str, refusal: str | None, tmp_path: Path) -> None:
    folder = tmp_path / "inside"
    (folder / "folder").mkdir(parents=True)
    (tmp_path / "secret.bin").write_bytes(W.tobytes())
    (folder / "good.bin").write_bytes(W.tobytes())
    (folder / "short.bin").write_bytes(b"abc")
    (folder / "link.bin").symlink_to("../secret.bin")
    os.mkfifo(folder / "pipe")
    model = graph(helper.make_node("Conv", ["x", "w"], ["y"], name="c"), w=W)
    stored = model.graph.initializer[0]
    stored.ClearField("raw_data")
    stored.data_location = TensorProto.EXTERNAL
    entry = stored.external_data.add()
    entry.key, entry.value = "location", location.format(folder=folder)
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    if refusal is None:
        assert onnx_in.read(folder / "net.onnx")[0].layers[0].name == "conv1"
        return
    with pytest.raises(RefdesignError, match=f"node 'c' .Conv.: tensor 'w': .*external data.*{refusal}$"):
        onnx_in.read(folder / "net.onnx")


def test_nothing_is_guessed_about_the_batch_axis_or_unread_layers() -> None:
    network = replace(pretrained("digits-sign"), name="n")
    model = onnx_out.to_model(network)
    del model.graph.node[-4:]
    with pytest.raises(RefdesignError, match="output 'logits': found nothing that depends on the image"):
        imported(model)
    buffer = io.BytesIO()
    onnx.save(model, buffer)
    with pytest.raises(RefdesignError, match="truncated or another format"):
        onnx_in.from_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])


@pytest.mark.parametrize("sign_at_zero", [-1, 1])
def test_a_sign_of_zero_that_is_not_in_the_file_is_assumed(sign_at_zero: int) -> None:
    """Integer thresholds do not say what a z of 0 would be signed, and no bit in the file depends on it."""
    network = pretrained("digits")
    network = replace(network, conventions=network.conventions.replace(sign_at_zero=sign_at_zero))
    assumed = "the sign of zero is +1: nothing that the file signs is ever zero"
    _, folded = onnx_in.from_bytes(onnx_out.to_model(network).SerializeToString())
    assert assumed in folded.assumed
    assert not any(line.startswith("sign: ") for line in folded.recognised)
    read, single = onnx_in.from_bytes(onnx_out.to_model(network, form="float").SerializeToString())
    assert assumed not in single.assumed
    assert f"sign: of zero is {sign_at_zero:+d}" in single.recognised
    assert read.conventions.sign_at_zero == sign_at_zero


@pytest.mark.parametrize("form", ["folded", "float"])
@pytest.mark.parametrize("name", pretrained_names())
def test_the_shipped_networks_come_back_under_their_own_arithmetic(name: str, form: str) -> None:
    """The float form spells signs as ONNX Runtime rounds and logits as PyTorch does; the metadata says which."""
    network = pretrained(name)
    model = onnx_out.to_model(network, form=form)
    back = imported(model)
    assert back.conventions.arithmetic == network.conventions.arithmetic
    x = np.random.default_rng(11).integers(0, 256, (20, *network.input_shape)).astype(np.uint8)
    expected = network.run(x, outputs="all")
    for key, array in back.run(x, outputs="all").items():
        np.testing.assert_array_equal(array, expected[key], err_msg=key)
    if form == "float":
        for noted in ("", "[]", "{}", '{"arithmetic": "keras"}', '{"arithmetic": []}', "[" * 100_000):
            del model.metadata_props[:]
            model.metadata_props.add(key="refdesign.conventions", value=noted)
            with pytest.raises(RefdesignError, match="found the programs onnxruntime, torch in one network"):
                imported(model)


def test_the_file_and_the_network_read_from_it_agree_when_run() -> None:
    network = pretrained("digits-2d")
    x = datasets.load("digits", "test")[0][:6]
    model = onnx_out.to_model(network, outputs="all")
    back = imported(onnx_out.to_model(network))
    for key, array in runtime(model, x).items():
        np.testing.assert_array_equal(back.run(x, outputs=[key])[key], array, err_msg=key)
