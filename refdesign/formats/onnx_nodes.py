"""What each ONNX operator does to the parts of a layer that flow into it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from refdesign.errors import RefdesignError
from refdesign.formats import onnx_constants as constants
from refdesign.formats.onnx_context import Context, Value, only_flow, scalar
from refdesign.formats.onnx_flow import FILL_NUMBERS, Flow, Step, is_map
from refdesign.formats.onnx_flow import pair as attribute_pair
from refdesign.formats.onnx_functions import INTEGER_CELLS
from refdesign.formats.onnx_layers import integer_tail
from refdesign.formats.onnx_products import convolution, dense
from refdesign.formats.onnx_tables import table_step
from refdesign.network import MaxPool
from refdesign.ops.sign import KERAS_ROUND_BOUNDARY


def _move(context: Context, node: Any, inputs: list[Value]) -> Flow:
    """An operator that moves elements moves their numbers."""
    flows = [value for value in inputs if isinstance(value, Flow)]
    first = flows[0]
    if node.op_type == "Gather" and len(inputs) == 2 and isinstance(inputs[0], np.ndarray):
        return replace(first, steps=(table_step(first, inputs[0]),))
    if any(flow.draft is not first.draft or flow.kind != first.kind or flow.steps is not first.steps for flow in flows):
        raise RefdesignError("found two different maps put together, expected parts of one")
    arrays = [value.places if isinstance(value, Flow) else value for value in inputs]
    if any(array is not None and array.dtype != np.int64 for array in arrays):
        raise RefdesignError("found a map put together with constants, expected a Pad")
    if node.op_type == "Concat" and len(flows) != len(inputs):
        raise RefdesignError("found a map put together with constants, expected a Pad")
    moved = constants.compute(node, arrays, context.opset)
    if len(moved) != 1 or moved[0].dtype != np.int64 or moved[0].ndim < 2 or moved[0].shape[0] != 1:
        raise RefdesignError("found the batch's axis moved or split, expected it first and alone")
    return replace(first, places=np.ascontiguousarray(moved[0]))


def _shape(context: Context, node: Any, inputs: list[Value]) -> Any:
    """The shape of a map; the batch counts as 1, which only shapes of the batch itself can see."""
    return constants.compute(node, [only_flow(inputs).places], context.opset)[0]


def _pad(context: Context, node: Any, inputs: list[Value]) -> Flow:
    flow = only_flow(inputs)
    fill = scalar(inputs[2], "the padded value") if len(inputs) > 2 and inputs[2] is not None else 0.0
    if flow.kind not in ("pixels", "bits"):
        raise RefdesignError(f"found padding of {flow.kind}, expected it before a product")
    if fill not in FILL_NUMBERS:
        raise RefdesignError(f"found padding with {fill}, expected 0, +1 or -1")
    arrays = [flow.places, inputs[1], np.array(FILL_NUMBERS[int(fill)], np.int64), *inputs[3:]]
    moved = constants.compute(_with_fill(node), arrays, context.opset)  # type: ignore[arg-type]
    if moved[0].ndim != flow.places.ndim or moved[0].shape[0] != 1:
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


def _arithmetic(context: Context, node: Any, inputs: list[Value]) -> Flow:
    kind = node.op_type.lower()
    if isinstance(inputs[0], Flow):
        flow, other = only_flow(inputs), inputs[1]
    else:
        flow, other = only_flow(inputs, 1), inputs[0]
        if kind == "div":
            raise RefdesignError("found a constant divided by a map")
    if not isinstance(other, np.ndarray):
        raise RefdesignError("found no constant")
    if kind == "sub" and not isinstance(inputs[0], Flow):
        flow, kind = flow.step("mul", np.array([-1.0], np.float32)), "add"
    if flow.kind == "bits":
        # Only the tie of a ternary sign can be moved: sign(sign(z) + 0.1) is +1 at zero.
        shift = scalar(other, "what is added to bits") * (-1 if kind == "sub" else 1)
        if kind in ("add", "sub") and 0 < abs(shift) < 1:
            return replace(flow, kind="shifted", rule=(1 if shift > 0 else -1, 0.0, 1))
        raise RefdesignError("found arithmetic on bits, expected a product")
    if flow.kind in ("fires", "pixels", "sums", "scaled"):
        return flow.step(kind, other)
    raise RefdesignError(f"found arithmetic on {flow.kind}")


def _cast(context: Context, node: Any, inputs: list[Value]) -> Flow:
    flow, target = only_flow(inputs), int(constants.attributes(node).get("to", 0))
    if flow.kind == "fires":
        return replace(flow, kind="scaled")
    if flow.kind == "bits" and target in (1, 3, 6, 7, 11):
        return flow
    if target in (1, 11) or (target in (6, 7) and not flow.steps):
        return flow
    raise RefdesignError(f"found a cast of {flow.kind} to type {target}, which could round")


def _batch_norm(context: Context, node: Any, inputs: list[Value]) -> Flow:
    found = constants.attributes(node)
    flow = only_flow(inputs)
    if flow.kind != "sums" or found.get("training_mode", 0):
        raise RefdesignError("found batch norm in training mode, or not behind sums")
    if not np.array_equal(flow.places, Flow.of("sums", flow.shape).channels_first().places):
        raise RefdesignError("found batch norm over another axis than the channels")
    arrays = [np.asarray(value) for value in inputs[1:5]]
    if len(arrays) != 4 or any(array.shape != (flow.shape[-1],) or array.dtype != np.float32 for array in arrays):
        raise RefdesignError(f"found batch norm without the four float32 statistics of {flow.shape[-1]} channels")
    epsilon = np.full(flow.shape[-1], found.get("epsilon", 1e-5), np.float32)
    return replace(flow, steps=(*flow.steps, ("bn", np.stack([*arrays, epsilon]))))


def _max_pool(context: Context, node: Any, inputs: list[Value]) -> Flow:
    found, flow = constants.attributes(node), only_flow(inputs)
    if flow.kind != "sums" or flow.draft is None or not is_map(flow.draft.kind) or "pool" in flow.draft.fields:
        raise RefdesignError(f"found a max pool of {flow.kind}, expected one pool behind a convolution")
    if any(kind not in ("mul", "add", "sub") or values.ndim != 1 for kind, values in flow.steps) or any(
        kind == "mul" and np.any(values <= 0) for kind, values in flow.steps
    ):
        raise RefdesignError("found a max pool behind a batch norm, expected it before")
    if any(found.get("pads", ())) or found.get("ceil_mode", 0) or attribute_pair(found, "dilations") != (1, 1):
        raise RefdesignError("found a max pool with padding, ceil mode or dilation, expected none")
    if not np.array_equal(flow.places, Flow.of("sums", flow.shape).channels_first().places):
        raise RefdesignError("found a max pool of a rearranged map")
    pool = MaxPool(size=attribute_pair(found, "kernel_shape"), stride=attribute_pair(found, "strides"))
    draft = flow.draft.pooled(pool)
    context.drafts[[other.name for other in context.drafts].index(draft.name)] = draft
    return Flow.of("sums", draft.shape, draft=draft, steps=flow.steps).channels_first()


def _compare(context: Context, node: Any, inputs: list[Value]) -> Flow:
    turned = not isinstance(inputs[0], Flow)
    flow, other = only_flow(inputs, int(turned)), inputs[0 if turned else 1]
    array = np.asarray(other)
    boundary = scalar(array, "what is compared with") if array.size == 1 else 0.0
    if array.size != 1:
        flow = flow.step("sub", array)
    upwards = node.op_type.startswith("Greater") != turned
    tie = node.op_type.endswith("OrEqual")
    if flow.kind != "sums":
        raise RefdesignError(f"found a comparison of {flow.kind}, expected one of sums")
    # The rule says what a tie gives where firing is +1.
    return replace(flow, kind="fires", rule=(1 if tie else -1, boundary, 1 if upwards else -1))


def _not(context: Context, node: Any, inputs: list[Value]) -> Flow:
    flow = only_flow(inputs)
    if flow.kind != "fires":
        raise RefdesignError(f"found the negation of {flow.kind}")
    tie, boundary, direction = flow.rule
    return replace(flow, rule=(-tie, boundary, -direction))


def _where(context: Context, node: Any, inputs: list[Value]) -> Flow:
    condition = inputs[0]
    if not isinstance(condition, Flow) or condition.kind != "fires":
        raise RefdesignError("found a choice by something else than a comparison of sums")
    tie, boundary, direction = condition.rule
    when, other = inputs[1], inputs[2]
    if isinstance(other, Flow):
        return _nested(context, condition, scalar(when, "a bit"), other)
    bits = (scalar(when, "a bit"), scalar(other, "a bit"))
    sums = replace(condition, kind="sums")
    if bits == (1, -1):
        return context.finish(sums, tie, boundary, direction)
    if bits == (-1, 1) and direction < 0:
        return context.finish(sums, -tie, boundary, 1)
    if bits == (-1, 1):
        return context.finish(sums, -tie, boundary, -direction)
    if bits[0] == -1 and bits[1] in (0, -1) and (direction, tie) == (-1, -1):
        return replace(condition, kind="partial", rule=(int(bits[1]), boundary, -1))
    raise RefdesignError(f"found a choice between {bits[0]} and {bits[1]}, expected +1 and -1")


def _nested(context: Context, condition: Flow, when: float, other: Flow) -> Flow:
    """+1 above a boundary, and otherwise -1 below the same boundary and something at it."""
    tie, boundary, direction = condition.rule
    if (when, direction, tie) == (1, 1, -1) and condition.draft is not None and other.draft is condition.draft:
        if other.kind == "partial" and other.rule[1] == boundary and _same(other, condition.steps):
            return context.finish(replace(condition, kind="sums"), other.rule[0], boundary, 1)
        steps, limit = context.signed.get(condition.draft.name, ((), np.nan))
        if other.kind == "bits" and limit == boundary and _same(condition, steps):
            return other  # a sign that is +1 above its boundary already
    raise RefdesignError("found a choice between comparisons that do not meet at one boundary")


def _same(flow: Flow, steps: tuple[Step, ...]) -> bool:
    return len(flow.steps) == len(steps) and all(
        a[0] == b[0] and np.array_equal(a[1], b[1]) for a, b in zip(flow.steps, steps, strict=True)
    )


def _sign(context: Context, node: Any, inputs: list[Value]) -> Flow:
    flow = only_flow(inputs)
    if flow.kind == "shifted" and flow.draft is not None:
        draft, tail, (tie, boundary) = context.stages[-1]
        if draft is not flow.draft or tie != 0:
            raise RefdesignError("found a second sign of bits that are two-valued already")
        context.stages[-1] = (draft, tail, (flow.rule[0], boundary))
        return replace(flow, kind="bits")
    return context.finish(flow, 0, 0.0, 1)


def _scaled(context: Context, node: Any, inputs: list[Value]) -> Flow:
    """Zero and one to ±1: the steps 2*x - 1 end a comparison."""
    flow = _arithmetic(context, node, inputs)
    if flow.kind != "scaled":
        return flow
    forms = [(kind, float(values.ravel()[0])) for kind, values in flow.steps[-2:]]
    if forms in ([("mul", 2.0), ("sub", 1.0)], [("mul", 2.0), ("add", -1.0)]) and _uniform(flow.steps[-2:]):
        tie, boundary, direction = flow.rule
        return context.finish(replace(flow, kind="sums", steps=flow.steps[:-2]), tie, boundary, direction)
    return flow


def _uniform(steps: Any) -> bool:
    return all(np.all(values == values.ravel()[0]) for _, values in steps)


def _clip(context: Context, node: Any, inputs: list[Value]) -> Flow:
    """The released Keras activation, 2*round(clip((z + 1)/2, 0, 1)) - 1."""
    flow, found = only_flow(inputs), constants.attributes(node)
    low = scalar(inputs[1], "a limit") if len(inputs) > 1 else float(found.get("min", -np.inf))
    high = scalar(inputs[2], "a limit") if len(inputs) > 2 else float(found.get("max", np.inf))
    forms = [(kind, float(values.ravel()[0])) for kind, values in flow.steps[-2:]]
    halves = ([("add", 1.0), ("div", 2.0)], [("add", 1.0), ("mul", 0.5)])
    if flow.kind != "sums" or (low, high) != (0, 1) or forms not in halves or not _uniform(flow.steps[-2:]):
        raise RefdesignError("found a clip that is no part of the released Keras activation")
    return replace(flow, kind="clipped", steps=flow.steps[:-2])


def _round(context: Context, node: Any, inputs: list[Value]) -> Flow:
    flow = only_flow(inputs)
    if flow.kind != "clipped":
        raise RefdesignError("found a rounding that is no part of the released Keras activation")
    return replace(flow, kind="scaled", rule=(-1, KERAS_ROUND_BOUNDARY, 1))


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
    return context.finish(flow, int(found.get("sign_at_boundary", 0)), float(found.get("boundary", 0.0)), 1)


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
HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(constants.MOVING, _move),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _scaled),
    **dict.fromkeys(("Greater", "GreaterOrEqual", "Less", "LessOrEqual"), _compare),
    "Identity": _identity, "Dropout": _identity, "Cast": _cast, "Shape": _shape, "Pad": _pad, "Conv": convolution,
    "Gemm": dense, "MatMul": dense, "BatchNormalization": _batch_norm, "MaxPool": _max_pool, "Not": _not,
    "Where": _where, "Sign": _sign, "Clip": _clip, "Round": _round,
    "org.refdesign.DitheredSign": _dithered_sign, "org.refdesign.PeriodicThreshold": _periodic_threshold,
}  # fmt: skip
"""What a node does, by its operator's name."""
