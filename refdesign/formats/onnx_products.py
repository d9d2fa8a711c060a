"""Convolutions and dense products of an imported graph: where their inputs come from, and what their weights are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import PackedBits
from refdesign.errors import RefdesignError
from refdesign.formats import onnx_constants as constants
from refdesign.formats.onnx_context import Context, Value, only_flow
from refdesign.formats.onnx_flow import Draft, Flow, geometry
from refdesign.formats.onnx_layers import product_weights, two_valued
from refdesign.network import BinaryConv2d, BinaryDense, PixelConv2d, RealConv2d

_EXACT = 2**24


def convolution(context: Context, node: Any, inputs: list[Value]) -> Flow:
    """A `Conv` on pixels or bits."""
    flow, found = only_flow(inputs), constants.attributes(node)
    weights = np.asarray(inputs[1]) if len(inputs) > 1 and inputs[1] is not None else np.zeros(0)
    if weights.ndim != 4 or not weights.size or flow.places.ndim != 4:
        raise RefdesignError(f"found weights of shape {weights.shape}, expected (O, I, rows, columns) on maps")
    kernel = (int(weights.shape[2]), int(weights.shape[3]))
    if tuple(found.get("kernel_shape", kernel)) != kernel:
        raise RefdesignError(f"found kernel_shape {found['kernel_shape']} beside weights of {kernel}")
    if flow.kind == "pixels":
        flow = _channels_last(flow)
    elif flow.kind != "bits":
        raise RefdesignError(f"found a convolution of {flow.kind}, expected one of pixels or bits")
    fields = geometry(flow, kernel, found)
    name = _name(context, node, "conv")
    ordered = weights.transpose(0, 2, 3, 1)
    if flow.kind == "pixels":
        kind, special, scale, largest = _pixel_layer(flow, ordered, name)
        context.input_shape = (flow.shape[0], flow.shape[1], flow.shape[2])
    else:
        signs, scale = two_valued(ordered, f"layer {name!r}")
        kind, special, largest = BinaryConv2d, {"weights": product_weights(signs)}, 1.0
    out, rows, columns, depth = ordered.shape
    extents = []
    for axis, taps in enumerate((rows, columns)):
        span = fields["dilation"][axis] * (taps - 1) + 1
        extent = (flow.shape[axis] + 2 * fields["padding"][axis] - span) // fields["stride"][axis] + 1
        extents.append(extent)
    if min(extents) < 1 or extents[0] * extents[1] * out > _EXACT or depth * fields["groups"] != flow.shape[2]:
        raise RefdesignError(f"found weights {weights.shape} in {fields['groups']} groups on a map {flow.shape}")
    draft = Draft(name, kind, {**fields, **special}, (*extents, out), largest * rows * columns * depth)
    return _behind(context, draft, scale, inputs[2] if len(inputs) > 2 else None)


def dense(context: Context, node: Any, inputs: list[Value]) -> Flow:
    """A `MatMul` or `Gemm` on all bits of a map or row."""
    flow, found = only_flow(inputs), constants.attributes(node)
    weights = np.asarray(inputs[1]) if len(inputs) > 1 and inputs[1] is not None else np.zeros(0)
    if weights.ndim != 2 or not weights.size or flow.places.ndim != 2:
        raise RefdesignError(f"found a dense product of {flow.places.shape} and {weights.shape}, expected rows")
    if (found.get("alpha", 1.0), found.get("beta", 1.0), found.get("transA", 0)) != (1.0, 1.0, 0):
        raise RefdesignError("found alpha, beta or transA, expected a plain product")
    matrix = weights if found.get("transB", 0) else weights.T
    if flow.kind != "bits":
        raise RefdesignError(f"found a dense product of {flow.kind}, expected one of bits")
    numbers = flow.places[0]
    if matrix.shape[1] != numbers.size or not np.array_equal(np.sort(numbers), np.arange(int(np.prod(flow.shape)))):
        raise RefdesignError(f"found weights {matrix.shape} on {numbers.size} of {flow.shape}")
    ordered = np.empty_like(matrix)
    ordered[:, numbers] = matrix  # from the graph's order to (row, column, channel)
    name = _name(context, node, "dense")
    signs, scale = two_valued(ordered, f"layer {name!r}")
    draft = Draft(name, BinaryDense, {"weights": product_weights(signs)}, (len(matrix),), float(matrix.shape[1]))
    return _behind(context, draft, scale, inputs[2] if len(inputs) > 2 else None)


def _behind(context: Context, draft: Draft, scale: NDArray[np.float32] | None, bias: Value) -> Flow:
    """The sums of a new layer, scaled and shifted where its weights and bias are."""
    context.drafts.append(draft)
    flow = Flow.of("sums", draft.shape, draft=draft).channels_first()
    tail = (1,) * (len(draft.shape) - 1)
    if scale is not None:
        flow = flow.step("mul", scale.reshape(-1, *tail))
        if np.any(scale != 1):
            context.assumed.append(
                f"{draft.name}: its weights are ±s; s is taken as a scale behind exact sums, where the file's "
                "runtime adds rounded products"
            )
    if bias is not None:
        constant = np.asarray(bias)
        if constant.shape != (draft.shape[-1],) and constant.size != 1:
            raise RefdesignError(f"found a bias of shape {constant.shape} for {draft.shape[-1]} outputs")
        flow = flow.step("add", np.broadcast_to(constant.ravel(), (draft.shape[-1],)).reshape(-1, *tail))
    return flow


def _name(context: Context, node: Any, kind: str) -> str:
    """The name of the layer: what this project's exports call it, or its kind and number."""
    taken = {draft.name for draft in context.drafts}
    name = str(node.name).removesuffix("/product")
    if node.name.endswith("/product") and name not in taken | {"", "logits"} and not {".", "/"} & set(name):
        return name
    number = 1 + len(context.drafts)
    while f"{kind}{number}" in taken:
        number += 1
    return f"{kind}{number}"


def _channels_last(flow: Flow) -> Flow:
    """Pixels in the order (H, W, C), whichever the graph's input has: as they arrive, channels are the second axis."""
    first, second, third = flow.shape
    channels = flow.places.shape[1]
    raw = np.arange(first * second * third).reshape(flow.shape)
    for shape, order in (((second, third, first), (1, 2, 0)), ((first, second, third), (0, 1, 2))):
        ordered = np.transpose(raw, order)
        lookup = np.empty(raw.size, np.int64)
        lookup[ordered.ravel()] = np.arange(raw.size)
        numbers = np.where(flow.places >= 0, lookup[np.maximum(flow.places, 0)], flow.places)
        one = numbers[0, :, numbers.shape[2] // 2, numbers.shape[3] // 2]
        if shape[2] == channels and np.array_equal(one - one[0], np.arange(channels)):
            steps = tuple((kind, np.transpose(values, order)) for kind, values in flow.steps)
            return replace(flow, shape=shape, places=numbers, steps=steps)
    raise RefdesignError(f"found pixels {flow.shape} that arrive as {flow.places.shape[1:]}, expected whole channels")


def _pixel_layer(
    flow: Flow, weights: NDArray[Any], name: str
) -> tuple[Any, dict[str, Any], NDArray[np.float32] | None, float]:
    """The first layer: exact on pixel values m*p + o where these and the weights are integers, real otherwise."""
    if any(np.any(values != values[0, 0]) for _, values in flow.steps):
        raise RefdesignError("found pixels scaled or shifted differently over the map, expected per channel")
    steps = [(kind, np.asarray(values[0, 0], np.float32)) for kind, values in flow.steps]
    kinds = [kind for kind, _ in steps]
    if kinds not in ([], ["mul"], ["add"], ["sub"], ["mul", "add"], ["mul", "sub"]):
        raise RefdesignError(f"found {', '.join(kinds)} of pixels, expected a multiplication and an addition")
    channels = flow.shape[2]
    multiplier = steps[0][1] if kinds[:1] == ["mul"] else np.ones(channels, np.float32)
    offset = steps[-1][1] if kinds[-1:] in (["add"], ["sub"]) else np.zeros(channels, np.float32)
    offset = -offset if kinds[-1:] == ["sub"] else offset
    whole = all(np.all(v == v[0]) and float(v[0]).is_integer() and abs(v[0]) < _EXACT for v in (multiplier, offset))
    if not whole:
        fields = {"weights": np.ascontiguousarray(weights), "scale": multiplier, "shift": offset}
        return RealConv2d, fields, None, 0.0
    value = max(abs(float(offset[0])), abs(255 * float(multiplier[0]) + float(offset[0])), 1.0)
    integers = {"multiplier": int(multiplier[0]), "offset": int(offset[0])}
    if np.all(weights == np.rint(weights)) and np.abs(weights).max() < 2**31 and not np.all(np.abs(weights) == 1):
        grid = np.ascontiguousarray(weights.astype(np.int32))
        return PixelConv2d, {**integers, "weights": grid}, None, value * float(np.abs(weights).max())
    try:
        signs, scale = two_valued(weights, f"layer {name!r}")
    except RefdesignError:
        real = {"weights": np.ascontiguousarray(weights), "scale": multiplier, "shift": offset}
        return RealConv2d, real, None, 0.0
    packed: PackedBits = product_weights(signs)
    return PixelConv2d, {**integers, "weights": packed}, scale, value
