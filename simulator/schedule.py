"""Which word meets which in which cycle: a network's layers laid over an accelerator's stages.

A `StageSchedule` holds everything about one stage that does not depend on data: folds, windows, bit planes, phases
and counts, named as in `simulator.units`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.fold import Thresholds
from refdesign.network import (
    BinaryConv2d,
    BinaryDense,
    NetworkData,
    PixelConv2d,
    Stage,
)
from refdesign.ops.dither import first_phase
from refdesign.ops.padding import FILLS, Windows
from refdesign.run import thresholds_of
from simulator.config import Accelerator, StageConfig

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
    """The planes that make x = multiplier*p + offset of an 8-bit pixel p (SPEC section 2).

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
        height, width = self.pooled_map
        row = (rows % down == down - 1) & (rows // down < height)
        column = (columns % right == right - 1) & (columns // right < width)
        both: NDArray[np.bool_] = row[:, np.newaxis] & column
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


def schedule(network: NetworkData, accelerator: Accelerator) -> tuple[StageSchedule, ...]:
    """Lay a network over an accelerator.

    Raises:
        RefdesignError: stages and layers do not go together; PE or SIMD do not divide the channels; a line buffer is
            too small; a layer that the hardware does not have (residual, real, several bases, real first-layer
            weights, overlapping pools, thresholds with ties). Names the layer.

    >>> from refdesign.models import binarynet
    >>> network = binarynet(input_shape=(8, 8, 1), width=1 / 16)
    >>> stages = schedule(network, fit(network, pe=4, simd=8))
    >>> [(stage.name, stage.channel_folds, stage.synapse_folds, stage.cycles) for stage in stages][:2]
    [('conv1', 2, 72, 9216), ('conv2', 2, 9, 1152)]
    """
    found = [stage.layer for stage in accelerator.stages]
    expected = [layer.name for layer in network.layers]
    if found != expected:
        raise RefdesignError(
            f"accelerator {accelerator.name!r}, stages: found layers {', '.join(found)}, "
            f"expected those of network {network.name!r}: {', '.join(expected)}"
        )
    thresholds = _checked_thresholds(network)
    stages = tuple(_stage(network, stage, thresholds) for stage in accelerator.stages)
    for stage in stages:
        _check_fit(stage)
    return stages


def fit(
    network: NetworkData,
    *,
    pe: int = 16,
    simd: int = 64,
    name: str | None = None,
    pool: str = "accumulators",
    overflow: str = "error",
    extra_rows: int = 1,
    fifo_depth: int = 2,
    widths: Mapping[str, int] | None = None,
) -> Accelerator:
    """An accelerator that fits a network: the largest PE and SIMD up to those asked for that divide each layer.

    Args:
        network: what it is to run.
        pe, simd: the most of each.
        name: the accelerator's; the network's by default.
        pool, overflow, fifo_depth: as in `StageConfig`, for every stage.
        extra_rows: rows of line buffer beyond the fewest that work.
        widths: `popcount_width`, `accumulator_width` or `threshold_width` for every stage; what is not given is
            as wide as values can get.

    Raises:
        RefdesignError: as `schedule`, for the layers that no accelerator runs.

    >>> from refdesign.models import binarynet
    >>> accelerator = fit(binarynet(input_shape=(8, 8, 1), width=1 / 16), pe=4, simd=6)
    >>> [(stage.pe, stage.simd) for stage in accelerator.stages[:3]]
    [(4, 1), (4, 4), (4, 4)]
    """
    thresholds = _checked_thresholds(network)
    stages = []
    for layer in network.layers:
        probe = StageConfig(
            layer=layer.name,
            pe=1,
            simd=1,
            popcount_width=1,
            accumulator_width=1,
            threshold_width=1,
            line_buffer_rows=1,
        )
        stage = _stage(network, probe, thresholds)
        lanes = _divisor(stage.inputs, simd)
        sums = _signed_width(stage.widest_sum)
        limits = sums if stage.thresholds is None else max(sums, _limit_width(stage.thresholds))
        chosen = {"popcount_width": lanes.bit_length(), "accumulator_width": sums, "threshold_width": limits}
        chosen.update(widths or {})
        stages.append(
            StageConfig(
                layer=layer.name,
                pe=_divisor(stage.outputs, pe),
                simd=lanes,
                pool=pool,
                overflow=overflow,
                line_buffer_rows=stage.least_rows + extra_rows,
                fifo_depth=fifo_depth,
                popcount_width=chosen["popcount_width"],
                accumulator_width=chosen["accumulator_width"],
                threshold_width=chosen["threshold_width"],
            )
        )
    return Accelerator(name=name or network.name, stages=tuple(stages), output_fifo_depth=fifo_depth)


def _checked_thresholds(network: NetworkData) -> dict[str, Thresholds]:
    for layer in network.layers:
        if not isinstance(layer, (BinaryConv2d, PixelConv2d, BinaryDense)):
            raise RefdesignError(
                f"layer {layer.name!r}: found a {layer.kind} layer, expected integer accumulators: "
                "the accelerator has no real arithmetic"
            )
        if not layer.folds:
            raise RefdesignError(f"layer {layer.name!r}, shortcut: the accelerator has no residual additions")
        if isinstance(layer, PixelConv2d) and isinstance(layer.weights, np.ndarray):
            raise RefdesignError(
                f"layer {layer.name!r}, weights: found integers, expected weights of ±1 in a first layer by bit planes"
            )
        if layer.pool is not None and layer.pool.size != layer.pool.stride:
            raise RefdesignError(
                f"layer {layer.name!r}, pool: found size {layer.pool.size} and stride {layer.pool.stride}, "
                "expected equal ones"
            )
    thresholds = thresholds_of(network)
    for name, folded in thresholds.items():
        ties = np.flatnonzero(folded.ternary.any(axis=(0, 1)))
        if ties.size:
            raise RefdesignError(
                f"layer {name!r}: channel {ties[0]} and {ties.size - 1} more can tie at zero (sign_at_zero is 0): "
                "the accelerator's bits have two values"
            )
    return thresholds


def _stage(network: NetworkData, config: StageConfig, thresholds: Mapping[str, Thresholds]) -> StageSchedule:
    layer = network.layer(config.layer)
    if not isinstance(layer, (BinaryConv2d, PixelConv2d, BinaryDense)):
        raise RefdesignError(f"layer {layer.name!r}: has no integer accumulator")
    shape = network.shapes[layer.name].input
    height, width, channels = shape if len(shape) == 3 else (1, 1, *shape)
    folded = thresholds.get(layer.name)
    if isinstance(layer, BinaryDense):
        groups, output_map = 1, (1, 1)
        source = np.arange(height * width, dtype=np.int64)[np.newaxis]
    else:
        groups = layer.groups
        source, output_map = _sources(layer, (height, width))
    pool = layer.pool.size if layer.pool is not None else (1, 1)
    period, origin = (1, 1), (0, 0)
    if folded is not None:
        m, n, _ = folded.shape
        rule = network.conventions.kernel_origin
        period = (m, n)
        origin = first_phase(output_map[0] // pool[0], m, rule), first_phase(output_map[1] // pool[1], n, rule)
    return StageSchedule(
        config=config,
        layer=layer,
        thresholds=folded,
        input_map=(height, width),
        output_map=output_map,
        pool=pool,
        groups=groups,
        inputs=channels // groups,
        outputs=layer.out_channels // groups,
        planes=pixel_planes(layer.multiplier, layer.offset) if isinstance(layer, PixelConv2d) else (Plane(),),
        source=source,
        fill=_fill(layer),
        period=period,
        origin=origin,
    )


def _sources(layer: BinaryConv2d | PixelConv2d, extent: Pair) -> tuple[NDArray[np.int64], Pair]:
    _, rows, columns, _ = layer.weight_shape
    windows = Windows.of(
        extent,
        (rows, columns),
        stride=layer.stride,
        padding=layer.padding,
        padding_mode=layer.padding_mode,
        dilation=layer.dilation,
    )
    height, width = windows.output
    row = np.stack([windows.source(0)[windows.reach(0, tap)] for tap in range(rows)], axis=1)
    column = np.stack([windows.source(1)[windows.reach(1, tap)] for tap in range(columns)], axis=1)
    row, column = row[:, np.newaxis, :, np.newaxis], column[np.newaxis, :, np.newaxis, :]
    source = np.where((row < 0) | (column < 0), -1, row * extent[1] + column)
    return source.reshape(height * width, rows * columns).astype(np.int64), (height, width)


def _fill(layer: Stage) -> int | None:
    value = FILLS.get(getattr(layer, "padding_mode", "zeros"), 0)
    if value == 0:
        return None
    if not isinstance(layer, PixelConv2d):
        return int(value > 0)
    pixel, rest = divmod(value - layer.offset, layer.multiplier) if layer.multiplier else (0, 1)
    if layer.padding != (0, 0) and (rest or not 0 <= pixel <= 255):
        raise RefdesignError(
            f"layer {layer.name!r}, padding_mode: found {layer.padding_mode!r}, but no pixel p has "
            f"{layer.multiplier}*p + {layer.offset} = {value}"
        )
    return pixel


def _check_fit(stage: StageSchedule) -> None:
    where = f"accelerator, stage {stage.name!r}"
    config = stage.config
    for field, value, what, channels in (
        ("pe", config.pe, "output", stage.outputs),
        ("simd", config.simd, "input", stage.inputs),
    ):
        of = f"{channels} {what} channels" + (f" of each of {stage.groups} groups" if stage.groups > 1 else "")
        if value > channels:
            raise RefdesignError(f"{where}, {field}: found {value}, expected at most the {of}")
        if channels % value and not config.ragged:
            raise RefdesignError(
                f"{where}, {field}: found {value}, which does not divide the {of}; "
                "expected a divisor, or ragged to be true"
            )
    if config.line_buffer_rows < stage.least_rows:
        raise RefdesignError(
            f"{where}, line_buffer_rows: found {config.line_buffer_rows}, expected at least {stage.least_rows}"
        )


def _divisor(number: int, most: int) -> int:
    return max(d for d in range(1, min(number, max(most, 1)) + 1) if number % d == 0)


def _signed_width(magnitude: int) -> int:
    """Bits of a two's complement number that holds -magnitude and +magnitude."""
    return magnitude.bit_length() + 1


def _limit_width(thresholds: Thresholds) -> int:
    magnitude = int(np.abs(thresholds.threshold.astype(np.int64)).max()) + 1
    return _signed_width(magnitude)
