"""Networks from ONNX files: every node is matched with a part of a layer, or named with the reason why not.

Matched are, in this order, pixels (scaled and shifted), convolution or dense product with weights of ±s, max pool,
batch norm (a node, or multiplication and addition as exporters fold it), a subtracted threshold map, a sign in any of
its spellings, and the logits. Nodes that only move elements, such as padding by concatenation, are followed element by
element. Nothing is guessed: what was assumed is in the report.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.conventions import ARITHMETICS, Conventions
from refdesign.errors import RefdesignError
from refdesign.formats import onnx_constants as constants
from refdesign.formats.onnx_context import Context
from refdesign.formats.onnx_file import parse, read_bytes, tensor
from refdesign.formats.onnx_flow import Draft, Flow
from refdesign.formats.onnx_layers import Tail, finished, kernel_of
from refdesign.formats.onnx_nodes import HANDLERS
from refdesign.network import Layer, NetworkData

_LARGEST_MAP = 1 << 24


@dataclass
class Report:
    """What was recognised in a file, under which conventions, and what was assumed.

    Attributes:
        recognised: one line for each layer.
        assumed: one line for each choice that the file does not make.
    """

    recognised: list[str] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)


def read(path: str | os.PathLike[str], *, arithmetic: str | None = None) -> tuple[NetworkData, Report]:
    """Read a network from an ONNX file; nothing in it is trusted.

    Args:
        path: the file; external data may lie in its folder.
        arithmetic: the arithmetic that the network is meant under, one of `ARITHMETICS`; None is what the operators
            compute one by one in ONNX Runtime, and `"real"` where there is nothing to round.

    Returns:
        The network, and what was recognised and assumed.

    Raises:
        RefdesignError: a file that is no ONNX model or too new, or a node that was not matched; names file and node.

    >>> read("/nowhere/net.onnx")
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: /nowhere/net.onnx: cannot be read: No such file or directory
    """
    try:
        return from_bytes(read_bytes(path), folder=Path(path).parent, arithmetic=arithmetic)
    except RefdesignError as error:
        raise RefdesignError(f"{os.fspath(path)}: {error}") from error


def from_bytes(data: bytes, *, folder: Path | None = None, arithmetic: str | None = None) -> tuple[NetworkData, Report]:
    """The network in a file's content; `folder` is where its external data may lie. See `read`.

    >>> from_bytes(b"PK")
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: found no ONNX model: truncated or another format
    """
    if arithmetic is not None and arithmetic not in ARITHMETICS:
        raise RefdesignError(f"arithmetic: found {arithmetic!r}, expected one of {', '.join(ARITHMETICS)}")
    model = parse(data)
    importer = _Importer(model, folder)
    importer.walk()
    return importer.network(arithmetic)


class _Importer:
    """One walk through a graph; `values` maps a tensor's name to a constant array or a `Flow`."""

    def __init__(self, model: Any, folder: Path | None) -> None:
        self.graph = model.graph
        self.folder = folder
        versions = {entry.domain: entry.version for entry in model.opset_import}
        self.context = Context(opset=versions.get("", versions.get("ai.onnx", 7)))
        self.values: dict[str, NDArray[Any] | Flow] = {}
        self.tensors = {proto.name: proto for proto in self.graph.initializer}

    def walk(self) -> None:
        self._input()
        for number, node in enumerate(self.graph.node):
            name = node.name or (node.output[0] if node.output else "") or f"number {number}"
            try:
                self._node(node)
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
                "fixed but for N: export with an example of the size that you use"
            )
        self.values[value.name] = Flow.of("pixels", tuple(shape[1:]))

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
        if node.domain in ("", "ai.onnx") and not flows:
            if node.op_type not in constants.COMPUTING:
                raise RefdesignError("found on constants, expected one of " + ", ".join(sorted(constants.COMPUTING)))
            arrays = self._constant(node) if node.op_type == "Constant" else None
            if arrays is None:
                plain = [value if isinstance(value, np.ndarray) else None for value in inputs]
                arrays = constants.compute(node, plain, self.context.opset)
            self.values.update(zip(node.output, arrays, strict=False))
            return
        key = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
        handler = HANDLERS.get(key)
        if handler is None:
            raise RefdesignError(f"found {key}, which no layer of a binary network has; known are "
                                 + ", ".join(sorted(HANDLERS)))  # fmt: skip
        result = handler(self.context, node, inputs)
        self.values[node.output[0]] = result

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
            kind = last.kind if isinstance(last, Flow) else "nothing that depends on the image"
            raise RefdesignError(f"output {output!r}: found {kind}, expected the logits, sums of a last layer")
        if not np.array_equal(np.sort(last.places.ravel()), np.arange(int(np.prod(last.shape)))):
            raise RefdesignError(f"output {output!r}: found a part of the logits, expected all of them")
        stages = [*self.context.stages, (last.draft, self.context.tail(last), (None, 0.0))]
        order = [draft.name for draft, _, _ in stages]
        if order != [draft.name for draft in self.context.drafts]:
            raise RefdesignError(f"graph: found layers {', '.join(order)}, expected each to read the one before")
        report = Report()
        conventions = self._conventions(stages, arithmetic, report)
        layers: list[Layer] = []
        for draft, tail, _ in stages:
            kernel = None
            if tail.over_map is not None:
                kernel = kernel_of(tail.over_map, conventions.channel_map)
            layers.append(finished(draft, tail, kernel))
            report.recognised.append(_line(draft, tail, kernel))
        report.assumed += self.context.assumed
        name = self.graph.name or "imported"
        network = NetworkData(
            name=name, input_shape=self.context.input_shape, layers=tuple(layers), conventions=conventions
        )
        return network, report

    def _conventions(self, stages: list[Any], arithmetic: str | None, report: Report) -> Conventions:
        ties = {rule[0] for _, _, rule in stages[:-1]} - {None}
        if len(ties) > 1:
            choices = ", ".join(f"{rule[0]:+d} in {draft.name}" for draft, _, rule in stages[:-1] if rule[0] in ties)
            raise RefdesignError(f"signs: found {choices} for a sum of zero, expected one choice in a network")
        rounds = {rule[1] > 0 for _, _, rule in stages[:-1]}
        if len(rounds) > 1:
            raise RefdesignError("signs: found the released Keras activation and others, expected one")
        programs = {tail.arithmetic for _, tail, _ in stages} - {None}
        if arithmetic is None:
            if len(programs) > 1:
                raise RefdesignError(
                    f"batch norms: found the programs {', '.join(sorted(map(str, programs)))} in one network; "
                    "name the arithmetic that you mean, such as 'real'"
                )
            arithmetic = str(programs.pop()) if programs else "real"
            report.assumed.append(f"arithmetic {arithmetic!r}: what the file's operators round, one by one")
        sizes = {
            channel_map: sum(
                kernel_of(tail.over_map, channel_map).shape[2] for _, tail, _ in stages if tail.over_map is not None
            )
            for channel_map in ("tile", "repeat")
        }
        channel_map = "tile" if sizes["tile"] <= sizes["repeat"] else "repeat"
        tie, keras = (ties.pop() if ties else 1), rounds == {True}
        report.recognised.append(f"sign: {sign_words(tie, keras)}")
        return Conventions(
            sign_at_zero=tie, sign_rule="keras_round" if keras else "compare", arithmetic=arithmetic,
            channel_map=channel_map,
        )  # fmt: skip


def sign_words(tie: int, keras: bool) -> str:
    """The sign's rule in words.

    >>> sign_words(1, False)
    'of zero is +1'
    """
    return "fires above 2**-24, as the released Keras activation" if keras else f"of zero is {tie:+d}"


def _line(draft: Draft, tail: Tail, kernel: Any) -> str:
    parts = [f"{draft.name}: {draft.kind.kind}, output {draft.shape}"]
    if "pool" in draft.fields:
        parts.append(f"max pool {draft.fields['pool'].size}")
    if tail.batch_norm is not None:
        parts.append("batch norm" if tail.batch_norm.k is None else "batch norm folded into scale and bias")
    if kernel is not None:
        parts.append("threshold kernel of period {}x{} with {} slices".format(*kernel.shape))
    return ", ".join(parts)
