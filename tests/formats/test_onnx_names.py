"""What an import of ONNX calls things, and what it advises."""

from __future__ import annotations

from pathlib import Path

import pytest

onnx = pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")

from refdesign.api import pretrained  # noqa: E402
from refdesign.errors import RefdesignError  # noqa: E402
from refdesign.formats import onnx_in, onnx_out  # noqa: E402


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
