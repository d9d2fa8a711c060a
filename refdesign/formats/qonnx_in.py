"""QONNX's operators in an imported graph: `BipolarQuant`, `MultiThreshold`, and `Quant` of one bit.

Brevitas exports the first on weights and activations, FINN's transformations make the second. Their domains are
`qonnx.custom_op.general`, and in older files `finn.custom_op.general` and `onnx.brevitas`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.formats import onnx_constants as constants
from refdesign.formats.onnx_choices import Choice, combined
from refdesign.formats.onnx_context import Context, Value, described, only_flow, scalar
from refdesign.formats.onnx_flow import Flow

DOMAINS = ("qonnx.custom_op.general", "finn.custom_op.general", "onnx.brevitas")
"""The names of QONNX's domain, newest first."""

_MOST_THRESHOLDS = 1


def on_constants(node: Any, inputs: list[Any]) -> list[NDArray[Any]]:
    """A quantiser of weights, in float32 as the package `qonnx` computes it.

    Raises:
        RefdesignError: another operator, or inputs that it does not take.
    """
    if len(inputs) < 2 or any(value is None or value.dtype != np.float32 for value in inputs):
        raise RefdesignError("found no float32 values with a scale")
    x, scale = inputs[0], inputs[1]
    if not np.isfinite(scale).all() or np.any(scale <= 0) or np.broadcast_shapes(x.shape, scale.shape) != x.shape:
        raise RefdesignError("found scales that are not positive, or that enlarge what is quantised")
    with np.errstate(all="ignore"):
        if node.op_type == "BipolarQuant":
            return [np.where(x >= 0, np.float32(1), np.float32(-1)) * scale]
        low, high, zero = _limits(node, inputs)
        if np.broadcast_shapes(x.shape, zero.shape) != x.shape:
            raise RefdesignError("found a zero point that enlarges what is quantised")
        return [(np.rint(np.clip(x / scale + zero, low, high)) - zero) * scale]


def _limits(node: Any, inputs: list[Any]) -> tuple[float, float, NDArray[np.float32]]:
    """The range and zero point of a `Quant` that rounds to the nearest, ties to even."""
    found = constants.attributes(node)
    if found.get("rounding_mode", b"ROUND").upper() != b"ROUND":
        raise RefdesignError("found a rounding mode that is not ROUND")
    if len(inputs) != 4:
        raise RefdesignError("found a Quant without scale, zero point and bit width")
    width, signed, narrow = scalar(inputs[3], "a bit width"), bool(found.get("signed", 1)), bool(found.get("narrow", 0))
    if not 1 <= width <= 32 or width != int(width):
        raise RefdesignError(f"found a bit width of {width:g}, expected a whole number")
    low = -(2.0 ** (width - 1)) + narrow if signed else 0.0
    high = 2.0 ** (width - 1) - 1 if signed else 2.0**width - 1 - narrow
    return low, high, np.asarray(inputs[2])


def bipolar(context: Context, node: Any, inputs: list[Value]) -> Flow:
    """`BipolarQuant(x, scale)`: +scale where x >= 0, -scale elsewhere."""
    flow, scale = only_flow(inputs), scalar(inputs[1] if len(inputs) > 1 else None, "a scale")
    if not np.isfinite(scale) or scale <= 0:
        raise RefdesignError(f"found a scale of {scale}, expected a positive number")
    if flow.kind == "choice":
        made = combined(lambda values: np.where(values >= 0, scale, -scale), [flow.choice])  # type: ignore[list-item]
        return replace(flow, choice=made)
    if flow.kind != "sums":
        raise RefdesignError(f"found BipolarQuant of {described(flow)}, expected that of a layer's sums")
    return replace(flow, kind="choice", choice=Choice.at(flow.over_map(np.zeros(1)), (-scale, scale, scale)))


def quant(context: Context, node: Any, inputs: list[Value]) -> Flow:
    """`Quant` of one bit without a sign: scale above scale/2, else 0; anything wider is no binary activation."""
    flow = only_flow(inputs)
    low, high, zero = _limits(node, list(inputs))
    if high - low != 1:
        width = scalar(inputs[3], "a bit width")
        raise RefdesignError(
            f"found a quantiser of {width:g} bits, values {low:g} to {high:g}: activations are binary here; "
            "use BipolarQuant (Brevitas: SignedBinaryActPerTensorConst)"
        )
    scale = scalar(inputs[1], "a scale")
    if zero.any() or low != 0 or scale <= 0 or np.frexp(scale)[0] != 0.5 or flow.kind != "sums":
        raise RefdesignError(
            f"found a quantiser to {low:g} and {high:g} of scale {scale:g} of {described(flow)}, expected 0 and 1 "
            "times a power of two, of a layer's sums"
        )
    return replace(flow, kind="choice", choice=Choice.at(flow.over_map(np.full(1, scale / 2)), (0.0, 0.0, scale)))


def multi_threshold(context: Context, node: Any, inputs: list[Value]) -> Flow:
    """`MultiThreshold(x, thresholds)`: out_scale times how many thresholds x reaches, plus out_bias."""
    flow, found = only_flow(inputs), constants.attributes(node)
    thresholds = np.asarray(inputs[1]) if len(inputs) > 1 else np.zeros(0)
    if thresholds.ndim != 2 or thresholds.shape[1] != _MOST_THRESHOLDS:
        raise RefdesignError(f"found thresholds of shape {thresholds.shape}, expected (C, 1): one for a binary output")
    if flow.kind != "sums" or flow.batch != 0 or flow.places.ndim not in (2, 4):
        raise RefdesignError(f"found MultiThreshold of {described(flow)}, expected that of a layer's sums")
    layout = found.get("data_layout", b"NCHW" if flow.places.ndim == 4 else b"NC")
    if layout not in (b"NCHW", b"NC", b"NHWC"):
        raise RefdesignError(f"found data_layout {layout!r}, expected NCHW, NHWC or NC")
    tail = (1, 1) if layout == b"NCHW" else ()
    over_map = flow.over_map(thresholds[:, 0].reshape(-1, *tail))
    scale, bias = float(found.get("out_scale", 1.0)), float(found.get("out_bias", 0.0))
    if not (np.isfinite(scale) and np.isfinite(bias) and np.isfinite(over_map).all()):
        raise RefdesignError("found a threshold, out_scale or out_bias that is no finite number")
    values = (bias, bias + scale, bias + scale)
    return replace(flow, kind="choice", choice=Choice.at(over_map, values))


HANDLERS = {
    f"{domain}.{kind}": handler
    for domain in DOMAINS
    for kind, handler in (
        ("BipolarQuant", bipolar), ("Quant", quant), ("IntQuant", quant), ("MultiThreshold", multi_threshold),
    )
}  # fmt: skip
"""What a node does, by its domain and operator's name."""

ON_CONSTANTS = frozenset(f"{domain}.{kind}" for domain in DOMAINS for kind in ("BipolarQuant", "Quant", "IntQuant"))
"""Operators that are computed where all their inputs are constants."""
