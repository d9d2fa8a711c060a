"""From the first output that differs to the entries that can be behind it."""

from __future__ import annotations

from refdesign.network import NetworkData, Stage
from refdesign.verify.change import Placed
from refdesign.verify.entries.logits import of_logits
from refdesign.verify.entries.thresholds import of_bits
from refdesign.verify.entries.way import MOST
from refdesign.verify.entries.weights import of_sums
from refdesign.verify.verdict import Sample

_READINGS = 16  # of all entries that are wrong


def wrong_entries(network: NetworkData, sample: Sample, output: str) -> list[tuple[Placed, ...]]:
    """The wrong entries that can be behind the first difference, the likeliest first.

    Args:
        network: the reference.
        sample: images with an implementation's answers.
        output: the first that differs; all that goes into its layer agrees.

    Returns:
        Some readings, each of all entries that are wrong by it; none where so few entries cannot be behind it.
    """
    name, _, part = output.rpartition(".")
    layer = network.layer(name) if name else network.layers[-1]
    if not isinstance(layer, Stage):
        return []
    units = []
    if part == "bits" and layer.folds:
        units = list(of_bits(network, layer, sample))
    elif part == "accumulator":
        units = list(of_sums(network, layer, sample, sample.outputs[output]))
    elif part == "logits":
        units = list(of_logits(network, layer, sample))
    if not units or not all(units):
        return []
    first = [ways[0] for ways in units]
    others = [(number, way) for number, ways in enumerate(units) for way in ways[1:]]
    readings = [first, *([*first[:number], way, *first[number + 1 :]] for number, way in others)]
    return [
        tuple(Placed(change, frozenset({layer.name}), layer.name) for way in reading for change in way)
        for reading in readings[:_READINGS]
        if sum(map(len, reading)) <= MOST
    ]
