"""The plain model: the whole pipeline, register by register, one cycle after the other. Slow, and the oracle.

Nothing here is vectorised or computed ahead; every cycle evaluates all wires from the registers, then clocks all
registers at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.network import NetworkData
from refdesign.run import check_images
from simulator.config import Accelerator
from simulator.memory import StageMemory, contents
from simulator.schedule import schedule
from simulator.stage import StageSchedule
from simulator.stalls import NO_STALLS, Stalls
from simulator.units.fifo import Fifo
from simulator.units.mvtu import Mvtu, Signals
from simulator.units.sliding_window import SlidingWindow

Word = tuple[int, ...]
"""What moves through a FIFO: (bits,), a pixel's channels as (value,), or the last stage's PE accumulators."""


@dataclass
class Stepped:
    """What a run of the plain model gives.

    Attributes:
        cycles: clock cycles until the sink has taken the last word and every stage is done with its last window
            (which the pool may have cut off).
        causes: by layer, cycles by cause: compute, fill, starved, blocked, drain.
        occupancy: by FIFO (the layer that it feeds, then "output"), its count at the start of every cycle.
        finished: cycles after which the sink had the last word of every image.
        signals: by layer, the MVTU's registers and wires in every cycle.
        words: the words that the sink took, in order.
    """

    cycles: int = 0
    causes: dict[str, dict[str, int]] = field(default_factory=dict)
    occupancy: dict[str, list[int]] = field(default_factory=dict)
    finished: list[int] = field(default_factory=list)
    signals: dict[str, list[Signals]] = field(default_factory=dict)
    words: list[Word] = field(default_factory=list)


class _StageModel:
    """One stage: FIFO, SWU and MVTU."""

    def __init__(self, stage: StageSchedule, memory: StageMemory, word_channels: Sequence[Sequence[int]]) -> None:
        self.stage = stage
        self.fifo: Fifo[Word] = Fifo(stage.config.fifo_depth)
        self.window = SlidingWindow(stage, word_channels, 8 if stage.reads_pixels else 1)
        self.mvtu = Mvtu(stage, memory)
        self.fired = 0
        self.causes = dict.fromkeys(("compute", "fill", "starved", "blocked", "drain"), 0)

    def count_cause(self, signals: Signals, total: int) -> None:
        operand_valid = signals.in_valid or signals.nf % self.stage.group_folds
        if signals.fire:
            cause = "compute"
            self.fired += 1
        elif self.fired == total:
            cause = "drain"
        elif operand_valid:
            cause = "blocked"
        else:
            cause = "starved" if self.fired else "fill"
        self.causes[cause] += 1


def step(
    network: NetworkData,
    accelerator: Accelerator,
    images: NDArray[np.uint8],
    *,
    stalls: Stalls = NO_STALLS,
    memories: Sequence[StageMemory] | None = None,
    prepare: Callable[[str, Mvtu], None] | None = None,
    most_cycles: int = 10_000_000,
) -> Stepped:
    """Run images through the pipeline, cycle by cycle.

    Args:
        network, accelerator: what runs where.
        images: uint8 (N, H, W, C).
        stalls: in which cycles the source offers and the sink takes.
        memories: the stages' memories; None is what the network gives.
        prepare: called with every layer's name and MVTU before the first cycle, to tamper with it.
        most_cycles: give up after so many.

    Raises:
        RefdesignError: network and accelerator do not go together, wrong images, a value that overflows its width,
            or more than `most_cycles`.

    >>> from refdesign.models import binarynet
    >>> from simulator.schedule import fit
    >>> network = binarynet(input_shape=(4, 4, 1), width=1 / 32, widths=(64,), dense=(64,))
    >>> images = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1)
    >>> stepped = step(network, fit(network, pe=1, simd=1), images)
    >>> stepped.cycles, stepped.causes["conv1"]["compute"]
    (2398, 2304)
    """
    check_images(network, images)
    stages = schedule(network, accelerator)
    if memories is None:
        memories = [contents(stage) for stage in stages]
    models = _models(stages, memories)
    for model in models:
        if prepare is not None:
            prepare(model.stage.name, model.mvtu)
    output: Fifo[Word] = Fifo(accelerator.output_fifo_depth)
    pixels = [_pixel_word(pixel) for pixel in images.reshape(-1, images.shape[-1])]
    words_per_image = stages[-1].words_out
    result = Stepped(signals={stage.name: [] for stage in stages})
    result.occupancy = {name: [] for name in [*(stage.name for stage in stages), "output"]}
    fifos = [*(model.fifo for model in models), output]
    sent = 0
    computing = {stage.name: len(images) * stage.cycles for stage in stages}
    while len(result.words) < len(images) * words_per_image or any(
        model.fired < computing[model.stage.name] for model in models
    ):
        if result.cycles == most_cycles:
            raise RefdesignError(f"accelerator {accelerator.name!r}: not done after {most_cycles} cycles")
        for name, fifo in zip(result.occupancy, fifos, strict=True):
            result.occupancy[name].append(fifo.count)
        # Wires, all from registers.
        push = pixels[sent] if sent < len(pixels) and stalls.offers(result.cycles) and fifos[0].in_ready else None
        takes = [model.fifo.out_valid and model.window.in_ready for model in models]
        signals = [
            model.mvtu.evaluate(model.window.operand, model.window.out_valid, behind.in_ready)
            for model, behind in zip(models, fifos[1:], strict=True)
        ]
        sink = output.out_valid and stalls.takes(result.cycles)
        # The rising edge.
        if sink:
            result.words.append(output.head)
            if len(result.words) % words_per_image == 0:
                result.finished.append(result.cycles + 1)
        pushes = [push, *(_leaving(model, wires) for model, wires in zip(models, signals, strict=True))]
        for model, take, wires in zip(models, takes, signals, strict=True):
            word = model.fifo.head[0] if take else None
            model.window.clock(write=word, read=wires.takes)
            model.mvtu.clock(wires)
            model.count_cause(wires, computing[model.stage.name])
            result.signals[model.stage.name].append(wires)
        for fifo, word_in, pop in zip(fifos, pushes, [*takes, sink], strict=True):
            fifo.clock(push=word_in, pop=pop)
        sent += push is not None
        result.cycles += 1
    result.causes = {model.stage.name: model.causes for model in models}
    return result


def _models(stages: Sequence[StageSchedule], memories: Sequence[StageMemory]) -> list[_StageModel]:
    models = []
    first = stages[0]
    word_channels: list[list[int]] = [list(range(first.groups * first.inputs))]
    for stage, memory in zip(stages, memories, strict=True):
        models.append(_StageModel(stage, memory, word_channels))
        word_channels = stage.channels.tolist()
    return models


def _pixel_word(pixel: NDArray[np.uint8]) -> Word:
    return (sum(int(value) << 8 * channel for channel, value in enumerate(pixel)),)


def _leaving(model: _StageModel, signals: Signals) -> Word | None:
    if not signals.leaves:
        return None
    if model.stage.thresholds is None:
        return signals.pooled
    return (sum(bit << pe for pe, bit in enumerate(signals.bits)),)
