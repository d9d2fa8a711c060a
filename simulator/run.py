"""The accelerator on images, all cycles at once: outputs, cycle counts, FIFO occupancies, and traces on request.

Data and time are apart: bits do not change when anything happens (`simulator.timing`), and when it happens does not
change the bits (`simulator.arithmetic`). The plain model, `simulator.stepping`, knows nothing of this and agrees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import PackedBits, pack_bool
from refdesign.errors import RefdesignError
from refdesign.network import BinaryConv2d, BinaryDense, NetworkData, PixelConv2d
from refdesign.ops.batch_norm import batch_norm
from refdesign.ops.conv import binary_conv2d
from refdesign.ops.dense import binary_dense, flatten_bits
from refdesign.ops.pixels import pixel_conv2d
from refdesign.ops.pool import max_pool2d
from refdesign.run import check_images
from simulator.arithmetic import Folder, Hook, Operands
from simulator.config import Accelerator
from simulator.memory import StageMemory, contents, weight_bits
from simulator.schedule import schedule
from simulator.stage import StageSchedule
from simulator.stalls import NO_STALLS, Stalls
from simulator.thresholding import Comparators
from simulator.timing import RunTimes, run_times

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Simulation:
    """What a run gives.

    Attributes:
        outputs: by the names of `refdesign.run` (`<layer>.accumulator`, `<layer>.pooled`, `<layer>.bits`,
            `logits`), with the values that the hardware has.
        times: cycles by cause, words, occupancies, latency.
    """

    outputs: dict[str, Array]
    times: RunTimes


class Simulator:
    """A network on an accelerator.

    Args:
        network: what runs.
        accelerator: where; one stage for each layer.
        memories: the stages' memories; None is what the network gives.

    Raises:
        RefdesignError: as `simulator.schedule.schedule` and `simulator.memory.contents`.

    >>> from refdesign.models import binarynet
    >>> from simulator.schedule import fit
    >>> network = binarynet(input_shape=(8, 8, 1), width=1 / 16)
    >>> simulation = Simulator(network, fit(network, pe=4, simd=8)).run(np.zeros((1, 8, 8, 1), np.uint8))
    >>> simulation.outputs["conv2.bits"].shape, simulation.times.stages["conv2"].causes["compute"]
    ((1, 4, 4, 8), 1152)
    """

    def __init__(
        self, network: NetworkData, accelerator: Accelerator, memories: Sequence[StageMemory] | None = None
    ) -> None:
        self.network = network
        self.accelerator = accelerator
        self.stages = schedule(network, accelerator)
        if memories is not None and len(memories) != len(self.stages):
            raise RefdesignError(f"memories: found {len(memories)}, expected one for each of {len(self.stages)} stages")
        self.memories = tuple(memories) if memories is not None else tuple(contents(stage) for stage in self.stages)
        self._engines = [Engine(*both) for both in zip(self.stages, self.memories, strict=True)]

    def stage(self, name: str) -> StageSchedule:
        """The schedule of a layer's stage.

        Raises:
            RefdesignError: there is no such layer.
        """
        return self.stages[self.index(name)]

    def index(self, name: str) -> int:
        """The place of a layer's stage.

        Raises:
            RefdesignError: there is no such layer.
        """
        names = [stage.name for stage in self.stages]
        if name not in names:
            raise RefdesignError(f"layer: found {name!r}, expected one of {', '.join(names)}")
        return names.index(name)

    def times(self, images: int, stalls: Stalls = NO_STALLS) -> RunTimes:
        """When everything happens in a run of so many images; needs no data."""
        if images < 1:
            raise RefdesignError(f"images: found {images}, expected at least 1")
        return run_times(self.stages, self.accelerator.output_fifo_depth, images, stalls)

    def run(self, images: NDArray[np.uint8], *, stalls: Stalls = NO_STALLS) -> Simulation:
        """Run images through the pipeline.

        Args:
            images: uint8 (N, H, W, C), at least one.
            stalls: in which cycles the source offers and the sink takes.

        Raises:
            RefdesignError: wrong images, or a value that overflows its width where that is an error: the first such
                value of the first layer that has one.
        """
        return Simulation(outputs=self.outputs(images), times=self.times(len(images), stalls))

    def outputs(
        self,
        images: NDArray[np.uint8] | NDArray[np.bool_],
        *,
        hooks: Mapping[str, Hook] | None = None,
        memories: Mapping[str, StageMemory] | None = None,
        noise: Mapping[str, Callable[[NDArray[np.bool_]], NDArray[np.bool_]]] | None = None,
        start: str | None = None,
        wanted: frozenset[str] | None = None,
    ) -> dict[str, Array]:
        """The data of a run, without times.

        Args:
            images: uint8 (N, H, W, C); or, with `start`, the bits that this layer reads, bool.
            hooks: by layer, what happens to accumulators (`simulator.arithmetic.Hook`).
            memories: by layer, other memories than the accelerator's.
            noise: by layer, what becomes of the bits (N, rows, columns, O) that leave it.
            start: the layer to start from.
            wanted: which outputs to give; None is all.

        Returns:
            Outputs by name, in order.
        """
        found: dict[str, Array] = {}

        def keep(name: str, values: Array, make: Callable[[StageSchedule, Array], Array] = _shaped) -> None:
            if wanted is None or name in wanted:
                found[name] = make(stage, values)

        first = 0 if start is None else self.index(start)
        if first == 0:
            check_images(self.network, images.astype(np.uint8, copy=False))
        maps: Array | PackedBits = images if first == 0 else pack_bool(images.astype(np.bool_))
        for stage in self.stages[first:]:
            name = stage.name
            engine = self.engine(name, (memories or {}).get(name))
            sums = engine.accumulate(maps, (hooks or {}).get(name))
            keep(f"{name}.accumulator", sums)
            pooled = sums if stage.layer.pool is None else max_pool2d(sums, stage.pool)
            if stage.layer.pool is not None:
                keep(f"{name}.pooled", pooled)
            if stage.thresholds is None:
                keep("logits", pooled, self._logits)
                break
            bits = engine.decide(sums, pooled)
            if noise and name in noise:
                bits = noise[name](bits)
            keep(f"{name}.bits", bits, _signs)
            maps = pack_bool(bits)
        return found

    def engine(self, name: str, memory: StageMemory | None = None) -> Engine:
        """A layer's stage prepared for arrays, with its own memories or others."""
        index = self.index(name)
        return self._engines[index] if memory is None else Engine(self.stages[index], memory)

    def logits(self, sums: Array) -> Array:
        """The logits of the last stage's accumulators (N, H', W', O), behind its pool."""
        last = self.stages[-1]
        return self._logits(last, sums if last.layer.pool is None else max_pool2d(sums, last.pool))

    def _logits(self, stage: StageSchedule, pooled: Array) -> Array:
        sums = _shaped(stage, pooled)
        if stage.layer.batch_norm is None:
            return sums
        return batch_norm(sums, stage.layer.batch_norm, self.network.conventions.arithmetic)


def _shaped(stage: StageSchedule, values: Array) -> Array:
    """Dense layers' (N, 1, 1, O) as (N, O)."""
    return values[:, 0, 0] if isinstance(stage.layer, BinaryDense) else values


def _signs(stage: StageSchedule, bits: NDArray[np.bool_]) -> NDArray[np.int8]:
    return _shaped(stage, bits).view(np.int8) * np.int8(2) - np.int8(1)


class Engine:
    """One stage with its memories, prepared for arrays."""

    def __init__(self, stage: StageSchedule, memory: StageMemory) -> None:
        self.stage = stage
        self.memory = memory
        self.folder = Folder(stage, memory)

    @property
    def pools_bits(self) -> bool:
        """Whether the pool stands on bits."""
        return self.stage.config.pool == "bits" and self.stage.layer.pool is not None

    @cached_property
    def comparators(self) -> Comparators:
        return Comparators.of(self.stage, self.memory)

    @cached_property
    def weights(self) -> PackedBits:
        """What the weight memory holds, in the layer's layout."""
        shape = self.stage.layer.weights.shape if isinstance(self.stage.layer, _LAYERS) else ()
        return pack_bool(weight_bits(self.stage, self.memory).reshape(shape))

    def accumulate(self, maps: Array | PackedBits, hook: Hook | None = None) -> Array:
        """The accumulators of a batch's maps: (N, H', W', O), int32, or int64 where int32 does not hold one.

        Fold by fold where a width can be exceeded or a hook wants it, else by the operators.
        """
        if self.folder.exact and hook is None:
            return self._by_operators(maps)
        stage = self.stage
        values = maps if not isinstance(maps, PackedBits) else _unpacked(maps)
        operands = Operands.of(stage, values)
        sums = np.empty((len(operands.source), self.folder.present.size), dtype=np.int64)
        for block in self.folder.blocks(operands, hook=hook):
            sums[block.pixels] = block.accumulator[-1]
        whole = by_channel(stage, sums).reshape(-1, *stage.output_map, stage.layer.out_channels)
        small = np.iinfo(np.int32)
        return whole.astype(np.int32) if small.min <= sums.min() and sums.max() <= small.max else whole

    def _by_operators(self, maps: Array | PackedBits) -> NDArray[np.int32]:
        layer = self.stage.layer
        if isinstance(maps, PackedBits):
            if isinstance(layer, BinaryConv2d):
                return binary_conv2d(maps, self.weights, **layer.geometry)
            flat = flatten_bits(maps) if maps.words.ndim == 4 else maps
            return binary_dense(flat, self.weights)[:, np.newaxis, np.newaxis]
        if not isinstance(layer, PixelConv2d):
            raise RefdesignError(f"layer {layer.name!r}: reads bits, found an array")
        return pixel_conv2d(maps, self.weights, multiplier=layer.multiplier, offset=layer.offset, **layer.geometry)

    def decide(self, sums: Array, pooled: Array) -> NDArray[np.bool_]:
        """The bits behind the pool, (N, rows, columns, O), in the order that the stage has them."""
        if not self.pools_bits:
            return self.comparators.compare(pooled, pooled=True)
        return self.comparators.pool_bits(self.comparators.compare(sums, pooled=False))


_LAYERS = (BinaryConv2d, PixelConv2d, BinaryDense)


def by_channel(stage: StageSchedule, slots: Array) -> Array:
    """From slots (..., NF*PE) to channels (..., O)."""
    channels = stage.channels.ravel()
    place = np.flatnonzero(channels >= 0)
    if place.size == channels.size and np.array_equal(channels, place):
        return slots
    return slots[..., place[np.argsort(channels[place])]]


def by_slot(stage: StageSchedule, channels: Array) -> Array:
    """From channels (..., O) to slots (..., NF*PE), 0 where masked."""
    places = stage.channels.ravel()
    found: Array = np.where(places >= 0, channels[..., places], channels.dtype.type(0))
    return found


def _unpacked(maps: PackedBits) -> NDArray[np.bool_]:
    octets = np.ascontiguousarray(maps.words).view(np.uint8)
    return np.unpackbits(octets, axis=-1, count=maps.length, bitorder="little").view(np.bool_)
