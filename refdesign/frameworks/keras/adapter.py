"""Keras models as implementations under test: the layers of a functional or sequential model are its places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
from numpy.typing import NDArray

from refdesign.frameworks.keras.parameters import array_of
from refdesign.network import NetworkData
from refdesign.verify.doors.mapping import Map

Array = NDArray[Any]


def read(path: Path) -> Any:
    """The model in a `.keras` file; layers of this project are known, others must be registered.

    A file with a `Lambda` layer is refused: it would run what it holds.
    """
    import refdesign.frameworks.keras.layers  # noqa: F401  registers them

    return keras.saving.load_model(path, compile=False, safe_mode=True)


def model(target: Any, network: NetworkData, mapping: Map) -> KerasModel:
    """A model, or a single layer as one."""
    return KerasModel(target)


class KerasModel:
    """A Keras model, run in inference mode.

    Args:
        target: the model; layers are seen where it is functional or sequential and calls each once.
    """

    def __init__(self, target: Any) -> None:
        self._model = target
        self.what = f"Keras {type(target).__name__} {target.name!r} on {keras.config.backend()}"
        self.channels_first = keras.config.image_data_format() == "channels_first"
        self.layout = "n c h w" if self.channels_first else "n h w c"
        inputs = getattr(target, "inputs", None) or []
        self.dtype = str(inputs[0].dtype) if inputs else "float32"
        self.returns: Sequence[str] = ()
        self._layers = {layer.name: layer for layer in getattr(target, "layers", []) if _seen_once(layer)}
        self.places: Mapping[str, str] = {name: _kind(layer) for name, layer in self._layers.items()}
        self.notes: Sequence[str] = () if self._layers else ("its layers cannot be seen: it is no functional model",)
        self._asked: tuple[Sequence[str], Any] = ((), target)

    def run(self, images: Array, places: Sequence[str]) -> tuple[Any, dict[str, Array]]:
        """What the model returns, and what its layers gave on the way."""
        if not places:
            return _numpy(self._model(images, training=False)), {}
        if self._asked[0] != places:
            outputs = [self._layers[place].output for place in places]
            inputs = self._model.inputs
            inputs = inputs[0] if len(inputs) == 1 else inputs
            self._asked = (places, keras.Model(inputs, [self._model.outputs, outputs]))
        returned, inside = self._asked[1](images, training=False)
        return _numpy(returned), {place: _numpy(value) for place, value in zip(places, inside, strict=True)}


def _numpy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _numpy(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_numpy(entry) for entry in value]
    return array_of(value)


def _seen_once(layer: Any) -> bool:
    try:
        return hasattr(layer.output, "shape")  # one tensor, in one place
    except (AttributeError, ValueError):
        return False


def _kind(layer: Any) -> str:
    if isinstance(layer, keras.Model):
        return "block"
    return "product" if any(len(weight.shape) >= 2 for weight in layer.weights) else "value"
