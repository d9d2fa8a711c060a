"""ONNX models and ONNX Runtime sessions as implementations under test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from refdesign.errors import RefdesignError, missing_extra
from refdesign.network import NetworkData
from refdesign.verify.doors.mapping import INPUT_TYPES, Map
from refdesign.verify.implementation import comparable_outputs

Array = NDArray[Any]
_TYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16"}


def read(path: Path) -> Any:
    """An ONNX file as a `ModelProto`; weights in files beside it are read too.

    Raises:
        MissingExtra: `onnx` is not installed.
    """
    return _onnx().load(str(path))


def model(target: Any, network: NetworkData, mapping: Map) -> SessionModel:
    """A session, or a `ModelProto`, which becomes one with every tensor that the map names among its outputs."""
    if isinstance(target, onnxruntime.InferenceSession):
        return SessionModel(target, network)
    own = [value.name for value in target.graph.output]
    return SessionModel(_session(target, list(mapping["names"].values())), network, own)


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise missing_extra("onnx", "onnx") from error
    return onnx


def _session(proto: Any, wanted: Sequence[str]) -> Any:
    onnx = _onnx()
    opened = onnx.ModelProto()
    opened.CopyFrom(proto)
    outputs = {value.name for value in opened.graph.output}
    inside = {name for node in opened.graph.node for name in node.output} - outputs
    for name in dict.fromkeys(wanted):
        if name in inside:
            opened.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(opened.SerializeToString(), options, providers=["CPUExecutionProvider"])


class SessionModel:
    """A session; its places are the graph's outputs.

    Args:
        session: with one input, the images.
        network: the network that it implements, which gives the images' shape.
        own: the outputs that the model had by itself; None: all.

    Raises:
        RefdesignError: several inputs, or one of a type or shape that images cannot have.
    """

    def __init__(self, session: Any, network: NetworkData, own: Sequence[str] | None = None) -> None:
        self._session = session
        inputs = session.get_inputs()
        if len(inputs) != 1:
            names = ", ".join(entry.name for entry in inputs)
            raise RefdesignError(f"ONNX model: found the inputs {names}, expected one, the images")
        self._input = inputs[0].name
        self._batch = inputs[0].shape[0] if inputs[0].shape and isinstance(inputs[0].shape[0], int) else None
        self._outputs = [output.name for output in session.get_outputs()]
        self.what = f"ONNX Runtime {onnxruntime.__version__} on {', '.join(session.get_providers())}"
        self.layout = _layout(inputs[0].shape, network)
        self.channels_first = self.layout == "n c h w"
        self.dtype = _dtype(inputs[0].type)
        self.returns: Sequence[str] = ()
        self.notes = [f"the model takes {self._batch} images at a time"] if self._batch is not None else []
        self.places: Mapping[str, str] = dict.fromkeys(self._outputs, "value")
        own = self._outputs if own is None else own
        alone = len(own) == 1 and own[0] not in comparable_outputs(network)
        self._logits = "logits" if "logits" in self._outputs else own[0] if alone else None

    def run(self, images: Array, places: Sequence[str]) -> tuple[Any, dict[str, Array]]:
        """The logits (the output of that name, or the model's only one), and the graph's outputs."""
        size = len(images) if self._batch is None else self._batch
        pieces = []
        for start in range(0, len(images), max(size, 1)):
            piece = images[start : start + size]
            fill = np.zeros((size - len(piece), *images.shape[1:]), images.dtype)
            found = self._session.run(self._outputs, {self._input: np.concatenate([piece, fill])})
            pieces.append([value[: len(piece)] for value in found])
        values = {name: np.concatenate([piece[place] for piece in pieces]) for place, name in enumerate(self._outputs)}
        inside = {name: values[name] for name in places}
        return ({} if self._logits is None else {"logits": values[self._logits]}), inside


def _layout(shape: Sequence[Any], network: NetworkData) -> str:
    height, width, channels = network.input_shape
    if len(shape) != 4:
        raise RefdesignError(f"ONNX model, input: found shape {list(shape)}, expected four axes")

    def fits(extents: tuple[int, int, int]) -> bool:
        return all(
            not isinstance(found, int) or found == extent for found, extent in zip(shape[1:], extents, strict=True)
        )

    for layout, extents in (("n h w c", (height, width, channels)), ("n c h w", (channels, height, width))):
        if fits(extents):
            return layout
    raise RefdesignError(
        f"ONNX model, input: found shape {list(shape)}, expected images of {height} x {width} x {channels}"
    )


def _dtype(text: str) -> str:
    found = _TYPES.get(text, text.removeprefix("tensor(").removesuffix(")"))
    if found not in INPUT_TYPES:
        raise RefdesignError(f"ONNX model, input: found type {text}, expected one of {', '.join(INPUT_TYPES)}")
    return found
