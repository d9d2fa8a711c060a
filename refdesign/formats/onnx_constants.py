"""Nodes of an ONNX graph on constants, and on arrays of element numbers that stand for data on the move."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.formats.onnx_file import tensor
from refdesign.formats.onnx_graph import import_onnx

MOVING = frozenset(
    {"Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose",
     "Unsqueeze"}
)  # fmt: skip
"""Operators that move elements and change none."""

COMPUTING = MOVING | {
    "Abs", "Add", "And", "Cast", "Ceil", "Clip", "Constant", "ConstantOfShape", "Div", "Equal", "Exp", "Floor",
    "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Log", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Pad",
    "Pow", "Range", "Reciprocal", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "Round", "Shape",
    "Sign", "Sqrt", "Sub", "Tanh", "Where",
}  # fmt: skip
"""Operators that are computed where all their inputs are constants."""

_BY_AXES = MOVING - {"Concat", "Gather", "Identity", "Split"} | {"Pad"}
_MOST_NUMBERS = 128

LARGEST = 1 << 26
"""Elements of an array that may come out of a node."""

_FLOAT, _INT, _STRING, _TENSOR, _FLOATS, _INTS = 1, 2, 3, 4, 6, 7
"""ONNX's numbers of the types of attributes that nodes on constants have."""

_NUMERIC = (1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13)
"""ONNX's numbers of the types of elements that a `Cast` may give."""


def attributes(node: Any) -> dict[str, Any]:
    """A node's attributes as Python values.

    >>> attributes(import_onnx().helper.make_node("Concat", ["x"], ["y"], axis=2))
    {'axis': 2}
    """
    return {entry.name: import_onnx().helper.get_attribute_value(entry) for entry in node.attribute}


def compute(node: Any, inputs: Sequence[NDArray[Any] | None], opset: int) -> list[NDArray[Any]]:
    """The outputs of a node of `COMPUTING` on arrays, by the reference evaluator of ONNX, one node at a time.

    Raises:
        RefdesignError: inputs that do not fit the operator, or an output that is too large.

    >>> node = import_onnx().helper.make_node("Add", ["x", "y"], ["z"])
    >>> compute(node, [np.float32([1]), np.float32([2])], 18)
    [array([3.], dtype=float32)]
    """
    found = _checked_attributes(node)
    _check_size(node, inputs, found)
    import_onnx()
    from onnx.reference import ReferenceEvaluator

    given = {name: array for name, array in zip(node.input, inputs, strict=True) if array is not None}
    try:
        with np.errstate(all="ignore"):
            outputs = ReferenceEvaluator(node, opsets={"": opset}).run(None, given)
    except Exception as error:  # whatever the evaluator stumbles over, the node does not fit its inputs
        reason = " ".join(str(error).split())[:200]
        raise RefdesignError(f"cannot be computed: {reason or type(error).__name__}") from error
    arrays = [np.asarray(output) for output in outputs]
    if any(array.dtype.kind not in "biuf" for array in arrays):
        raise RefdesignError(f"cannot be computed: found {node.op_type} of something else than numbers")
    return arrays


def _checked_attributes(node: Any) -> dict[str, Any]:
    """A node's attributes, tensors as arrays: the evaluator would take them as they come, from other files even."""
    for entry in node.attribute:
        if entry.type not in (_FLOAT, _INT, _STRING, _TENSOR, _FLOATS, _INTS):
            raise RefdesignError(f"found the attribute {entry.name!r} of type {entry.type}, expected numbers")
    found = attributes(node)
    if node.op_type == "Cast" and found.get("to") not in _NUMERIC:
        raise RefdesignError(f"found a cast to type {found.get('to')}, expected numbers")
    return {name: tensor(value, None) if isinstance(value, import_onnx().TensorProto) else value
            for name, value in found.items()}  # fmt: skip


def _check_size(node: Any, inputs: Sequence[NDArray[Any] | None], found: Mapping[str, Any]) -> None:
    """Refuse a node whose output would be too large, before it is computed."""
    arrays = [array for array in inputs if array is not None]
    kind, size = node.op_type, 0
    if kind in _BY_AXES and any(array.size > _MOST_NUMBERS for array in arrays[1:]):
        raise RefdesignError(f"found more than {_MOST_NUMBERS} axes or extents, expected some for each axis")
    try:
        if kind in ("ConstantOfShape", "Expand", "Reshape") and arrays:
            size = math.prod(abs(int(extent)) for extent in np.ravel(arrays[-1]))
            size *= arrays[0].size if kind == "Expand" else 1
        elif kind == "Tile" and len(arrays) == 2:
            size = arrays[0].size * math.prod(max(int(extent), 0) for extent in np.ravel(arrays[1]))
        elif kind == "Range" and len(arrays) == 3:
            start, limit, step = (float(np.ravel(array)[0]) for array in arrays)
            size = int(abs((limit - start) / step)) if step else LARGEST + 1
        elif kind == "Pad":
            pads = [int(pad) for pad in (np.ravel(arrays[1]) if len(arrays) > 1 else found.get("pads", ()))]
            extents, count = list(arrays[0].shape), len(pads) // 2
            axes = range(count) if len(inputs) < 4 or inputs[3] is None else [int(axis) for axis in np.ravel(inputs[3])]
            for axis, before, behind in zip(axes, pads[:count], pads[count:], strict=True):
                extents[axis] += abs(before) + abs(behind)
            size = math.prod(max(extent, 1) for extent in extents)
        elif kind == "Gather" and len(arrays) == 2:
            size = arrays[0].size * arrays[1].size // max(1, min(arrays[0].shape, default=1))
        elif kind == "Split":
            size = max(len(node.output), int(found.get("num_outputs", 0)))
        elif kind == "Concat":
            size = sum(array.size for array in arrays)
        elif kind not in MOVING and len(arrays) > 1:
            size = math.prod(np.broadcast_shapes(*(array.shape for array in arrays))) * len(arrays)
    except (ValueError, OverflowError, IndexError) as error:
        raise RefdesignError(f"cannot be computed: {error}") from error
    if size > LARGEST:
        raise RefdesignError(f"cannot be computed: {size} elements, expected at most {LARGEST}")
