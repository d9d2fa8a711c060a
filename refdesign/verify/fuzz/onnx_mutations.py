"""The parts of an ONNX model changed one by one."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any


def mutate_model(rng: random.Random, data: bytes) -> bytes:
    """An ONNX model with a few of its parts changed; still a valid message.

    Args:
        rng: decides.
        data: a valid model.
    """
    import onnx

    model = onnx.ModelProto.FromString(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        rng.choice(_CHANGES)(rng, model.graph, model)
    return bytes(model.SerializeToString())


_INTEGERS = (0, 1, -1, 2, 3, 7, 64, 65_536, 2**31 - 1, -(2**31), 2**62, -(2**63))
_OPERATORS = (
    "Conv", "Gemm", "MatMul", "Add", "Sub", "Mul", "Div", "Sign", "Where",
    "Pad", "Reshape", "Concat", "Gather", "Slice", "Transpose", "Tile", "Expand", "Range",
    "Cast", "MaxPool", "BatchNormalization", "Flatten", "Identity", "Relu", "If", "ConstantOfShape", "Shape",
    "Clip", "Round", "Greater", "Less", "Not", "Squeeze", "Unsqueeze", "Split",
)  # fmt: skip


def _node(rng: random.Random, graph: Any, model: Any) -> None:
    node = rng.choice(graph.node)
    kind = rng.randrange(5)
    if kind == 0:
        node.op_type = rng.choice(_OPERATORS)
    elif kind == 1:
        graph.node.remove(node)
    elif kind == 2:
        graph.node.add().CopyFrom(node)
    elif kind == 3:
        node.domain = rng.choice(("", "org.refdesign", "x"))
    else:
        node.input.append(rng.choice(_names(graph)))


def _wire(rng: random.Random, graph: Any, model: Any) -> None:
    node = rng.choice(graph.node)
    side = rng.choice((node.input, node.output))
    if not side:
        return
    if rng.random() < 0.2:
        del side[rng.randrange(len(side))]
    else:
        side[rng.randrange(len(side))] = rng.choice(_names(graph))


def _attribute(rng: random.Random, graph: Any, model: Any) -> None:
    nodes = [node for node in graph.node if node.attribute]
    if not nodes:
        return
    entry = rng.choice(rng.choice(nodes).attribute)
    entry.i = rng.choice(_INTEGERS)
    if entry.ints and rng.random() < 0.7:
        entry.ints[rng.randrange(len(entry.ints))] = rng.choice(_INTEGERS)
    elif rng.random() < 0.3:
        entry.type = rng.randrange(15)
    else:
        entry.name = rng.choice(("axis", "pads", "strides", "group", "perm", "to", "origin", "mode"))


def _tensor(rng: random.Random, graph: Any, model: Any) -> None:
    if not graph.initializer:
        return
    proto = rng.choice(graph.initializer)
    kind = rng.randrange(5)
    if kind == 0 and proto.dims:
        proto.dims[rng.randrange(len(proto.dims))] = rng.choice(_INTEGERS)
    elif kind == 1:
        proto.data_type = rng.randrange(24)
    elif kind == 2:
        proto.raw_data = rng.randbytes(len(proto.raw_data))
    elif kind == 3:
        proto.raw_data = proto.raw_data[: rng.randrange(len(proto.raw_data) + 1)]
    else:
        proto.data_location = 1
        entry = proto.external_data.add()
        entry.key, entry.value = "location", rng.choice(("../x", "/etc/hostname", "", "\0", "x"))


def _frame(rng: random.Random, graph: Any, model: Any) -> None:
    if rng.random() < 0.3 and model.opset_import:
        model.opset_import[0].version = rng.choice((*_INTEGERS, 7, 11, 13, 26))
    elif graph.input:
        dims = graph.input[0].type.tensor_type.shape.dim
        if dims:
            rng.choice(dims).dim_value = rng.choice(_INTEGERS)


def _names(graph: Any) -> list[str]:
    names = [name for node in graph.node for name in node.output] + [proto.name for proto in graph.initializer]
    return [*names, "images", "", "x"]


_CHANGES: tuple[Callable[[random.Random, Any, Any], None], ...] = (_node, _wire, _attribute, _tensor, _frame)
