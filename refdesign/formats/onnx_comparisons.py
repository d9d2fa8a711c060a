"""Operators of an imported graph that make, or work on, choices between few values: comparisons, signs, clamps."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.formats import onnx_constants as constants
from refdesign.formats.onnx_choices import Choice, combined, divided
from refdesign.formats.onnx_context import Context, Value, described, only_flow, scalar
from refdesign.formats.onnx_flow import Flow, same_steps

TRAINING = "export the signs themselves, not what trains them"
"""What to do about terms whose gradient alone is wanted."""

_ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": divided, "Neg": np.negative, "Abs": np.abs,
    "Sign": np.sign, "Not": np.logical_not, "And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor,
    "Equal": np.equal, "Greater": np.greater, "GreaterOrEqual": np.greater_equal, "Less": np.less,
    "LessOrEqual": np.less_equal, "Where": np.where, "Round": np.rint, "Floor": np.floor, "Ceil": np.ceil,
    "Max": lambda *values: functools.reduce(np.maximum, values),
    "Min": lambda *values: functools.reduce(np.minimum, values),
}  # fmt: skip
"""Operators on a choice between values, element by element."""


def on_choices(context: Context, node: Any, inputs: list[Value]) -> Flow:
    """An operator on functions with few values of the same sums, and on constants."""
    flows = [value for value in inputs if isinstance(value, Flow)]
    first = flows[0]
    for flow in flows:
        if flow.kind != "choice" or flow.draft is not first.draft or not same_steps(flow.steps, first.steps):
            raise RefdesignError(
                "found an operation on "
                + " and ".join(described(flow) for flow in flows)
                + f", expected parts of one sign; {TRAINING}"
            )
        if not np.array_equal(flow.places, first.places):
            raise RefdesignError("found an operation on a sign and itself rearranged")
    operands = [value.choice if isinstance(value, Flow) else first.over_map(np.asarray(value)) for value in inputs]
    return replace(first, choice=combined(_ELEMENTWISE[node.op_type], operands))  # type: ignore[arg-type]


def compare(context: Context, node: Any, inputs: list[Value]) -> Flow:
    """A comparison of a layer's sums with constants, or of a choice."""
    flows = [value for value in inputs if isinstance(value, Flow)]
    if any(flow.kind == "choice" for flow in flows):
        return on_choices(context, node, inputs)
    turned = not isinstance(inputs[0], Flow)
    flow, other = only_flow(inputs, int(turned)), np.asarray(inputs[0 if turned else 1])
    if flow.kind != "sums":
        raise RefdesignError(f"found a comparison of {described(flow)}, expected one of sums")
    below, at, above = (_ELEMENTWISE[node.op_type](*((0, x) if turned else (x, 0))) for x in (-1, 0, 1))
    return chosen(flow, other, (below, at, above))


def chosen(flow: Flow, point: NDArray[Any], values: tuple[Any, Any, Any]) -> Flow:
    """The choice of a value below, at and above a point."""
    if not np.isfinite(point).all():
        raise RefdesignError("found a comparison with something that is no finite number")
    return replace(flow, kind="choice", choice=Choice.at(flow.over_map(point), values))


def sign(context: Context, node: Any, inputs: list[Value]) -> Flow:
    """-1, 0 or +1."""
    flow = only_flow(inputs)
    if flow.kind == "choice":
        return on_choices(context, node, inputs)
    if flow.kind != "sums":
        raise RefdesignError(f"found the sign of {described(flow)}, expected that of a layer's sums")
    return chosen(flow, np.zeros(1), (-1.0, 0.0, 1.0))


def logical(context: Context, node: Any, inputs: list[Value]) -> Flow:
    """An operator on choices; a real map is only negated."""
    flows = [value for value in inputs if isinstance(value, Flow)]
    if node.op_type == "Neg" and flows[0].kind == "sums":
        return flows[0].step("mul", np.array([-1.0], np.float32))
    return on_choices(context, node, inputs)


def cast_choice(flow: Flow, target: int) -> Flow:
    """A choice's values in another type, by ONNX's number of it."""
    dtype = {1: np.float32, 11: np.float32, 6: np.int64, 7: np.int64, 3: np.int64, 9: np.bool_}.get(target)
    if dtype is None:
        raise RefdesignError(f"found a cast of a choice to type {target}, expected a float, an integer or a boolean")
    return replace(flow, choice=combined(lambda values: values.astype(dtype), [flow.choice]))  # type: ignore[list-item]


def clip(context: Context, node: Any, inputs: list[Value]) -> Flow:
    """A clamp of real values, or of a choice."""
    flow, found = only_flow([value for value in inputs if isinstance(value, Flow)]), constants.attributes(node)
    given = [value for value in inputs if not isinstance(value, Flow)]
    low, high = -np.inf, np.inf
    if node.op_type == "Clip":
        low = scalar(inputs[1], "a limit") if len(inputs) > 1 and inputs[1] is not None else found.get("min", low)
        high = scalar(inputs[2], "a limit") if len(inputs) > 2 and inputs[2] is not None else found.get("max", high)
    elif node.op_type == "Max":
        low = max((_one_number(value) for value in given), default=low)
    else:
        high = min((_one_number(value) for value in given), default=high)
    if flow.kind == "choice":
        return replace(flow, choice=combined(lambda values: np.clip(values, low, high), [flow.choice]))  # type: ignore[list-item]
    if flow.kind != "sums" or np.isnan(low) or np.isnan(high) or low > high:
        raise RefdesignError(f"found a clamp of {described(flow)} to {low:g} and {high:g}, expected one of real values")
    if flow.steps and flow.steps[-1][0] == "clip":  # Min, then Max
        before = flow.steps[-1][1]
        if max(low, float(before[0])) > min(high, float(before[1])):
            raise RefdesignError("found two clamps to ranges that do not meet")
        low, high = max(low, float(before[0])), min(high, float(before[1]))
        flow = replace(flow, steps=flow.steps[:-1])
    return flow.after("clip", low, high)


def _one_number(value: Value) -> float:
    """A constant whose numbers are all the same."""
    if not isinstance(value, np.ndarray) or not value.size or np.any(value != value.ravel()[0]):
        raise RefdesignError("found a clamp to different numbers, expected one")
    return float(value.ravel()[0])


def round_(context: Context, node: Any, inputs: list[Value]) -> Flow:
    """Of values clamped to 0 and 1, to the nearest, ties to even: 1 above 1/2."""
    flow = only_flow(inputs)
    if flow.kind == "choice":
        return on_choices(context, node, inputs)
    if flow.kind != "sums" or not flow.steps or flow.steps[-1][0] != "clip" or flow.steps[-1][1].tolist() != [0, 1]:
        raise RefdesignError(f"found a rounding of {described(flow)}, expected one of values clamped to 0 and 1")
    return chosen(replace(flow, steps=flow.steps[:-1]), np.full(1, 0.5), (0.0, 0.0, 1.0))
