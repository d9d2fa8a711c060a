"""What the variants of one network share, so that it is computed once: sums, thresholds, changed layers, a trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import PackedBits
from refdesign.conventions import Conventions
from refdesign.fold import Thresholds, fold
from refdesign.network import Layer, NetworkData, Stage, accumulator_domain, fold_channels
from refdesign.parameters import NO_DITHER
from refdesign.paths import prepared_sums, thresholds_of
from refdesign.verify.change import Change

_KEPT = 64  # changed layers whose preparation is kept
_FAR = 1 << 23  # every float program holds integers up to twice that
_TRACE_BYTES = 128 << 20

GEOMETRY = ("stride", "padding", "padding_mode", "dilation", "groups", "multiplier", "offset")
"""What a layer's sums depend on besides its weights."""


class Trace:
    """What unchanged layers make of inputs that were met before, so that it is computed once for all variants.

    Inputs are known by identity: images that were announced, and what was computed from known inputs.

    Args:
        limit: bytes that are kept at most; what comes after is computed anew each time.
    """

    def __init__(self, limit: int = _TRACE_BYTES) -> None:
        self._limit = limit
        self._known: dict[int, Any] = {}  # holds the objects, so that their identities stay theirs
        self._made: dict[tuple[Any, ...], Any] = {}

    def announce(self, images: NDArray[np.uint8]) -> None:
        """Start a trace from these images."""
        self._known[id(images)] = images

    def knows(self, value: Any) -> bool:
        """Whether a value was announced, or computed from what was."""
        return id(value) in self._known

    def get(self, source: Any, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """What `make` gives; kept, where the source is known, under the source and the key."""
        if not self.knows(source):
            return make()
        full = (id(source), *key)
        if full not in self._made:
            made = make()
            self._limit -= _size(made)
            if self._limit < 0:
                return made
            self._made[full] = self._known[id(made)] = made
        return self._made[full]


def _size(value: Any) -> int:
    return int(value.words.nbytes if isinstance(value, PackedBits) else value.nbytes)


class Prepared:
    """What variants of one network share: prepared sums, folded thresholds and a trace, by layer.

    The network's own layers are kept; of the changed ones those that were made last.

    Args:
        network: the reference.
        check: called before each layer of a variant is run; what it raises ends the run.
    """

    def __init__(self, network: NetworkData, check: Callable[[], None] = lambda: None) -> None:
        self.trace = Trace()
        self.check = check
        self._network = network
        self._reference: dict[str, Thresholds] | None = None
        self._own = {id(part) for layer in network.layers for part in (layer, *_parts(layer))}
        # Each entry with the layer itself, so that ids stay its own as long as the entry lives.
        self._sums: dict[tuple[Any, ...], tuple[Layer, Any]] = {}
        self._folds: dict[tuple[Any, ...], tuple[Layer, Thresholds]] = {}
        self._changed: dict[tuple[Any, ...], tuple[Layer, Layer | None]] = {}

    def owns(self, layer: Layer) -> bool:
        """Whether a layer is the reference's own, unchanged."""
        return id(layer) in self._own

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
        key = (id(getattr(layer, "weights", layer)), *(getattr(layer, name, None) for name in GEOMETRY))
        if key not in self._sums:
            self._forget(self._sums)
            self._sums[key] = (layer, prepared_sums(network, layer))
        return self._sums[key][1]

    def thresholds(self, layer: Stage, conventions: Conventions, *, every_integer: bool) -> Thresholds:
        """The layer's thresholds under these conventions; weights matter to a first layer only.

        `every_integer`: inputs that can be 0, or changed sums, can lie between the attainable ones.
        """
        who = id(layer) if layer.takes == "pixels" else id(layer.batch_norm)
        zeros = getattr(layer, "pads_with_zeros", False)
        key = (who, id(layer.kernel), layer.fan_in, layer.out_channels, zeros, every_integer, conventions)
        if key not in self._folds:
            self._forget(self._folds)
            low, high, step = accumulator_domain(layer)
            if every_integer:  # far beyond what the layer can sum: a wrong sum or threshold may lie there
                low, high, step = np.minimum(low, -_FAR), np.maximum(high, _FAR), 1
            folded = fold(
                fold_channels(layer), layer.kernel or NO_DITHER, fan_in=layer.fan_in, conventions=conventions,
                domain=(low, high, step),
            )  # fmt: skip
            self._folds[key] = (layer, folded)
        return self._folds[key][1]

    def as_folded(self, layer: Stage, conventions: Conventions) -> Thresholds | None:
        """The reference's own thresholds, if nothing that they are made of is changed, whatever its sums are."""
        own = self._network.layer(layer.name)
        if not isinstance(own, Stage) or own.batch_norm is not layer.batch_norm or own.kernel is not layer.kernel:
            return None
        if conventions != self._network.conventions or own.out_channels != layer.out_channels:
            return None
        if self._reference is None:
            self._reference = thresholds_of(self._network)
        return self._reference.get(layer.name)

    def _forget(self, cache: dict[Any, Any]) -> None:
        foreign = [key for key in cache if key[0] not in self._own]
        for key in foreign[: max(0, len(foreign) - _KEPT)]:
            del cache[key]


def _parts(layer: Layer) -> tuple[Any, ...]:
    return (getattr(layer, "weights", None), getattr(layer, "batch_norm", None))
