"""Which tensors of a graph hold a layer's outputs, and the map that `refdesign verify --map` reads of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.formats.onnx_context import Context
from refdesign.formats.onnx_flow import Flow

Places = dict[str, str]


def places(context: Context, values: Mapping[str, NDArray[Any] | Flow]) -> Places:
    """The first tensor for each output that holds it as it is, by output name.

    Args:
        context: what a whole walk found.
        values: every tensor of the graph by name, in order of execution.
    """
    found: Places = {}
    for tensor, value in values.items():
        output = _output(context, value) if isinstance(value, Flow) else None
        if output is not None:
            found.setdefault(output, tensor)
    return found


def _output(context: Context, flow: Flow) -> str | None:
    """The output that a tensor is, unchanged and in ONNX's order; None where it is none."""
    layer = next((draft for draft in context.drafts if flow.draft is not None and draft.name == flow.draft.name), None)
    if layer is None or flow.draft is None or not np.array_equal(flow.places, _in_order(flow)):
        return None
    name = layer.name
    if flow.kind == "sums":
        # A pool behind a falling function negates the weights that the sums before it were made with.
        same = flow.draft.fields.get("weights") is layer.fields.get("weights")
        part = "pooled" if "pool" in flow.draft.fields else "accumulator"
        return f"{name}.{part}" if same and not flow.steps else None
    known = context.found.get(name)
    if known is None or flow.shape != layer.shape:
        return None
    if flow.kind == "choice" and flow.choice is not None and known.choice is not None:
        try:
            bits = context.bits(flow)
        except RefdesignError:  # another function of the sums
            return None
        return f"{name}.bits" if bits.scale == 1 else None
    return f"{name}.bits" if flow.kind == "bits" and flow.scale == 1 else None


def _in_order(flow: Flow) -> NDArray[np.int64]:
    return Flow.of(flow.kind, flow.shape).channels_first().places


def as_toml(found: Places, maps: frozenset[str]) -> str:
    """A map's text.

    Args:
        found: tensors by output name.
        maps: the outputs that are maps, (N, C, H, W) in the graph.

    >>> print(as_toml({"conv1.bits": "/Sign"}, frozenset({"conv1.bits"})))
    [names]
    "conv1.bits" = "/Sign"
    <BLANKLINE>
    [outputs."conv1.bits"]
    layout = "n c h w -> n h w c"
    <BLANKLINE>
    """
    lines = ["[names]", *(f"{_text(output)} = {_text(tensor)}" for output, tensor in found.items())]
    for output in found:
        if output in maps:
            lines += ["", f"[outputs.{_text(output)}]", 'layout = "n c h w -> n h w c"']
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
