"""Networks as data: a tuple of layers with its conventions.

Two streams run from layer to layer: the *bits*, and, in residual networks, the *real* value whose sign they
are. What a layer takes and leaves is a property of its class; `NetworkData` checks that it fits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from refdesign.checks import shown
from refdesign.conventions import PAPER, Conventions, check_conventions
from refdesign.domain import Domain, accumulator_domain
from refdesign.errors import RefdesignError
from refdesign.layers import (
    LAYER_KINDS,
    PADDING_MODES,
    AveragePool,
    BinaryConv2d,
    BinaryDense,
    CombinedConv2d,
    Convolution,
    Layer,
    MaxPool,
    Pair,
    PixelConv2d,
    RealConv2d,
    RealDense,
    Shortcut,
    Stage,
    describe,
    fold_channels,
)
from refdesign.shapes import LayerShapes, fitted

__all__ = [
    "LAYER_KINDS",
    "PADDING_MODES",
    "AveragePool",
    "BinaryConv2d",
    "BinaryDense",
    "CombinedConv2d",
    "Convolution",
    "Domain",
    "Layer",
    "LayerShapes",
    "MaxPool",
    "NetworkData",
    "Pair",
    "PixelConv2d",
    "RealConv2d",
    "RealDense",
    "Shortcut",
    "Stage",
    "accumulator_domain",
    "describe",
    "fold_channels",
    "layer_outputs",
]


@dataclass(frozen=True, kw_only=True, eq=False)
class NetworkData:
    """A network as data, checked when it is made.

    Attributes:
        name: what the network is called.
        input_shape: (H, W, C) of the uint8 images.
        layers: in order of execution; the last one gives the logits.
        conventions: the choices under which the network is meant.
        metadata: free text by key (how it was trained, its accuracy, its licence).

    Raises:
        RefdesignError: layers that do not fit each other, naming the layer and the field.
    """

    name: str
    input_shape: tuple[int, int, int]
    layers: tuple[Layer, ...]
    conventions: Conventions = PAPER
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isprintable():
            raise RefdesignError(f"network, name: found {shown(self.name)}, expected text in print")
        check_conventions(f"network {self.name!r}", self.conventions)
        if not isinstance(self.layers, Sequence):
            raise RefdesignError(f"network {self.name!r}, layers: found {shown(self.layers)}, expected a tuple")
        object.__setattr__(self, "layers", tuple(self.layers))
        object.__setattr__(self, "metadata", MappingProxyType(_texts(self.name, self.metadata)))
        object.__setattr__(self, "_shapes", fitted(self.name, self.input_shape, self.layers))

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "metadata": dict(self.metadata)}

    @property
    def shapes(self) -> Mapping[str, LayerShapes]:
        """The shapes of every layer's maps, by layer name."""
        shapes: Mapping[str, LayerShapes] = MappingProxyType(self.__dict__["_shapes"])
        return shapes

    @property
    def real_sources(self) -> frozenset[str]:
        """The names of the layers whose real output a later layer reads."""
        names = {
            layer.shortcut.source for layer in self.layers if isinstance(layer, Stage) and layer.shortcut is not None
        }
        for before, after in zip(self.layers, self.layers[1:], strict=False):
            if after.takes == "real":
                names.add(before.name)
        return frozenset(names)

    def layer(self, name: str) -> Layer:
        """The layer of this name.

        Raises:
            RefdesignError: there is none; the message lists those that there are.
        """
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise RefdesignError(
            f"network {self.name!r}: found no layer {name!r}, expected one of "
            + ", ".join(layer.name for layer in self.layers)
        )

    @property
    def output_names(self) -> tuple[str, ...]:
        """Every output that `run` can give, in order of execution (docs/method.md, section 7)."""
        names: list[str] = []
        for layer in self.layers:
            names += layer_outputs(self, layer)
        return (*names, "logits")


def _texts(name: str, metadata: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(metadata, Mapping) or not all(
        isinstance(text, str) for entry in metadata.items() for text in entry
    ):
        raise RefdesignError(f"network {name!r}, metadata: found {shown(metadata)}, expected texts by key")
    return dict(metadata)


def layer_outputs(network: NetworkData, layer: Layer) -> list[str]:
    """The names of one layer's outputs, in order of execution, without `logits`."""
    parts: list[str] = []
    last = layer is network.layers[-1]
    if isinstance(layer, Stage):
        if not isinstance(layer, (RealConv2d, CombinedConv2d)):
            parts.append("accumulator")
            if layer.pool is not None:
                parts.append("pooled")
        if not last:
            if layer.name in network.real_sources:
                parts.append("real")
            parts.append("bits")
            if isinstance(layer, RealConv2d):
                parts.append("uncertain")
    elif not last:
        parts.append("real")
    return [f"{layer.name}.{part}" for part in parts]
