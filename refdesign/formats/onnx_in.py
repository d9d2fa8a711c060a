"""Networks from ONNX files: every node is matched with a part of a layer, or named with the reason why not.

Matched are, in this order, pixels (scaled and shifted), convolution or dense product with weights of ±s, max pool,
batch norm (a node, or multiplication and addition as exporters fold it), a subtracted threshold map, a sign in any of
its spellings, and the logits. Nodes that only move elements, such as padding by concatenation, are followed element by
element. Nothing is guessed: what was assumed is in the report.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.conventions import ARITHMETICS, Conventions
from refdesign.errors import RefdesignError, in_print
from refdesign.formats import onnx_constants as constants
from refdesign.formats.files import naming, read_bytes
from refdesign.formats.onnx_context import Context, Found, described
from refdesign.formats.onnx_file import parse, tensor
from refdesign.formats.onnx_flow import Flow
from refdesign.formats.onnx_functions import METADATA_PREFIX
from refdesign.formats.onnx_layers import NotTwoValued, Tail, check_chain, finished, tail_of
from refdesign.formats.onnx_maps import kernels_of
from refdesign.formats.onnx_nodes import HANDLERS
from refdesign.formats.onnx_places import places
from refdesign.formats.onnx_real import pool_layer
from refdesign.formats.onnx_report import ADVICE, deviations, key_of, line_of, sign_words, unknown
from refdesign.formats.onnx_tabulated import table_of
from refdesign.formats.qonnx_in import ON_CONSTANTS, on_constants
from refdesign.formats.report import Report
from refdesign.network import AveragePool, CombinedConv2d, Layer, NetworkData, RealConv2d, RealDense
from refdesign.parameters import ThresholdKernel

LARGEST_WALK = 1 << 29
"""Elements of all tensors of a graph that nodes compute."""

MOST_LAYERS = 4096

_LARGEST_MAP = 1 << 22
_NAMELESS = ("imported", "main_graph", "torch_jit", "torch-jit-export", "tf2onnx", "graph", "main")
"""What exporters call every graph: such a network gets its file's name."""
_UINT8 = 2  # ONNX's number of the type


Pixels = Sequence[tuple[float, float]]
"""Scale and offset of the pixels p for each channel, or once for all: the graph's input is scale*p + offset."""


def read(
    path: str | os.PathLike[str], *, arithmetic: str | None = None, pixels: Pixels | None = None
) -> tuple[NetworkData, Report]:
    """Read a network from an ONNX file; nothing in it is trusted.

    Args:
        path: the file; external data may lie in its folder.
        arithmetic: the arithmetic that the network is meant under, one of `ARITHMETICS`; None is what the operators
            compute one by one in ONNX Runtime, and `"real"` where there is nothing to round.
        pixels: what the graph's input is of the pixels, where they are normalised before it; None is the pixels.

    Returns:
        The network, and what was recognised and assumed.

    Raises:
        RefdesignError: a file that is no ONNX model or too new, or a node that was not matched; names file and node.

    >>> read("/nowhere/net.onnx")
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: /nowhere/net.onnx: cannot be read: No such file or directory
    """
    with naming(path):
        network, report = from_bytes(read_bytes(path), folder=Path(path).parent, arithmetic=arithmetic, pixels=pixels)
    return (replace(network, name=in_print(Path(path).stem)) if network.name in _NAMELESS else network), report


def from_bytes(
    data: bytes, *, folder: Path | None = None, arithmetic: str | None = None, pixels: Pixels | None = None
) -> tuple[NetworkData, Report]:
    """The network in a file's content; `folder` is where its external data may lie. See `read`.

    >>> from_bytes(b"PK")
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: found no ONNX model: truncated or another format
    """
    if arithmetic is not None and arithmetic not in ARITHMETICS:
        raise RefdesignError(f"arithmetic: found {arithmetic!r}, expected one of {', '.join(ARITHMETICS)}")
    model = parse(data)
    importer = _Importer(model, folder, arithmetic, pixels)
    # What overflows becomes infinite, as in a runtime, and is refused where it is no network's.
    with np.errstate(all="ignore"):
        importer.walk()
        return importer.network(arithmetic)


class _Importer:
    """One walk through a graph; `values` maps a tensor's name to a constant array or a `Flow`."""

    def __init__(self, model: Any, folder: Path | None, arithmetic: str | None, pixels: Pixels | None) -> None:
        self.pixels = pixels
        self.graph = model.graph
        self.folder = folder
        versions = {entry.domain: entry.version for entry in model.opset_import}
        self.context = Context(versions.get("", versions.get("ai.onnx", 7)), arithmetic)
        self.values: dict[str, NDArray[Any] | Flow] = {}
        self.held = 0
        self.kernels: dict[str, ThresholdKernel] = {}
        self.tensors = {proto.name: proto for proto in self.graph.initializer}
        self.named = _named_arithmetic(model)

    def walk(self) -> None:
        self._input()
        for number, node in enumerate(self.graph.node):
            name = node.name or (node.output[0] if node.output else "") or f"number {number}"
            try:
                self._node(node)
            except NotTwoValued as error:
                others = deviations(list(self.graph.node)[number + 1 :], self.tensors, self.folder)
                raise RefdesignError(f"node {name!r} ({node.op_type}): {error}{others}") from error
            except RefdesignError as error:
                raise RefdesignError(f"node {name!r} ({node.op_type}): {error}") from error
            except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                # A node from elsewhere can lack inputs or have attributes of any type; each operator reads its own.
                reason = " ".join(str(error).split())[:200]
                raise RefdesignError(
                    f"node {name!r} ({node.op_type}): found inputs or attributes that the operator does not take "
                    f"({type(error).__name__}: {reason})"
                ) from error

    def _input(self) -> None:
        given = [value for value in self.graph.input if value.name not in self.tensors]
        if len(given) != 1:
            raise RefdesignError(f"graph: found {len(given)} inputs, expected one, the images")
        value = given[0]
        shape = [int(dim.dim_value) if dim.HasField("dim_value") else -1 for dim in value.type.tensor_type.shape.dim]
        if len(shape) != 4 or min(shape[1:]) < 1 or int(np.prod(shape[1:], dtype=object)) > _LARGEST_MAP:
            raise RefdesignError(
                f"input {value.name!r}: found shape {shape} (-1: dynamic), expected (N, C, H, W) or (N, H, W, C), "
                "fixed but for N: export with an example image of the size that you use"
            )
        flow = Flow.of("pixels", tuple(shape[1:]))
        if self.pixels is None and value.type.tensor_type.elem_type != _UINT8:
            self.context.assumed.append("the graph's input is the pixels themselves, 0 to 255")
        elif self.pixels is not None:
            flow = _normalised(flow, self.pixels)
        self.values[value.name] = flow

    def _value(self, name: str) -> NDArray[Any] | Flow | None:
        if not name:
            return None
        if name not in self.values:
            if name not in self.tensors:
                raise RefdesignError(f"found an input {name!r} that nothing computes")
            self.values[name] = tensor(self.tensors[name], self.folder)
        return self.values[name]

    def _node(self, node: Any) -> None:
        if any(entry.type in (5, 10) for entry in node.attribute):
            raise RefdesignError("found a graph inside a node, expected straight-line operators")
        if any(entry.ref_attr_name for entry in node.attribute):
            raise RefdesignError("found a reference to an attribute outside of a function")
        inputs = [self._value(name) for name in node.input]
        flows = [value for value in inputs if isinstance(value, Flow)]
        key = key_of(node)
        if not flows:
            self._hold(node, self._computed(node, key, inputs))
            return
        handler = HANDLERS.get(key)
        if handler is None:
            advice = ADVICE.get(key) or f"known are {', '.join(sorted(HANDLERS))}"
            raise RefdesignError(
                f"found {key}, which no layer of a binary network has; {advice}"
                + unknown(self.graph.node, {*HANDLERS, *constants.COMPUTING, *ON_CONSTANTS}, node)
            )
        result = handler(self.context, node, inputs)
        self._hold(node, result if isinstance(result, list) else [result])

    def _hold(self, node: Any, values: Sequence[NDArray[Any] | Flow]) -> None:
        """Note what a node gives, as long as a graph's values fit into memory together."""
        self.held += sum(value.held if isinstance(value, Flow) else value.size for value in values)
        if self.held > LARGEST_WALK:
            raise RefdesignError(f"found tensors of more than {LARGEST_WALK} elements in all")
        if len(self.context.drafts) > MOST_LAYERS:
            raise RefdesignError(f"found more than {MOST_LAYERS} layers")
        self.values.update(zip(node.output, values, strict=False))

    def _computed(self, node: Any, key: str, inputs: list[Any]) -> list[NDArray[Any]]:
        """What a node on constants gives."""
        if key in ON_CONSTANTS:
            return on_constants(node, inputs)
        if key not in constants.COMPUTING:
            raise RefdesignError(f"found {key} on constants, expected one of " + ", ".join(sorted(constants.COMPUTING)))
        arrays = self._constant(node) if node.op_type == "Constant" else None
        return constants.compute(node, inputs, self.context.opset) if arrays is None else arrays

    def _constant(self, node: Any) -> list[NDArray[Any]] | None:
        for entry in node.attribute:
            if entry.name == "value":
                return [tensor(entry.t, self.folder)]
        return None

    def network(self, arithmetic: str | None) -> tuple[NetworkData, Report]:
        """The layers that the graph's last output ends."""
        output = self.graph.output[-1].name if self.graph.output else ""
        last = self._value(output) if output in self.values else None
        if not isinstance(last, Flow) or last.kind != "sums" or last.draft is None:
            kind = described(last) if isinstance(last, Flow) else "nothing that depends on the image"
            raise RefdesignError(f"output {output!r}: found {kind}, expected the logits, sums of a last layer")
        if not last.whole:
            raise RefdesignError(f"output {output!r}: found a part of the logits, expected all of them")
        ends = last.draft
        if ends.kind is AveragePool:
            ends = pool_layer(self.context, ends)
            last = replace(last, draft=ends)
        drafts = self.context.drafts
        found = [self.context.found.get(draft.name) for draft in drafts[:-1]]
        for draft, entry in zip(drafts, found, strict=False):
            if entry is None and draft.kind is not AveragePool:
                raise RefdesignError(f"layer {draft.name!r}: found nothing that reads its values")
        if ends is not drafts[-1]:
            raise RefdesignError(f"output {output!r}: found the sums of {ends.name!r}, "
                                 f"expected those of the last layer, {drafts[-1].name!r}")  # fmt: skip
        check_chain(drafts)
        entries = [*(entry for entry in found if entry is not None), self._last(last)]
        report = Report()
        conventions = self._conventions(entries, arithmetic, report)
        layers: list[Layer] = []
        tails = {entry.draft.name: entry.tail for entry in entries}
        for draft in drafts:
            tail, kernel = tails.get(draft.name, Tail(None, None, None)), self.kernels.get(draft.name)
            layers.append(finished(draft, tail, kernel))
            tried = draft.name in self.context.tried
            report.recognised.append(line_of(draft, tail, kernel, tried))
        report.assumed += self.context.assumed
        name = self.graph.name or "imported"
        network = NetworkData(
            name=name, input_shape=self.context.input_shape, layers=tuple(layers), conventions=conventions
        )
        held = places(self.context, self.values)
        report.places = {output: tensor for output, tensor in held.items() if output in network.output_names}
        return network, report

    def _last(self, flow: Flow) -> Found:
        """The last layer, whose values are the logits."""
        if flow.draft is None:
            raise RefdesignError("output: found no layer")
        where = f"layer {flow.draft.name!r}, the last"
        if flow.draft.kind is AveragePool and flow.steps:
            raise RefdesignError(f"{where}: found operations behind an average pool, expected its means")
        try:
            tail = tail_of(flow.steps, flow.shape[-1])
            if tail.over_map is not None and flow.draft.kind is not RealDense:
                raise RefdesignError("found more than a batch norm behind the last layer's sums")
        except RefdesignError as error:
            try:
                ternary = any(found.rule[0] == 0 for found in self.context.found.values())
                arithmetic = self.context.arithmetic if self.context.arithmetic not in (None, "real") else "onnxruntime"
                table = table_of(flow.draft, flow.steps, str(arithmetic), ternary_input=ternary)
                tail = tail_of((table,), flow.shape[-1])
            except RefdesignError as reason:
                raise RefdesignError(f"{where}: {error}; and {reason}") from error
        if tail.over_map is not None or tail.shortcut is not None or tail.hardtanh:
            raise RefdesignError(f"{where}: found more than a batch norm behind its sums")
        if flow.draft.kind is RealDense and flow.steps:
            raise RefdesignError(f"{where}: found operations behind a real layer, expected its sums")
        return Found(flow.draft, tail, (None, 0.0), flow.steps, None)

    def _conventions(self, entries: list[Found], arithmetic: str | None, report: Report) -> Conventions:
        self.context.settle_signs(entries)
        rules = {entry.rule for entry in entries if entry.rule[0] is not None}
        programs = ({entry.tail.arithmetic for entry in entries} | self.context.programs) - {None}
        if "real" in programs and arithmetic not in (None, "real"):
            raise RefdesignError(f"arithmetic: found {arithmetic!r}, expected 'real': the first layer's pixels are "
                                 "normalised, which only exact arithmetic moves behind integer sums")  # fmt: skip
        if arithmetic is None and "real" in programs:
            arithmetic = "real"
            report.assumed.append("arithmetic 'real': exact, since the map of normalised pixels is")
        elif arithmetic is None:
            if len(programs) > 1 and self.named not in programs:
                raise RefdesignError(
                    f"batch norms: found the programs {', '.join(sorted(map(str, programs)))} in one network; "
                    "name the arithmetic that you mean, such as 'real'"
                )
            # Where nothing is rounded behind integer sums the name decides nothing; real sums round by themselves.
            rounded = any(draft.kind in (RealConv2d, CombinedConv2d, RealDense) for draft in self.context.drafts)
            if len(programs) > 1:
                arithmetic = str(self.named)
                report.assumed.append(f"arithmetic {arithmetic!r}: by the metadata, which of two it spells")
            else:
                arithmetic = str(programs.pop()) if programs else "onnxruntime" if rounded else "real"
                report.assumed.append(f"arithmetic {arithmetic!r}: what the file's operators round, one by one")
        channel_map, threshold_scale, self.kernels = kernels_of(entries)
        tie, boundary = next(iter(rules), (None, 0.0))
        keras = boundary > 0
        if tie is None:
            tie = 1
            report.assumed.append("the sign of zero is +1: nothing that the file signs is ever zero")
        else:
            report.recognised.append(f"sign: {sign_words(tie, keras)}")
        return Conventions(
            sign_at_zero=tie, sign_rule="keras_round" if keras else "compare", arithmetic=arithmetic,
            channel_map=channel_map, threshold_scale=threshold_scale,
        )  # fmt: skip


def _named_arithmetic(model: Any) -> str | None:
    """The arithmetic that this project's exports note in their metadata."""
    noted = next((entry.value for entry in model.metadata_props if entry.key == f"{METADATA_PREFIX}conventions"), "")
    try:
        found = json.loads(noted)
    except (ValueError, RecursionError):
        return None
    arithmetic = found.get("arithmetic") if isinstance(found, dict) else None
    return arithmetic if isinstance(arithmetic, str) else None


def _normalised(flow: Flow, pixels: Pixels) -> Flow:
    """The graph's input as it is of the pixels."""
    scales, offsets = (np.array([float(pair[part]) for pair in pixels], np.float32) for part in (0, 1))
    shape = flow.shape
    axes = [axis for axis in (0, 2) if shape[axis] == len(pixels)] if len(pixels) > 1 else [0]
    if len(axes) != 1 or not (np.isfinite(scales).all() and np.isfinite(offsets).all()):
        raise RefdesignError(
            f"pixels: found {len(pixels)} pairs of scale and offset for an input {shape}, expected one, or one for "
            "each channel, finite numbers"
        )
    extents = [-1 if axis == axes[0] else 1 for axis in range(3)] if len(pixels) > 1 else [1]
    return flow.step("mul", scales.reshape(extents)).step("add", offsets.reshape(extents))
