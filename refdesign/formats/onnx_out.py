"""Networks as ONNX models whose bits every runtime agrees on.

Two forms, both with the dithered sign as a model-local function (`refdesign.formats.onnx_functions`), or inlined:

- `"folded"`, the default: integer accumulators are compared with integer thresholds, so there is nothing that an
  optimiser could round otherwise. What must stay real (logits behind a batch norm, residual streams) is looked up in
  a table over all attainable accumulators, which holds the named arithmetic's own values.
- `"float"`: batch norm, threshold and sign as float32 operators, for tools that expect them. It is written where the
  network's arithmetic is a program of single float32 operations, or where its bits are the same for every attainable
  accumulator; it holds as long as an optimiser does not merge or re-order float operations (the accumulator passes
  through int32, which kept every optimisation level of ONNX Runtime 1.31 from it).

The input `images` is uint8 (N, H, W, C); outputs have the names, layouts and dtypes of `Network.run`. Sums of
integers are taken in float32 and exact; a runtime whose convolutions are not exact on integers (TF32, Winograd) breaks
them. Metadata: `refdesign.conventions` (JSON), `refdesign.form`, `refdesign.holds_under`, and the network's own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from refdesign.errors import RefdesignError
from refdesign.formats.atomic import write_bytes
from refdesign.formats.onnx_functions import (
    DOMAIN,
    DOMAIN_VERSION,
    METADATA_PREFIX,
    dithered_sign,
    periodic_threshold,
)
from refdesign.formats.onnx_graph import IR_VERSION, OPSET, GraphBuilder, element_type, import_onnx
from refdesign.formats.onnx_sums import average_pool, integer_sums, max_pool, real_dense, real_sums
from refdesign.formats.onnx_thresholding import Thresholding
from refdesign.network import AveragePool, CombinedConv2d, Layer, NetworkData, RealConv2d, RealDense, Stage
from refdesign.run import check_outputs

FORMS = ("folded", "float")
"""The forms of an export."""

_LARGEST_MODEL = 2**31 - 2**20
_HOLDS = {
    "folded": "every optimisation level: bits are integer comparisons",
    "float": "optimisers that keep the order of float operations; checked with ONNX Runtime 1.31, all levels",
}


def write(network: NetworkData, path: str | os.PathLike[str], **options: Any) -> None:
    """Write a network as an ONNX file, all or nothing; `options` are those of `to_model`.

    Raises:
        RefdesignError: as `to_model`, or the file cannot be written.

    >>> import tempfile
    >>> from refdesign.api import pretrained
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(pretrained("digits"), f"{folder}/digits.onnx")
    ...     os.path.exists(f"{folder}/digits.onnx")
    True
    """
    try:
        data: bytes = to_model(network, **options).SerializeToString(deterministic=True)
    except RefdesignError as error:
        raise RefdesignError(f"{os.fspath(path)}: not written: {error}") from error
    write_bytes(path, data)


def to_model(
    network: NetworkData, *, form: str = "folded", inlined: bool = False, outputs: str | Sequence[str] = ("logits",)
) -> Any:
    """A network as an ONNX `ModelProto`.

    Args:
        network: the network.
        form: `"folded"` or `"float"`.
        inlined: whether the functions' bodies stand in the graph, for tools that know no model-local functions.
        outputs: names as in `Network.run`, or `"all"`; `<layer>.uncertain` has no counterpart and is left out.

    Raises:
        RefdesignError: an unknown form or output, or a layer that cannot be expressed in that form, naming it.

    >>> from refdesign.api import pretrained
    >>> model = to_model(pretrained("digits"))
    >>> [value.name for value in model.graph.output], [function.name for function in model.functions]
    (['logits'], ['PeriodicThreshold'])
    """
    if form not in FORMS:
        raise RefdesignError(f"form: found {form!r}, expected one of {', '.join(FORMS)}")
    wanted = [name for name in check_outputs(network, outputs) if not name.endswith(".uncertain")]
    if not wanted:
        raise RefdesignError("outputs: found none that ONNX can give, expected at least one")
    onnx = import_onnx()
    exporter = _Exporter(network, form, wanted)
    graph = exporter.graph()
    used = {node.op_type for node in graph.node if node.domain == DOMAIN}
    functions = [made for made in (dithered_sign(), periodic_threshold()) if made.name in used]
    domains = [onnx.helper.make_opsetid("", OPSET)]
    if functions:
        domains.append(onnx.helper.make_opsetid(DOMAIN, DOMAIN_VERSION))
    model = onnx.helper.make_model(
        graph, opset_imports=domains, functions=functions, ir_version=IR_VERSION, producer_name="refdesign"
    )
    metadata = {
        "conventions": json.dumps(network.conventions.to_dict()),
        "form": form,
        "holds_under": _HOLDS[form],
        **{f"metadata.{key}": value for key, value in network.metadata.items()},
    }
    onnx.helper.set_model_props(model, {f"{METADATA_PREFIX}{key}": _unicode(value) for key, value in metadata.items()})
    if model.ByteSize() > _LARGEST_MODEL:
        raise RefdesignError(f"network {network.name!r}: found {model.ByteSize()} bytes, ONNX files hold 2**31")
    if inlined:
        model = onnx.inliner.inline_local_functions(model)
    onnx.checker.check_model(model)
    return model


def _unicode(text: str) -> str:
    return text.encode(errors="replace").decode()


class _Exporter:
    """One network on its way into a graph; maps are (N, C, H, W), rows (N, C)."""

    def __init__(self, network: NetworkData, form: str, wanted: Sequence[str]) -> None:
        self.network = network
        self.wanted = wanted
        self.builder = GraphBuilder()
        self.tail = Thresholding(self.builder, network, form)
        self.real: dict[str, str] = {}
        self.outputs: dict[str, Any] = {}
        for name in ("images", *wanted):  # the names that users see come first
            self.builder.name(name)

    def graph(self) -> Any:
        onnx = import_onnx()
        x = self.builder.op("Transpose", "images", name="images/NCHW", perm=[0, 3, 1, 2])
        x = self.builder.cast(x, np.float32, "images/float32")
        before = ""
        for layer in self.network.layers:
            last = layer is self.network.layers[-1]
            if isinstance(layer, Stage):
                x = self.stage(layer, x, last)
            else:
                self.real_layer(layer, self.real[before], last)
            before = layer.name
        shape = ["N", *self.network.input_shape]
        images = onnx.helper.make_tensor_value_info("images", element_type(np.uint8), shape)
        results = [self.outputs[name] for name in self.wanted]
        name = _unicode(self.network.name) or "network"
        return onnx.helper.make_graph(
            self.builder.nodes, name, [images], results, initializer=self.builder.initializers
        )

    def keep(self, name: str, value: str, dtype: type[Any], shape: tuple[int, ...]) -> None:
        """Make a value an output, if it is asked for: channels last, in the dtype of `Network.run`."""
        if name not in self.wanted:
            return
        onnx = import_onnx()
        if len(shape) == 3:
            value = self.builder.op("Transpose", value, name=f"{name}/NHWC", perm=[0, 2, 3, 1])
        self.builder.nodes.append(
            onnx.helper.make_node("Cast", [value], [name], name=f"{name}/output", to=element_type(dtype))
        )
        self.outputs[name] = onnx.helper.make_tensor_value_info(name, element_type(dtype), ["N", *shape])

    def stage(self, layer: Stage, x: str, last: bool) -> str:
        """One layer; returns its bits."""
        shapes = self.network.shapes[layer.name]
        integers = not isinstance(layer, (RealConv2d, CombinedConv2d))
        values, bound = self.sums(layer, x)
        if integers:
            self.keep(f"{layer.name}.accumulator", values, np.int32, shapes.accumulator)
        if layer.pool is not None:
            values = max_pool(self.builder, layer.name, layer.pool, values, bound)
            if integers:
                self.keep(f"{layer.name}.pooled", values, np.int32, shapes.output)
        if last:
            plain = integers and layer.batch_norm is None
            logits = values if layer.batch_norm is None else self.tail.normalised(layer, values, dithered=False)
            self.keep("logits", logits, np.int32 if plain else np.float32, shapes.output)
            return ""
        if layer.name in self.network.real_sources or not layer.folds:
            real = self.residual(layer, self.tail.normalised(layer, values, dithered=True))
            self.real[layer.name] = real
            self.keep(f"{layer.name}.real", real, np.float32, shapes.output)
        bits = self.tail.folded_bits(layer, values) if layer.folds else self.tail.plain_bits(layer, real)
        self.keep(f"{layer.name}.bits", bits, np.int8, shapes.output)
        return bits

    def sums(self, layer: Stage, x: str) -> tuple[str, float | None]:
        """The accumulators, and how large they can be where they are integers."""
        shape = self.network.shapes[layer.name].input
        if isinstance(layer, RealConv2d):
            return real_sums(self.builder, layer, x, shape), None
        bases, bound = integer_sums(self.builder, layer, x, shape)
        if not isinstance(layer, CombinedConv2d):
            return bases[0], bound
        total = ""
        for basis, scale in zip(bases, layer.scales, strict=True):
            exact = self.builder.cast(basis, np.float32, f"{layer.name}/basis")
            factor = self.builder.constant(scale.reshape(-1, 1, 1), f"{layer.name}/scale")
            term = self.builder.op("Mul", exact, factor, name=f"{layer.name}/term")
            total = self.builder.op("Add", total, term, name=f"{layer.name}/total") if total else term
        return total, None

    def residual(self, layer: Stage, z: str) -> str:
        """The real stream behind z: the shortcut's addition, and hardtanh."""
        build = self.builder
        if layer.shortcut is not None:
            source = self.real[layer.shortcut.source]
            if layer.shortcut.average_pool > 1:
                size = (layer.shortcut.average_pool,) * 2
                shape = self.network.shapes[layer.shortcut.source].output
                source = average_pool(build, f"{layer.name}/shortcut", source, shape, size)
            before, behind = layer.shortcut.channel_padding
            if before or behind:
                pads = build.constant([0, before, 0, 0, 0, behind, 0, 0], f"{layer.name}/shortcut/pads")
                source = build.op("Pad", source, pads, name=f"{layer.name}/shortcut")
            z = build.op("Add", z, source, name=f"{layer.name}/residual")
        if layer.hardtanh:
            low, high = (build.constant(np.float32(v), f"{layer.name}/limit") for v in (-1, 1))
            z = build.op("Clip", z, low, high, name=f"{layer.name}/hardtanh")
        return z

    def real_layer(self, layer: Layer, x: str, last: bool) -> None:
        """A layer on the real stream."""
        shapes = self.network.shapes[layer.name]
        if isinstance(layer, AveragePool):
            result = average_pool(self.builder, layer.name, x, shapes.input, layer.size)
        elif isinstance(layer, RealDense):
            if len(shapes.input) == 3:
                x = self.builder.op("Transpose", x, name=f"{layer.name}/NHWC", perm=[0, 2, 3, 1])
                x = self.builder.op("Flatten", x, name=f"{layer.name}/flat", axis=1)
            if layer.input_batch_norm is not None:
                x = self.tail.float_program(layer.name, x, layer.input_batch_norm, ())
            result = real_dense(self.builder, layer, x)
        else:
            raise RefdesignError(f"layer {layer.name!r}: found kind {layer.kind!r}, which ONNX export does not know")
        self.real[layer.name] = result
        self.keep("logits" if last else f"{layer.name}.real", result, np.float32, shapes.output)
