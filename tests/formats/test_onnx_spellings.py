"""Networks spelled in many ways: what is read gives the logits that ONNX Runtime gives, ties included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")

from onnx import TensorProto, helper, numpy_helper

from refdesign.api import Network
from refdesign.errors import RefdesignError
from refdesign.formats import onnx_in
from refdesign.network import Stage
from refdesign.verify.fuzz.onnx_models import brevitas_model, keras_model
from tests.formats.onnx_runs import LEVELS, runtime


def f32(values: Any) -> NDArray[np.float32]:
    return np.array(values, np.float32)


RNG = np.random.default_rng(20)
W1, W2 = (np.where(RNG.random(shape) < 0.5, np.float32(-1), np.float32(1)) for shape in ((6, 2, 3, 2), (3, 6, 3, 4)))
PIXELS = RNG.integers(0, 4, (9, 2, 7, 11)).astype(np.float32)
"""Few values, so that sums meet their thresholds often."""


class Graph:
    """Nodes by the names of their outputs; constants where an input is no name."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def __call__(self, kind: str, *inputs: Any, **attributes: Any) -> str:
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, names, [name], name, **attributes))
        return name

    def constant(self, value: Any) -> str:
        array = np.asarray(value, np.float32) if isinstance(value, (int, float)) else np.asarray(value)
        self.constants.append(numpy_helper.from_array(array, f"c{len(self.constants)}"))
        return str(self.constants[-1].name)

    def model(self, output: str, shape: tuple[Any, ...] = ("N", 2, 7, 11), opset: int = 18) -> Any:
        graph = helper.make_graph(
            self.nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)], self.constants,
        )  # fmt: skip
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


Build = Callable[[Graph, str], str]
"""Nodes behind a map's name."""


def network(between: Build) -> Any:
    """Two convolutions with something between them that ends in bits (N, 6, 5, 10) or smaller."""
    graph = Graph()
    bits = between(graph, graph("Conv", "x", W1))
    return graph.model(graph("Conv", bits, W2))


def check(model: Any, x: NDArray[np.float32] = PIXELS, **options: Any) -> tuple[Network, Any]:
    """The network read from a model, after comparing its logits with ONNX Runtime's, node by node."""
    data, report = onnx_in.from_bytes(model.SerializeToString(), **options)
    read = Network.from_data(data)
    wanted = runtime(model, x, LEVELS.ORT_DISABLE_ALL)
    images = np.ascontiguousarray(x.transpose(0, 2, 3, 1).astype(np.uint8))
    found = read.run(images)["logits"]
    (expected,) = wanted.values()
    np.testing.assert_array_equal(found, expected.transpose(0, 2, 3, 1) if expected.ndim == 4 else expected)
    return read, report


K = f32([0.5, -0.25, 1.5, -2.0, 0.125, 0.75]).reshape(6, 1, 1)
C = f32([1.0, 0.5, -3.0, 2.0, 0.0, -0.75]).reshape(6, 1, 1)


def affine(g: Graph, a: str) -> str:
    return g("Add", g("Mul", a, K), C)


SIGNS: dict[str, Build] = {
    "Sign": lambda g, z: g("Sign", z),
    "where >=": lambda g, z: g("Where", g("GreaterOrEqual", z, 0.0), 1.0, -1.0),
    "where >": lambda g, z: g("Where", g("Greater", z, 0.0), 1.0, -1.0),
    "where <": lambda g, z: g("Where", g("Less", z, 0.0), -1.0, 1.0),
    "where <=, turned": lambda g, z: g("Where", g("LessOrEqual", z, 0.0), 1.0, -1.0),
    "constant first": lambda g, z: g("Where", g("Less", 0.0, z), 1.0, -1.0),
    "not": lambda g, z: g("Where", g("Not", g("Less", z, 0.0)), 1.0, -1.0),
    "cast": lambda g, z: g("Sub", g("Mul", g("Cast", g("GreaterOrEqual", z, 0.0), to=1), 2.0), 1.0),
    "two casts": lambda g, z: g(
        "Sub", g("Cast", g("Greater", z, 0.0), to=1), g("Cast", g("LessOrEqual", z, 0.0), to=1)
    ),
    "nested": lambda g, z: g(
        "Where", g("Greater", z, 0.0), 1.0, g("Where", g("Less", z, 0.0), -1.0, 0.0)
    ),
    "sign of shifted sign": lambda g, z: g("Sign", g("Add", g("Sign", z), 0.5)),
    "sign + is zero": lambda g, z: g("Add", g("Sign", z), g("Cast", g("Equal", z, 0.0), to=1)),
    "clamped first": lambda g, z: g("Sign", g("Clip", z, -1.0, 1.0)),
    "clamp of sign": lambda g, z: g("Clip", g("Mul", g("Sign", z), 3.0), -1.0, 1.0),
    "Keras": lambda g, z: g(
        "Sub", g("Mul", g("Round", g("Clip", g("Div", g("Add", z, 1.0), 2.0), 0.0, 1.0)), 2.0), 1.0
    ),
    "hard sigmoid": lambda g, z: g(
        "Sub", g("Mul", 2.0, g("Round", g("Clip", g("Add", g("Mul", z, 0.5), 0.5), 0.0, 1.0))), 1.0
    ),
    "max and min": lambda g, z: g(
        "Sub", g("Mul", 2.0, g("Round", g("Max", g("Min", g("Mul", g("Add", z, 1.0), 0.5), 1.0), 0.0))), 1.0
    ),
    "scaled bits": lambda g, z: g("Where", g("GreaterOrEqual", z, 0.0), 0.25, -0.25),
    "thresholds per channel": lambda g, z: g("Where", g("GreaterOrEqual", z, C), 1.0, -1.0),
    "two ranges": lambda g, z: g("Where", g("And", g("Less", z, 2.0), g("Less", z, 0.5)), -1.0, 1.0),
    "direction per channel": lambda g, z: g("Where", K > 0, g("Sign", z), g("Neg", g("Sign", z))),
}  # fmt: skip


@pytest.mark.parametrize("spelling", SIGNS)
def test_signs(spelling: str) -> None:
    read, report = check(network(lambda g, a: SIGNS[spelling](g, affine(g, a))))
    assert [layer.kind for layer in read.layers] == ["pixel_conv2d", "binary_conv2d"]
    assert any(line.startswith("sign:") for line in report.recognised)


T = f32([[[0.0, 0.5, 1.0], [1.5, -0.5, 2.0]], [[2.5, 3.0, 0.25], [-1.0, 0.75, 1.25]]])
"""A period of 2 slices, 2 rows, 3 columns."""
OVER_MAP = np.tile(T, (3, 3, 4))[:, :5, :10]
MAPS: dict[str, tuple[Callable[[Graph], Any], tuple[int, int, int], str]] = {
    "constant": (lambda g: OVER_MAP[np.newaxis], (2, 3, 2), "tile"),
    "tiled and cut": (
        lambda g: g("Slice", g("Tile", T[np.newaxis], np.array([1, 3, 3, 4])), np.array([0, 0]), np.array([5, 10]),
                    np.array([2, 3])), (2, 3, 2), "tile",
    ),
    "expanded": (
        lambda g: g("Slice", g("Reshape", g("Expand", T.reshape(1, 1, 2, 1, 2, 1, 3), np.array([1, 3, 2, 3, 2, 4, 3])),
                               np.array([1, 6, 6, 12])), np.array([0, 0]), np.array([5, 10]), np.array([2, 3])),
        (2, 3, 2), "tile",
    ),
    "gathered": (
        lambda g: g("Gather", g("Gather", OVER_MAP[:2, :2, :3], np.arange(5) % 2, axis=1), np.arange(10) % 3, axis=2),
        (2, 3, 2), "tile",
    ),
    "repeated slices": (lambda g: np.repeat(OVER_MAP[:2], 3, axis=0), (2, 3, 2), "repeat"),
    "one row": (lambda g: OVER_MAP[:1, :1], (1, 3, 1), "tile"),
    "another phase": (lambda g: np.roll(OVER_MAP, (1, 2), (1, 2))[:, :5, :10], (2, 3, 2), "tile"),
}  # fmt: skip


@pytest.mark.parametrize("spelling", MAPS)
def test_periodic_maps(spelling: str) -> None:
    make, period, channel_map = MAPS[spelling]

    def between(g: Graph, a: str) -> str:
        values = make(g)
        if isinstance(values, np.ndarray) and values.shape[-3:] == (2, 5, 10):
            values = np.tile(values, (3, 1, 1))
        return g("Sign", g("Sub", affine(g, a), values))

    if spelling == "gathered":
        inner = make

        def make(g: Graph) -> Any:  # two slices for six channels
            return g("Gather", inner(g), np.arange(6) % 2, axis=0)

    read, report = check(network(between))
    first = read.layers[0]
    assert isinstance(first, Stage)
    assert first.kernel is not None
    if spelling != "another phase":
        assert first.kernel.shape == period
    assert read.conventions.channel_map == channel_map
    assert any(f"period {first.kernel.shape[0]}x{first.kernel.shape[1]}" in line for line in report.recognised)


POOLS: dict[str, Build] = {
    "behind the sums": lambda g, a: g("Sign", affine(g, pool(g, a))),
    "behind the batch norm": lambda g, a: g("Sign", pool(g, affine(g, a))),
    "behind the sign": lambda g, a: pool(g, g("Where", g("Greater", affine(g, a), 0.0), 1.0, -1.0)),
    "behind a node of batch norm": lambda g, a: g(
        "Sign", pool(g, g("BatchNormalization", a, K.ravel(), C.ravel(), C.ravel(), np.abs(K.ravel()), epsilon=1e-3))
    ),
}


def pool(g: Graph, value: str) -> str:
    return g("MaxPool", value, kernel_shape=[2, 3], strides=[1, 2])


@pytest.mark.parametrize("place", POOLS)
def test_a_pool_moves_in_front_of_what_rises_or_falls(place: str) -> None:
    graph = Graph()
    bits = POOLS[place](graph, graph("Conv", "x", W1))
    read, _ = check(graph.model(graph("Conv", bits, W2[:, :, :2])))
    first = read.layers[0]
    assert isinstance(first, Stage)
    assert first.pool is not None
    assert first.pool.size == (2, 3)


def test_a_pool_behind_a_threshold_map_is_refused() -> None:
    model = network(lambda g, a: pool(g, g("Sign", g("Sub", a, np.tile(OVER_MAP[:2], (3, 1, 1))))))
    with pytest.raises(RefdesignError, match=r"\(MaxPool\): found a max pool behind a threshold map, which does not"):
        onnx_in.from_bytes(model.SerializeToString())


def test_bases_of_a_convolution_become_one_layer() -> None:
    graph = Graph()
    bits = graph("Sign", affine(graph, graph("Conv", "x", W1)))
    scales = [RNG.random((3, 1, 1)).astype(np.float32) for _ in range(3)]
    total = ""
    for number, scale in enumerate(scales):
        term = graph("Mul", graph("Conv", bits, np.roll(W2, number, axis=1)), scale)
        total = graph("Add", total, term) if total else term
    read, _ = check(graph.model(graph("Mul", total, f32([2.0, 1.0, -1.0]).reshape(3, 1, 1))))
    assert read.layers[1].kind == "combined_conv2d"
    assert len(read.layers[1].weights) == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("seed", range(3))
def test_models_spelled_as_brevitas_and_keras_export_them(seed: int) -> None:
    x = np.random.default_rng(seed).integers(0, 256, (1, 2, 5, 7)).astype(np.float32)
    for make, layout in ((brevitas_model, x), (keras_model, x.transpose(0, 2, 3, 1))):
        model = make(seed)
        read = Network.from_data(onnx_in.from_bytes(model.SerializeToString())[0])
        found = read.run(np.ascontiguousarray(x.transpose(0, 2, 3, 1)).astype(np.uint8))["logits"]
        if make is keras_model:  # ONNX Runtime knows no BipolarQuant
            (wanted,) = runtime(model, layout, LEVELS.ORT_DISABLE_ALL).values()
            np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_normalised_pixels_move_behind_integer_sums() -> None:
    mean, scale = f32([0.4914, 0.4465]).reshape(2, 1, 1), np.float32(1 / 255)
    graph = Graph()
    x = graph("Div", graph("Sub", graph("Mul", "x", scale), mean), 0.247)
    bits = graph("Sign", affine(graph, graph("Conv", x, W1)))
    model = graph.model(graph("Conv", bits, W2))
    read, report = check(model)
    first = read.layers[0]
    assert isinstance(first, Stage)
    assert first.batch_norm is not None
    assert first.batch_norm.affine is not None
    assert read.conventions.arithmetic == "real"
    assert any("normalisation of pixels (mul, sub, div)" in line for line in report.assumed)
    with pytest.raises(RefdesignError, match="found 'torch', expected 'real': the first layer's pixels"):
        onnx_in.from_bytes(model.SerializeToString(), arithmetic="torch")


def test_a_real_first_layer_reads_what_one_scale_and_shift_give() -> None:
    real = RNG.normal(size=W1.shape).astype(np.float32)
    scale, shift = f32([0.01, 0.02]).reshape(2, 1, 1), f32([-0.5, 0.25]).reshape(2, 1, 1)
    graph = Graph()
    x = graph("Add", graph("Mul", "x", scale), shift)
    bits = graph("Sign", affine(graph, graph("Conv", x, real)))
    read, _ = check(graph.model(graph("Conv", bits, W2)))
    assert read.layers[0].kind == "real_conv2d"
    graph = Graph()
    x = graph("Div", graph("Sub", graph("Div", "x", 255.0), scale), 0.25)
    model = graph.model(graph("Conv", graph("Sign", graph("Conv", x, real)), W2))
    with pytest.raises(RefdesignError, match=r"'conv1': found pixels after div, sub, div, each rounded; one mult"):
        onnx_in.from_bytes(model.SerializeToString())


@pytest.mark.parametrize("pairs", [[(2.0, -255.0)], [(2.0, -255.0), (2.0, -255.0)]])
def test_pixels_that_are_scaled_before_the_graph(pairs: list[tuple[float, float]]) -> None:
    model = network(lambda g, a: g("Sign", affine(g, a)))
    read = Network.from_data(onnx_in.from_bytes(model.SerializeToString(), pixels=pairs)[0])
    first = read.layers[0]
    assert (first.multiplier, first.offset) == (2, -255)  # type: ignore[attr-defined]
    wanted = runtime(model, 2 * PIXELS - 255, LEVELS.ORT_DISABLE_ALL)
    found = read.run(np.ascontiguousarray(PIXELS.transpose(0, 2, 3, 1).astype(np.uint8)))["logits"]
    np.testing.assert_array_equal(found.transpose(0, 3, 1, 2), next(iter(wanted.values())))
    with pytest.raises(RefdesignError, match=r"pixels: found 3 pairs of scale and offset for an input \(2, 7, 11\)"):
        onnx_in.from_bytes(model.SerializeToString(), pixels=[(1.0, 0.0)] * 3)


def behind_sign(*more: Callable[[Graph, str], str], channels: int = 6) -> Any:
    """A model that goes wrong behind its first layer."""
    graph = Graph()
    value = graph("Conv", "x", W1)
    for build in more:
        value = build(graph, value)
    return graph.model(value)


SIGN: Build = lambda g, a: g("Sign", a)  # noqa: E731
REFUSED: dict[str, tuple[Any, str]] = {
    "bits of 0 and 1": (
        behind_sign(lambda g, a: g("Cast", g("Greater", a, 0.0), to=1), lambda g, b: g("Conv", b, W2)),
        r"\(Conv\): the sign of layer 'conv1': found activations of 0, 1, expected -s and s",
    ),
    "three values": (
        behind_sign(SIGN, lambda g, b: g("Add", b, g("Mul", b, g("Mul", b, 0.5))), lambda g, b: g("Conv", b, W2)),
        r"activations of -0.5, 0, 1.5",
    ),
    "several latent layers": (
        behind_sign(
            SIGN, lambda g, b: g("Conv", b, W2 * 0.5 + 0.25), SIGN,
            lambda g, b: g("Conv", b, (0.5 + np.eye(2, 3, dtype=np.float32)).reshape(2, 3, 1, 1)),
        ),
        r"'n2' \(Conv\): layer 'conv2': .* magnitudes from 0.25 to 0.75, 3 of 3 .*behind it, off .* too: 'n4' by 80%",
    ),
    "several unknown nodes": (
        behind_sign(lambda g, a: g("Relu", a), lambda g, a: g("Softmax", a), lambda g, a: g("LRN", a, size=3)),
        r"'n1' \(Relu\): found Relu.*; also not known: 'n2' \(Softmax\), 'n3' \(LRN\)",
    ),
    "softmax": (behind_sign(lambda g, a: g("Softmax", a)), r"\(Softmax\): found Softmax, which no layer"),
    "shortcut of 1x1": (
        behind_sign(lambda g, a: g("Add", g("Conv", g("Sign", a), W2[:, :, :1, :1]), g("Conv", a, W2[:, :, :1, :1]))),
        r"\(Conv\): found a convolution of a layer's real values, expected one of pixels or bits",
    ),
    "sign and its values differ": (
        behind_sign(
            lambda g, a: g("Add", g("Conv", g("Sign", g("Sub", a, 3.0)), np.ones((6, 6, 1, 1), np.float32)), a)
        ),
        r"\(Add\): found the sign of 'conv1' and its real values behind different operations",
    ),
    "a mean over channels": (behind_sign(lambda g, a: g("ReduceMean", a, np.array([1]))), "expected the mean of a map"),
    "nothing read": (
        behind_sign(SIGN, lambda g, b: g("Conv", b, W2), lambda g, a: g("Conv", "x", W1)),
        r"layer 'conv2': found nothing that reads its values",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("model", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_binary_network_is_named(model: Any, message: str) -> None:
    with pytest.raises(RefdesignError, match=message) as caught:
        onnx_in.from_bytes(model.SerializeToString())
    assert "\n" not in str(caught.value)
