"""What an accelerator's memories hold: every memory of a stage as banks of so many words of so many bits.

The depths and widths are those of the arrays in `simulator/rtl`, one bank for a PE where every PE has its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from simulator.stage import StageSchedule, word_widths

MEMORIES = ("weight", "threshold", "line_buffer", "operand", "pool", "fifo")
"""A stage's memories: weights; thresholds; rows of the input map; the words of a window, kept where several channel
folds read them; what is kept of a row of pool windows; the FIFO in front."""
BLOCK_SHAPES = ((1, 16384), (2, 8192), (4, 4096), (9, 2048), (18, 1024), (36, 512))
"""Bits and words that half a block RAM of the 7 series can be (UG473)."""


@dataclass(frozen=True)
class Storage:
    """One memory of a stage.

    Attributes:
        banks: how many of them stand side by side.
        depth: words of a bank.
        width: bits of a word.

    >>> Storage(16, 144, 64).bits, Storage(16, 144, 64).block_rams
    (147456, 16.0)
    """

    banks: int
    depth: int
    width: int

    @property
    def bits(self) -> int:
        """Bits of all banks."""
        return self.banks * self.depth * self.width

    @property
    def block_rams(self) -> float:
        """Block RAMs of 36 kbit, in halves, where each bank takes the fewest halves that hold it."""
        if not self.bits:
            return 0.0
        return self.banks * min(-(-self.width // bits) * -(-self.depth // words) for bits, words in BLOCK_SHAPES) / 2


def weight_storage(stage: StageSchedule) -> Storage:
    """The weight memory: a bank for every PE, a word of SIMD bits for every channel fold, tap and input fold."""
    return Storage(stage.config.pe, stage.channel_folds * stage.taps * stage.input_folds, stage.config.simd)


def threshold_storage(stage: StageSchedule) -> Storage:
    """The threshold memory: a bank for every PE, a word {flip, limit} for every channel fold and phase of the dither.

    A stage without thresholds has none.
    """
    rows, columns = stage.period
    depth = 0 if stage.thresholds is None else stage.channel_folds * rows * columns
    return Storage(stage.config.pe, depth, stage.config.threshold_width + 1)


def storage(stages: Sequence[StageSchedule]) -> list[dict[str, Storage]]:
    """The memories of every stage, by `MEMORIES`.

    >>> from refdesign.models import binarynet
    >>> from simulator.schedule import fit, schedule
    >>> network = binarynet(input_shape=(8, 8, 1), width=1 / 16)
    >>> found = storage(schedule(network, fit(network, pe=4, simd=8)))[1]
    >>> found["weight"], found["pool"]
    (Storage(banks=4, depth=18, width=8), Storage(banks=4, depth=8, width=8))
    """
    made = (weight_storage, threshold_storage, _line_buffer, _operands, _pool)
    return [
        dict(zip(MEMORIES, (*(make(stage) for make in made), Storage(1, stage.config.fifo_depth, width)), strict=True))
        for stage, width in zip(stages, word_widths(stages)[:-1], strict=True)
    ]


def _line_buffer(stage: StageSchedule) -> Storage:
    pixel = stage.groups * stage.inputs * (8 if stage.reads_pixels else 1)
    return Storage(1, stage.config.line_buffer_rows * stage.input_map[1], pixel)


def _operands(stage: StageSchedule) -> Storage:
    counts_for_nothing = stage.fill is None and int(stage.source.min()) < 0  # a bit says so, beside the word
    return Storage(1, stage.synapse_folds if stage.group_folds > 1 else 0, stage.config.simd + counts_for_nothing)


def _pool(stage: StageSchedule) -> Storage:
    on_bits = stage.config.pool == "bits" and stage.thresholds is not None
    depth = stage.channel_folds * max(stage.pooled_map[1], 1) if stage.pool != (1, 1) else 0
    return Storage(stage.config.pe, depth, 1 if on_bits else stage.config.accumulator_width)
