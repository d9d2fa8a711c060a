"""The registers of a unit in every cycle, all at once: the fields of `simulator.units`, for any window of cycles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from simulator.arithmetic import Folder, Operands
from simulator.run import Simulator, by_slot
from simulator.stage import StageSchedule
from simulator.stalls import NO_STALLS, Stalls
from simulator.thresholding import Comparators, before_in_window
from simulator.timing import RunTimes
from simulator.units import TRACE_FIELDS

Array = NDArray[Any]
CHUNK = 1 << 14
"""Cycles of one piece of a trace."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StageTrace:
    """A window of cycles of one MVTU.

    Attributes:
        stage: its schedule.
        first: the first cycle.
        fields: by the names in `simulator.units.TRACE_FIELDS`: (cycles,), or (cycles, PE) for popcount, accumulator,
            threshold, flip and bits; `word` is uint64 (cycles, words of 64 lanes).
    """

    stage: StageSchedule
    first: int
    fields: dict[str, Array]

    @property
    def cycles(self) -> int:
        """The number of cycles."""
        return len(self.fields["nf"])


class Tracer:
    """Traces of one run of a simulator.

    Args:
        simulator: the accelerator.
        images: uint8 (N, H, W, C).
        stalls: as in `Simulator.run`.

    >>> from refdesign.models import binarynet
    >>> from simulator.schedule import fit
    >>> network = binarynet(input_shape=(4, 4, 1), width=1 / 32, widths=(64,), dense=(64,))
    >>> tracer = Tracer(Simulator(network, fit(network, pe=1, simd=1)), np.zeros((1, 4, 4, 1), np.uint8))
    >>> trace = tracer.stage("conv1", 5, 10)
    >>> trace.fields["in_valid"].astype(int).tolist(), trace.fields["accumulator"][:, 0].tolist()
    ([0, 0, 1, 1, 1], [0, 0, 1, 3, 7])
    """

    def __init__(self, simulator: Simulator, images: NDArray[np.uint8], stalls: Stalls = NO_STALLS) -> None:
        self.simulator = simulator
        self.images = images
        self.outputs = simulator.outputs(images)
        self.times: RunTimes = simulator.times(len(images), stalls)
        self._sources: dict[str, _StageSource] = {}

    def stage(self, name: str, start: int = 0, stop: int | None = None) -> StageTrace:
        """The cycles from `start` to before `stop` of a layer's MVTU.

        Raises:
            RefdesignError: no such layer, or not a window of cycles within the run.
        """
        pieces = list(self.chunks(name, start, stop))
        fields = {field: np.concatenate([piece.fields[field] for piece in pieces]) for field in TRACE_FIELDS}
        return StageTrace(stage=self.simulator.stage(name), first=start, fields=fields)

    def chunks(self, name: str, start: int = 0, stop: int | None = None, *, chunk: int = CHUNK) -> Iterator[StageTrace]:
        """The same in pieces of so many cycles, so that memory stays bounded."""
        end = self.times.cycles if stop is None else stop
        if not 0 <= start < end <= self.times.cycles:
            raise RefdesignError(
                f"trace: found cycles {start} to {end}, expected a window within 0 to {self.times.cycles}"
            )
        if name not in self._sources:
            self._sources[name] = _StageSource(self, name)
        for first in range(start, end, chunk):
            yield self._sources[name].cut(first, min(first + chunk, end))

    def occupancy(self) -> dict[str, NDArray[np.int64]]:
        """Every FIFO's count at the start of every cycle, by the layer that it feeds, then `"output"`."""
        return {name: fifo.occupancy(self.times.cycles) for name, fifo in self.times.fifos.items()}


class _StageSource:
    """Everything that the trace of one stage is cut from."""

    def __init__(self, tracer: Tracer, name: str) -> None:
        simulator = tracer.simulator
        index = simulator.index(name)
        stage = simulator.stages[index]
        self.stage = stage
        self.memory = simulator.memories[index]
        self.folder = Folder(stage, self.memory)
        before = tracer.images if index == 0 else tracer.outputs[f"{simulator.stages[index - 1].name}.bits"] > 0
        self.operands = Operands.of(stage, before)
        times = tracer.times
        self.times = times.stages[name]
        ends = self.times.fold_ends()
        self.ends = ends.ravel()
        self.starts = np.append(self.times.starts[0], self.ends[:-1] + 1)
        self.starts[:: stage.channel_folds] = self.times.starts
        last_group = stage.channel_folds - stage.group_folds
        self.taken = ends[:, :, last_group].ravel()
        words = 1 if index == 0 else simulator.stages[index - 1].channel_folds
        per_image = stage.input_map[0] * stage.input_map[1]
        pixels = (np.arange(len(tracer.images))[:, np.newaxis] * per_image + stage.needed).ravel()
        self.available = times.fifos[name].pops[pixels * words - 1] + 1
        names = [*(other.name for other in simulator.stages), "output"]
        behind = times.fifos[names[index + 1]]
        self.out_ready = behind.occupancy(times.cycles) < behind.depth
        self.sums = tracer.outputs[f"{name}.accumulator"].reshape(-1, *stage.output_map, stage.layer.out_channels)

    @cached_property
    def pool_memory(self) -> Array | None:
        """What the pool's memory holds as each pixel's folds run: (N*windows, NF, PE); None without a pool."""
        stage = self.stage
        if stage.layer.pool is None:
            return None
        values, flip = self.sums, None
        if stage.config.pool == "bits" and stage.thresholds is not None:
            comparators = Comparators.of(stage, self.memory)
            values, flip = comparators.compare(self.sums, pooled=False), comparators.flip
        held = by_slot(stage, before_in_window(stage, values, flip))
        return held.reshape(-1, stage.channel_folds, stage.config.pe)

    def cut(self, first: int, end: int) -> StageTrace:
        stage = self.stage
        cycle = np.arange(first, end)
        fold = np.searchsorted(self.ends, cycle)
        done = fold == len(self.ends)
        fold[done] = 0
        idle = done | (cycle < self.starts[fold])
        sf = np.where(idle, 0, np.minimum(cycle - self.starts[fold], stage.synapse_folds - 1))
        pixel, nf = np.divmod(fold, stage.channel_folds)
        window = pixel % stage.windows
        row, column = np.divmod(window, stage.output_map[1])
        phase_row, phase_column = (phase[window] for phase in stage.phase)
        completes = stage.completes[window] & (sf == stage.synapse_folds - 1)
        reader = np.searchsorted(self.taken, cycle)
        in_valid = np.append(self.available, np.iinfo(np.int64).max)[reader] <= cycle
        out_ready = self.out_ready[first:end]
        popcount, accumulator = self._values(pixel, nf, sf, idle)
        address, limit, flip = self._thresholds(nf, phase_row, phase_column)
        fields: dict[str, Array] = {
            "nf": nf,
            "sf": sf,
            "row": row,
            "column": column,
            "phase_row": phase_row,
            "phase_column": phase_column,
            "weight_address": nf * stage.taps * stage.input_folds + sf // len(stage.planes),
            "word": self._words(pixel, nf, sf, idle),
            "popcount": popcount,
            "accumulator": accumulator,
            "threshold_address": address,
            "threshold": limit,
            "flip": flip,
            "bits": self._bits(accumulator, limit, flip, pixel, nf),
            "in_valid": in_valid,
            "in_ready": (nf % stage.group_folds == 0) & (~completes | out_ready),
            "out_valid": ~idle & completes,
            "out_ready": out_ready,
        }
        return StageTrace(stage=stage, first=first, fields={name: fields[name] for name in TRACE_FIELDS})

    def _values(self, pixel: Array, nf: Array, sf: Array, idle: Array) -> tuple[Array, Array]:
        stage = self.stage
        popcount = np.zeros((len(pixel), stage.config.pe), dtype=np.int64)
        accumulator = np.zeros_like(popcount)
        busy = np.flatnonzero(~idle)
        if busy.size:
            some = slice(int(pixel[busy[0]]), int(pixel[busy[-1]]) + 1)
            for block in self.folder.blocks(self.operands, pixels=some):
                here = busy[(pixel[busy] >= block.pixels.start) & (pixel[busy] < block.pixels.stop)]
                place = sf[here], pixel[here] - block.pixels.start, nf[here]
                shape = (*block.popcount.shape[:2], stage.channel_folds, stage.config.pe)
                popcount[here] = block.popcount.reshape(shape)[place]
                accumulator[here] = block.accumulator.reshape(shape)[place]
        return popcount, accumulator

    def _words(self, pixel: Array, nf: Array, sf: Array, idle: Array) -> NDArray[np.uint64]:
        stage = self.stage
        per_tap = stage.input_folds * len(stage.planes)
        tap, inside = np.divmod(sf, per_tap)
        words: NDArray[np.uint64] = self.operands.words[
            self.operands.source[pixel, tap], nf // stage.group_folds, inside
        ]
        if self.operands.outside is not None:
            words[self.operands.outside[pixel, tap]] = 0
        words[idle] = 0
        return words

    def _thresholds(self, nf: Array, row: Array, column: Array) -> tuple[Array, Array, Array]:
        pe = self.stage.config.pe
        if self.stage.thresholds is None:
            nothing = np.zeros((len(nf), pe), dtype=np.int64)
            return np.zeros_like(nf), nothing, nothing.astype(np.bool_)
        m, n = self.stage.period
        address = nf * (m * n) + row * n + column
        return address, self.memory.limit.T[address], self.memory.flip.T[address]

    def _bits(self, accumulator: Array, limit: Array, flip: Array, pixel: Array, nf: Array) -> NDArray[np.bool_]:
        stage = self.stage
        if stage.thresholds is None:
            return np.zeros(accumulator.shape, dtype=np.bool_)
        present = stage.channels[nf] >= 0
        if self.pool_memory is None:
            bits: NDArray[np.bool_] = ((accumulator >= limit) ^ flip) & present
            return bits
        alone = stage.alone[pixel % stage.windows][:, np.newaxis]
        held = self.pool_memory[pixel, nf]
        if stage.config.pool == "accumulators":
            bits = ((np.where(alone, accumulator, np.maximum(held, accumulator)) >= limit) ^ flip) & present
            return bits
        bits = ((accumulator >= limit) ^ flip) & present
        return np.where(alone, bits, np.where(flip, held & bits, held | bits))
