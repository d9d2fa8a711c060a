"""Networks as QONNX models: weights behind `BipolarQuant`, bits by `MultiThreshold` with one threshold per channel.

QONNX's thresholds belong to channels, not to places of a map. So a network goes out where every layer is binary
without residual additions, its thresholds are the same over the whole map (the plain sign, or a kernel of one cell per
channel), and no sum gives a 0. Everything else is refused, naming the layer.

The input `images` is float32 (1, C, H, W) that holds 0 to 255, the output `logits` float32 (1, O); that is what FINN's
transformations take. Sums are integers that float32 holds exactly. Channels that fire at or below their threshold have
their weights negated, or behind a max pool their sums. A batch norm behind the last layer is written as elementwise
operations of float32 or float64 that give the network's own value for every attainable sum, which is tried.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import PackedBits
from refdesign.errors import RefdesignError
from refdesign.fold import Thresholds
from refdesign.formats.atomic import write_bytes
from refdesign.formats.onnx_functions import METADATA_PREFIX
from refdesign.formats.onnx_graph import IR_VERSION, OPSET, GraphBuilder, element_type, import_onnx
from refdesign.formats.onnx_sums import padded, pixel_values, signs
from refdesign.formats.qonnx_in import DOMAINS
from refdesign.network import (
    BinaryConv2d,
    BinaryDense,
    NetworkData,
    PixelConv2d,
    Stage,
    accumulator_domain,
    fold_channels,
)
from refdesign.ops.batch_norm import batch_norm, scale_and_shift
from refdesign.parameters import BatchNorm
from refdesign.paths import thresholds_of

DOMAIN = DOMAINS[0]
DOMAIN_VERSION = 1
_EXACT = 2**24


def write(network: NetworkData, path: str | os.PathLike[str]) -> None:
    """Write a network as a QONNX file, all or nothing.

    Raises:
        RefdesignError: as `to_model`, or the file cannot be written.

    >>> from refdesign.api import pretrained
    >>> write(pretrained("digits"), "net.onnx")
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: net.onnx: not written: layer 'conv1', kernel: found thresholds that vary over the \
map with period 2x2, expected one per channel, which is all that MultiThreshold has; form 'folded' has them
    """
    try:
        data: bytes = to_model(network).SerializeToString(deterministic=True)
    except RefdesignError as error:
        raise RefdesignError(f"{os.fspath(path)}: not written: {error}") from error
    write_bytes(path, data)


def to_model(network: NetworkData) -> Any:
    """A network as a QONNX `ModelProto`.

    Raises:
        RefdesignError: a layer that QONNX has no operators for, naming it.

    >>> from refdesign.api import pretrained
    >>> operators = [node.op_type for node in to_model(pretrained("digits-sign")).graph.node]
    >>> operators.count("Conv"), operators.count("MatMul"), "BipolarQuant" in operators
    (4, 2, True)
    """
    onnx = import_onnx()
    builder = GraphBuilder()
    for name in ("images", "logits"):
        builder.name(name)
    height, width, channels = network.input_shape
    thresholds = thresholds_of(network)
    value = "images"
    for layer in network.layers:
        if not isinstance(layer, (PixelConv2d, BinaryConv2d, BinaryDense)) or layer.shortcut is not None:
            raise RefdesignError(
                f"layer {layer.name!r}: found {layer.kind}"
                + (" with a residual addition" if isinstance(layer, Stage) and layer.shortcut else "")
                + ", expected binary layers without residual additions, which are what QONNX's thresholds end"
            )
        if layer is network.layers[-1]:
            value = _logits(builder, network, layer, value)
        else:
            value = _bits(builder, network, layer, value, thresholds[layer.name])
    graph = onnx.helper.make_graph(
        builder.nodes, network.name.encode(errors="replace").decode() or "network",
        [onnx.helper.make_tensor_value_info("images", element_type(np.float32), [1, channels, height, width])],
        [onnx.helper.make_tensor_value_info(value, element_type(np.float32),
                                            [1, *network.shapes[network.layers[-1].name].output])],
        initializer=builder.initializers,
    )  # fmt: skip
    domains = [onnx.helper.make_opsetid("", OPSET), onnx.helper.make_opsetid(DOMAIN, DOMAIN_VERSION)]
    model = onnx.helper.make_model(graph, opset_imports=domains, ir_version=IR_VERSION, producer_name="refdesign")
    conventions = json.dumps(network.conventions.to_dict())
    onnx.helper.set_model_props(
        model, {f"{METADATA_PREFIX}conventions": conventions, f"{METADATA_PREFIX}form": "qonnx"}
    )
    onnx.checker.check_model(model)
    return model


def _bits(builder: GraphBuilder, network: NetworkData, layer: Stage, x: str, found: Thresholds) -> str:
    """A layer's bits, ±1."""
    if found.shape[:2] != (1, 1) and np.any(found.threshold != found.threshold[0, 0]) | np.any(
        (found.direction != found.direction[0, 0]) | (found.constant != found.constant[0, 0])
    ):
        raise RefdesignError(
            f"layer {layer.name!r}, kernel: found thresholds that vary over the map with period "
            f"{found.shape[0]}x{found.shape[1]}, expected one per channel, which is all that MultiThreshold has; "
            "form 'folded' has them"
        )
    if found.ternary.any():
        raise RefdesignError(
            f"layer {layer.name!r}: found sums that give 0 (sign_at_zero 0) in {int(found.ternary.any((0, 1)).sum())} "
            "channels, expected bits of two values"
        )
    low, high, step = accumulator_domain(layer, ternary_input=False)
    direction = found.direction[0, 0].astype(np.int64)
    threshold = direction * found.threshold[0, 0].astype(np.int64)
    # A constant channel gets a threshold below or above everything.
    threshold = np.where(direction != 0, threshold, np.where(found.constant[0, 0] > 0, low - step, high + step))
    flips = np.where(direction < 0, -1, 1)
    if np.abs(threshold).max() > _EXACT:
        raise RefdesignError(f"layer {layer.name!r}: found thresholds beyond 2**24, which float32 does not hold")
    sums = _sums(builder, network, layer, x, np.ones_like(flips) if layer.pool else flips)
    if layer.pool and np.any(flips < 0):
        tail = (1, 1)
        turned = builder.constant(flips.astype(np.float32).reshape(-1, *tail), f"{layer.name}/directions")
        sums = builder.op("Mul", sums, turned, name=f"{layer.name}/turned")
    cells = builder.constant(threshold.astype(np.float32).reshape(-1, 1), f"{layer.name}/thresholds")
    layout = "NCHW" if len(network.shapes[layer.name].output) == 3 else "NC"
    return builder.op(
        "MultiThreshold", sums, cells, name=f"{layer.name}/bits", domain=DOMAIN, out_scale=2.0, out_bias=-1.0,
        out_dtype="BIPOLAR", data_layout=layout,
    )  # fmt: skip


def _sums(builder: GraphBuilder, network: NetworkData, layer: Stage, x: str, flips: NDArray[Any]) -> str:
    """A layer's sums, pooled; with outputs negated where `flips` is -1."""
    shape, name = network.shapes[layer.name].input, layer.name
    if isinstance(layer, BinaryDense):
        weights = signs(layer.weights) * flips[:, np.newaxis]
        if len(shape) == 3:  # from (row, column, channel) to the order of a flattened map
            weights = weights.reshape(-1, *shape).transpose(0, 3, 1, 2).reshape(weights.shape)
            x = builder.op("Flatten", x, name=f"{name}/flat", axis=1)
        return builder.op("MatMul", x, _weights(builder, name, weights.T, True), name=f"{name}/product")
    if not isinstance(layer, (PixelConv2d, BinaryConv2d)):
        raise RefdesignError(f"layer {name!r}: found {layer.kind}, expected a binary layer")
    low, high, _ = accumulator_domain(layer, ternary_input=False)
    if max(-int(low.min()), int(high.max())) > _EXACT:
        raise RefdesignError(f"layer {name!r}: found sums beyond 2**24, which float32 does not hold exactly")
    if isinstance(layer, PixelConv2d):
        x = pixel_values(builder, layer, x)
    x = padded(builder, layer, x, shape)
    weights = (signs(layer.weights) * flips.reshape(-1, 1, 1, 1)).transpose(0, 3, 1, 2)
    bipolar = isinstance(layer.weights, PackedBits)
    pads = list(layer.padding * 2) if layer.padding_mode == "zeros" else [0, 0, 0, 0]
    x = builder.op(
        "Conv", x, _weights(builder, name, weights, bipolar), name=f"{name}/product", strides=list(layer.stride),
        pads=pads, dilations=list(layer.dilation), group=layer.groups, kernel_shape=list(weights.shape[2:]),
    )  # fmt: skip
    if layer.pool is None:
        return x
    size, stride = list(layer.pool.size), list(layer.pool.stride)
    return builder.op("MaxPool", x, name=f"{name}/pool", kernel_shape=size, strides=stride)


def _weights(builder: GraphBuilder, name: str, weights: NDArray[Any], bipolar: bool) -> str:
    stored = builder.constant(np.ascontiguousarray(weights.astype(np.float32)), f"{name}/weights")
    if not bipolar:
        return stored
    scale = builder.constant(np.float32(1), f"{name}/scale")
    return builder.op("BipolarQuant", stored, scale, name=f"{name}/bipolar", domain=DOMAIN)


def _logits(builder: GraphBuilder, network: NetworkData, layer: Stage, x: str) -> str:
    """The last layer's sums, behind its batch norm where it has one."""
    value = _sums(builder, network, layer, x, np.ones(layer.out_channels, np.int64))
    if layer.batch_norm is not None:
        low, high, step = accumulator_domain(layer, ternary_input=False)
        size = int((high - low).max()) // step + 1
        if size * layer.out_channels > 2**26:
            raise RefdesignError(f"layer {layer.name!r}: found {size} attainable sums, too many to compare")
        sums = np.minimum(low + step * np.arange(size, dtype=np.int64)[:, np.newaxis], high).astype(np.int32)
        norm = fold_channels(layer)
        meant = batch_norm(sums, norm, network.conventions.arithmetic)
        spelled = next(
            (steps for steps in _spellings(norm, network.conventions.arithmetic)
             if np.array_equal(_computed(sums, steps), meant)), None,
        )  # fmt: skip
        if spelled is None:
            raise RefdesignError(
                f"layer {layer.name!r}, batch norm: found arithmetic {network.conventions.arithmetic!r}, whose values "
                "neither float32 nor float64 operations give for every attainable sum"
            )
        axes = (1, 1) if len(network.shapes[layer.name].output) == 3 else ()
        wide = False
        for kind, parameter in spelled:
            if parameter.dtype == np.float64 and not wide:
                value, wide = builder.cast(value, np.float64, f"{layer.name}/wide"), True
            operand = builder.constant(parameter.reshape(-1, *axes), f"{layer.name}/{kind.lower()}")
            value = builder.op(kind, value, operand, name=f"{layer.name}/y")
        if wide:
            value = builder.cast(value, np.float32, f"{layer.name}/narrow")
    builder.nodes[-1].output[0] = "logits"
    return "logits"


Operations = list[tuple[str, NDArray[Any]]]


def _spellings(norm: BatchNorm, arithmetic: str) -> Iterator[Operations]:
    """Ways to write a batch norm as elementwise operations, each in the type of its constant."""
    if norm.affine is not None:
        return
    alpha: Operations = [] if norm.alpha is None else [("Mul", norm.alpha)]
    if arithmetic == "released_torch":
        deviation = np.sqrt(norm.variance + np.float32(norm.epsilon))
        yield [*alpha, ("Sub", norm.mean), ("Div", deviation), ("Mul", norm.gamma), ("Add", norm.beta)]
    try:
        k, c = scale_and_shift(norm, arithmetic if arithmetic in ("torch", "keras") else "onnxruntime")
    except RefdesignError:
        return
    yield [*alpha, ("Mul", k), ("Add", c)]
    yield [*alpha, ("Mul", k.astype(np.float64)), ("Add", c.astype(np.float64))]
    mean, gamma, beta = (value.astype(np.float64) for value in (norm.mean, norm.gamma, norm.beta))
    deviation = np.sqrt(norm.variance.astype(np.float64) + norm.epsilon)
    scales = [(kind, value.astype(np.float64)) for kind, value in alpha]
    yield [*scales, ("Sub", mean), ("Mul", gamma), ("Div", deviation), ("Add", beta)]


def _computed(sums: NDArray[np.int32], steps: Operations) -> NDArray[np.float32]:
    operations = {"Mul": np.multiply, "Add": np.add, "Sub": np.subtract, "Div": np.divide}
    value: NDArray[Any] = sums.astype(np.float32)
    with np.errstate(all="ignore"):
        for kind, parameter in steps:
            value = operations[kind](value.astype(parameter.dtype), parameter)
        return value.astype(np.float32)
