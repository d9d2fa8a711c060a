"""The reference with known faults in it: what the diagnosis runs, change by change.

A `Variant` is a network with changes, each in some of its layers. A change acts at one of the places where
implementations go wrong: the images, the conventions, a layer's data, its accumulators, its decision, or how the
outputs are written down.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import PackedBits
from refdesign.conventions import Conventions
from refdesign.errors import RefdesignError
from refdesign.fold import Thresholds
from refdesign.network import Layer, NetworkData, Stage
from refdesign.ops.dense import flatten_bits
from refdesign.ops.dither import phases
from refdesign.run import PackedPath, fold_layer, prepared_sums, run_along

Integers = NDArray[np.int32]
Outputs = dict[str, NDArray[Any]]
_KEPT = 64  # changed layers whose preparation is kept
_GEOMETRY = ("stride", "padding", "padding_mode", "dilation", "groups", "multiplier", "offset")


@dataclass(frozen=True)
class Place:
    """Where a change is at work: a layer of the unchanged or changed network, and the layer's input bits."""

    network: NetworkData
    layer: Stage
    inputs: Any


@dataclass
class Decision:
    """How a layer turns accumulators into bits, for a change to spoil.

    Attributes:
        threshold, direction, constant: (m, n, C), as in `Thresholds`.
        zero_low, zero_high: (m, n, C); accumulators between them give 0.
        step: the distance between attainable accumulators.
        rows, columns: (H, W), the phase over every pixel.
        channels: (C,), the channel of the thresholds that every channel uses.
        a: int64 (N, H, W, C), the accumulators, after the pool.
        before_pool: the accumulators before it; the same where there is none.
        pooled: (rows, columns) of the pool, or None.
        bits: the outcome where a change decides by itself, int8 (N, H, W, C).
    """

    threshold: NDArray[np.int64]
    direction: NDArray[np.int8]
    constant: NDArray[np.int8]
    zero_low: NDArray[np.int64]
    zero_high: NDArray[np.int64]
    step: int
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    a: NDArray[np.int64]
    before_pool: NDArray[np.int64]
    pooled: tuple[int, int] | None
    layer: Stage
    conventions: Conventions
    bits: NDArray[np.int8] | None = None

    def decide(self) -> NDArray[np.int8]:
        """The bits, int8 (N, H, W, C)."""
        if self.bits is not None:
            return self.bits
        return self.compare(self.a, self.rows, self.columns)

    def compare(self, a: NDArray[np.int64], rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.int8]:
        """The bits of accumulators (N, H, W, C) under the phases of their pixels, (H, W)."""
        t, d, c = (field[rows, columns] for field in (self.threshold, self.direction, self.constant))
        fires = np.where(d > 0, a >= t, np.where(d < 0, a <= t, c > 0))
        bits = np.where(fires, 1, np.where((d == 0) & (c == 0), 0, -1)).astype(np.int8)
        low, high = self.zero_low[rows, columns], self.zero_high[rows, columns]
        if (low <= high).any():
            bits[(a >= low) & (a <= high)] = 0
        return bits


@dataclass(frozen=True, kw_only=True)
class Change:
    """One known way to go wrong, as functions at the places where it acts; None: it does not act there.

    Attributes:
        name: short, as it is printed: `sign_at_zero=-1`.
        group: the class of bug.
        says: one sentence.
        conventions: fields of `Conventions` that are replaced, in the whole network.
        pixels: changes the images, uint8 (N, H, W, C).
        layer: gives the changed layer, or None where it does not apply.
        accumulate: changes accumulators before the pool.
        decide: changes the decision in place.
        write: changes an output as it is written down, by name; None leaves it.
        between: whether its decision sees sums between the attainable ones.
    """

    name: str
    group: str
    says: str
    conventions: Mapping[str, Any] | None = None
    pixels: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None
    layer: Callable[[Layer, NetworkData], Layer | None] | None = None
    accumulate: Callable[[Integers, Place], Integers | None] | None = None
    decide: Callable[[Decision], bool] | None = None
    write: Callable[[str, NDArray[Any]], NDArray[Any] | None] | None = None
    between: bool = False

    @property
    def by_layer(self) -> bool:
        """Whether it can be in some layers and not in others."""
        return any(place is not None for place in (self.layer, self.accumulate, self.decide))


class NotApplicable(Exception):
    """A change that cannot be made in this network."""


class Prepared:
    """What variants of one network share: prepared sums and folded thresholds, by layer.

    The network's own layers are kept; of the changed ones those that were made last.

    Args:
        network: the reference.
    """

    def __init__(self, network: NetworkData) -> None:
        self._own = {id(part) for layer in network.layers for part in (layer, *_parts(layer))}
        # Each entry with the layer itself, so that ids stay its own as long as the entry lives.
        self._sums: dict[tuple[Any, ...], tuple[Layer, Any]] = {}
        self._folds: dict[tuple[Any, ...], tuple[Layer, Thresholds]] = {}
        self._changed: dict[tuple[Any, ...], tuple[Layer, Layer | None]] = {}

    def changed(self, change: Change, layer: Layer, network: NetworkData) -> Layer | None:
        """A layer under a change of its data, made once."""
        if change.layer is None:
            return None
        key = (id(layer), id(change))
        if key not in self._changed:
            self._forget(self._changed)
            self._changed[key] = (layer, change.layer(layer, network))
        return self._changed[key][1]

    def sums(self, network: NetworkData, layer: Layer) -> Any:
        """The layer's prepared sums; they depend on its weights and geometry only."""
        key = (id(getattr(layer, "weights", layer)), *(getattr(layer, name, None) for name in _GEOMETRY))
        if key not in self._sums:
            self._forget(self._sums)
            self._sums[key] = (layer, prepared_sums(network, layer))
        return self._sums[key][1]

    def thresholds(self, network: NetworkData, layer: Stage, *, every_integer: bool = False) -> Thresholds:
        """The layer's thresholds under the network's conventions; weights matter to a first layer only.

        `every_integer`: changed sums can lie between the attainable ones, and must be decided there too.
        """
        who = id(layer) if layer.takes == "pixels" else id(layer.batch_norm)
        zeros = getattr(layer, "pads_with_zeros", False)
        key = (who, id(layer.kernel), layer.fan_in, layer.out_channels, zeros, every_integer, network.conventions)
        if key not in self._folds:
            self._forget(self._folds)
            ternary = every_integer or (network.conventions.sign_at_zero == 0 and layer.takes == "bits")
            self._folds[key] = (layer, fold_layer(network, layer, ternary_input=ternary))
        return self._folds[key][1]

    def _forget(self, cache: dict[Any, Any]) -> None:
        foreign = [key for key in cache if key[0] not in self._own]
        for key in foreign[: max(0, len(foreign) - _KEPT)]:
            del cache[key]


def _parts(layer: Layer) -> tuple[Any, ...]:
    return (getattr(layer, "weights", None), getattr(layer, "batch_norm", None))


class _VariantPath(PackedPath):
    """The packed path with changes in it; prepares a layer when it comes to it."""

    def __init__(
        self, network: NetworkData, prepared: Prepared, changes: Mapping[str, Sequence[Change]]
    ) -> None:  # the base's own preparation is replaced by the shared one
        self.network = network
        self.prepared = prepared
        self.changes = changes
        self.before_pool: dict[str, Integers] = {}
        self.applied: set[str] = set()
        self.pooled: Outputs = {}

    def integers(self, layer: Stage, x: Any) -> Integers:
        flat = flatten_bits(x) if layer.kind == "binary_dense" else x
        values: Integers = self.prepared.sums(self.network, layer)[0](flat)
        for change in self.changes.get(layer.name, ()):
            if change.accumulate is not None:
                changed = change.accumulate(values, Place(self.network, layer, x))
                if changed is not None:
                    self.applied.add(change.name)
                    values = changed
        self.before_pool[layer.name] = values
        return values

    def bases(self, layer: Any, x: Any) -> list[Integers]:
        return [convolve(x) for convolve in self.prepared.sums(self.network, layer)]

    def decide(self, layer: Stage, accumulators: Integers) -> PackedBits:
        here = self.changes.get(layer.name, ())
        summed = any(change.accumulate is not None or change.between for change in here)
        thresholds = self.prepared.thresholds(self.network, layer, every_integer=summed)
        changes = [change for change in here if change.decide is not None]
        if not changes:
            return thresholds.apply(accumulators, checked=False)  # a wrong sum may leave the domain
        decision = self._decision(layer, thresholds, accumulators)
        for change in changes:
            if change.decide is not None and change.decide(decision):
                self.applied.add(change.name)
        if layer.pool is not None:  # a change of the pool shows in what it leaves, too
            self.pooled[f"{layer.name}.pooled"] = decision.a.astype(np.int32).reshape(accumulators.shape)
        return self.hold(decision.decide().reshape(accumulators.shape))

    def _decision(self, layer: Stage, thresholds: Thresholds, accumulators: Integers) -> Decision:
        m, n, _ = thresholds.shape
        maps = accumulators if accumulators.ndim == 4 else accumulators[:, np.newaxis, np.newaxis]
        before = self.before_pool[layer.name]
        height, width = maps.shape[1:3]
        origin = self.network.conventions.kernel_origin
        rows, columns = np.meshgrid(phases(height, m, origin), phases(width, n, origin), indexing="ij")
        return Decision(
            thresholds.threshold.astype(np.int64),
            thresholds.direction.copy(),
            thresholds.constant.copy(),
            thresholds.zero_low.astype(np.int64),
            thresholds.zero_high.astype(np.int64),
            int(thresholds.certificate.domain.step),
            rows,
            columns,
            maps.astype(np.int64),
            (before if before.ndim == 4 else before[:, np.newaxis, np.newaxis]).astype(np.int64),
            None if layer.pool is None else layer.pool.size,
            layer,
            self.network.conventions,
        )


@dataclass(frozen=True)
class Placed:
    """A change with the layers that it is in; `where` is how that is printed."""

    change: Change
    layers: frozenset[str]
    where: str = "everywhere"

    def __str__(self) -> str:
        return self.change.name if self.where == "everywhere" else f"{self.change.name} in {self.where}"


class Variant:
    """A network with changes in it.

    Args:
        network: the reference.
        placed: the changes, in the order in which they act.
        prepared: shared between the variants of one network.

    Raises:
        NotApplicable: the changes cannot be made in this network.

    >>> from refdesign.api import pretrained
    >>> change = Change(name="sign_at_zero=-1", group="sign", says="", conventions={"sign_at_zero": -1})
    >>> digits = pretrained("digits")
    >>> variant = Variant(digits, (Placed(change, frozenset()),), Prepared(digits))
    >>> variant.run(np.zeros((2, 8, 8, 1), np.uint8), ("logits",))["logits"].shape
    (2, 10)
    """

    def __init__(self, network: NetworkData, placed: Sequence[Placed], prepared: Prepared) -> None:
        self.placed = tuple(placed)
        self.prepared = prepared
        self.network = _changed_network(network, self.placed, prepared)
        self.hooks = {
            layer.name: [p.change for p in placed if layer.name in p.layers] for layer in network.layers
        }  # fmt: skip

    def run(self, images: NDArray[np.uint8], outputs: Sequence[str]) -> Outputs:
        """The outputs of the network with its changes.

        Raises:
            NotApplicable: a change found nothing that it applies to.
        """
        for placed in self.placed:
            if placed.change.pixels is not None:
                images = placed.change.pixels(images)
        if images.shape[1:] != self.network.input_shape:
            raise NotApplicable
        path = _VariantPath(self.network, self.prepared, self.hooks)
        known = [name for name in outputs if name in self.network.output_names]
        try:
            found = run_along(self.network, images, path, known)
        except RefdesignError as error:
            raise NotApplicable(str(error)) from error
        found |= {name: array for name, array in path.pooled.items() if name in found}
        for placed in self.placed:
            change = placed.change
            acts = change.accumulate is not None or change.decide is not None
            if acts and change.name not in path.applied:
                raise NotApplicable
            if change.write is not None:
                found = _written(found, change.write)
        return found


def _written(outputs: Outputs, write: Callable[[str, NDArray[Any]], NDArray[Any] | None]) -> Outputs:
    written = {name: write(name, array) for name, array in outputs.items()}
    if all(array is None for array in written.values()):
        raise NotApplicable
    return {name: outputs[name] if array is None else array for name, array in written.items()}


def _changed_network(network: NetworkData, placed: Sequence[Placed], prepared: Prepared) -> NetworkData:
    layers, conventions = list(network.layers), network.conventions
    try:
        for entry in placed:
            if entry.change.conventions is not None:
                changed = conventions.replace(**entry.change.conventions)
                if changed == conventions:
                    raise NotApplicable
                conventions = changed
            if entry.change.layer is not None:
                made = [
                    prepared.changed(entry.change, layer, network) if layer.name in entry.layers else None
                    for layer in layers
                ]
                if all(layer is None for layer in made):
                    raise NotApplicable
                layers = [old if new is None else new for old, new in zip(layers, made, strict=True)]
        if conventions == network.conventions and all(a is b for a, b in zip(layers, network.layers, strict=True)):
            return network
        return NetworkData(
            name=network.name, input_shape=network.input_shape, layers=tuple(layers), conventions=conventions
        )
    except RefdesignError as error:
        raise NotApplicable(str(error)) from error
