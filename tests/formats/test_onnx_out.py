"""ONNX exports give the network's own bits in every layer, in two executors, also under full optimisation."""

from __future__ import annotations

import re
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st

pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")

import onnx

from refdesign import datasets
from refdesign.api import Network, pretrained
from refdesign.bits import pack_bool
from refdesign.conventions import FINN, RELEASED_TORCH, Conventions
from refdesign.errors import RefdesignError
from refdesign.formats import onnx_out, onnx_thresholding
from refdesign.models import resnet20
from refdesign.network import BinaryConv2d, BinaryDense, NetworkData, PixelConv2d
from refdesign.ops.batch_norm import batch_norm
from refdesign.parameters import BatchNorm, ThresholdKernel
from refdesign.verify.strategies import images, networks
from tests.channels import KERNEL, random_channels
from tests.formats.onnx_runs import LEVELS, assert_same, reference, runtime

REFUSALS = re.compile(
    "which ONNX has no operators for|single float32 operations do not give|values of a real output|expected the scale"
    "|expected .*2\\*\\*24|products in a sum of real"
)


def expected(network: NetworkData, x: Any) -> Any:
    return Network.from_data(network).run(x, path="float", outputs="all")


@pytest.mark.parametrize("form", onnx_out.FORMS)
@pytest.mark.parametrize("inlined", [False, True])
def test_a_trained_network_in_every_form(form: str, inlined: bool) -> None:
    network = pretrained("digits")
    x = datasets.load("digits", "test")[0][:3]
    wanted = expected(network, x)
    every = onnx_out.to_model(network, form=form, inlined=inlined, outputs="all")
    assert [output.name for output in every.graph.output] == list(network.output_names)
    assert_same(runtime(every, x), wanted)
    assert_same(reference(every, x), wanted)
    last = onnx_out.to_model(network, form=form, inlined=inlined)
    assert len(last.functions) == (0 if inlined else 1)
    assert_same(runtime(last, x, LEVELS.ORT_ENABLE_ALL), wanted)


@settings(max_examples=20, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.data())
def test_drawn_networks(data: st.DataObject) -> None:
    """Every convention, padding and kind of layer, with ties planted: whatever is written is right."""
    network = data.draw(networks())
    x = data.draw(images((2, *network.input_shape)))
    form = data.draw(st.sampled_from(onnx_out.FORMS))
    try:
        wanted = expected(network, x)
    except RefdesignError:
        assume(False)
    try:
        every = onnx_out.to_model(network, form=form, outputs="all")
    except RefdesignError as error:
        assert REFUSALS.search(str(error)), error  # noqa: PT017
        assume(False)
    assert_same(runtime(every, x), wanted)
    assert_same(reference(every, x), wanted)
    last = onnx_out.to_model(network, form=form, inlined=data.draw(st.booleans()))
    assert_same(runtime(last, x, data.draw(st.sampled_from([LEVELS.ORT_ENABLE_ALL, LEVELS.ORT_DISABLE_ALL]))), wanted)


def planted(conventions: Conventions) -> NetworkData:
    """Two layers whose batch norms put boundaries on attainable sums, in 66 channels."""
    rng = np.random.default_rng(7)
    bits = [pack_bool(rng.random(shape) < 0.5) for shape in ((66, 3, 2, 1), (66, 3, 3, 66), (5, 66 * 5 * 6))]
    first = PixelConv2d(name="first", weights=bits[0], batch_norm=random_channels(1, 66, 700), kernel=KERNEL)
    second = BinaryConv2d(
        name="second", weights=bits[1], padding=(1, 1), batch_norm=random_channels(2, 66, 60), kernel=KERNEL
    )
    last = BinaryDense(name="last", weights=bits[2])
    return NetworkData(name="planted", input_shape=(7, 7, 1), layers=(first, second, last), conventions=conventions)


@pytest.mark.parametrize("arithmetic", ["onnxruntime", "released_torch"])
@pytest.mark.parametrize("form", onnx_out.FORMS)
def test_planted_ties_survive_full_optimisation_with_only_the_last_output(form: str, arithmetic: str) -> None:
    network = planted(FINN.replace(arithmetic=arithmetic))
    x = np.random.default_rng(8).integers(0, 256, (11, 7, 7, 1), dtype=np.uint8)
    wanted = expected(network, x)
    for level in (LEVELS.ORT_DISABLE_ALL, LEVELS.ORT_ENABLE_BASIC, LEVELS.ORT_ENABLE_EXTENDED, LEVELS.ORT_ENABLE_ALL):
        assert_same(runtime(onnx_out.to_model(network, form=form), x, level), wanted)
        second_bits = onnx_out.to_model(network, form=form, outputs=["second.bits"])
        assert_same(runtime(second_bits, x, level), wanted)


def test_a_residual_network_with_a_real_first_and_last_layer() -> None:
    network = resnet20(
        classes=3, kernel=ThresholdKernel(np.array([[0.0, 0.5], [-0.25, 1.0]], np.float32)), conventions=RELEASED_TORCH
    )
    x = np.random.default_rng(9).integers(0, 256, (2, *network.input_shape), dtype=np.uint8)
    wanted = expected(network, x)
    assert_same(runtime(onnx_out.to_model(network, outputs="all"), x), wanted)
    assert_same(runtime(onnx_out.to_model(network), x), wanted)


def test_weights_on_a_grid_are_split_into_digits_that_float32_holds() -> None:
    rng = np.random.default_rng(10)
    weights = rng.integers(-(2**17), 2**17, (5, 3, 2, 3), dtype=np.int32)
    first = PixelConv2d(name="first", weights=weights, multiplier=2, offset=-255, padding=(1, 0))
    dense = BinaryDense(name="dense", weights=pack_bool(rng.random((4, 7 * 7 * 5)) < 0.5))
    network = NetworkData(name="grid", input_shape=(7, 8, 3), layers=(first, dense))
    x = rng.integers(0, 256, (3, 7, 8, 3), dtype=np.uint8)
    model = onnx_out.to_model(network, outputs="all")
    assert sum(node.op_type == "Conv" for node in model.graph.node) > 1
    assert_same(runtime(model, x), expected(network, x))
    assert_same(reference(model, x), expected(network, x))


def test_a_file_says_what_it_holds(tmp_path: Path) -> None:
    network = replace(pretrained("digits-2d"), metadata={"trained": "a \ud800 place"})
    onnx_out.write(network, tmp_path / "a.onnx")
    onnx_out.write(network, tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    model = onnx.load(tmp_path / "a.onnx")
    onnx.checker.check_model(model, full_check=True)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties["refdesign.form"] == "folded"
    assert properties["refdesign.metadata.trained"] == "a ? place"  # a text that no file can hold
    assert '"arithmetic": "torch"' in properties["refdesign.conventions"]
    assert "origin" in model.functions[0].doc_string
    assert model.functions[0].domain == "org.refdesign"


def test_what_cannot_be_expressed_is_refused_by_layer(tmp_path: Path) -> None:
    network = planted(FINN)
    with pytest.raises(RefdesignError, match=r"a.onnx: not written: layer 'first', arithmetic: found 'real', whose"):
        onnx_out.write(network, tmp_path / "a.onnx", form="float")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RefdesignError, match="form: found 'flat', expected one of folded, float"):
        onnx_out.to_model(network, form="flat")
    with pytest.raises(RefdesignError, match="outputs: found 'x'"):
        onnx_out.to_model(network, outputs=["x"])
    weights = np.random.default_rng(11).integers(-1000, 1000, (66, 3, 2, 1), dtype=np.int32)
    wide = PixelConv2d(name="wide", weights=weights, batch_norm=random_channels(1, 66, 700))
    with pytest.raises(RefdesignError, match=r"layer 'wide': found \d+ attainable sums"):
        onnx_out.to_model(replace(network, layers=(wide,)))


def test_a_large_table_takes_memory_in_proportion(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its values are made block by block: the exact arithmetic's scratch is never as long as the table."""
    monkeypatch.setattr(onnx_thresholding, "_BLOCK", 1 << 14)
    weights = np.array([2000, -1500, 700], np.int32).reshape(3, 1, 1, 1)
    norm = BatchNorm([1.5, -0.3, 0.0], [0.25, 1.0, 2.0], [7.0, -3.5, 1.0], [2.0, 30.0, 1.0], 1e-5)
    layer = PixelConv2d(name="wide", weights=weights, batch_norm=norm)
    tracemalloc.start()
    model = onnx_out.to_model(NetworkData(name="n", input_shape=(2, 5, 1), layers=(layer,)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    (table,) = (onnx.numpy_helper.to_array(each) for each in model.graph.initializer if each.name == "wide/values")
    low, high = np.array([[0, -1500 * 255, 0], [2000 * 255, 0, 700 * 255]])
    sums = np.minimum(low + np.arange(2000 * 255 + 1)[:, np.newaxis], high).astype(np.int32)
    np.testing.assert_array_equal(table.reshape(3, -1), batch_norm(sums, norm, "real").T)
    assert peak < 5 * table.nbytes
