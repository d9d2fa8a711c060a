"""What each ONNX operator does to the parts of a layer that flow into it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.formats import onnx_constants as constants
from refdesign.formats import qonnx_in
from refdesign.formats.onnx_comparisons import (
    TRAINING,
    cast_choice,
    chosen,
    clip,
    compare,
    logical,
    on_choices,
    round_,
    sign,
)
from refdesign.formats.onnx_context import Context, Value, described, only_flow, scalar
from refdesign.formats.onnx_flow import Flow, is_map
from refdesign.formats.onnx_flow import pair as attribute_pair
from refdesign.formats.onnx_functions import INTEGER_CELLS
from refdesign.formats.onnx_layers import as_float32, integer_tail
from refdesign.formats.onnx_moves import move, pad, shape
from refdesign.formats.onnx_pixels import as_sums
from refdesign.formats.onnx_pools import pooled_first
from refdesign.formats.onnx_products import convolution, dense, real_convolution
from refdesign.formats.onnx_real import added, pooled, real_dense
from refdesign.formats.onnx_totals import matrix_of, spread, weighted, windows, with_bias
from refdesign.network import BinaryConv2d, BinaryDense, MaxPool, PixelConv2d
from refdesign.ops.sign import KERAS_ROUND_BOUNDARY

_INTEGER_SUMS = (PixelConv2d, BinaryConv2d, BinaryDense)


def _cumulated(context: Context, node: Any, inputs: list[Value]) -> Flow:
    flow, found = only_flow(inputs), constants.attributes(node)
    axis = int(scalar(inputs[1] if len(inputs) > 1 else None, "an axis"))
    if flow.kind != "total" or found.get("exclusive", 0) or found.get("reverse", 0):
        raise RefdesignError(f"found a running sum of {described(flow)}, expected one of products")
    return replace(flow, running=axis % flow.places.ndim)


def _reduced(context: Context, node: Any, inputs: list[Value]) -> Flow:
    """A sum of products along an axis, or the mean over rows and columns."""
    flow, found = only_flow(inputs), constants.attributes(node)
    given = inputs[1] if len(inputs) > 1 and inputs[1] is not None else found.get("axes", ())
    axes = sorted(int(axis) % flow.places.ndim for axis in np.ravel(np.asarray(given)))
    if flow.kind == "total" and node.op_type == "ReduceSum" and len(axes) == 1 and not found.get("keepdims", 1):
        return spread(flow, axes[0], "ReduceSum")
    first = Flow.of("sums", flow.shape).channels_first()
    rows = next((k for k, places in enumerate((first.places, first.places.transpose(0, 2, 3, 1)))
                 if np.array_equal(flow.places, places)), None)  # fmt: skip
    if flow.kind != "sums" or node.op_type != "ReduceMean" or rows is None or axes != [[2, 3], [1, 2]][rows]:
        raise RefdesignError(f"found {node.op_type} of {described(flow)} over axes {axes}, expected the mean of a map")
    made = pooled(replace(flow, places=first.places), (flow.shape[0], flow.shape[1]))
    _assume_mean(context, node)
    if found.get("keepdims", 1):
        return made if rows == 0 else replace(made, places=made.places.transpose(0, 2, 3, 1))
    return replace(made, places=made.places.reshape(1, -1))


def _average_pool(context: Context, node: Any, inputs: list[Value]) -> Flow:
    flow, found = only_flow(inputs), constants.attributes(node)
    if flow.kind != "sums" or not np.array_equal(flow.places, Flow.of("sums", flow.shape).channels_first().places):
        raise RefdesignError(f"found an average pool of {described(flow)}, expected one of a layer's real values")
    size = (flow.shape[0], flow.shape[1])
    if node.op_type == "AveragePool":
        size = attribute_pair(found, "kernel_shape")
        _check_plain(found, "an average pool")
        if attribute_pair(found, "strides") != size:
            raise RefdesignError("found an average pool of overlapping windows, expected its stride to be its size")
    _assume_mean(context, node)
    return pooled(flow, size)


def _check_plain(found: dict[str, Any], pool: str) -> None:
    if any(found.get("pads", ())) or found.get("ceil_mode", 0) or attribute_pair(found, "dilations") != (1, 1):
        raise RefdesignError(f"found {pool} with padding, ceil mode or dilation, expected none")
    if found.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise RefdesignError(f"found {pool} with auto_pad {found['auto_pad']!r}, expected no padding")


def _assume_mean(context: Context, node: Any) -> None:
    context.assumed.append(
        f"average pool {node.name or node.output[0]!r}: sums row by row and one division; "
        f"the order of {node.op_type} is its runtime's"
    )


def _arithmetic(context: Context, node: Any, inputs: list[Value]) -> Flow:
    kind = node.op_type.lower()
    flows = [value for value in inputs if isinstance(value, Flow)]
    if len(inputs) != 2 or any(value is None for value in inputs):
        raise RefdesignError(f"found {len(inputs)} inputs, expected two")
    if any(flow.kind in ("choice", "bits") for flow in flows):
        return on_choices(context, node, inputs)
    if len(flows) == 2:
        if kind != "add":
            advice = f"; {TRAINING}" if kind == "mul" else ""
            raise RefdesignError(f"found {kind} of two maps of the network, expected one map and constants{advice}")
        return added(context, *flows)
    flow, other = flows[0], np.asarray(inputs[1] if isinstance(inputs[0], Flow) else inputs[0])
    if other.dtype.kind in "iu" and other.dtype.itemsize < 4:
        raise RefdesignError(
            f"found arithmetic in {other.dtype}, which wraps round, expected a cast to float before it"
        )
    if kind == "div" and not isinstance(inputs[0], Flow):
        raise RefdesignError("found a constant divided by a map")
    if kind == "div" and other.dtype.kind in "iu" and flow.kind != "total":
        kind = "quotient"  # of integers, cut towards zero
    if kind == "sub" and not isinstance(inputs[0], Flow):
        if flow.kind == "total":
            raise RefdesignError("found a sum of maps turned round")
        flow, kind = flow.step("mul", np.array([-1.0], np.float32)), "add"
    if flow.kind == "total":
        return _on_total(context, node, flow, kind, other)
    if flow.kind not in ("pixels", "sums"):
        raise RefdesignError(f"found arithmetic on {described(flow)}")
    rows = other.dtype == np.float64 and flow.places.ndim == 3  # a row that is multiplied with a matrix
    enlarged = np.broadcast_shapes(flow.places.shape, other.shape) != flow.places.shape
    if kind == "mul" and (not flow.whole or enlarged or rows):
        return weighted(flow, other)
    return flow.step(kind, other)


def _on_total(context: Context, node: Any, flow: Flow, kind: str, other: NDArray[Any]) -> Flow:
    if kind in ("add", "sub"):
        return with_bias(flow, other if kind == "add" else -other)
    number = scalar(other, "what a sum of maps is multiplied or divided with")
    count = number if kind == "div" else 1 / number if number else 0.0
    size = windows(flow, count)
    return pooled(replace(flow, kind="sums", terms=()), size, str(node.name))


def _cast(context: Context, node: Any, inputs: list[Value]) -> Flow:
    flow, target = only_flow(inputs), int(constants.attributes(node).get("to", 0))
    if flow.kind == "choice":
        return cast_choice(flow, target)
    if flow.kind == "total" and target == 1 and flow.draft is None:
        return real_convolution(context, node, flow)
    if flow.kind == "total" and target == 1:
        weights = matrix_of(flow)
        source = replace(flow, kind="sums", terms=())
        bias = None if flow.bias is None else flow.bias.ravel()
        if weights.dtype != np.float64:
            raise RefdesignError("found a sum of products in float32, whose order rounds, expected float64")
        return real_dense(context, source, weights, bias, str(node.name), flow.spelling)
    if flow.kind == "bits" and target in (1, 3, 6, 7, 11):
        return flow
    if flow.kind == "sums" and flow.steps and target in (1, 11):
        wide = any(
            kind == "wide" or (kind != "table" and getattr(values, "dtype", None) == np.float64)
            for kind, values in flow.steps
        )
        return flow.after("wide") if target == 11 else flow.after("narrow") if wide else flow
    integers = flow.kind == "pixels" or (flow.draft is not None and flow.draft.kind in _INTEGER_SUMS)
    if flow.kind in ("pixels", "sums") and (target in (1, 11) or (target in (6, 7) and integers and not flow.steps)):
        return flow
    raise RefdesignError(f"found a cast of {described(flow)} to type {target}, which could round")


def _cast_like(context: Context, node: Any, inputs: list[Value]) -> Value:
    """A constant in the type of a map: that of float32 where it is known to be, else any, where all hold it."""
    flow = only_flow(inputs, 1)
    value = np.asarray(inputs[0])
    if not np.isin(value, (0, 1)).all() and not (flow.kind == "sums" and flow.steps):
        raise RefdesignError(f"found a constant cast to the type of {described(flow)}, which could be any")
    return as_float32(value.astype(np.float64), "found a constant")


def _dropout(context: Context, node: Any, inputs: list[Value]) -> Flow:
    flow = only_flow(inputs)
    if len(inputs) > 2 and inputs[2] is not None and scalar(inputs[2], "training_mode"):
        raise RefdesignError("found dropout in training mode, expected an export in evaluation mode")
    return flow


def _batch_norm(context: Context, node: Any, inputs: list[Value]) -> Flow:
    found = constants.attributes(node)
    flow = only_flow(inputs)
    if found.get("training_mode", 0):
        raise RefdesignError("found batch norm in training mode, expected an export in evaluation mode")
    if flow.kind != "sums":
        raise RefdesignError(f"found batch norm of {described(flow)}, expected that of a layer's sums")
    arrays = [np.asarray(value) for value in inputs[1:5]]
    channels = flow.places.shape[1] if flow.places.ndim > 1 else 0
    if len(arrays) != 4 or any(array.shape != (channels,) or array.dtype != np.float32 for array in arrays):
        raise RefdesignError(f"found batch norm without the four float32 statistics of {channels} channels")
    epsilon = np.full(channels, found.get("epsilon", 1e-5), np.float32)
    tail = (1,) * (flow.places.ndim - 2)
    over_map = [flow.over_map(array.reshape(-1, *tail)) for array in (*arrays, epsilon)]
    if any(array.size not in (1, flow.shape[-1]) for array in over_map):
        raise RefdesignError("found batch norm over another axis than the channels")
    rows = [np.broadcast_to(array.ravel(), flow.shape[-1:]) for array in over_map]
    return replace(flow, steps=(*flow.steps, ("bn", np.stack(rows))))


def _max_pool(context: Context, node: Any, inputs: list[Value]) -> Flow:
    found, flow = constants.attributes(node), only_flow(inputs)
    draft = flow.draft
    if flow.kind not in ("sums", "choice") or draft is None or not is_map(draft.kind) or "pool" in draft.fields:
        raise RefdesignError(f"found a max pool of {described(flow)}, expected one pool behind a convolution")
    _check_plain(found, "a max pool")
    if not np.array_equal(flow.places, Flow.of("sums", flow.shape).channels_first().places):
        raise RefdesignError("found a max pool of a rearranged map")
    size = attribute_pair(found, "kernel_shape")
    return pooled_first(context, flow, MaxPool(size=size, stride=attribute_pair(found, "strides")))


def _identity(context: Context, node: Any, inputs: list[Value]) -> Flow:
    return only_flow(inputs)


def _dithered_sign(context: Context, node: Any, inputs: list[Value]) -> Flow:
    """`DitheredSign` of this project's exports."""
    flow, found = only_flow(inputs), constants.attributes(node)
    kernel, scale = np.asarray(inputs[1]), np.asarray(inputs[2])
    height, width, channels = _as_map(flow)
    origin, repeat = [int(v) for v in found.get("origin", (0, 0))], int(found.get("channel_repeat", 1))
    if kernel.ndim != 3 or not kernel.size or len(origin) != 2 or repeat < 1 or kernel.dtype != np.float32:
        raise RefdesignError(f"found a kernel of shape {kernel.shape}, origin {origin}, repeat {repeat}")
    rows, columns = ((np.arange(n) + origin[axis]) % kernel.shape[axis] for axis, n in enumerate((height, width)))
    spread = kernel[rows[:, np.newaxis], columns][:, :, np.arange(channels) // repeat % kernel.shape[2]]
    flow = flow.step("sub", scale * spread.transpose(2, 0, 1)[np.newaxis])
    tie, boundary = float(found.get("sign_at_boundary", 0)), float(found.get("boundary", 0.0))
    if boundary == KERAS_ROUND_BOUNDARY and tie == -1:
        z = flow.step("add", np.ones(1, np.float32)).step("mul", np.full(1, 0.5, np.float32))
        return chosen(z, np.full(1, 0.5), (-1.0, -1.0, 1.0))
    return chosen(flow, np.full(1, boundary), (-1.0, tie, 1.0))


def _periodic_threshold(context: Context, node: Any, inputs: list[Value]) -> Flow:
    """`PeriodicThreshold` of this project's exports."""
    flow, found = only_flow(inputs), constants.attributes(node)
    shape = _as_map(flow)
    cells = {name: np.asarray(value) for name, value in zip(INTEGER_CELLS, inputs[1:], strict=False)}
    first = cells.get("threshold", np.zeros(0))
    origin = [int(v) for v in found.get("origin", (0, 0))]
    if len(cells) != 5 or first.ndim != 3 or not first.size or first.shape[2] != shape[2] or len(origin) != 2:
        raise RefdesignError(f"found thresholds of shape {first.shape} for {shape[2]} channels")
    if any(value.shape != first.shape or value.dtype != np.int32 for value in cells.values()) or flow.steps:
        raise RefdesignError("found cells of different shapes, no int32, or sums that are no integers any more")
    if flow.draft is None or flow.kind != "sums" or np.any(np.abs(cells["direction"]) > 1):
        raise RefdesignError("found directions that are not -1, 0 or +1, or no sums")
    tail = integer_tail(cells, origin, shape, flow.draft.largest)
    ties = bool(np.any(cells["zero_low"] <= cells["zero_high"]))
    return context.decided(flow, tail, (0 if ties else None, 0.0))


def _as_map(flow: Flow) -> tuple[int, int, int]:
    shape = flow.shape if len(flow.shape) == 3 else (1, 1, *flow.shape)
    if flow.places.ndim != 4 or flow.kind == "pixels":
        raise RefdesignError("found no map of sums")
    return shape[0], shape[1], shape[2]


Handler = Callable[[Context, Any, list[Value]], Any]


def _deciding(handler: Handler) -> Handler:
    """A handler of what makes bits of sums, or of pixels."""

    def decided(context: Context, node: Any, inputs: list[Value]) -> Any:
        sums = [
            as_sums(context, value) if isinstance(value, Flow) and value.kind == "pixels" else value for value in inputs
        ]
        return handler(context, node, sums)

    return decided


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(constants.MOVING, move),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _arithmetic),
    **dict.fromkeys(("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal"), _deciding(compare)),
    **dict.fromkeys(("Not", "And", "Or", "Xor", "Where", "Neg", "Abs"), logical),
    **dict.fromkeys(("Clip", "Max", "Min"), clip),
    "Identity": _identity, "Dropout": _dropout, "Cast": _cast, "CastLike": _cast_like, "Shape": shape, "Pad": pad,
    "Conv": convolution, "Gemm": dense, "MatMul": dense, "BatchNormalization": _batch_norm, "MaxPool": _max_pool,
    "Sign": _deciding(sign), "Round": round_, "CumSum": _cumulated, "ReduceSum": _reduced, "ReduceMean": _reduced,
    "AveragePool": _average_pool, "GlobalAveragePool": _average_pool,
    "org.refdesign.DitheredSign": _dithered_sign, "org.refdesign.PeriodicThreshold": _periodic_threshold,
    **{key: _deciding(handler) for key, handler in qonnx_in.HANDLERS.items()},
}  # fmt: skip
"""What a node does, by its operator's name."""
