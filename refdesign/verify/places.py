"""Where in a network a change can be."""

from __future__ import annotations

from collections.abc import Iterator

from refdesign.network import BinaryDense, Convolution, NetworkData, Stage
from refdesign.verify.change import Change, Placed
from refdesign.verify.prepared import Prepared


def places(network: NetworkData, change: Change, written: str = "") -> Iterator[Placed]:
    """Where a change can be: everywhere, in all layers of a kind, in all but the first or the last, in each one.

    A change of the writing can also be in one output alone, `written`.

    >>> from refdesign.api import pretrained
    >>> change = Change(name="weights inverted", group="polarity", says="", layer=lambda layer, network: None)
    >>> [placed.where for placed in places(pretrained("digits"), change)][:3]
    ['everywhere', 'the convolutions', 'the binary convolutions']
    """
    everywhere = frozenset(layer.name for layer in network.layers)
    yield Placed(change, everywhere)
    if written and change.write is not None:
        yield Placed(change, everywhere, written, output=written)
    if not change.by_layer:
        return
    seen = {everywhere}
    for where, names in _kinds(network).items():
        if names and names not in seen:
            seen.add(names)
            yield Placed(change, names, where)


def acting(network: NetworkData, placed: Placed, prepared: Prepared) -> Placed:
    """The place without the layers whose data the change leaves as they are; everywhere stays everywhere."""
    change = placed.change
    if placed.where == "everywhere" or change.layer is None or change.must_act or change.conventions is not None:
        return placed
    layers = [layer for layer in network.layers if layer.name in placed.layers]
    names = [layer.name for layer in layers if prepared.changed(change, layer, network) is not None]
    return placed if len(names) == len(layers) else Placed(change, frozenset(names), " and ".join(names))


def _kinds(network: NetworkData) -> dict[str, frozenset[str]]:
    """Layers that go wrong together, by what they are called; those with one layer have that layer's name."""
    stages = [layer for layer in network.layers if isinstance(layer, Stage)]
    convolutions = [layer for layer in stages if isinstance(layer, Convolution)]
    padded = [layer for layer in convolutions if layer.padding != (0, 0)]
    kinds: dict[str, list[Stage]] = {
        "the convolutions": list(convolutions),
        "the binary convolutions": [layer for layer in convolutions if layer.takes == "bits"],
        "the dense layers": [layer for layer in stages if isinstance(layer, BinaryDense)],
        "the layers with a pool": [layer for layer in stages if layer.pool is not None],
        "the layers without a pool": [layer for layer in stages if layer.pool is None],
        "all layers but the first": stages[1:],
        "all layers but the last": stages[:-1],
        **{
            f"the layers padded as {mode}": [layer for layer in padded if layer.padding_mode == mode]
            for mode in dict.fromkeys(layer.padding_mode for layer in padded)
        },
    }
    named = {where: frozenset(layer.name for layer in layers) for where, layers in kinds.items() if len(layers) > 1}
    return named | {layer.name: frozenset({layer.name}) for layer in network.layers}
