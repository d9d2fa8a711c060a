"""ONNX files read without trust: sizes first, external data only from the file's own folder, no code."""

from __future__ import annotations

import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.formats.files import LARGEST_FILE, opened
from refdesign.formats.onnx_graph import import_onnx

LARGEST_GRAPH = 1 << 15
"""Nodes, and initialisers, of a graph."""

NEWEST_OPSET = 26
"""The newest version of the standard operators that the reader knows."""

_MOST_AXES = 32

_ITEM_BYTES = {1: 4, 2: 1, 3: 1, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8}
"""Bytes of an element, by ONNX's number of its type: float, uint8, int8, int32, int64, bool, float16, double."""


def parse(data: bytes) -> Any:
    """The `ModelProto` in a file's content, its version, domains and size checked.

    Raises:
        RefdesignError: not an ONNX model, a newer one, or one of a size that no network has.

    >>> parse(b"no model")
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: found no ONNX model: truncated or another format
    """
    onnx = import_onnx()
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # the parser's own exception type differs between versions of protobuf
        raise RefdesignError("found no ONNX model: truncated or another format") from error
    if not model.HasField("graph") or not model.graph.node:
        raise RefdesignError("found no ONNX model: truncated or another format")
    graph = model.graph
    if max(len(graph.node), len(graph.initializer)) > LARGEST_GRAPH:
        raise RefdesignError(f"graph: found {len(graph.node)} nodes, expected at most {LARGEST_GRAPH}")
    for node in (*graph.node, *(node for function in model.functions for node in function.node)):
        if not f"{node.domain}.{node.op_type}".isprintable():
            raise RefdesignError(f"node {node.name!r}: found the operator {node.op_type!r}, expected a name in print")
    _check_names(graph)
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx") and not 7 <= opset.version <= NEWEST_OPSET:
            raise RefdesignError(
                f"opset: found {opset.version}, expected 7 to {NEWEST_OPSET}: export with such a version"
            )
    return model


def _check_names(graph: Any) -> None:
    """Refuse a tensor that is there twice: which of the two a node reads would depend on who reads the file."""
    given = [proto.name for proto in graph.initializer]
    made = [name for node in graph.node for name in node.output if name]
    inputs = {value.name for value in graph.input}  # which older files list their initialisers among
    counts = Counter([*given, *made, *inputs.difference(given)])
    twice = next((name for name, count in counts.items() if count > 1), None)
    if twice is not None:
        raise RefdesignError(f"tensor {twice!r}: found it {counts[twice]} times, expected each once")


def tensor(proto: Any, folder: Path | None) -> NDArray[Any]:
    """A tensor's values, checked against its size before anything is allocated.

    Args:
        proto: a `TensorProto`.
        folder: where its external data may lie; None refuses external data.

    Raises:
        RefdesignError: an unknown type, a wrong size, or external data outside the folder.

    >>> onnx = import_onnx()
    >>> tensor(onnx.numpy_helper.from_array(np.float32([1, 2]), "x"), None)
    array([1., 2.], dtype=float32)
    """
    where = f"tensor {proto.name!r}"
    item = _ITEM_BYTES.get(proto.data_type)
    if item is None:
        raise RefdesignError(f"{where}: found type {proto.data_type}, expected floats, integers or booleans")
    if len(proto.dims) > _MOST_AXES:
        raise RefdesignError(f"{where}: found {len(proto.dims)} axes, expected at most {_MOST_AXES}")
    shape = tuple(proto.dims)
    count = math.prod(shape)
    if min(shape, default=0) < 0 or math.prod(max(extent, 1) for extent in shape) * item > LARGEST_FILE:
        raise RefdesignError(f"{where}: found shape {shape}, expected extents that fit into a file")
    if proto.data_location == proto.EXTERNAL:
        dtype = import_onnx().helper.tensor_dtype_to_np_dtype(proto.data_type)
        raw = _external(proto, folder, where, count * item)
        return np.frombuffer(raw, dtype=dtype.newbyteorder("<")).astype(dtype).reshape(shape)
    found = len(proto.raw_data) if proto.HasField("raw_data") else _typed_count(proto) * item
    if found != count * item:
        raise RefdesignError(f"{where}: found {found} bytes, expected {count * item} for shape {shape}")
    try:
        return np.asarray(import_onnx().numpy_helper.to_array(proto))
    except (ValueError, TypeError, OverflowError) as error:
        raise RefdesignError(f"{where}: found values that do not fit its type") from error


def _typed_count(proto: Any) -> int:
    fields = {1: "float_data", 7: "int64_data", 11: "double_data"}
    return len(getattr(proto, fields.get(proto.data_type, "int32_data")))


def _external(proto: Any, folder: Path | None, where: str, size: int) -> bytes:
    entries = {entry.key: entry.value for entry in proto.external_data}
    location = entries.get("location", "")
    if folder is None:
        raise RefdesignError(f"{where}: found external data, expected the values in the file")
    root = os.path.realpath(folder)
    target = os.path.realpath(os.path.join(root, location)) if "\0" not in location else root
    if not location or os.path.isabs(location) or os.path.commonpath([root, target]) != root or target == root:
        raise RefdesignError(f"{where}: found external data at {location!r}, expected a file beside the model")
    try:
        offset, length = int(entries.get("offset", "0")), int(entries.get("length", size))
    except ValueError as error:
        raise RefdesignError(f"{where}: found an external offset or length that is no number") from error
    if offset < 0 or length != size:
        raise RefdesignError(f"{where}: found {length} bytes at {offset} of external data, expected {size}")
    try:
        with opened(target) as (stream, held):
            if offset + size > held:
                raise RefdesignError(f"found {held} bytes, expected {size} from {offset} on")
            stream.seek(offset)
            return stream.read(size)
    except RefdesignError as error:
        raise RefdesignError(f"{where}: external data {location!r}: {error}") from error
