"""The sliding window unit (SWU): a line buffer, written pixel by pixel and read window by window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from simulator.stage import StageSchedule

Pixel = list[int]
"""One value a channel: a bit, or an 8-bit pixel."""


class Operand(NamedTuple):
    """A word for the MVTU: SIMD bits, and whether they stand on the map (not in padding that counts for nothing)."""

    word: int
    valid: bool


class SlidingWindow:
    """The SWU of one stage; every output is a function of its registers.

    Args:
        stage: the stage.
        word_channels: for every input word of a pixel, the channel that each of its lanes carries, -1 for none.
        lane_bits: bits of one lane: 1, or 8 where the input is pixels.

    >>> from refdesign.models import binarynet
    >>> from simulator.schedule import fit, schedule
    >>> network = binarynet(input_shape=(4, 4, 1), width=1 / 16, widths=(16, 16))
    >>> unit = SlidingWindow(schedule(network, fit(network))[0], [[0]], 8)
    >>> unit.in_ready, unit.out_valid
    (True, False)
    """

    def __init__(self, stage: StageSchedule, word_channels: Sequence[Sequence[int]], lane_bits: int) -> None:
        self.stage = stage
        self.word_channels = word_channels
        self.lane_bits = lane_bits
        rows, (_, columns) = stage.config.line_buffer_rows, stage.input_map
        channels = stage.groups * stage.inputs
        self.lines: list[list[Pixel]] = [[[0] * channels for _ in range(columns)] for _ in range(rows)]
        self.write_row = self.write_column = self.write_word = 0  # rows are counted on over the images
        self.window = self.group = self.tap = self.input_fold = self.plane = 0
        self.first_row = 0  # of the image that is read

    @property
    def in_ready(self) -> bool:
        """Whether the line that is written next holds nothing that is still to be read."""
        oldest = self.first_row + int(self.stage.oldest_row[self.window])
        return self.write_row - oldest < self.stage.config.line_buffer_rows

    @property
    def out_valid(self) -> bool:
        """Whether every pixel of the current window is written."""
        columns = self.stage.input_map[1]
        written = (self.write_row - self.first_row) * columns + self.write_column
        return written >= int(self.stage.needed[self.window])

    @property
    def operand(self) -> Operand:
        """The word that stands at the output; meant only with `out_valid`."""
        stage = self.stage
        plane = stage.planes[self.plane]
        source = int(stage.source[self.window, self.tap])
        if source < 0 and stage.fill is None:
            return Operand(0, False)
        lanes = int(stage.lanes[self.input_fold])
        first = self.group * stage.inputs + self.input_fold * stage.config.simd
        if source < 0:
            values = [int(stage.fill or 0)] * lanes
        else:
            row, column = divmod(source, stage.input_map[1])
            line = self.lines[(self.first_row + row) % len(self.lines)]
            values = line[column][first : first + lanes]
        if plane.constant:
            values = [1] * lanes
        elif plane.bit is not None:
            values = [value >> plane.bit & 1 for value in values]
        return Operand(sum(bit << lane for lane, bit in enumerate(values)), True)

    def clock(self, *, write: int | None, read: bool) -> None:
        """The rising edge: a word is written, a word is taken, as the handshakes of this cycle say."""
        if write is not None:
            self._write(write)
        if read:
            self._advance()

    def _write(self, word: int) -> None:
        line = self.lines[self.write_row % len(self.lines)]
        for lane, channel in enumerate(self.word_channels[self.write_word]):
            if channel >= 0:
                line[self.write_column][channel] = word >> lane * self.lane_bits & ((1 << self.lane_bits) - 1)
        self.write_word += 1
        if self.write_word == len(self.word_channels):
            self.write_word = 0
            self.write_column += 1
        if self.write_column == self.stage.input_map[1]:
            self.write_column = 0
            self.write_row += 1

    def _advance(self) -> None:
        stage = self.stage
        self.plane += 1
        if self.plane == len(stage.planes):
            self.plane, self.input_fold = 0, self.input_fold + 1
        if self.input_fold == stage.input_folds:
            self.input_fold, self.tap = 0, self.tap + 1
        if self.tap == stage.taps:
            self.tap, self.group = 0, self.group + 1
        if self.group == stage.groups:
            self.group, self.window = 0, self.window + 1
        if self.window == stage.windows:
            self.window, self.first_row = 0, self.first_row + stage.input_map[0]
