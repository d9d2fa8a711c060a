"""Which word meets which in which cycle: a network's layers laid over an accelerator's stages."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.fold import Thresholds
from refdesign.network import BinaryConv2d, BinaryDense, NetworkData, PixelConv2d, Stage
from refdesign.ops.dither import first_phase
from refdesign.ops.padding import FILLS, Windows
from refdesign.paths import thresholds_of
from simulator.config import Accelerator, StageConfig
from simulator.stage import Pair, Plane, StageSchedule, pixel_planes


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
        fill=_fill(layer) if source.min() < 0 else None,
        period=period,
        origin=origin,
    )


def _sources(layer: BinaryConv2d | PixelConv2d, extent: Pair) -> tuple[NDArray[np.int64], Pair]:
    _, rows, columns, _ = layer.weight_shape
    windows = Windows.of_layer(layer, extent)
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
    if rest or not 0 <= pixel <= 255:
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


def divisors(number: int) -> list[int]:
    """The divisors of a positive number, rising.

    >>> divisors(12)
    [1, 2, 3, 4, 6, 12]
    """
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


def _divisor(number: int, most: int) -> int:
    return max(divisor for divisor in divisors(number) if divisor <= max(most, 1))


def _signed_width(magnitude: int) -> int:
    """Bits of a two's complement number that holds -magnitude and +magnitude."""
    return magnitude.bit_length() + 1


def _limit_width(thresholds: Thresholds) -> int:
    magnitude = int(np.abs(thresholds.threshold.astype(np.int64)).max()) + 1
    return _signed_width(magnitude)
