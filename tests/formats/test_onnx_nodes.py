"""Operators of exports that are read as they are written, or refused where they could change a value unseen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")

from onnx import TensorProto

from refdesign.api import Network
from refdesign.errors import RefdesignError
from refdesign.formats import onnx_in
from refdesign.network import BinaryDense, PixelConv2d
from tests.formats.onnx_runs import LEVELS, runtime
from tests.formats.test_onnx_spellings import PIXELS, W1, W2, Graph, check, f32, network

RNG = np.random.default_rng(23)
SIZE = 2 * 7 * 11
FIRST, SECOND = (np.where(RNG.random(shape) < 0.5, np.float32(-1), np.float32(1)) for shape in ((SIZE, 13), (13, 5)))


def perceptron(*, channels_last: bool = False, scaled: bool = False) -> Any:
    """Two dense products of pixels (N, 2, 7, 11) or (N, 7, 11, 2), thresholds where many sums are."""
    graph = Graph()
    shape: tuple[Any, ...] = ("N", 7, 11, 2) if channels_last else ("N", 2, 7, 11)
    x = graph("Sub", graph("Mul", "x", 2), f32([3])) if scaled else "x"
    row = graph("Reshape", x, np.array([-1, SIZE]))
    sums = graph("Gemm", row, FIRST, f32(range(13)))
    bits = graph("Where", graph("GreaterOrEqual", sums, 6), 1, -1)
    return graph.model(graph("MatMul", bits, SECOND), shape)


@pytest.mark.parametrize("scaled", [False, True])
def test_a_dense_product_of_all_pixels_is_a_convolution_of_the_whole_image(scaled: bool) -> None:
    read, report = check(perceptron(scaled=scaled))
    first, second = read.layers
    assert isinstance(first, PixelConv2d)
    assert first.weight_shape == (13, 7, 11, 2)
    assert isinstance(second, BinaryDense)
    assert any("(2, 7, 11) is taken for (C, H, W)" in line for line in report.assumed)


def test_a_dense_product_of_pixels_whose_channels_are_last() -> None:
    model = perceptron(channels_last=True)
    data, report = onnx_in.from_bytes(model.SerializeToString())
    assert any("(7, 11, 2) is taken for (H, W, C)" in line for line in report.assumed)
    images = np.ascontiguousarray(PIXELS.transpose(0, 2, 3, 1))
    (expected,) = runtime(model, images, LEVELS.ORT_DISABLE_ALL).values()
    np.testing.assert_array_equal(Network.from_data(data).run(images.astype(np.uint8))["logits"], expected)


SQUARE = [np.where(RNG.random((6, 6, 1, 1)) < 0.5, np.float32(-1), np.float32(1)) for _ in range(2)]
THRESHOLDS = f32(RNG.integers(0, 4, (2, 3, 2)))
"""By row, column and channel, at pixels themselves."""


def over_map(g: Graph, x: str) -> str:
    spread = np.tile(THRESHOLDS, (4, 4, 1))[:7, :11].transpose(2, 0, 1)
    return g("Where", g("GreaterOrEqual", g("Sub", x, spread), 0), 1, -1)


BINARISED: dict[str, Any] = {
    "at one point": lambda g, x: g("Where", g("Greater", x, 1), 1, -1),
    "scaled and shifted": lambda g, x: g("Sign", g("Sub", g("Mul", x, 2), 3)),
    "two comparisons": lambda g, x: g("Where", g("Not", g("Less", x, 2)), 1, g("Where", g("Less", x, 2), -1, 0)),
    "per channel": lambda g, x: g("Where", g("Less", x, f32([1, 3]).reshape(2, 1, 1)), -1, 1),
    "against a threshold map": over_map,
    "of a row": lambda g, x: g("Where", g("Greater", g("Reshape", x, np.array([-1, SIZE])), 1), 1, -1),
}


@pytest.mark.parametrize("spelling", BINARISED)
def test_the_sign_of_pixels_is_a_layer_of_its_own(spelling: str) -> None:
    graph = Graph()
    bits = BINARISED[spelling](graph, "x")
    row = bits if spelling == "of a row" else graph("Flatten", bits)
    read, report = check(graph.model(graph("MatMul", row, FIRST)))
    first, second = read.layers
    assert isinstance(first, PixelConv2d)
    assert isinstance(second, BinaryDense)
    assert first.groups == 2
    assert f"{first.name}: the sign of pixels is a layer of its own, whose weights are 1" in report.assumed
    if spelling == "against a threshold map":
        assert first.kernel is not None
        assert first.kernel.shape == (2, 3, 2)


def test_the_sign_of_pixels_before_a_convolution() -> None:
    graph = Graph()
    bits = graph("Where", graph("Greater", "x", 1), 1, -1)
    sums = graph("Conv", bits, W1, pads=[1, 1, 1, 1])
    check(graph.model(graph("Conv", graph("Where", graph("Greater", sums, 0), 1, -1), W2)))


def test_the_sign_of_normalised_pixels() -> None:
    graph = Graph()
    bits = graph("Sign", graph("Sub", graph("Mul", "x", 2), 1))
    model = graph.model(graph("MatMul", graph("Flatten", bits), FIRST))
    read, _ = onnx_in.from_bytes(model.SerializeToString(), pixels=[(1 / 255, 0.0)])
    images = RNG.integers(0, 256, (7, 7, 11, 2), dtype=np.uint8)
    images[0, 0, :2, 0] = 127, 128
    scaled = images.transpose(0, 3, 1, 2).astype(np.float32) * np.float32(1 / 255)
    (expected,) = runtime(model, scaled, LEVELS.ORT_DISABLE_ALL).values()
    np.testing.assert_array_equal(Network.from_data(read).run(images)["logits"], expected)


@pytest.mark.parametrize("automatic", ["SAME_UPPER", "SAME_LOWER"])
def test_padding_that_makes_a_map_as_large_as_its_input(automatic: str) -> None:
    """As much on both sides, of the rows (3 taps) and of the columns (5 taps, a stride of 2)."""
    weights = np.where(RNG.random((3, 2, 3, 5)) < 0.5, np.float32(-1), np.float32(1))
    graph = Graph()
    sums = graph("Conv", "x", weights, auto_pad=automatic, strides=[1, 2])
    bits = graph("Where", graph("Greater", sums, 0), 1, -1)
    read, _ = check(graph.model(graph("Conv", bits, W2[:, :3, :1, :1], auto_pad=automatic)))
    assert isinstance(read.layers[0], PixelConv2d)
    assert read.layers[0].padding == (1, 2)


@pytest.mark.parametrize(("by", "from_"), [(2, 0), (3, -1), (-2, 1)])
def test_a_quotient_of_integers_is_cut_towards_zero(by: int, from_: int) -> None:
    def between(g: Graph, a: str) -> str:
        quotient = g("Div", g("Cast", a, to=TensorProto.INT32), np.array(by, np.int32))
        return g("Where", g("GreaterOrEqual", quotient, np.array(from_, np.int32)), 1, -1)

    check(network(between))


def limited(g: Graph, a: str, kind: str, limits: tuple[float, ...]) -> str:
    real = g(kind, g("Sub", a, 1), *limits)
    return g(kind, g("Where", g("GreaterOrEqual", real, 0.5), 1, -1), *limits)


@pytest.mark.parametrize(("kind", "limits"), [("Max", (-1.0, -3.0)), ("Min", (4.0, 1.0)), ("Max", ()), ("Min", (1.0,))])
def test_the_largest_and_the_smallest_of_a_map_and_any_constants(kind: str, limits: tuple[float, ...]) -> None:
    check(network(lambda g, a: limited(g, a, kind, limits)))


FIRES = {
    "at": lambda g, z: g("Where", g("GreaterOrEqual", z, 0), 1, -1),
    "above": lambda g, z: g("Where", g("Greater", z, 0), 1, -1),
    "keras": lambda g, z: g("Sub", g("Mul", g("Round", g("Clip", g("Div", g("Add", z, 1), 2), 0.0, 1.0)), 2), 1),
    "zero": lambda g, z: g("Sign", z),
}  # fmt: skip
"""Signs that differ at 0, or next to it."""


@pytest.mark.parametrize("rules", [("at", "above", "at"), ("above", "zero", "above"), ("keras", "at", "at")])
def test_layers_that_sign_a_zero_otherwise_become_integer_thresholds(rules: tuple[str, ...]) -> None:
    graph = Graph()
    bits = FIRES[rules[0]](graph, graph("Sub", graph("Conv", "x", W1), 2))
    for rule, weights in zip(rules[1:], SQUARE, strict=True):
        bits = FIRES[rule](graph, graph("Conv", bits, weights))
    _, report = check(graph.model(graph("Conv", bits, W2)))
    tried = [line for line in report.recognised if "integer thresholds, found by computing" in line]
    assert len(tried) == rules.count("above") if "zero" in rules else len(tried) == 1


def test_one_rule_where_integer_thresholds_cannot_stand_for_another() -> None:
    graph = Graph()
    real = graph("Sub", graph("Conv", "x", W1), 2)
    sums = graph("Add", graph("Conv", FIRES["above"](graph, real), SQUARE[0]), real)
    model = graph.model(graph("Conv", FIRES["at"](graph, sums), W2))
    with pytest.raises(RefdesignError, match=r"signs: found -1 in conv1, \+1 in conv2 .* in place of that of 'conv1'"):
        onnx_in.from_bytes(model.SerializeToString())


def like(g: Graph, value: float, of: str) -> str:
    return g("CastLike", np.array(value, np.float64), of)


def test_constants_in_the_type_of_a_map() -> None:
    def between(g: Graph, a: str) -> str:
        z = g("Mul", a, f32(0.5))
        fires = g("Greater", z, like(g, 1.5, z))
        return g("Where", fires, like(g, 1, z), g("Neg", like(g, 1, a)))

    check(network(between))


def average(g: Graph, a: str, **attributes: Any) -> str:
    shortcut = g("AveragePool", a, kernel_shape=[2, 2], strides=[2, 2], **attributes)
    return g("Sign", shortcut)


REFUSED: dict[str, tuple[Any, str]] = {
    "a constant in a type that is not known": (
        lambda g, a: g("Where", g("Greater", a, like(g, 0.5, a)), 1, -1), "a constant cast to the type of"),
    "dropout that is on": (
        lambda g, a: g("Sign", g("Dropout", a, f32(0.5), np.array(True))), "dropout in training mode"),
    "an average pool that pads": (lambda g, a: average(g, a, auto_pad="SAME_UPPER"), "average pool with auto_pad"),
    "an average pool with holes": (lambda g, a: average(g, a, dilations=[1, 2]), "average pool with padding, ceil"),
    "an average pool that overlaps": (
        lambda g, a: g("Sign", g("AveragePool", a, kernel_shape=[2, 2], strides=[1, 2])), "overlapping windows"),
}  # fmt: skip


LATENT = f32(RNG.normal(size=(6, 6, 1, 1)))


def normed(g: Graph, bits: str, weights: Any, scale: float) -> str:
    """A product of a layer of its own: its batch norm makes it no basis of another."""
    zeros, ones = np.zeros(6, np.float32), np.ones(6, np.float32)
    return g("BatchNormalization", g("Conv", bits, weights), ones * np.float32(scale), f32(range(6)), zeros, ones)


def downsampled(g: Graph, a: str) -> str:
    bits = g("Sign", a)
    return g("Sign", g("Add", normed(g, bits, SQUARE[0], 2), normed(g, bits, SQUARE[1], 0.5)))


def skipped(g: Graph, a: str) -> str:
    bits = g("Sign", a)
    real = g("Add", normed(g, bits, SQUARE[0], 2), a)
    return g("Sign", g("Add", normed(g, bits, SQUARE[1], 0.5), real))


def part_of_bases(g: Graph, a: str) -> str:
    bits = g("Sign", a)
    part = g("Conv", bits, SQUARE[0])
    g("Add", part, g("Mul", g("Conv", bits, SQUARE[1]), 0.5))
    return g("Sign", part)


def pooled_and_not(g: Graph, a: str, *, pool_first: bool) -> str:
    """A layer's values with a max pool and without one, the pool before or behind what reads them without it."""
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    early = g("MaxPool", a, **pool) if pool_first else ""
    sums = g("Conv", g("Sign", a), np.repeat(SQUARE[0], 2, axis=2), strides=[2, 2])
    return g("Sign", g("Add", sums, early or g("MaxPool", a, **pool)))


def pixels_and_their_sign(g: Graph, a: str) -> str:
    bits = g("Sign", g("Sub", "x", 1))
    return g("Sign", g("Add", a, g("Conv", bits, W1)))


REFUSED |= {
    "pixels and their sign": (pixels_and_their_sign, "sign2"),
    "a limit above the threshold": (lambda g, a: limited(g, a, "Max", (-1.0, 1.0)), "found activations of 1, expected"),
    "a limit below the threshold": (lambda g, a: limited(g, a, "Min", (0.0, 2.0)), "found activations of -1, 0, exp"),
    "pixels that wrap round": (
        lambda g, a: g("Sign", g("Conv", g("Cast", g("Sub", "x", np.array(2, np.uint8)), to=1), W1)),
        "arithmetic in uint8, which wraps round"),
    "half precision": (
        lambda g, a: g("Sign", g("Conv", g("Sign", a), SQUARE[0].astype(np.float16))), "export the network in float32"),
    "batch norm that trains": (
        lambda g, a: g("BatchNormalization", a, *[np.ones(6, np.float32)] * 4, training_mode=1),
        "batch norm in training mode, expected an export in evaluation mode"),
    "batch norm of pixels": (
        lambda g, a: g("BatchNormalization", "x", *[np.ones(2, np.float32)] * 4), "found batch norm of pixels"),
    "bytes": (
        lambda g, a: g("QuantizeLinear", a, f32(0.5), np.uint8(0)), "of several bits are not binary: export the float"),
    "padding that is uneven": (
        lambda g, a: g("Sign", g("Conv", g("Sign", a), SQUARE[0].repeat(2, axis=2), auto_pad="SAME_LOWER")),
        r"found pads \[1, 0, 0, 0\], expected the same before and behind"),
    "a sign of an average pool": (
        lambda g, a: g("Sign", g("AveragePool", a, kernel_shape=[2, 2], strides=[2, 2])),
        "the sign of a average_pool, expected that of a layer with a batch norm"),
    "a sign of some pixels": (
        lambda g, a: g("Conv", g("Sign", g("Slice", "x", np.array([0]), np.array([5]), np.array([3]))), W1),
        "found the sign of a part of the pixels"),
    "two products of the same bits": (downsampled, "'conv3': found that it reads 'conv1', expected 'conv2', the layer"),
    "a product of bits of before": (skipped, "'conv3': found that it reads 'conv1', expected 'conv2', the layer"),
    "one of two bases": (part_of_bases, "found values of layer 'conv2' from before its pool or its other bases"),
    "sums of before a pool": (
        lambda g, a: pooled_and_not(g, a, pool_first=True), "found values of layer 'conv1' from before its pool"),
    "sums that are pooled later": (
        lambda g, a: pooled_and_not(g, a, pool_first=False), "a max pool of layer 'conv1', whose values are read"),
    "a real last layer on bits": (
        lambda g, a: g("MatMul", g("Flatten", g("Sign", a)), f32(RNG.normal(size=(300, 3)))),
        "not two-valued: .*; a real dense layer is read behind real values, as of an average pool"),
    "weights with a term that trains them": (
        lambda g, a: g("Sign", g("Conv", g("Sign", a), (f32(0.1) * SQUARE[0] - LATENT) + LATENT)),
        r"not two-valued: .* from 0\.0999999046 to 0\.100000024, .* without terms that cancel"),
    "a sign's gradient": (
        lambda g, a: g("Sub", g("Sign", a), g("Mul", a, a)), "export the signs themselves, not what trains them"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_could_change_a_value_is_refused(case: str) -> None:
    between, message = REFUSED[case]
    with pytest.raises(RefdesignError, match=message):
        onnx_in.from_bytes(network(between).SerializeToString())


def test_real_sums_are_not_taken_for_integers() -> None:
    graph = Graph()
    sums = graph("Conv", "x", f32(RNG.normal(size=(6, 2, 3, 2))))
    cut = graph("Cast", graph("Cast", sums, to=TensorProto.INT32), to=TensorProto.FLOAT)
    model = graph.model(graph("Conv", graph("Sign", cut), W2))
    with pytest.raises(RefdesignError, match="which could round"):
        onnx_in.from_bytes(model.SerializeToString())
