"""What ONNX Runtime's optimiser does to batch norms behind convolutions, and that exports are immune to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")

from onnx import TensorProto, helper, numpy_helper

from refdesign.api import Network
from refdesign.bits import unpack
from refdesign.conventions import FINN
from refdesign.formats import onnx_in, onnx_out
from refdesign.network import BinaryConv2d, NetworkData, PixelConv2d, Stage
from refdesign.parameters import NO_DITHER, BatchNorm
from refdesign.verify.fuzz.networks import residual_sample
from tests.formats.onnx_runs import LEVELS, assert_same, reference, runtime
from tests.formats.test_onnx_out import planted

RULES = FINN.replace(arithmetic="onnxruntime")
IMAGES = np.random.default_rng(8).integers(0, 256, (11, 7, 7, 1), dtype=np.uint8)
ALL_LEVELS = (LEVELS.ORT_DISABLE_ALL, LEVELS.ORT_ENABLE_BASIC, LEVELS.ORT_ENABLE_EXTENDED, LEVELS.ORT_ENABLE_ALL)


def tied() -> NetworkData:
    """The planted network with a second batch norm whose mean is, in each channel, the sum that is met most often."""
    network = planted(RULES)
    sums = Network.from_data(network).run(IMAGES, outputs=["second.accumulator"])["second.accumulator"]
    rng = np.random.default_rng(12)
    channels = sums.shape[-1]
    most = [np.unique(sums[..., channel], return_counts=True) for channel in range(channels)]
    mean = np.array([values[counts.argmax()] for values, counts in most], np.float32)
    gamma, zeros = rng.normal(size=(channels,)).astype(np.float32), np.zeros(channels, np.float32)
    norm = BatchNorm(gamma, zeros, mean, rng.uniform(1, 300, (channels,)).astype(np.float32), 1e-5)
    first, second, last = network.layers
    assert isinstance(second, BinaryConv2d)
    return replace(network, layers=(first, replace(second, batch_norm=norm, kernel=None), last))


def as_frameworks_export(*, every: bool) -> Any:
    """The tied network's two convolutions as frameworks export them: Conv, BatchNormalization, map, sign.

    Args:
        every: whether the sums and the first signs are outputs too.
    """
    network = tied()
    nodes, constants = [], []

    def constant(name: str, value: Any) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    value = "images"
    for layer in network.layers[:2]:
        assert isinstance(layer, (PixelConv2d, BinaryConv2d))
        assert isinstance(layer, Stage)
        assert layer.batch_norm is not None
        name, norm, shape = layer.name, layer.batch_norm, network.shapes[layer.name].output
        weights = unpack(layer.weights).transpose(0, 3, 1, 2).astype(np.float32)  # type: ignore[arg-type]
        if norm.alpha is not None:  # frameworks scale the weights
            weights = weights * norm.alpha.reshape(-1, 1, 1, 1)
        kernel = (layer.kernel or NO_DITHER).values
        over_map = np.tile(kernel, (shape[0], shape[1], shape[2] // kernel.shape[2]))[: shape[0], : shape[1]]
        statistics = [constant(f"{name}.{part}", getattr(norm, part)) for part in ("gamma", "beta", "mean", "variance")]
        nodes += [
            helper.make_node("Conv", [value, constant(f"{name}.w", weights)], [f"{name}.sums"],
                             pads=list(layer.padding * 2)),
            helper.make_node("BatchNormalization", [f"{name}.sums", *statistics], [f"{name}.y"], epsilon=norm.epsilon),
            helper.make_node("Sub", [f"{name}.y", constant(f"{name}.t", over_map.transpose(2, 0, 1))], [f"{name}.z"]),
            helper.make_node("GreaterOrEqual", [f"{name}.z", constant(f"{name}.0", np.float32(0))], [f"{name}.fires"]),
            helper.make_node("Where", [f"{name}.fires", constant(f"{name}.1", np.float32(1)),
                                       constant(f"{name}.-1", np.float32(-1))], [f"{name}.bits"]),
        ]  # fmt: skip
        value = f"{name}.bits"
    wanted = ["first.sums", "first.bits", "second.sums", value] if every else [value]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 1, 7, 7])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in wanted], constants,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_a_batch_norm_merged_into_its_convolution_changes_planted_signs() -> None:
    """The reason for the folded form: with only the last output, the optimiser merges what rounds."""
    x = np.ascontiguousarray(IMAGES.transpose(0, 3, 1, 2)).astype(np.float32)
    plain = runtime(as_frameworks_export(every=True), x, LEVELS.ORT_DISABLE_ALL)["second.bits"]
    merged = runtime(as_frameworks_export(every=False), x, LEVELS.ORT_ENABLE_ALL)["second.bits"]
    changed = float(np.mean(plain != merged))
    print(f"{changed:.2%} of {plain.size} signs changed")
    assert changed > 0.005


@pytest.mark.parametrize("form", onnx_out.FORMS)
@pytest.mark.parametrize("inlined", [False, True])
def test_exports_are_immune(form: str, inlined: bool) -> None:
    network, x = tied(), IMAGES
    wanted = dict(Network.from_data(network).run(x, outputs="all"))
    model = onnx_out.to_model(network, form=form, inlined=inlined, outputs=["second.bits"])
    for level in ALL_LEVELS:
        assert_same(runtime(model, x, level), wanted)
    every = onnx_out.to_model(network, form=form, inlined=inlined, outputs="all")
    assert_same(runtime(every, x), wanted)
    assert_same(reference(every, x[:2]), {name: array[:2] for name, array in wanted.items()})


@pytest.mark.parametrize("arithmetic", ["onnxruntime", "released_torch"])
@pytest.mark.parametrize("form", onnx_out.FORMS)
def test_residual_networks_in_both_forms(form: str, arithmetic: str) -> None:
    data = residual_sample()
    data = type(data)(
        name="residual", input_shape=data.input_shape, layers=data.layers,
        conventions=data.conventions.replace(arithmetic=arithmetic, sign_at_zero=0, threshold_scale="gamma"),
    )  # fmt: skip
    x = np.random.default_rng(9).integers(0, 256, (7, *data.input_shape), dtype=np.uint8)
    wanted = dict(Network.from_data(data).run(x, outputs="all"))
    every = onnx_out.to_model(data, form=form, outputs="all")
    assert_same(runtime(every, x), wanted)
    assert_same(reference(every, x), wanted)
    for level in ALL_LEVELS:
        assert_same(runtime(onnx_out.to_model(data, form=form, inlined=True), x, level), wanted)
    if form == "float":
        read, _ = onnx_in.from_bytes(onnx_out.to_model(data, form=form).SerializeToString())
        assert_same(dict(Network.from_data(read).run(x, outputs="all")), wanted)
