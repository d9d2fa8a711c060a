"""Operators of an imported graph that move elements of a map, or pad it: they move the elements' numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.formats import onnx_constants as constants
from refdesign.formats.onnx_context import Context, Value, described, only_flow, scalar
from refdesign.formats.onnx_flow import FILL_NUMBERS, Flow
from refdesign.formats.onnx_tables import table_step
from refdesign.formats.onnx_totals import last_of, stacked


def move(context: Context, node: Any, inputs: list[Value]) -> Any:
    """An operator that moves elements moves their numbers."""
    flows = [value for value in inputs if isinstance(value, Flow)]
    first = flows[0]
    if node.op_type == "Gather" and len(inputs) == 2 and isinstance(inputs[0], np.ndarray):
        return replace(first, steps=(table_step(first, inputs[0]),))
    if first.kind == "total":
        return _moved_total(node, first, inputs)
    if any(not _alike(flow, first) for flow in flows):
        raise RefdesignError("found two different maps put together, expected parts of one")
    arrays = [value.places if isinstance(value, Flow) else value for value in inputs]
    if any(array is not None and array.dtype != np.int64 for array in arrays):
        raise RefdesignError("found a map put together with constants, expected a Pad")
    if node.op_type == "Concat" and len(flows) != len(inputs):
        raise RefdesignError("found a map put together with constants, expected a Pad")
    moved = constants.compute(node, arrays, context.opset)
    batch = _batch_axis(node, first, arrays, moved[0])
    results = []
    for array in moved:
        if array.dtype != np.int64 or array.ndim <= batch or array.shape[batch] != 1:
            raise RefdesignError("found the batch's axis moved or split, expected one whole image in every part")
        results.append(replace(first, places=np.ascontiguousarray(array), batch=batch))
    return results[0] if len(results) == 1 else results


def _alike(a: Flow, b: Flow) -> bool:
    return (
        a.draft is b.draft and a.kind == b.kind and a.steps is b.steps and a.batch == b.batch
        and (a.choice is b.choice or (a.choice is not None and b.choice is not None and a.choice.same(b.choice)))
    )  # fmt: skip


def _batch_axis(node: Any, flow: Flow, arrays: list[Any], moved: NDArray[Any]) -> int:
    """Where the batch's axis is behind a node that moves elements; away from the front, few nodes say it plainly."""
    found, kind = constants.attributes(node), node.op_type
    if kind == "Transpose":
        order = [int(axis) for axis in found.get("perm", range(flow.places.ndim)[::-1])]
        return order.index(flow.batch)
    if flow.batch == 0:
        if kind in ("Squeeze", "Unsqueeze") and moved.ndim != flow.places.ndim and moved.shape[:1] != (1,):
            raise RefdesignError("found the batch's axis taken away")
        return 0
    axis = int(found.get("axis", 0))
    if kind in ("Split", "Identity"):
        return flow.batch
    sliced = arrays[3] if kind == "Slice" and len(arrays) > 3 and arrays[3] is not None else None
    if sliced is not None and flow.batch not in {int(value) % flow.places.ndim for value in np.ravel(sliced)}:
        return flow.batch
    if kind == "Gather" and arrays[1].ndim <= 1:
        return flow.batch - (arrays[1].ndim == 0 and axis % flow.places.ndim < flow.batch)
    if kind in ("Squeeze", "Unsqueeze"):
        given = arrays[1] if len(arrays) > 1 else found.get("axes", ())
        axes = {int(value) % max(flow.places.ndim, moved.ndim) for value in np.ravel(given)}
        if kind == "Squeeze" and flow.batch not in axes:
            return flow.batch - sum(value < flow.batch for value in axes)
        if kind == "Unsqueeze":
            kept = [value for value in range(moved.ndim) if value not in axes]
            return kept[flow.batch]
    raise RefdesignError("found elements moved while the batch's axis is not the first")


def _moved_total(node: Any, flow: Flow, inputs: list[Value]) -> Flow:
    """Products stacked behind a sum, the last place of a running sum, which is the sum, and its one place."""
    found, kind = constants.attributes(node), node.op_type
    axis = int(found.get("axis", 0)) % flow.places.ndim
    if kind == "Concat":
        return stacked(inputs, axis)
    index = inputs[1] if len(inputs) > 1 and isinstance(inputs[1], np.ndarray) else None
    if kind == "Gather" and index is not None and index.shape == () and len(inputs) == 2:
        extent = flow.places.shape[axis]
        if flow.running == axis and int(index) in (-1, extent - 1):
            return last_of(flow, axis, keep=False)
        if flow.running < 0 and extent == 1 and int(index) in (-1, 0):
            terms = tuple(term.at(0, axis) for term in flow.terms)
            return replace(flow, terms=terms, places=terms[0].places)
    if kind == "Slice" and flow.running >= 0 and len(inputs) >= 4:
        starts, ends, axes = (np.ravel(np.asarray(value)).tolist() for value in inputs[1:4])
        extent = flow.places.shape[flow.running]
        if axes == [flow.running] and starts[0] in (-1, extent - 1) and ends[0] >= extent:
            return last_of(flow, flow.running, keep=True)
    raise RefdesignError("found elements of a sum moved before it is complete")


def shape(context: Context, node: Any, inputs: list[Value]) -> Any:
    """The shape of a map; the batch counts as 1, which only shapes of the batch itself can see."""
    return constants.compute(node, [only_flow(inputs).places], context.opset)[0]


def pad(context: Context, node: Any, inputs: list[Value]) -> Flow:
    """Constants or the map's own elements around it; around real values zeros only."""
    flow = only_flow(inputs)
    if len(inputs) < 2:
        raise RefdesignError("found a Pad with its pads as an attribute, expected one of opset 11 or newer")
    fill = scalar(inputs[2], "the padded value") if len(inputs) > 2 and inputs[2] is not None else 0.0
    if flow.kind == "choice":
        flow = context.bits(flow)
        fill /= flow.scale
    if (flow.kind == "sums" and fill != 0) or flow.kind not in ("pixels", "bits", "sums"):
        raise RefdesignError(f"found padding of {described(flow)}, expected it before a product")
    if fill not in FILL_NUMBERS:
        raise RefdesignError(f"found padding with {fill}, expected 0, +1 or -1")
    arrays = [flow.places, inputs[1], np.array(FILL_NUMBERS[int(fill)], np.int64), *inputs[3:]]
    moved = constants.compute(_with_fill(node), arrays, context.opset)  # type: ignore[arg-type]
    if moved[0].ndim != flow.places.ndim or moved[0].shape[flow.batch] != 1:
        raise RefdesignError("found the batch padded")
    return replace(flow, places=np.ascontiguousarray(moved[0]))


def _with_fill(node: Any) -> Any:
    copy = type(node)()
    copy.CopyFrom(node)
    if len(copy.input) < 3:
        copy.input.append("fill")
    elif not copy.input[2]:
        copy.input[2] = "fill"
    return copy
