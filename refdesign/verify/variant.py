"""The reference with known faults in it: what the diagnosis runs, change by change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.batch import logits_of, real_stream
from refdesign.bits import PackedBits
from refdesign.conventions import Conventions
from refdesign.errors import RefdesignError
from refdesign.fold import Thresholds
from refdesign.network import BinaryConv2d, CombinedConv2d, NetworkData, Stage, fold_channels
from refdesign.ops.batch_norm import dithered_batch_norm
from refdesign.ops.dense import flatten_bits
from refdesign.ops.sign import sign
from refdesign.parameters import NO_DITHER
from refdesign.paths import PackedPath
from refdesign.run import run_along
from refdesign.verify.change import Change, Decision, NotApplicable, Place, Placed, Stream
from refdesign.verify.prepared import GEOMETRY, Prepared

Integers = NDArray[np.int32]
Real = NDArray[np.float32]
Outputs = dict[str, NDArray[Any]]


class _VariantPath(PackedPath):
    """The packed path with changes in it; prepares a layer when it comes to it."""

    def __init__(
        self,
        network: NetworkData,
        prepared: Prepared,
        changes: Mapping[str, Sequence[Change]],
        conventions: Mapping[str, Conventions],
        folded: bool,
    ) -> None:  # the base's own preparation is replaced by the shared one
        self.network = network
        self.prepared = prepared
        self.changes = changes
        self.conventions = conventions
        self.folded = folded
        self.ternary = any(chosen.sign_at_zero == 0 for chosen in conventions.values())
        self.before_pool: dict[str, Integers] = {}
        self.inputs: dict[str, Any] = {}
        self.applied: set[str] = set()
        self.pooled: Outputs = {}

    def integers(self, layer: Stage, x: Any) -> Integers:
        self.prepared.check()

        def summed() -> Integers:
            flat = flatten_bits(x) if layer.kind == "binary_dense" else x
            found: Integers = self.prepared.sums(self.network, layer)[0](flat)
            return found

        own = self.prepared.owns(layer)
        sums: Integers = self.prepared.trace.get(x, (id(layer), "sums"), summed) if own else summed()
        values = self._spoiled(sums, Place(self.network, layer, x))
        self.before_pool[layer.name] = values
        if own and values is sums and self.prepared.trace.knows(x):
            self.inputs[layer.name] = x
        return values

    def bases(self, layer: CombinedConv2d, x: Any) -> list[Integers]:
        """The sums of every basis, each spoiled as those of a layer with this basis alone."""
        self.prepared.check()
        geometry = {name: getattr(layer, name) for name in GEOMETRY if hasattr(layer, name)}
        found = []
        for weights, convolve in zip(layer.weights, self.prepared.sums(self.network, layer), strict=True):
            alone = BinaryConv2d(name=layer.name, weights=weights, **geometry)
            found.append(self._spoiled(convolve(x), Place(self.network, alone, x)))
        return found

    def _spoiled(self, values: Integers, place: Place) -> Integers:
        """Sums under the changes of sums; the same array where none applies."""
        for change in self.changes.get(place.layer.name, ()):
            changed = None if change.accumulate is None else change.accumulate(values, place)
            if changed is not None:
                self.applied.add(change.name)
                values = changed
        return values

    def decide(self, layer: Stage, accumulators: Integers) -> PackedBits:
        conventions = self.conventions[layer.name]
        here = self.changes.get(layer.name, ())
        summed = any(change.accumulate is not None or change.between for change in here)
        every_integer = summed or (self.ternary and layer.takes == "bits")
        folded = self.prepared.as_folded(layer, conventions) if self.folded else None
        thresholds = folded or self.prepared.thresholds(layer, conventions, every_integer=every_integer)
        changes = [change for change in here if change.decide is not None]
        if not changes:
            # A wrong sum may leave the domain.
            key = (id(layer), conventions, every_integer, folded is not None)
            made: PackedBits = self.prepared.trace.get(
                self.inputs.get(layer.name), key, lambda: thresholds.apply(accumulators, checked=False)
            )
            return made
        decision = self._decision(layer, conventions, thresholds, accumulators)
        for change in changes:
            if change.decide is not None and change.decide(decision):
                self.applied.add(change.name)
        if layer.pool is not None:  # a change of the pool shows in what it leaves, too
            self.pooled[f"{layer.name}.pooled"] = decision.a.astype(np.int32).reshape(accumulators.shape)
        return self.hold(decision.decide().reshape(accumulators.shape))

    def _decision(
        self, layer: Stage, conventions: Conventions, thresholds: Thresholds, accumulators: Integers
    ) -> Decision:
        maps = accumulators if accumulators.ndim == 4 else accumulators[:, np.newaxis, np.newaxis]
        before = self.before_pool[layer.name]
        nowhere = np.empty((0, 0), dtype=np.intp)
        decision = Decision(
            thresholds.threshold.astype(np.int64),
            thresholds.direction.copy(),
            thresholds.constant.copy(),
            thresholds.zero_low.astype(np.int64),
            thresholds.zero_high.astype(np.int64),
            int(thresholds.certificate.domain.step),
            nowhere,
            nowhere,
            maps.astype(np.int64),
            (before if before.ndim == 4 else before[:, np.newaxis, np.newaxis]).astype(np.int64),
            layer,
            conventions,
        )
        decision.rows, decision.columns = decision.phases(*maps.shape[1:3])
        return decision

    def real(self, layer: Stage, values: NDArray[Any], sources: Mapping[str, Real]) -> Real:
        conventions = self.conventions[layer.name]
        for change in self.changes.get(layer.name, ()):
            if change.real is not None:
                z = dithered_batch_norm(values, fold_channels(layer), layer.kernel or NO_DITHER, conventions)
                found = change.real(Stream(layer, z, sources, conventions))
                if found is not None:
                    self.applied.add(change.name)
                    return found
        return real_stream(layer, values, sources, conventions)

    def signed(self, layer: Stage, real: Real) -> NDArray[np.int8]:
        return sign(real, self.conventions[layer.name])

    def logits(self, layer: Stage, values: NDArray[Any]) -> NDArray[Any]:
        conventions = self.conventions[layer.name]
        for change in self.changes.get(layer.name, ()):
            found = None if change.logits is None else change.logits(values, layer, conventions)
            if found is not None:
                self.applied.add(change.name)
                return found
        return logits_of(layer, values, conventions)


class Variant:
    """A network with changes, each in some of its layers.

    Args:
        network: the reference.
        placed: the changes, in the order in which they act.
        prepared: shared between the variants of one network.
        folded: whether changed sums meet the reference's own integer thresholds, as in an implementation that has
            these as numbers; otherwise they are decided as batch norm and dither would.

    Raises:
        NotApplicable: the changes cannot be made in this network.

    >>> from refdesign.api import pretrained
    >>> change = Change(name="sign_at_zero=-1", group="sign", says="", conventions={"sign_at_zero": -1})
    >>> digits = pretrained("digits")
    >>> everywhere = frozenset(layer.name for layer in digits.layers)
    >>> variant = Variant(digits, (Placed(change, everywhere),), Prepared(digits))
    >>> variant.run(np.zeros((2, 8, 8, 1), np.uint8), ("logits",))["logits"].shape
    (2, 10)
    """

    def __init__(
        self, network: NetworkData, placed: Sequence[Placed], prepared: Prepared, *, folded: bool = False
    ) -> None:
        self.placed = tuple(placed)
        self.folded = folded
        self._original = network.layers
        self.prepared = prepared
        self.network, self.conventions = _changed_network(network, self.placed, prepared)
        self.hooks = {
            layer.name: [p.change for p in placed if layer.name in p.layers] for layer in network.layers
        }  # fmt: skip

    def run(self, images: NDArray[np.uint8], outputs: Sequence[str], *, idle: bool = False) -> Outputs:
        """The outputs of the network with its changes.

        Args:
            images: uint8 (N, H, W, C).
            outputs: which; those that the changed network does not have are left out.
            idle: whether a change may find nothing that it applies to, as on images in which no sum is too large.

        Raises:
            NotApplicable: a change found nothing that it applies to, or made a network that cannot be.
        """
        for placed in self.placed:
            if placed.change.pixels is not None:
                images = placed.change.pixels(images)
        if images.shape[1:] != self.network.input_shape:
            raise NotApplicable
        path = _VariantPath(self.network, self.prepared, self.hooks, self.conventions, self.folded)
        known = [name for name in outputs if name in self.network.output_names]
        try:
            found = run_along(self.network, images, path, known)
        except RefdesignError as error:
            raise NotApplicable(str(error)) from error
        found |= {name: array for name, array in path.pooled.items() if name in found}
        for placed in self.placed:
            change = placed.change
            if change.must_act and not idle and change.name not in path.applied and not self._data_changed(placed):
                raise NotApplicable
            if change.write is not None:
                found = _written(found, change.write, idle, placed.output)
        return found

    def _data_changed(self, placed: Placed) -> bool:
        layers = (layer for layer in self._original if layer.name in placed.layers)
        return any(self.prepared.changed(placed.change, layer, self.network) is not None for layer in layers)


def _written(
    outputs: Outputs, write: Callable[[str, NDArray[Any]], NDArray[Any] | None], idle: bool, only: str
) -> Outputs:
    written = {name: write(name, array) if only in ("", name) else None for name, array in outputs.items()}
    if not idle and all(array is None for array in written.values()):
        raise NotApplicable
    return {name: outputs[name] if array is None else array for name, array in written.items()}


def _changed_network(
    network: NetworkData, placed: Sequence[Placed], prepared: Prepared
) -> tuple[NetworkData, dict[str, Conventions]]:
    """The network with the changes of its layers' data, and every layer's conventions."""
    layers = list(network.layers)
    conventions = {layer.name: network.conventions for layer in layers}
    try:
        for entry in placed:
            if entry.change.conventions is not None:
                changed = {n: conventions[n].replace(**entry.change.conventions) for n in sorted(entry.layers)}
                if all(conventions[name] == found for name, found in changed.items()):
                    raise NotApplicable
                conventions |= changed
            if entry.change.layer is not None:
                made = [
                    prepared.changed(entry.change, layer, network) if layer.name in entry.layers else None
                    for layer in layers
                ]
                if all(layer is None for layer in made) and not entry.change.must_act:
                    raise NotApplicable
                layers = [old if new is None else new for old, new in zip(layers, made, strict=True)]
        shared = next(iter(conventions.values()))
        if any(chosen != shared for chosen in conventions.values()):
            shared = network.conventions
        if shared != network.conventions or any(a is not b for a, b in zip(layers, network.layers, strict=True)):
            network = NetworkData(
                name=network.name, input_shape=network.input_shape, layers=tuple(layers), conventions=shared
            )
    except RefdesignError as error:
        raise NotApplicable(str(error)) from error
    return network, conventions
