"""Small ONNX models spelled as other exporters spell them, for tests and for fuzzing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

QONNX = "qonnx.custom_op.general"


def brevitas_model(seed: int = 0) -> Any:
    """Two convolutions and a dense layer as Brevitas 0.13 exports them by `export_qonnx`.

    Weights are latent values in front of `BipolarQuant`, of one scale; activations are `BipolarQuant` behind the batch
    norm; the maps are flattened by a `Reshape` to a fixed batch of 1.

    >>> sorted({node.op_type for node in brevitas_model().graph.node})
    ['BatchNormalization', 'BipolarQuant', 'Conv', 'Gemm', 'MaxPool', 'Reshape']
    """
    rng = np.random.default_rng(seed)
    build = _Graph()
    scale, one = build.constant(np.array([0.1], np.float32)), build.constant(np.array([1.0], np.float32))

    def weights(*shape: int) -> str:
        latent = rng.uniform(-0.1, 0.1, shape).astype(np.float32)
        return build.node("BipolarQuant", build.constant(latent), scale, domain=QONNX)

    x = build.node("Conv", "x", weights(4, 2, 3, 2), kernel_shape=[3, 2])
    x = build.node("BatchNormalization", x, *build.statistics(rng, 4, 100.0), epsilon=1e-5)
    x = build.node("BipolarQuant", x, one, domain=QONNX)
    x = build.node("Conv", x, weights(6, 4, 2, 3), kernel_shape=[2, 3], pads=[1, 0, 1, 0])
    x = build.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = build.node("BatchNormalization", x, *build.statistics(rng, 6, 0.5), epsilon=1e-5)
    x = build.node("BipolarQuant", x, one, domain=QONNX)
    x = build.node("Reshape", x, build.constant(np.array([1, 24], np.int64)))
    build.node("Gemm", x, weights(3, 24), transB=1, output="y")
    return build.model([1, 2, 5, 7], {"": 20, QONNX: 2})


def keras_model(seed: int = 0) -> Any:
    """A convolution with dither and a dense layer as tf2onnx 1.17 writes them: NHWC, and everything constant merged.

    The first batch norm is merged into the convolution, whose sign is spelled as a sum of two casts. The second is
    merged with the threshold map and the released activation's +1 into one constant over the map; the activation is
    then 2*round(max(min(z/2, 1), 0)) - 1.

    >>> sorted({node.op_type for node in keras_model().graph.node})[:4]
    ['Add', 'Cast', 'Conv', 'GreaterOrEqual']
    """
    rng = np.random.default_rng(seed)
    build = _Graph()

    def signs(*shape: int) -> NDArray[np.float32]:
        return np.where(rng.random(shape) < 0.5, np.float32(-1), np.float32(1))

    zero, one, minus, half, two = (build.constant(np.float32(value)) for value in (0, 1, -1, 0.5, 2))
    k = rng.normal(size=(4, 1, 1, 1)).astype(np.float32) / 64
    x = build.node("Transpose", "x", perm=[0, 3, 1, 2])
    c = build.constant(rng.normal(size=4).astype(np.float32))
    x = build.node("Conv", x, build.constant(signs(4, 2, 3, 2) * k), c, kernel_shape=[3, 2])
    fires = build.node("GreaterOrEqual", build.node("Transpose", x, perm=[0, 2, 3, 1]), zero)
    parts = [
        build.node("Mul", build.node("Cast", value, to=1), bit)
        for value, bit in ((fires, one), (build.node("Not", fires), minus))
    ]
    x = build.node("Transpose", build.node("Add", *parts), perm=[0, 3, 1, 2])
    x = build.node("Conv", x, build.constant(signs(6, 4, 2, 3)), kernel_shape=[2, 3], pads=[1, 0, 1, 0])
    x = build.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = build.node("Mul", x, build.constant(rng.normal(size=(1, 6, 1, 1)).astype(np.float32) / 4))
    kernel = np.tile(rng.integers(0, 4, (1, 2, 2, 2)).astype(np.float32) / 4, (1, 3, 1, 1))
    x = build.node("Add", x, build.constant(rng.normal(size=(1, 6, 1, 1)).astype(np.float32) + 1 - kernel))
    limits = [build.constant(np.full((1, 1, 1, 1), value, np.float32)) for value in (1, 0)]
    x = build.node("Max", build.node("Min", build.node("Mul", x, half), limits[0]), limits[1])
    x = build.node("Round", build.node("Transpose", x, perm=[0, 2, 3, 1]))
    x = build.node("Sub", build.node("Mul", two, x), one)
    x = build.node("Reshape", x, build.constant(np.array([-1, 24], np.int64)))
    x = build.node("MatMul", x, build.constant(signs(24, 3)))
    x = build.node("Mul", x, build.constant(rng.normal(size=3).astype(np.float32)))
    build.node("Add", x, build.constant(rng.normal(size=3).astype(np.float32)), output="y")
    return build.model(["N", 5, 7, 2], {"": 15})


class _Graph:
    """Nodes and constants that grow one after the other."""

    def __init__(self) -> None:
        from refdesign.formats.onnx_graph import import_onnx

        self.onnx = import_onnx()
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: NDArray[Any] | np.generic) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(np.asarray(value), name))
        return name

    def statistics(self, rng: np.random.Generator, channels: int, spread: float) -> Sequence[str]:
        """gamma, beta, mean and variance of a batch norm on sums of that spread."""
        gamma, beta, mean = rng.normal(size=(3, channels)).astype(np.float32)
        variance = (rng.uniform(0.5, 2, channels) * spread**2).astype(np.float32)
        return [self.constant(value) for value in (gamma, beta, mean * np.float32(spread), variance)]

    def node(self, kind: str, *inputs: str, output: str | None = None, domain: str = "", **attributes: Any) -> str:
        name = output or f"n{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), [name], name, domain=domain, **attributes))
        return name

    def model(self, shape: Sequence[int | str], opsets: dict[str, int]) -> Any:
        make, floats = self.onnx.helper.make_tensor_value_info, self.onnx.TensorProto.FLOAT
        graph = self.onnx.helper.make_graph(
            self.nodes, "g", [make("x", floats, shape)], [make("y", floats, None)], self.constants
        )
        imports = [self.onnx.helper.make_opsetid(domain, version) for domain, version in opsets.items()]
        return self.onnx.helper.make_model(graph, opset_imports=imports, ir_version=10)
