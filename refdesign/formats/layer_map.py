"""Layer maps: what a file's tensors are, as a user says it in JSON, for networks that are no known architecture.

An object with `input_shape`, `layers`, and optionally `name`, `conventions` (a preset's name, or choices that differ
from `PAPER`). Each layer has `name`, `kind` (one of `refdesign.network.LAYER_KINDS` but for several bases), `weights`
(a tensor's name) and what it needs of: `layout` (`OIHW`, `HWIO`, `OI`, `IO`), `binarise` (a rule), `alpha` and `bias`
(names), `grid`, `batch_norm` (`gamma`, `beta`, `mean`, `variance` as names, `epsilon`), `kernel` (thresholds, or a
published name), `stride`, `padding`, `padding_mode`, `dilation`, `groups`, `pool`, `pool_behind`, `shortcut`,
`hardtanh`, `size`, `channels_first`.

Beside an architecture a map only names what could not be found in the file: then each entry of `layers` has `name`, and
`weights` or `batch_norm` (the prefix of its tensors' names).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from refdesign.conventions import PAPER, PRESETS, Conventions
from refdesign.design.published import published
from refdesign.errors import RefdesignError
from refdesign.formats.files import naming, read_bytes
from refdesign.formats.plans import LAYOUTS, LayerPlan, Norm
from refdesign.network import MaxPool, Shortcut
from refdesign.parameters import ThresholdKernel

LARGEST_MAP = 1 << 22
_LARGEST_EPSILON = 1e300
_KINDS = ("pixel_conv2d", "real_conv2d", "binary_conv2d", "binary_dense", "real_dense", "average_pool")


@dataclass(frozen=True)
class LayerMap:
    """A map as it stands in a file.

    Attributes:
        name: the network's.
        input_shape: (H, W, C), or None beside an architecture.
        conventions: the network's, or None.
        entries: the layers' own entries, checked only to be objects with a name.
    """

    name: str
    input_shape: tuple[int, int, int] | None
    conventions: Conventions | None
    entries: tuple[Mapping[str, Any], ...]

    def names(self) -> dict[str, Mapping[str, Any]]:
        """Beside an architecture: by layer, the tensors' names that it gives.

        Raises:
            RefdesignError: an entry has anything but names.
        """
        found: dict[str, Mapping[str, Any]] = {}
        for entry in self.entries:
            for key, value in entry.items():
                if key not in ("name", "weights", "batch_norm") or not isinstance(value, str):
                    raise RefdesignError(
                        f"layer {entry['name']!r}, {key}: found it beside an architecture, expected only the names "
                        "'weights' and 'batch_norm'"
                    )
            found[entry["name"]] = entry
        return found

    def plans(self) -> list[LayerPlan]:
        """The plan that the entries say.

        Raises:
            RefdesignError: a field that is missing, unknown, or of another kind; names layer and field.
        """
        return [_plan(entry) for entry in self.entries]


def read(path: str | os.PathLike[str]) -> LayerMap:
    """A layer map from a JSON file.

    Raises:
        RefdesignError: the file cannot be read, or is no layer map; names the file.

    >>> read("/nowhere/map.json")
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: /nowhere/map.json: cannot be read: No such file or directory
    """
    with naming(path):
        return from_bytes(read_bytes(path, LARGEST_MAP))


def from_bytes(data: bytes) -> LayerMap:
    """The map in a file's content; see `read`.

    >>> from_bytes(b'{"layers": [{"name": "conv1", "weights": "features.0.weight"}]}').names()["conv1"]["weights"]
    'features.0.weight'
    """
    try:
        plain = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RefdesignError("found no JSON, expected a layer map") from error
    if not isinstance(plain, dict) or not isinstance(plain.get("layers"), list):
        raise RefdesignError("found no object with 'layers', expected a layer map")
    for key in plain:
        if key not in ("name", "input_shape", "conventions", "layers"):
            raise RefdesignError(f"unknown field {key[:60]!r}, expected conventions, input_shape, layers, name")
    entries = plain["layers"]
    if len(entries) > 10_000 or not all(isinstance(e, dict) and isinstance(e.get("name"), str) for e in entries):
        raise RefdesignError("layers: found an entry without a name, expected objects with one")
    shape = plain.get("input_shape")
    if shape is not None:
        shape = _extents("input_shape", shape, 3, 1)
    name = plain.get("name", "imported")
    if not isinstance(name, str):
        raise RefdesignError("name: expected text")
    return LayerMap(name, shape, _conventions(plain.get("conventions")), tuple(entries))


def _conventions(value: Any) -> Conventions | None:
    if value is None:
        return None
    if isinstance(value, str):
        if value not in PRESETS:
            raise RefdesignError(f"conventions: found {value[:60]!r}, expected one of {', '.join(PRESETS)}")
        return PRESETS[value]
    if isinstance(value, dict):
        return Conventions.from_dict(PAPER.to_dict() | value)
    raise RefdesignError("conventions: expected a preset's name, or an object of choices")


def _plan(entry: Mapping[str, Any]) -> LayerPlan:
    where = f"layer {entry['name'][:60]!r}"
    kind = entry.get("kind")
    if kind not in _KINDS:
        raise RefdesignError(f"{where}, kind: found {str(kind)[:60]!r}, expected one of {', '.join(_KINDS)}")
    fields: dict[str, Any] = {"name": entry["name"], "kind": kind}
    settings: dict[str, Any] = {}
    if "dense" in kind:
        fields["layout"] = "OI"
    for key, value in entry.items():
        if key in ("name", "kind"):
            continue
        try:
            if key in _FIELDS:
                target, check = _FIELDS[key]
                fields[target] = check(value)
            elif key in _SETTINGS:
                settings[key] = _SETTINGS[key](value)
            else:
                raise RefdesignError(f"unknown field, expected one of {', '.join(sorted({*_FIELDS, *_SETTINGS}))}")
        except RefdesignError as error:
            raise RefdesignError(f"{where}, {key[:60]}: {error}") from error
    if kind != "average_pool" and "weights" not in fields:
        raise RefdesignError(f"{where}, weights: field is missing, expected the name of a tensor")
    if len(LAYOUTS[fields.get("layout", "OIHW")]) != (2 if "dense" in kind else 4):
        raise RefdesignError(f"{where}, layout: found {fields['layout']!r}, which a {kind} has not")
    allowed = _ALLOWED.get(kind, frozenset(_SETTINGS) - {"size"})
    for key in settings:
        if key not in allowed:
            raise RefdesignError(f"{where}, {key}: found it in a {kind}, which has none")
    if kind == "average_pool" and set(fields) - {"name", "kind", "layout"} | {"size"} - set(settings):
        raise RefdesignError(f"{where}: expected 'size' and nothing else")
    return LayerPlan(**fields, settings=settings)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise RefdesignError(f"found {str(value)[:60]!r}, expected text")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise RefdesignError(f"found {str(value)[:60]!r}, expected true or false")
    return value


def _integer(value: Any) -> int:
    if type(value) is not int or not 1 <= value < 1 << 31:
        raise RefdesignError(f"found {str(value)[:60]!r}, expected a positive integer")
    return value


def _extents(where: str, value: Any, count: int, least: int) -> Any:
    if not isinstance(value, list) or len(value) != count:
        raise RefdesignError(f"{where}: found {str(value)[:60]!r}, expected {count} integers")
    if not all(type(n) is int and least <= n < 65_536 for n in value):
        raise RefdesignError(f"{where}: found {str(value)[:60]!r}, expected integers from {least} to 65535")
    return tuple(value)


def _pair(least: int) -> Callable[[Any], Any]:
    return lambda value: _extents("pair", [value, value] if type(value) is int else value, 2, least)


def _pool(value: Any) -> MaxPool:
    if isinstance(value, dict) and set(value) == {"size", "stride"}:
        return MaxPool(size=_pair(1)(value["size"]), stride=_pair(1)(value["stride"]))
    return MaxPool(size=_pair(1)(value), stride=_pair(1)(value))


def _shortcut(value: Any) -> Shortcut:
    if not isinstance(value, dict) or not {"source"} <= set(value) <= {"source", "average_pool", "channel_padding"}:
        raise RefdesignError("expected an object of source, average_pool, channel_padding")
    return Shortcut(
        source=_text(value["source"]),
        average_pool=_integer(value.get("average_pool", 1)),
        channel_padding=_pair(0)(value.get("channel_padding", 0)),
    )


def _norm(value: Any) -> Norm:
    if not isinstance(value, dict) or not {"mean", "variance", "epsilon"} <= set(value):
        raise RefdesignError(
            "expected an object of mean, variance and epsilon, and where there are such gamma and beta"
        )
    if set(value) - {"mean", "variance", "epsilon", "gamma", "beta"}:
        raise RefdesignError("expected only mean, variance, epsilon, gamma and beta")
    epsilon = value["epsilon"]
    if isinstance(epsilon, bool) or not isinstance(epsilon, (int, float)) or not abs(epsilon) < _LARGEST_EPSILON:
        raise RefdesignError(f"epsilon: found {str(epsilon)[:60]!r}, expected a number that is finite")
    names = {key: None if value.get(key) is None else _text(value[key]) for key in ("gamma", "beta")}
    return Norm(mean=_text(value["mean"]), variance=_text(value["variance"]), epsilon=float(epsilon), **names)


def _kernel(value: Any) -> ThresholdKernel:
    if isinstance(value, str):
        return published(value)
    try:
        return ThresholdKernel(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise RefdesignError("expected thresholds (m, n) or (m, n, g), or a published kernel's name") from error


def _layout(value: Any) -> str:
    if not isinstance(value, str) or value not in LAYOUTS:
        raise RefdesignError(f"found {str(value)[:60]!r}, expected one of {', '.join(LAYOUTS)}")
    return value


_FIELDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "weights": ("weights", _text),
    "layout": ("layout", _layout),
    "binarise": ("rule", _text),
    "alpha": ("alpha", _text),
    "bias": ("bias", _text),
    "grid": ("grid", _integer),
    "batch_norm": ("batch_norm", _norm),
    "kernel": ("kernel", _kernel),
    "channels_first": ("channels_first", _flag),
    "pool_behind": ("pool_behind", _flag),
}
_SETTINGS: dict[str, Callable[[Any], Any]] = {
    "stride": _pair(1),
    "padding": _pair(0),
    "padding_mode": _text,
    "dilation": _pair(1),
    "groups": _integer,
    "pool": _pool,
    "shortcut": _shortcut,
    "hardtanh": _flag,
    "size": _pair(1),
}
_ALLOWED: dict[str, frozenset[str]] = {
    "binary_dense": frozenset({"hardtanh"}),
    "real_dense": frozenset(),
    "average_pool": frozenset({"size"}),
}
