"""What an implementation does, and what a network asks for: both as sets of traits."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from refdesign.conventions import ARITHMETICS
from refdesign.errors import RefdesignError
from refdesign.network import (
    LAYER_KINDS,
    PADDING_MODES,
    BinaryDense,
    Convolution,
    Layer,
    NetworkData,
    PixelConv2d,
    RealDense,
    Stage,
)

VALUES: dict[str, tuple[str, ...]] = {
    "layer": tuple(LAYER_KINDS),
    "padding": PADDING_MODES,
    "arithmetic": ARITHMETICS,
    "sign_at_zero": ("1", "-1", "0"),
    "sign_rule": ("compare", "keras_round"),
    "threshold_scale": ("unit", "gamma"),
    "kernel_origin": ("top_left", "center_crop"),
    "channel_map": ("tile", "repeat"),
    "dither": ("none", "2d", "3d"),
}
"""Traits of the form `kind:value`, by kind."""

SWITCHES: dict[str, str] = {
    "stride": "a stride other than 1",
    "dilation": "a dilation other than 1",
    "groups": "grouped convolutions",
    "max_pool": "max pools",
    "overlapping_pool": "max pools whose stride is not their size",
    "batch_norm": "batch norms",
    "weight_scale": "a scale alpha of the weights",
    "framework_scale": "a k or c that a framework computed",
    "dither_on_dense": "dither in a dense layer",
    "shortcut": "residual additions",
    "integer_weights": "a first layer with integer weights",
    "convolution_last": "a convolution as the last layer",
    "many_images": "more images at a time than 16",
}
"""Traits that a network has or has not."""

TRAITS = (*(f"{kind}:{value}" for kind, values in VALUES.items() for value in values), *SWITCHES)
"""Every trait."""


@dataclass(frozen=True)
class Capabilities:
    """What an implementation does not do; all else it is judged by.

    Attributes:
        lacks: traits.
        source: where that was declared, for messages.

    >>> Capabilities(frozenset({"padding:circular"})).missing(["stride", "padding:circular"])
    ('padding:circular',)
    """

    lacks: frozenset[str] = field(default_factory=frozenset)
    source: str = "no capabilities file"

    def missing(self, traits: Iterable[str]) -> tuple[str, ...]:
        """Those of some traits that the implementation lacks, in the order of `TRAITS`."""
        wanted = set(traits)
        return tuple(trait for trait in TRAITS if trait in wanted and trait in self.lacks)

    def allowed(self, kind: str) -> tuple[str, ...]:
        """The values of a kind of trait that are not lacking.

        >>> Capabilities(frozenset({"sign_at_zero:0"})).allowed("sign_at_zero")
        ('1', '-1')
        """
        return tuple(value for value in VALUES[kind] if f"{kind}:{value}" not in self.lacks)

    @classmethod
    def from_data(cls, data: Mapping[str, Any], source: str = "capabilities") -> Capabilities:
        """From the contents of a capabilities file.

        Args:
            data: `lacks`, a list of traits (with `*` and `?` as in file names), and `only`, by kind of trait the
                values that the implementation has.
            source: the file's name, for messages.

        Raises:
            RefdesignError: unknown keys, kinds or traits.

        >>> found = Capabilities.from_data({"lacks": ["groups"], "only": {"sign_at_zero": [1]}})
        >>> sorted(found.lacks)
        ['groups', 'sign_at_zero:-1', 'sign_at_zero:0']
        """
        for key in data:
            if key not in ("lacks", "only"):
                raise RefdesignError(f"{source}: found {key!r}, expected lacks or only")
        lacks: set[str] = set()
        patterns = data.get("lacks", [])
        if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
            raise RefdesignError(f"{source}, lacks: found {patterns!r}, expected a list of traits")
        for pattern in patterns:
            found = [trait for trait in TRAITS if fnmatchcase(trait, pattern)]
            if not found:
                raise RefdesignError(f"{source}, lacks: found {pattern!r}, expected some of {', '.join(TRAITS)}")
            lacks.update(found)
        only = data.get("only", {})
        if not isinstance(only, dict):
            raise RefdesignError(f"{source}, only: found {only!r}, expected a table")
        for kind, values in only.items():
            if kind not in VALUES:
                raise RefdesignError(f"{source}, only: found {kind!r}, expected one of {', '.join(VALUES)}")
            kept = [str(value) for value in values] if isinstance(values, list) else [str(values)]
            for value in kept:
                if value not in VALUES[kind]:
                    expected = ", ".join(VALUES[kind])
                    raise RefdesignError(f"{source}, only, {kind}: found {value!r}, expected some of {expected}")
            lacks.update(f"{kind}:{value}" for value in VALUES[kind] if value not in kept)
        return cls(frozenset(lacks), source)

    @classmethod
    def read(cls, path: Path) -> Capabilities:
        """From a TOML file.

        Raises:
            RefdesignError: it cannot be read, or says something unknown.
        """
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise RefdesignError(f"{path}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RefdesignError(f"{path}: found no TOML: {error}") from error
        return cls.from_data(data, str(path))


def traits(network: NetworkData, images: int = 1) -> frozenset[str]:
    """What a network, run on so many images, asks of an implementation.

    >>> from refdesign.api import pretrained
    >>> "padding:symmetric" in traits(pretrained("digits"))
    True
    """
    conventions = network.conventions
    found = {
        f"{name}:{getattr(conventions, name)}"
        for name in ("arithmetic", "sign_at_zero", "sign_rule", "threshold_scale", "kernel_origin", "channel_map")
    }
    for layer in network.layers:
        found |= _layer_traits(layer)
    if isinstance(network.layers[-1], Convolution):
        found.add("convolution_last")
    if images > 16:
        found.add("many_images")
    return frozenset(found)


def _layer_traits(layer: Layer) -> set[str]:
    found = {f"layer:{layer.kind}"}
    norm = layer.input_batch_norm if isinstance(layer, RealDense) else None
    if isinstance(layer, Stage):
        norm = layer.batch_norm
        found.add(f"dither:{'none' if layer.kernel is None else '2d' if layer.kernel.shape[2] == 1 else '3d'}")
        if layer.kernel is not None and isinstance(layer, BinaryDense):
            found.add("dither_on_dense")
        if layer.pool is not None:
            found |= {"max_pool"} | ({"overlapping_pool"} if layer.pool.size != layer.pool.stride else set())
        if layer.shortcut is not None:
            found.add("shortcut")
    if norm is not None:
        found.add("batch_norm")
        found |= {"weight_scale"} if norm.alpha is not None else set()
        found |= {"framework_scale"} if norm.k is not None else set()
    if isinstance(layer, Convolution):
        if layer.padding != (0, 0):
            found.add(f"padding:{layer.padding_mode}")
        for name in ("stride", "dilation"):
            if getattr(layer, name) != (1, 1):
                found.add(name)
        if layer.groups > 1:
            found.add("groups")
    if isinstance(layer, PixelConv2d) and not hasattr(layer.weights, "words"):
        found.add("integer_weights")
    return found
