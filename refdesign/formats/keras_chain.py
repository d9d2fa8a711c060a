"""A Keras model's description as a chain of layers: what it says, checked, before anyone asks what it means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from refdesign.errors import RefdesignError
from refdesign.formats.keras_signs import plain_name

MOST_LAYERS = 10_000
_SPELLED = {"maxpool2d": "maxpooling2d", "avgpool2d": "averagepooling2d", "globalavgpool2d": "globalaveragepooling2d"}


@dataclass(frozen=True)
class KerasLayer:
    """One layer of a description.

    Attributes:
        kind: its class's plain name, such as `conv2d`.
        name: its own.
        config: its settings, of any type.
    """

    kind: str
    name: str
    config: Mapping[str, Any]

    def flag(self, key: str, default: bool) -> bool:
        """A setting that is true or false."""
        value = self.config.get(key, default)
        if not isinstance(value, bool):
            raise RefdesignError(f"{key}: found {str(value)[:60]!r}, expected true or false")
        return value

    def number(self, key: str, default: float) -> float:
        """A setting that is a number."""
        value = self.config.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise RefdesignError(f"{key}: found {str(value)[:60]!r}, expected a number")
        return float(value)

    def integer(self, key: str, default: int, least: int = 1) -> int:
        """A setting that is an integer."""
        value = self.config.get(key, default)
        if type(value) is not int or not least <= value < 1 << 31:
            raise RefdesignError(f"{key}: found {str(value)[:60]!r}, expected an integer, at least {least}")
        return value

    def pair(self, key: str, default: Any, least: int = 1) -> tuple[int, int]:
        """A setting of rows and columns: an integer, or two."""
        value = self.config.get(key, default)
        value = default if value is None else value
        both = (value, value) if type(value) is int else value
        if not isinstance(both, (list, tuple)) or len(both) != 2:
            raise RefdesignError(f"{key}: found {str(value)[:60]!r}, expected an integer or two")
        rows, columns = both
        if type(rows) is not int or type(columns) is not int or not least <= min(both) <= max(both) < 1 << 31:
            raise RefdesignError(f"{key}: found {str(value)[:60]!r}, expected integers, at least {least}")
        return rows, columns

    def text(self, key: str, default: str) -> str:
        """A setting that is text."""
        value = self.config.get(key, default)
        if not isinstance(value, str):
            raise RefdesignError(f"{key}: found {str(value)[:60]!r}, expected text")
        return value


def chain(model: Mapping[str, Any]) -> tuple[str, list[KerasLayer], tuple[int, int, int] | None]:
    """A model's name, its layers from input to output, and the shape of its images.

    Args:
        model: the description of a `Sequential`, or of a `Functional` whose layers follow each other.

    Returns:
        The shape is (H, W, C), or None where it is not fixed.

    Raises:
        RefdesignError: another kind of model, a model inside a model, or one that branches; names the layer.
    """
    kind, config = plain_name(model), model.get("config")
    layers = config if isinstance(config, list) else config.get("layers") if isinstance(config, dict) else None
    if kind not in ("sequential", "functional", "model") or not isinstance(layers, list):
        raise RefdesignError(f"found a model of class {kind!r}, expected Sequential or Functional")
    if len(layers) > MOST_LAYERS:
        raise RefdesignError(f"found {len(layers)} layers, expected at most {MOST_LAYERS}")
    found = [_layer(entry) for entry in layers]
    ordered = [layer for layer, _ in found] if kind == "sequential" else _follow(found)
    name = config.get("name") if isinstance(config, dict) else None
    shape = _input_shape(model, config, ordered)
    ordered = [layer for layer in ordered if layer.kind != "inputlayer"]
    return name if isinstance(name, str) and name else "keras", ordered, shape


def _layer(entry: Any) -> tuple[KerasLayer, list[str]]:
    """A layer, and the names of those that it reads."""
    config = entry.get("config") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(config, dict):
        raise RefdesignError("found a layer without settings")
    kind = plain_name(entry)
    name = config.get("name", entry.get("name"))
    if not isinstance(name, str) or not name:
        raise RefdesignError(f"found a layer of class {kind!r} without a name")
    if kind in ("sequential", "functional", "model"):
        raise RefdesignError(f"layer {name[:60]!r}: found a model inside the model, expected layers")
    return KerasLayer(_SPELLED.get(kind, kind), name, config), _sources(entry.get("inbound_nodes"), 0)


def _sources(value: Any, depth: int) -> list[str]:
    """Names of layers in an inbound node: Keras 3 has `keras_history`, tf.keras lists that begin with a name."""
    if depth > 12:
        raise RefdesignError("inbound_nodes: found them nested too deeply")
    if isinstance(value, dict):
        history = value.get("keras_history")
        if isinstance(history, list) and history and isinstance(history[0], str):
            return [history[0]]
        return [name for part in value.values() for name in _sources(part, depth + 1)]
    if isinstance(value, list):
        if len(value) >= 3 and isinstance(value[0], str) and all(type(part) is int for part in value[1:3]):
            return [value[0]]
        return [name for part in value for name in _sources(part, depth + 1)]
    return []


def _follow(found: list[tuple[KerasLayer, list[str]]]) -> list[KerasLayer]:
    """The layers one behind the other."""
    behind: dict[str, KerasLayer] = {}
    first = [layer for layer, sources in found if not sources]
    if len(first) != 1:
        raise RefdesignError(f"found {len(first)} inputs, expected one, the images")
    for layer, sources in found:
        if len(sources) > 1:
            raise RefdesignError(
                f"layer {layer.name[:60]!r} ({layer.kind}): found {len(sources)} inputs, expected one: branches are "
                "not read from Keras files; export the model to ONNX"
            )
        for source in sources:
            if source in behind:
                raise RefdesignError(
                    f"layer {source[:60]!r}: found two layers that read it, {behind[source].name[:60]!r} and "
                    f"{layer.name[:60]!r}, expected one: branches are not read from Keras files; export to ONNX"
                )
            behind[source] = layer
    ordered = first
    while ordered[-1].name in behind and len(ordered) <= len(found):
        ordered.append(behind[ordered[-1].name])
    if len(ordered) != len(found):
        raise RefdesignError(f"found {len(found)} layers, of which {len(ordered)} follow each other, expected all")
    return ordered


def _input_shape(model: Mapping[str, Any], config: Any, layers: list[KerasLayer]) -> tuple[int, int, int] | None:
    candidates = [layers[0].config.get("batch_shape"), layers[0].config.get("batch_input_shape")] if layers else []
    if isinstance(config, dict):
        candidates.append(config.get("build_input_shape"))
    build = model.get("build_config")
    if isinstance(build, dict):
        candidates.append(build.get("input_shape"))
    for shape in candidates:
        if isinstance(shape, list) and len(shape) == 4 and all(type(n) is int and 0 < n < 65_536 for n in shape[1:]):
            return shape[1], shape[2], shape[3]
    return None
