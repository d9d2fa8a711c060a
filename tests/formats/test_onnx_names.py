"""What an import of ONNX calls things, and what it advises."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

onnx = pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")

from refdesign.api import pretrained  # noqa: E402
from refdesign.errors import RefdesignError  # noqa: E402
from refdesign.formats import onnx_in, onnx_out  # noqa: E402
from tests.cli.command_line import good, refused  # noqa: E402


@pytest.mark.parametrize(
    ("graph", "name"), [("main_graph", "cat"), ("", "cat"), ("torch_jit", "cat"), ("mine", "mine")]
)
def test_a_graph_that_an_exporter_named_is_called_as_its_file(graph: str, name: str, tmp_path: Path) -> None:
    model = onnx_out.to_model(pretrained("digits-sign"))
    model.graph.name = graph
    onnx.save(model, tmp_path / "cat.onnx")
    assert onnx_in.read(tmp_path / "cat.onnx")[0].name == name


@pytest.mark.parametrize(
    ("kind", "advice"),
    [("Softmax", "export the network without it, up to the logits"), ("Tanh", "a sign is the same without it")],
)
def test_an_operator_that_no_layer_takes_comes_with_advice(kind: str, advice: str) -> None:
    model = onnx_out.to_model(pretrained("digits-sign"))
    model.graph.node.append(onnx.helper.make_node(kind, [model.graph.output[0].name], ["scores"], name="last"))
    with pytest.raises(RefdesignError, match=rf"node 'last' \({kind}\): found {kind}, .*; {advice}") as refused:
        onnx_in.from_bytes(model.SerializeToString())
    assert "known are" not in str(refused.value)


def test_the_import_writes_the_map_that_verify_takes(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    network = pretrained("digits-sign")
    model = onnx_out.to_model(network)
    renamed = {name: f"t{place}" for place, node in enumerate(model.graph.node) for name in node.output}
    for node in model.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed[name] for name in node.output]
    for output in model.graph.output:
        output.name = renamed[output.name]
    del model.graph.value_info[:]
    foreign, ours, tensors = (tmp_path / name for name in ("net.onnx", "net.safetensors", "map.toml"))
    onnx.save(model, foreign)
    assert "map: conv1.accumulator, conv1.bits, conv2.accumulator, " in good(
        "convert", foreign, ours, "--save-map", tensors
    )  # fmt: skip
    assert set(tomllib.loads(tensors.read_text())["names"]) == set(network.output_names) - {"logits"}
    assert "in 14 of 14 outputs" in good("verify", ours, "--impl", foreign, "--map", tensors, "--random", 2)


def test_a_map_is_of_an_onnx_file_alone(tmp_path: Path) -> None:
    said = refused("convert", "digits", tmp_path / "net.onnx", "--save-map", tmp_path / "map.toml")
    assert said == "--save-map: found digits, expected an ONNX file, whose tensors have names"
    assert list(tmp_path.iterdir()) == []
