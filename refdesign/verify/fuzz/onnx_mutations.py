"""The parts of an ONNX model changed one by one."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
_ATTRIBUTES: dict[str, tuple[Any, ...]] = {
    "axis": (0, 1, 2, 3, -1, 9), "axes": ([0], [1], [2, 3], [1, 2], [9]), "keepdims": (0, 1),
    "perm": ([0, 2, 3, 1], [0, 3, 1, 2], [0, 1, 3, 2], [1, 0]), "to": (1, 6, 7, 8, 9, 11, 99),
    "kernel_shape": ([1, 1], [2, 2], [3, 3], [2]), "strides": ([1, 1], [2, 2], [2, 1]), "dilations": ([1, 1], [2, 2]),
    "pads": ([0, 0, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0], [0, 1], [2**31] * 4), "group": (1, 2, 3), "ceil_mode": (0, 1),
    "auto_pad": ("VALID", "SAME_UPPER"), "mode": ("constant", "reflect", "edge", "wrap"), "transB": (0, 1),
    "epsilon": (1e-5, 0.0), "num_outputs": (2, 2**40), "min": (-1.0,), "max": (1.0,), "signed": (0, 1),
    "training_mode": (1,), "value_float": (1.0,), "value_int": (1,), "value_ints": ([2, 2],), "value_string": ("a",),
    "origin": ([0, 0], [1, 2], [1]), "channel_repeat": (1, 2, 0), "boundary": (0.0, 1e-7), "sign_at_boundary": (0, 1),
    "data_layout": ("NCHW", "NHWC", "NC"), "out_scale": (1.0, 2.0), "out_bias": (-1.0, 0.0), "exclusive": (1,),
}  # fmt: skip
"""Attributes of operators that readers know, with values."""


def _node(rng: random.Random, graph: Any, model: Any) -> None:
    node = rng.choice(graph.node)
    kind = rng.randrange(5)
    if kind == 0:
        node.domain, node.op_type = rng.choice(_operators())
    elif kind == 1:
        graph.node.remove(node)
    elif kind == 2:
        graph.node.add().CopyFrom(node)
    elif kind == 3:
        node.domain = rng.choice(("", "org.refdesign", "x"))
    else:
        node.input.append(rng.choice(_names(graph)))


def _insert(rng: random.Random, graph: Any, model: Any) -> None:
    """A new node between a tensor and one that reads it, with fitting inputs more often than not."""
    import onnx

    readers = [(at, place) for at, node in enumerate(graph.node) for place, name in enumerate(node.input) if name]
    if not readers:
        return
    at, place = rng.choice(readers)
    made = f"new{len(graph.node)}"
    more = []
    for index in range(rng.choice((0, 1, 1, 1, 2, 3, 4))):
        if rng.random() < 0.3:
            more.append(rng.choice(_names(graph)))
            continue
        graph.initializer.append(onnx.numpy_helper.from_array(_constant(rng), f"{made}_{index}"))
        more.append(f"{made}_{index}")
    inputs = [graph.node[at].input[place], *more]
    if rng.random() < 0.2:
        rng.shuffle(inputs)
    domain, kind = rng.choice(_operators())
    names = rng.sample(sorted(_ATTRIBUTES), rng.choice((0, 0, 1, 2)))
    attributes = {name: rng.choice(_ATTRIBUTES[name]) for name in names}
    graph.node[at].input[place] = made
    behind = list(graph.node)[at:]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in behind]
    del graph.node[at:]
    graph.node.extend([onnx.helper.make_node(kind, inputs, [made], domain=domain, **attributes), *copies])


def _constant(rng: random.Random) -> NDArray[Any]:
    """A small constant such as operators take."""
    if rng.random() < 0.4:
        values = rng.choice(([0], [1], [-1], [0, 0, 1, 1] * 2, [1, -1], [0, 2, 3, 1], [2], [1, 1, 1, 1], [2**40], []))
        array: NDArray[Any] = np.array(values, np.int64)
        return array.reshape(()) if len(values) == 1 and rng.random() < 0.5 else array
    channels = rng.choice((1, 2, 3, 4, 6))
    shape = rng.choice(((), (1,), (channels,), (channels, 1, 1), (1, channels, 1, 1), (channels, channels)))
    value = rng.choice((0.0, 1.0, -1.0, 0.5, 2.0, None))
    drawn = [rng.choice((-1.0, 1.0, 0.25, 3.0)) if value is None else value for _ in range(math.prod(shape))]
    return np.array(drawn, rng.choice((np.float32, np.float32, np.float64, np.int32, np.bool_))).reshape(shape)


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
        entry.name = rng.choice(sorted(_ATTRIBUTES))


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


@cache
def _operators() -> list[tuple[str, str]]:
    """Domain and name of every operator that the readers know, and of two that they do not."""
    from refdesign.formats.onnx_constants import COMPUTING
    from refdesign.formats.onnx_nodes import HANDLERS

    known = sorted({*HANDLERS, *COMPUTING, "Relu", "If"})
    return [(domain, kind) for domain, _, kind in (key.rpartition(".") for key in known)]


def _names(graph: Any) -> list[str]:
    names = [name for node in graph.node for name in node.output] + [proto.name for proto in graph.initializer]
    return [*names, "images", "", "x"]


_CHANGES: tuple[Callable[[random.Random, Any, Any], None], ...] = (
    _node, _insert, _insert, _wire, _attribute, _tensor, _frame,
)  # fmt: skip
