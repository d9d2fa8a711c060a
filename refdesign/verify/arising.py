"""Where a difference arises: in which layer, and which changes can be behind it there."""

from __future__ import annotations

from collections.abc import Sequence

from refdesign.network import NetworkData
from refdesign.verify.change import Placed


class Arising:
    """What the answered outputs say about where a difference arises.

    Args:
        network: the reference.
        names: the outputs that were answered, in order of execution; an output's place among them is its rank.

    >>> from refdesign.api import pretrained
    >>> arising = Arising(pretrained("digits"), ("conv1.bits", "conv2.bits", "dense1.bits"))
    >>> [arising.layer(rank) for rank in range(3)]  # conv3 and conv4 were not answered
    ['conv1', 'conv2', '']
    """

    def __init__(self, network: NetworkData, names: Sequence[str]) -> None:
        self._network = network
        self._names = tuple(names)

    def layer(self, rank: int) -> str:
        """The layer in which an output arises, by its rank; empty where it can be in any before it, too.

        What a layer makes is decided in it where its input was answered, bits and real streams.
        """
        layers, names = self._network.layers, self._names
        if rank == 0 and not names[0].startswith(f"{layers[0].name}."):
            return ""
        name = names[rank]
        answered = {output.rpartition(".")[0] for output in names}
        layer = layers[-1].name if name == "logits" else name.rpartition(".")[0]
        position = [entry.name for entry in layers].index(layer)
        if position == 0:
            return layer
        earlier = {entry.name for entry in layers[:position]}
        reals = {f"{source}.real" for source in self._network.real_sources & earlier}
        known = layers[position - 1].name in answered and reals <= set(names)
        return layer if known else ""

    def can_help(self, placed: Placed, rank: int) -> bool:
        """Whether a change can move the first difference, which is in the output of this rank.

        Where all before it was answered, the change must be at work in that layer, and at that place in it: sums do
        not depend on decisions, and decisions go wrong on right sums by themselves.
        """
        layer, change = self.layer(rank), placed.change
        if not layer or change.write is not None or change.pixels is not None:
            return True
        part = self._names[rank].rpartition(".")[2]
        if part == "accumulator" and change.accumulate is None and change.layer is None:
            return False
        summed = any(f"{layer}.{sums}" in self._names for sums in ("accumulator", "pooled"))
        if part == "bits" and summed and change.accumulate is not None:
            return False
        return not change.by_layer or layer in placed.layers
