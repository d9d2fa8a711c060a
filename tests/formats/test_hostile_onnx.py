"""Small ONNX files whose constants, shapes or chains would take memory or time without end, or read other files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")

from onnx import TensorProto, helper, numpy_helper

from refdesign.errors import RefdesignError
from refdesign.formats import onnx_in

ONE = np.ones((1, 1, 1, 1), np.float32)


def node(kind: str, inputs: str, output: str = "y", **attributes: Any) -> Any:
    return helper.make_node(kind, inputs.split(), [output], name=output, **attributes)


def model(*nodes: Any, opset: int = 18, shape: tuple[int, ...] = (1, 1, 8, 9), **constants: Any) -> bytes:
    made = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    return bytes(helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)]).SerializeToString())


def valued(kind: int, name: str = "value", **fields: Any) -> Any:
    """A `ConstantOfShape` whose attribute is put together by hand."""
    made = node("ConstantOfShape", "s")
    entry = made.attribute.add()
    entry.name, entry.type = name, kind
    for field, value in fields.items():
        getattr(entry, field).CopyFrom(value)
    return made


def elsewhere(location: str) -> TensorProto:
    proto = TensorProto(name="v", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
    entry = proto.external_data.add()
    entry.key, entry.value = "location", location
    return proto


SHAPE = np.array([2])
CONV = node("Conv", "x w", "t0")
CASES: dict[str, tuple[Callable[[], bytes], str]] = {
    "a constant from another file": (lambda: model(valued(4, t=elsewhere("beside.bin")), s=SHAPE), "external data"),
    "a constant larger than its values": (
        lambda: model(valued(4, t=TensorProto(name="v", data_type=1, dims=[2**20], float_data=[1])), s=SHAPE),
        "found 4 bytes, expected 4194304",
    ),
    "a sparse constant": (lambda: model(valued(11), s=SHAPE), "attribute 'value' of type 11, expected numbers"),
    "texts": (lambda: model(node("Constant", "", value_string="a")), "something else than numbers"),
    "numbers as texts": (lambda: model(node("Cast", "s", to=8), s=SHAPE), "a cast to type 8"),
    "pads of old": (lambda: model(node("Pad", "s", pads=[0, 2**31]), opset=9, s=SHAPE), "2147483649 elements"),
    "parts without end": (lambda: model(node("Split", "s", num_outputs=2**40), s=SHAPE), "1099511627776 elements"),
    "axes without end": (lambda: model(node("Unsqueeze", "s a"), s=SHAPE, a=np.arange(129)), "more than 128 axes"),
    "inputs without end": (lambda: model(node("Max", "s " * 40), s=np.zeros(1 << 21)), "83886080 elements"),
    "a tensor of a million axes": (
        lambda: model(node("Mul", "x s"), s=np.ones((1,) * 33, np.float32)), "found 33 axes, expected at most 32",
    ),
    "an empty tensor of any extents": (
        lambda: model(valued(4, t=TensorProto(name="v", data_type=1, dims=[0, 2**62, 2**62])), s=SHAPE), "that fit",
    ),
    "a zero point that enlarges": (
        lambda: model(
            helper.make_node("Quant", ["a", "b", "z", "n"], ["y"], domain="qonnx.custom_op.general"),
            a=np.ones((1, 1, 9), np.float32), b=np.float32(1), z=np.zeros((7, 5, 1), np.float32), n=np.float32(2),
        ),
        "zero point that enlarges",
    ),
    "a name twice": (lambda: model(CONV, node("Relu", "t0", "t0"), w=ONE), "tensor 't0': found it 2 times"),
    "a constant's name again": (lambda: model(CONV, node("Relu", "t0", "w"), w=ONE), "tensor 'w': found it 2 times"),
    "a chain of sums": (
        lambda: model(CONV, node("Add", "t0 t0", "t1"), *(node("Add", f"t{i} t0", f"t{i + 1}") for i in range(1, 5000)),
                      w=ONE),
        "a sum of more than 4096 maps",
    ),
    "more nodes than a network has": (
        lambda: model(*(node("Mul", "x w", f"t{i}") for i in range(40_000)), w=ONE), "found 40000 nodes",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("made", "message"), CASES.values(), ids=CASES)
def test_refused(made: Callable[[], bytes], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "beside.bin").write_bytes(b"ABCD")
    with pytest.raises(RefdesignError, match=message):
        onnx_in.from_bytes(made())


@pytest.mark.parametrize(
    "nodes",
    [
        [node("ConstantOfShape", "s", f"c{number}") for number in range(6)],
        [node("Transpose", "x" if number == 0 else f"t{number - 1}", f"t{number}") for number in range(15)],
    ],
    ids=["constants", "maps"],
)
def test_the_tensors_of_a_graph_are_bounded_together(nodes: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_in, "LARGEST_WALK", 5 * 200)
    with pytest.raises(RefdesignError, match="found tensors of more than 1000 elements in all"):
        onnx_in.from_bytes(model(*nodes, s=np.array([200])))


def test_layers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_in, "MOST_LAYERS", 3)
    with pytest.raises(RefdesignError, match=r"node 't3'.*found more than 3 layers"):
        onnx_in.from_bytes(model(*(node("Conv", "x w", f"t{number}") for number in range(5)), w=ONE))


def test_padding_of_many_channels_is_no_bomb() -> None:
    """As a shortcut of ResNet pads its channels; every axis grows by its own pads, not by all of them."""
    pads = np.array([0, 128, 0, 0, 0, 128, 0, 0])
    with pytest.raises(RefdesignError, match="output 'y': found a part of the logits"):
        onnx_in.from_bytes(model(node("Conv", "x w", "t0"), node("Pad", "t0 p"), w=np.ones((256, 1, 1, 1), np.float32),
                                 p=pads))  # fmt: skip


def test_constants_that_overflow_warn_of_nothing() -> None:
    nodes = (node("Mul", "x big", "once"), node("Mul", "once big", "twice"), node("Conv", "twice one"))
    with pytest.raises(RefdesignError, match="node 'y'"):
        onnx_in.from_bytes(model(*nodes, big=np.float32(3e38), one=ONE))
