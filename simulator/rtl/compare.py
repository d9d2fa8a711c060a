"""The RTL held against the simulator in Python: every register in every cycle, every FIFO, every word that leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.rtl.simulation import Recording
from simulator.stage import StageSchedule
from simulator.trace import Tracer
from simulator.units import TRACE_FIELDS

Array = NDArray[Any]


@dataclass(frozen=True)
class Difference:
    """The first cycle in which something differs.

    Attributes:
        where: the layer and the register, or the FIFO, or the output.
        cycle: the cycle; None for the output's words.
        found: in the RTL.
        expected: in the simulator.
    """

    where: str
    cycle: int | None
    found: str
    expected: str

    def __str__(self) -> str:
        when = "" if self.cycle is None else f", cycle {self.cycle}"
        return f"{self.where}{when}: found {self.found}, expected {self.expected}"


def differences(recording: Recording, tracer: Tracer) -> list[Difference]:
    """Where a run of the RTL differs from the simulator, earliest first, the output last; empty where it does not.

    Args:
        recording: of the RTL.
        tracer: of the same accelerator, images and stalls.
    """
    found: list[Difference] = []
    simulator = tracer.simulator
    for stage in simulator.stages:
        expected = tracer.stage(stage.name).fields
        for name in TRACE_FIELDS:
            values = join(expected[name]) if name == "word" else expected[name]
            found += _first(f"{stage.name}, {name}", recording.fields[stage.name][name], values)
    for name, occupancy in tracer.occupancy().items():
        found += _first(
            f"FIFO of {name}" if name != "output" else "FIFO of the output", recording.occupancy[name], occupancy
        )
    found.sort(key=lambda difference: difference.cycle or 0)
    words = output_words(simulator.stages[-1], tracer.outputs)
    if recording.words != words:
        place = next((i for i, pair in enumerate(zip(recording.words, words, strict=False)) if pair[0] != pair[1]), -1)
        if place < 0:
            found.append(Difference("output", None, f"{len(recording.words)} words", f"{len(words)} words"))
        else:
            expected_word = hex(words[place])
            found.append(Difference(f"output, word {place}", None, hex(recording.words[place]), expected_word))
    return found


def join(words: Array) -> Array:
    """uint64 (cycles, words of 64 lanes) to integers (dtype object), the first word lowest.

    >>> join(np.array([[1, 2]], dtype=np.uint64)).tolist()
    [36893488147419103233]
    """
    joined: Array = (words.astype(object) << 64 * np.arange(words.shape[1], dtype=object)).sum(axis=1)
    return joined


def output_words(stage: StageSchedule, outputs: dict[str, Array]) -> list[int]:
    """The words that leave the last stage: the accumulators of a channel fold, PE 0 lowest, masked PEs 0."""
    name = f"{stage.name}.pooled" if stage.layer.pool is not None else f"{stage.name}.accumulator"
    width = stage.config.accumulator_width
    pixels = outputs[name].reshape(-1, stage.layer.out_channels).tolist()
    return [
        sum((pixel[channel] & ((1 << width) - 1)) << width * pe for pe, channel in enumerate(fold) if channel >= 0)
        for pixel in pixels
        for fold in stage.channels.tolist()
    ]


def _first(where: str, found: Array, expected: Array) -> list[Difference]:
    same = (found == expected).reshape(len(found), -1).all(axis=1)
    if same.all():
        return []
    cycle = int(np.argmin(same))
    return [Difference(where, cycle, str(found[cycle]), str(expected[cycle]))]
