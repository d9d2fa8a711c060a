"""QONNX goes out where it can say what a network is, is refused where not, and comes in; the package `qonnx` agrees."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")

from onnx import TensorProto, helper, numpy_helper

from refdesign import datasets
from refdesign.api import Network, pretrained
from refdesign.bits import pack_bool
from refdesign.conventions import FINN, RELEASED_TORCH, Conventions
from refdesign.errors import RefdesignError
from refdesign.formats import onnx_in, qonnx_out
from refdesign.models import resnet20
from refdesign.network import BinaryConv2d, BinaryDense, MaxPool, NetworkData, PixelConv2d
from refdesign.parameters import BatchNorm, ThresholdKernel
from tests.channels import random_channels

DOMAIN = "qonnx.custom_op.general"


def network(conventions: Conventions = FINN, *, last: BatchNorm | None = None) -> NetworkData:
    """Channels in every direction and none, a pool, groups, strides, a padding that mirrors, and planted ties."""
    rng = np.random.default_rng(30)
    shapes = ((66, 3, 2, 1), (12, 3, 3, 33), (5, 12 * 3 * 3))
    bits = [pack_bool(rng.random(shape) < 0.5) for shape in shapes]
    first = PixelConv2d(
        name="first", weights=bits[0], multiplier=2, offset=-255, padding=(1, 1), padding_mode="symmetric",
        batch_norm=random_channels(1, 66, 700), kernel=ThresholdKernel(rng.random((1, 1, 33)).astype(np.float32)),
    )  # fmt: skip
    second = BinaryConv2d(
        name="second", weights=bits[1], groups=2, padding=(1, 1), pool=MaxPool(size=(2, 3), stride=(2, 3)),
        batch_norm=random_channels(2, 12, 60),
    )  # fmt: skip
    dense = BinaryDense(name="last", weights=bits[2], batch_norm=last)
    return NetworkData(name="q", input_shape=(7, 8, 1), layers=(first, second, dense), conventions=conventions)


def executed(model: Any, x: Any) -> dict[str, Any]:
    """What the package `qonnx` computes, node by node."""
    pytest.importorskip("qonnx", reason="the package qonnx is not installed")
    from qonnx.core import onnx_exec
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.infer_shapes import InferShapes

    # The newest onnx writes a file version that ONNX Runtime, which executes single nodes there, does not know yet.
    made = onnx_exec.qonnx_make_model
    onnx_exec.qonnx_make_model = functools.partial(made, ir_version=10)
    try:
        wrapped = ModelWrapper(model).transform(InferShapes())
        values: dict[str, Any] = onnx_exec.execute_onnx(wrapped, {"images": x}, return_full_exec_context=True)
    finally:
        onnx_exec.qonnx_make_model = made
    return values


@pytest.mark.filterwarnings("ignore")  # of the package's own
@pytest.mark.parametrize("which", ["digits-sign", "planted"])
def test_the_package_qonnx_computes_the_same_bits(which: str) -> None:
    data = pretrained("digits-sign") if which == "digits-sign" else network(last=random_channels(3, 5, 20))
    reference = Network.from_data(data)
    x = datasets.load("digits", "test")[0][:3]
    if which == "planted":
        x = np.random.default_rng(31).integers(0, 256, (3, 7, 8, 1), dtype=np.uint8)
    wanted = reference.run(x, outputs="all")
    model = qonnx_out.to_model(data)
    for number in range(len(x)):
        found = executed(model, x[number : number + 1].transpose(0, 3, 1, 2).astype(np.float32))
        np.testing.assert_array_equal(found["logits"], wanted["logits"][number : number + 1])
        for layer in data.layers[:-1]:
            bits = found[f"{layer.name}/bits"]
            bits = bits.transpose(0, 2, 3, 1) if bits.ndim == 4 else bits
            np.testing.assert_array_equal(bits, wanted[f"{layer.name}.bits"][number : number + 1], err_msg=layer.name)


@pytest.mark.parametrize("arithmetic", ["onnxruntime", "torch", "released_torch", "real"])
def test_what_goes_out_comes_back(arithmetic: str) -> None:
    rng = np.random.default_rng(34)
    gamma, beta, mean = rng.normal(size=(3, 5)).astype(np.float32)
    last = None if arithmetic == "real" else BatchNorm(gamma, beta, mean * 20, rng.random(5).astype(F) * 300 + 1, 1e-5)
    data = network(FINN.replace(arithmetic=arithmetic), last=last)
    x = np.random.default_rng(32).integers(0, 256, (5, 7, 8, 1), dtype=np.uint8)
    wanted = Network.from_data(data).run(x, outputs="all")
    model = qonnx_out.to_model(data)
    assert {node.op_type for node in model.graph.node if node.domain} == {"BipolarQuant", "MultiThreshold"}
    found = Network.from_data(onnx_in.from_bytes(model.SerializeToString())[0]).run(x, outputs="all")
    for key, array in wanted.items():
        if not key.endswith((".accumulator", ".pooled")):  # negated where a channel fires below its threshold
            np.testing.assert_array_equal(found[key], array, err_msg=key)


def test_what_qonnx_cannot_say_is_refused(tmp_path: Path) -> None:
    kernel = ThresholdKernel(np.array([[0.0, 3.0], [9.0, 1.0]], np.float32))
    data = network()
    first, second, last = data.layers
    for layers, message in (
        ((replace(first, kernel=kernel), second, last), r"'first', kernel: found thresholds that vary .* period 2x2"),  # type: ignore[call-arg]
    ):
        with pytest.raises(RefdesignError, match=message):
            qonnx_out.to_model(replace(data, layers=layers))
    with pytest.raises(RefdesignError, match=r"'second': found sums that give 0 \(sign_at_zero 0\) in \d+ channels"):
        qonnx_out.to_model(network(FINN.replace(sign_at_zero=0)))
    residual = resnet20(classes=3, conventions=RELEASED_TORCH)
    with pytest.raises(RefdesignError, match=r"a.onnx: not written: layer 'layer1_0_conv1': found bina"):
        qonnx_out.write(residual, tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


W = np.where(np.random.default_rng(33).random((3, 2, 3, 2)) < 0.5, np.float32(-1), np.float32(1))


def graph(*nodes: Any, **constants: Any) -> bytes:
    made = helper.make_graph(
        list(nodes), "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", 2, 5, 6))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in {"w": W, **constants}.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1)]
    return bytes(helper.make_model(made, opset_imports=opsets).SerializeToString())


def node(kind: str, inputs: str, output: str, domain: str = DOMAIN, **attributes: Any) -> Any:
    return helper.make_node(kind, inputs.split(), [output], name=output, domain=domain, **attributes)


CONV = node("Conv", "x w", "a", domain="")
LAST = node("Conv", "b v", "y", domain="")
V = np.ones((2, 3, 1, 2), np.float32)
F = np.float32


@pytest.mark.parametrize(
    ("quantiser", "constants", "message"),
    [
        ((), {"s": F(1), "z": F(0), "k": F(4)}, r"'b' \(Quant\): found a quantiser of 4 bits, values -8 to 7: act"),
        ((("signed", 0),), {"s": F(0.3), "z": F(0), "k": F(1)}, "found a quantiser to 0 and 1 of scale 0.3"),
        ((("signed", 0),), {"s": F(1), "z": F(0), "k": F(1)}, "found activations of 0, 1, expected -s and s"),
        ((), {"s": F(1), "z": F(0), "k": F(0.5)}, "found a bit width of 0.5, expected a whole number"),
        ((("signed", 0), ("rounding_mode", "FLOOR")), {"s": F(1), "z": F(0), "k": F(1)}, "a rounding mode that is not"),
    ],
)
def test_quantised_types_that_are_not_binary(quantiser: Any, constants: Any, message: str) -> None:
    quant = node("Quant", "a s z k", "b", **dict(quantiser))
    with pytest.raises(RefdesignError, match=message):
        onnx_in.from_bytes(graph(CONV, quant, LAST, v=V, **constants))


def test_several_thresholds_and_quantised_weights_that_are_not_binary() -> None:
    steps = node("MultiThreshold", "a t", "b")
    with pytest.raises(RefdesignError, match=r"thresholds of shape \(3, 3\), expected \(C, 1\): one for a binary"):
        onnx_in.from_bytes(graph(CONV, steps, LAST, v=V, t=np.ones((3, 3), np.float32)))
    weights = node("Quant", "v s z k", "q", signed=1, narrow=1, rounding_mode="ROUND")
    constants = {"s": F(0.5), "z": F(0), "k": F(3), "v": np.linspace(-1.6, 1.4, 12, dtype=F).reshape(2, 3, 1, 2)}
    sign, last = node("Sign", "a", "b", domain=""), node("Conv", "b q", "y", domain="")
    model = graph(CONV, sign, weights, last, **constants)
    with pytest.raises(RefdesignError, match=r"\(Conv\): layer 'conv2': .*output 0 has magnitudes from 0 to 1.5"):
        onnx_in.from_bytes(model)


def test_one_bit_weights_by_quant_are_read() -> None:
    """Signed narrow Quant of two bits on weights that only take two of its values."""
    weights = node("Quant", "v s z k", "q", signed=1, narrow=1, rounding_mode="ROUND")
    values = np.where(np.arange(12).reshape(2, 3, 1, 2) % 5 < 2, F(-0.7), F(0.6))
    model = graph(
        CONV, node("Sign", "a", "b", domain=""), weights, node("Conv", "b q", "y", domain=""),
        s=F(0.5), z=F(0), k=F(2), v=values,
    )  # fmt: skip
    read, report = onnx_in.from_bytes(model)
    assert [layer.kind for layer in read.layers] == ["pixel_conv2d", "binary_conv2d"]
    assert any(line.startswith("conv2: its weights are ±s") for line in report.assumed)
