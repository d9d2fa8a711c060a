"""One layer on its stage: everything about it that does not depend on data, named as in `simulator.units`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from refdesign.fold import Thresholds
from refdesign.network import PixelConv2d, Stage
from simulator.config import StageConfig

Pair = tuple[int, int]


@dataclass(frozen=True)
class Plane:
    """One bit plane of the operands: what a bit counts, and how it is made of a pixel.

    Attributes:
        scale: what one bit counts.
        bit: the pixel's bit; None for bits that are there already, or that are all 1 (`constant`).
        unsigned: whether a 0 bit counts 0 instead of -1 (the mask is the word itself).
        constant: whether every bit is 1.
    """

    scale: int = 1
    bit: int | None = None
    unsigned: bool = False
    constant: bool = False


def pixel_planes(multiplier: int, offset: int) -> tuple[Plane, ...]:
    """The planes that make x = multiplier*p + offset of an 8-bit pixel p (docs/method.md, section 2).

    2p - 255 is the sum of its bits as +-1, weighted; in general bits count 0 or 1 and a constant plane adds the offset.

    >>> [plane.scale for plane in pixel_planes(2, -255)]
    [1, 2, 4, 8, 16, 32, 64, 128]
    >>> pixel_planes(1, 3)[-1]
    Plane(scale=3, bit=None, unsigned=False, constant=True)
    """
    if multiplier % 2 == 0 and 2 * offset == -255 * multiplier:
        return tuple(Plane(multiplier // 2 << bit, bit) for bit in range(8))
    planes = [Plane(multiplier << bit, bit, unsigned=True) for bit in range(8)]
    if offset:
        planes.append(Plane(offset, constant=True))
    return tuple(planes)


@dataclass(frozen=True, kw_only=True, eq=False)
class StageSchedule:
    """One layer on its stage; sizes as in `simulator.units`.

    Attributes:
        config: the stage.
        layer: the network's layer.
        thresholds: its folded thresholds; None for the last layer, which leaves accumulators.
        input_map: (H, W) of the map that it reads; a dense layer behind a dense layer reads one pixel.
        output_map: (H', W') of the convolution, before the pool.
        pool: (rows, columns) of the pool's window; (1, 1) without a pool.
        groups, inputs, outputs: G, and C and O/G channels of one group.
        planes: bit planes of the operands.
        source: int64 (H'*W', K), the pixel (row*W + column) at every tap of every window; -1 in constant padding.
        fill: None where padding counts for nothing; else the bit (or, in a first layer, the pixel) that it shows.
        period: (m, n) of the thresholds; (1, 1) without.
        origin: the phase of the first row and column.
    """

    config: StageConfig
    layer: Stage
    thresholds: Thresholds | None
    input_map: Pair
    output_map: Pair
    pool: Pair
    groups: int
    inputs: int
    outputs: int
    planes: tuple[Plane, ...]
    source: NDArray[np.int64]
    fill: int | None
    period: Pair
    origin: Pair

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.layer.name

    @property
    def reads_pixels(self) -> bool:
        """Whether the input stream is pixels, one a word."""
        return isinstance(self.layer, PixelConv2d)

    @property
    def taps(self) -> int:
        """K."""
        return int(self.source.shape[1])

    @property
    def group_folds(self) -> int:
        """NG, channel folds of one group."""
        return -(-self.outputs // self.config.pe)

    @property
    def channel_folds(self) -> int:
        """NF."""
        return self.groups * self.group_folds

    @property
    def input_folds(self) -> int:
        """CF, folds of one tap's input channels."""
        return -(-self.inputs // self.config.simd)

    @property
    def synapse_folds(self) -> int:
        """SF."""
        return self.taps * self.input_folds * len(self.planes)

    @property
    def windows(self) -> int:
        """Output pixels of the convolution in one image."""
        return self.output_map[0] * self.output_map[1]

    @property
    def pooled_map(self) -> Pair:
        """(rows, columns) behind the pool."""
        return self.output_map[0] // self.pool[0], self.output_map[1] // self.pool[1]

    @property
    def cycles(self) -> int:
        """Cycles of one image in which the stage computes: windows * NF * SF."""
        return self.windows * self.channel_folds * self.synapse_folds

    @property
    def words_out(self) -> int:
        """Words that leave the stage for one image."""
        return self.pooled_map[0] * self.pooled_map[1] * self.channel_folds

    @property
    def out_width(self) -> int:
        """Bits of a word that leaves the stage."""
        return self.config.pe * (1 if self.thresholds is not None else self.config.accumulator_width)

    @cached_property
    def channels(self) -> NDArray[np.int64]:
        """The output channel of every PE in every channel fold, -1 where masked: int64 (NF, PE)."""
        pe, folds = self.config.pe, self.group_folds
        inside = np.arange(folds * pe).reshape(folds, pe)
        group = np.arange(self.groups)[:, np.newaxis, np.newaxis]
        channel = np.where(inside < self.outputs, group * self.outputs + inside, -1)
        return channel.reshape(self.channel_folds, pe).astype(np.int64)

    @cached_property
    def lanes(self) -> NDArray[np.int64]:
        """Input bits that count in every fold of a tap: int64 (CF,)."""
        simd = self.config.simd
        return np.minimum(simd, self.inputs - np.arange(self.input_folds, dtype=np.int64) * simd)

    @cached_property
    def completes(self) -> NDArray[np.bool_]:
        """Whether a window is the last of its pool's window, so that words leave: bool (H'*W',)."""
        rows, columns = (np.arange(extent) for extent in self.output_map)
        down, right = self.pool
        both: NDArray[np.bool_] = (rows % down == down - 1)[:, np.newaxis] & (columns % right == right - 1)
        return both.ravel()

    @cached_property
    def alone(self) -> NDArray[np.bool_]:
        """Whether a window's pixel does not meet the pool's memory: begins a pool's window, or is dropped: (H'*W',)."""
        rows, columns = (np.arange(extent) for extent in self.output_map)
        down, right = self.pool
        height, width = self.pooled_map
        dropped = (rows // down >= height)[:, np.newaxis] | (columns // right >= width)
        begins = (rows % down == 0)[:, np.newaxis] & (columns % right == 0)
        either: NDArray[np.bool_] = dropped | begins
        return either.ravel()

    @cached_property
    def phase(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The thresholds' phase row and phase column of every window: int64 (H'*W',) each."""
        rows, columns = (
            (origin + np.arange(extent, dtype=np.int64) // pool) % period
            for origin, extent, pool, period in zip(self.origin, self.output_map, self.pool, self.period, strict=True)
        )
        return np.repeat(rows, self.output_map[1]), np.tile(columns, self.output_map[0])

    @cached_property
    def needed(self) -> NDArray[np.int64]:
        """Pixels of the image, at least 1, that must be written before a window can be read: int64 (H'*W',), rising."""
        return np.maximum.accumulate(np.maximum(self.source.max(axis=1) + 1, 1))

    @cached_property
    def oldest_row(self) -> NDArray[np.int64]:
        """The oldest row that this or a later window reads, H where none does: int64 (H'*W' + 1,), ascending."""
        height, width = self.input_map
        rows = np.where(self.source < 0, height, self.source // width).min(axis=1)
        rows = np.append(rows, height)
        return np.minimum.accumulate(rows[::-1])[::-1]

    @property
    def least_rows(self) -> int:
        """The fewest rows of line buffer with which every window can be read."""
        last = (self.needed - 1) // self.input_map[1]
        return max(1, int((last - self.oldest_row[:-1]).max()) + 1)

    @cached_property
    def widest_sum(self) -> int:
        """No partial sum lies beyond plus or minus this, whatever weights and pixels are."""
        scales = [abs(plane.scale) for plane in self.planes]
        return self.taps * self.inputs * sum(scales)

    @property
    def widest_popcount(self) -> int:
        """The most lanes that can match in one cycle."""
        return int(self.lanes.max())


def word_widths(stages: Sequence[StageSchedule]) -> list[int]:
    """Bits of the words that enter the first stage, and that leave each one."""
    first = stages[0]
    return [first.groups * first.inputs * (8 if first.reads_pixels else 1), *(stage.out_width for stage in stages)]
