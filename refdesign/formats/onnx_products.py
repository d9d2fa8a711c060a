"""Convolutions and dense products of an imported graph: where their inputs come from, and what their weights are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.formats import onnx_constants as constants
from refdesign.formats.onnx_context import Context, Value, described, only_flow
from refdesign.formats.onnx_flow import Draft, Flow, Step, geometry
from refdesign.formats.onnx_layers import NotTwoValued, as_float32, product_weights, two_valued
from refdesign.formats.onnx_pixels import channels_last, pixel_layer, real_layer, whole_image
from refdesign.formats.onnx_real import real_dense
from refdesign.formats.onnx_taps import convolution_of
from refdesign.network import BinaryConv2d, BinaryDense, RealConv2d

_EXACT = 2**24


def convolution(context: Context, node: Any, inputs: list[Value]) -> Flow:
    """A `Conv` on pixels or bits."""
    flow, found = only_flow(inputs), constants.attributes(node)
    weights = np.asarray(inputs[1]) if len(inputs) > 1 and inputs[1] is not None else np.zeros(0)
    if weights.ndim != 4 or not weights.size or flow.places.ndim != 4 or flow.batch != 0:
        raise RefdesignError(f"found weights of shape {weights.shape}, expected (O, I, rows, columns) on maps")
    kernel = (int(weights.shape[2]), int(weights.shape[3]))
    if tuple(found.get("kernel_shape", kernel)) != kernel:
        raise RefdesignError(f"found kernel_shape {found['kernel_shape']} beside weights of {kernel}")
    if flow.kind == "pixels":
        flow = channels_last(flow)
    elif flow.kind in ("choice", "bits"):
        flow = context.bits(flow)
    else:
        raise RefdesignError(f"found a convolution of {described(flow)}, expected one of pixels or bits")
    fields = geometry(flow, kernel, found)
    name = _name(context, node, "conv")
    bias = inputs[2] if len(inputs) > 2 else None
    return _convolved(context, name, flow, weights.transpose(0, 2, 3, 1), fields, bias)


def _convolved(
    context: Context, name: str, flow: Flow, weights: NDArray[Any], fields: dict[str, Any], bias: Value
) -> Flow:
    """The sums of a convolution of pixels (in the order H, W, C) or bits; weights (O, rows, columns, I)."""
    ordered = as_float32(weights, f"layer {name!r}: found weights")
    before: tuple[Step, ...] = ()
    if flow.kind == "pixels":
        kind, special, scale, largest, before = pixel_layer(context, flow, ordered, fields, name)
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
        shape = (out, depth, rows, columns)
        raise RefdesignError(f"found weights {shape} in {fields['groups']} groups on a map {flow.shape}")
    reads = (flow.draft.name if flow.draft else "", flow.places, flow.scale)
    draft = Draft(name, kind, {**fields, **special}, (*extents, out), largest * rows * columns * depth, reads)
    return _behind(context, draft, flow, scale, bias, before)


def dense(context: Context, node: Any, inputs: list[Value]) -> Flow:
    """A `MatMul` or `Gemm` on all bits, all real values, or all pixels, of a map or row."""
    flow, found = only_flow(inputs), constants.attributes(node)
    weights = np.asarray(inputs[1]) if len(inputs) > 1 and inputs[1] is not None else np.zeros(0)
    if weights.ndim != 2 or not weights.size or flow.places.ndim != 2 or flow.batch != 0:
        raise RefdesignError(f"found a dense product of {flow.places.shape} and {weights.shape}, expected rows")
    if (found.get("alpha", 1.0), found.get("beta", 1.0), found.get("transA", 0)) != (1.0, 1.0, 0):
        raise RefdesignError("found alpha, beta or transA, expected a plain product")
    matrix = weights if found.get("transB", 0) else weights.T
    numbers = flow.places[0]
    if matrix.shape[1] != numbers.size or not flow.whole:
        raise RefdesignError(f"found weights {matrix.shape} on {numbers.size} of {flow.shape}")
    ordered = np.empty_like(matrix)
    ordered[:, numbers] = matrix  # from the graph's order to (row, column, channel)
    bias = inputs[2] if len(inputs) > 2 else None
    if flow.kind == "sums":
        return real_dense(context, flow, ordered, bias, str(node.name), node.op_type)
    if flow.kind == "pixels":
        return _dense_of_pixels(context, node, flow, ordered, bias)
    if flow.kind not in ("choice", "bits"):
        raise RefdesignError(f"found a dense product of {described(flow)}, expected one of pixels, bits or real values")
    flow = context.bits(flow)
    name = _name(context, node, "dense")
    try:
        signs, scale = two_valued(ordered, f"layer {name!r}")
    except NotTwoValued as error:
        raise NotTwoValued(f"{error}; a real dense layer is read behind real values, as of an average pool") from error
    reads = (flow.draft.name if flow.draft else "", flow.places, flow.scale)
    fields = {"weights": product_weights(signs)}
    draft = Draft(name, BinaryDense, fields, (len(matrix),), float(matrix.shape[1]), reads)
    return _behind(context, draft, flow, scale, bias)


def _dense_of_pixels(context: Context, node: Any, flow: Flow, weights: NDArray[Any], bias: Value) -> Flow:
    """A convolution whose window is the whole image; weights (O, I) with the inputs in the graph's order."""
    name = _name(context, node, "conv")
    image, order = whole_image(flow)
    context.assumed.append(
        f"{name}: a dense product of all pixels is a convolution of the whole image; the graph's input "
        f"{flow.shape} is taken for {'(C, H, W)' if order[-1] == 0 else '(H, W, C)'}"
    )
    window = weights.reshape(-1, *flow.shape).transpose(0, *(axis + 1 for axis in order))
    fields = geometry(image, (image.shape[0], image.shape[1]), {})
    sums = _convolved(context, name, image, window, fields, bias)
    return replace(sums, places=sums.places.reshape(1, -1))


def real_convolution(context: Context, node: Any, flow: Flow) -> Flow:
    """A first layer whose real products are spelled out, in float64 in the order rows, columns, channels."""
    weights, fields = convolution_of(flow)
    if flow.bias is not None:
        raise RefdesignError("found a bias behind a first layer that is spelled out, expected none")
    name = str(node.name)
    name = context.name(name.removesuffix("/sums") if name.endswith("/sums") else "", "conv")
    _, special, _, _, _ = real_layer(flow.steps, as_float32(weights, f"layer {name!r}: found weights"), name)
    context.input_shape = (flow.shape[0], flow.shape[1], flow.shape[2])
    out, height, width = flow.places.shape[1:]
    draft = Draft(name, RealConv2d, {**fields, **special}, (height, width, out), 0.0)
    return _behind(context, draft, flow, None, None)


def _behind(
    context: Context, draft: Draft, read: Flow, scale: NDArray[np.float32] | None, bias: Value,
    before: tuple[Step, ...] = (),
) -> Flow:  # fmt: skip
    """The sums of a new layer, scaled and shifted where its inputs, weights and bias are."""
    context.drafts.append(draft)
    flow = Flow.of("sums", draft.shape, draft=draft, steps=before).channels_first()
    tail = (1,) * (len(draft.shape) - 1)
    if read.kind == "bits" and read.scale != 1:
        scale = np.float32(read.scale) * (np.ones(draft.shape[-1], np.float32) if scale is None else scale)
        context.assumed.append(f"{draft.name}: it reads ±{read.scale:.9g}, taken as a scale behind exact sums")
    if scale is not None:
        flow = flow.step("mul", scale.reshape(-1, *tail))
        if np.any(scale != 1) and read.scale == 1:
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
    name = str(node.name)
    return context.name(name.removesuffix("/product") if name.endswith("/product") else "", kind)
