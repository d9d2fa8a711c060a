"""Faults in the accelerator: bits that flip or stick, in every structure that holds bits, in one cycle or in all.

A fault names a structure of one stage and the bits in it. *Permanent*: in every cycle. *Transient*: in one cycle of
every image, so that each image is one trial of the same upset.

| structure | what a site is | permanent | transient (`window` is the output pixel; behind a pool, the pooled one) |
| --- | --- | --- | --- |
| `weights` | (pe, address, bit): a bit of the weight memory | the memory's bit | its reads for one output pixel |
| `thresholds` | (pe, address, bit): of {flip, limit} | the memory's bit | its reads for one output pixel |
| `activations` | (pe, channel fold, 0): an output bit | that output of every pixel | of one pixel |
| `accumulators` | (pe, channel fold, bit) | that PE's register in every cycle | after one addition |
| `configuration` | (register, 0, bit): see `REGISTERS` | the register, from the start | one image's (the same data) |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import pack_bool
from refdesign.errors import RefdesignError
from refdesign.ops.pool import max_pool2d
from simulator.arithmetic import Hook
from simulator.memory import StageMemory
from simulator.run import Array, Engine, Simulator
from simulator.stage import StageSchedule
from simulator.storage import threshold_storage, weight_storage
from simulator.thresholding import Comparators

STRUCTURES = ("weights", "thresholds", "activations", "accumulators", "configuration")
EFFECTS = ("flip", "stuck_at_0", "stuck_at_1")
REGISTERS = ("origin_row", "origin_column", "last_phase_row", "last_phase_column")
"""Configuration registers, by their place in a site: where the phase counters start, and where they wrap. A stage with
one threshold a channel has none."""

Site = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One or several bits of one structure that go wrong together.

    Attributes:
        layer: whose stage.
        structure: one of `STRUCTURES`.
        sites: at least one, as the module's table says.
        effect: one of `EFFECTS`.
        window: None for a permanent fault; else the output pixel (row * columns + column) of a transient one.
        synapse_fold: of a transient fault in accumulators: after which addition.

    >>> Fault(layer="conv1", structure="weights", sites=((0, 3, 1),)).permanent
    True
    """

    layer: str
    structure: str
    sites: tuple[Site, ...]
    effect: str = "flip"
    window: int | None = None
    synapse_fold: int = 0

    def __post_init__(self) -> None:
        for name, value, choices in (("structure", self.structure, STRUCTURES), ("effect", self.effect, EFFECTS)):
            if value not in choices:
                raise RefdesignError(f"fault, {name}: found {value!r}, expected one of {', '.join(choices)}")
        if not self.sites:
            raise RefdesignError("fault, sites: found none, expected at least one")

    @property
    def permanent(self) -> bool:
        """Whether it lasts."""
        return self.window is None

    @property
    def bit(self) -> int:
        """The position of its first bit."""
        return self.sites[0][2]


def sizes(stage: StageSchedule, structure: str) -> tuple[int, int, int]:
    """How many places a site has along its three numbers; (0, 0, 0) where the stage has no such structure.

    >>> from refdesign.models import binarynet
    >>> from simulator.schedule import fit, schedule
    >>> network = binarynet(input_shape=(8, 8, 1), width=1 / 16)
    >>> sizes(schedule(network, fit(network, pe=4, simd=8))[1], "weights")
    (4, 18, 8)
    """
    config = stage.config
    m, n = stage.period
    if structure in ("weights", "thresholds"):
        memory = weight_storage(stage) if structure == "weights" else threshold_storage(stage)
        return (memory.banks, memory.depth, memory.width) if memory.bits else (0, 0, 0)
    if structure == "accumulators":
        return config.pe, stage.channel_folds, config.accumulator_width
    if stage.thresholds is None or (structure == "configuration" and m * n == 1):
        return 0, 0, 0
    if structure == "activations":
        return config.pe, stage.channel_folds, 1
    return len(REGISTERS), 1, max(1, max(m - 1, n - 1).bit_length())


def windows(stage: StageSchedule, structure: str) -> int:
    """Output pixels in which a transient fault can strike: behind the pool, but for what stands before it."""
    before = structure in ("weights", "accumulators") or stage.config.pool == "bits"
    rows, columns = stage.output_map if before and structure != "activations" else stage.pooled_map
    return rows * columns


class FaultySimulator:
    """A simulator with a fault in it, on images whose fault-free run is known.

    Args:
        simulator: the fault-free one.
        images: uint8 (N, H, W, C).

    >>> from refdesign.models import binarynet
    >>> from simulator.schedule import fit
    >>> network = binarynet(input_shape=(8, 8, 1), width=1 / 16)
    >>> faulty = FaultySimulator(Simulator(network, fit(network)), np.zeros((2, 8, 8, 1), np.uint8))
    >>> faulty.logits(Fault(layer="conv1", structure="activations", sites=((0, 0, 0),), window=5)).shape
    (2, 10)
    """

    def __init__(self, simulator: Simulator, images: NDArray[np.uint8]) -> None:
        self.simulator = simulator
        self.images = images
        self.clean = simulator.outputs(images)

    def logits(self, fault: Fault) -> Array:
        """The logits under a fault: (N, classes).

        Raises:
            RefdesignError: the fault names a layer, a site or a window that there is not.
        """
        index = self.simulator.index(fault.layer)
        stage = self.simulator.stages[index]
        _check_sites(stage, fault)
        maps = self.images if index == 0 else self.clean[f"{self.simulator.stages[index - 1].name}.bits"] > 0
        bits, last = self._stage(index, stage, fault, maps)
        if last is not None:
            return last
        following = self.simulator.stages[index + 1].name
        return self.simulator.outputs(bits, start=following, wanted=frozenset(["logits"]))["logits"]

    def _stage(
        self, index: int, stage: StageSchedule, fault: Fault, maps: Array
    ) -> tuple[NDArray[np.bool_], Array | None]:
        """The faulty stage's bits (N, rows, columns, O), or, of the last stage, its logits."""
        simulator = self.simulator
        memory = simulator.memories[index]
        clean = self.clean[f"{stage.name}.accumulator"].reshape(len(maps), *stage.output_map, -1)
        engine, sums = simulator.engine(stage.name), clean
        comparators = None if stage.thresholds is None else engine.comparators
        window = fault.window
        if fault.structure == "weights":
            faulty = simulator.engine(stage.name, replace(memory, weights=_faulty_weights(memory, fault)))
            found = faulty.accumulate(maps if index == 0 else pack_bool(maps))
            sums = _at_window(found, clean, window)
        elif fault.structure == "accumulators":
            sums = engine.accumulate(maps if index == 0 else pack_bool(maps), _accumulator_hook(stage, fault))
        if comparators is None:
            return np.empty(0, np.bool_), simulator.logits(sums)
        if fault.structure == "thresholds":
            words = Comparators.of(stage, _faulty_thresholds(stage, memory, fault))
            comparators = words if window is None else _one_pixel(engine, comparators, words, window)
        elif fault.structure == "configuration":
            comparators = Comparators.of(stage, memory, _faulty_phases(stage, fault))
        if engine.pools_bits:
            bits = comparators.pool_bits(comparators.compare(sums, pooled=False))
        else:
            bits = comparators.compare(sums if stage.layer.pool is None else max_pool2d(sums, stage.pool), pooled=True)
        if fault.structure == "activations":
            bits = _faulty_bits(stage, bits, fault)
        return bits, None


def _one_pixel(engine: Engine, clean: Comparators, faulty: Comparators, window: int) -> Comparators:
    """The clean threshold words, with those of one pixel (behind the pool, unless it is on bits) faulty."""
    stage = engine.stage
    down, right = (1, 1) if engine.pools_bits else stage.pool
    row, column = divmod(window, stage.output_map[1] // right)
    here = np.s_[row * down : (row + 1) * down, column * right : (column + 1) * right]
    limit, flip = clean.limit.copy(), clean.flip.copy()
    limit[here], flip[here] = faulty.limit[here], faulty.flip[here]
    return Comparators(stage=stage, limit=limit, flip=flip)


def _check_sites(stage: StageSchedule, fault: Fault) -> None:
    extent = sizes(stage, fault.structure)
    for site in fault.sites:
        if not all(0 <= place < most for place, most in zip(site, extent, strict=True)):
            raise RefdesignError(
                f"fault, layer {stage.name!r}, {fault.structure}: found site {site}, expected one below {extent}"
            )
    count = windows(stage, fault.structure)
    if fault.window is not None and not 0 <= fault.window < count:
        raise RefdesignError(f"fault, window: found {fault.window}, expected one below {count}")
    if not 0 <= fault.synapse_fold < stage.synapse_folds:
        raise RefdesignError(
            f"fault, synapse_fold: found {fault.synapse_fold}, expected one below {stage.synapse_folds}"
        )


def struck(words: Any, mask: Any, effect: str) -> Any:
    """A word, or an array of words, with the bits of a mask changed.

    >>> struck(0b100, 0b100, "flip"), struck(0b100, 0b001, "stuck_at_1"), struck(0b100, 0b100, "stuck_at_0")
    (0, 5, 0)
    """
    return {"flip": words ^ mask, "stuck_at_0": words & ~mask, "stuck_at_1": words | mask}[effect]


def _at_window(faulty: Array, clean: Array, window: int | None) -> Array:
    """The clean array with one pixel of the faulty one; all of the faulty one for a permanent fault."""
    if window is None:
        return faulty
    result = clean.copy()
    row, column = divmod(window, clean.shape[2])
    result[:, row, column] = faulty[:, row, column]
    return result


def _faulty_weights(memory: StageMemory, fault: Fault) -> NDArray[np.uint64]:
    weights = memory.weights.copy()
    for pe, address, bit in fault.sites:
        word = int(weights[pe, address, bit // 64])
        weights[pe, address, bit // 64] = np.uint64(struck(word, 1 << bit % 64, fault.effect))
    return weights


def _faulty_thresholds(stage: StageSchedule, memory: StageMemory, fault: Fault) -> StageMemory:
    width = stage.config.threshold_width
    limit, flip = memory.limit.copy(), memory.flip.copy()
    for pe, address, bit in fault.sites:
        word = int(flip[pe, address]) << width | int(limit[pe, address]) & (1 << width) - 1
        word = struck(word, 1 << bit, fault.effect)
        low = word & (1 << width) - 1
        limit[pe, address] = low - (low >> width - 1 << width)
        flip[pe, address] = bool(word >> width)
    return replace(memory, limit=limit, flip=flip)


def _accumulator_hook(stage: StageSchedule, fault: Fault) -> Hook:
    width, pe = stage.config.accumulator_width, stage.config.pe

    def strike(fold: int, pixels: slice, sums: Array) -> None:
        if fault.window is not None and fold != fault.synapse_fold:
            return
        here = np.arange(pixels.start, pixels.stop) % stage.windows
        chosen = slice(None) if fault.window is None else here == fault.window
        for site_pe, nf, bit in fault.sites:
            # A permanent fault sits in the PE's register, which all its channel folds use in turn.
            slots = (
                slice(site_pe, None, pe) if fault.window is None else slice(nf * pe + site_pe, nf * pe + site_pe + 1)
            )
            mask = np.int64(1 << bit) if bit < 63 else np.int64(-(1 << 63))
            changed = struck(sums[chosen, slots], mask, fault.effect)
            if width < 64:
                changed = (changed + (1 << width - 1)) % (1 << width) - (1 << width - 1)
            sums[chosen, slots] = changed

    return strike


def _faulty_bits(stage: StageSchedule, bits: NDArray[np.bool_], fault: Fault) -> NDArray[np.bool_]:
    result = bits.copy()
    flat = result.reshape(len(bits), -1, bits.shape[-1])
    chosen = slice(None) if fault.window is None else slice(fault.window, fault.window + 1)
    for pe, nf, _ in fault.sites:
        channel = int(stage.channels[nf, pe])
        if channel < 0:
            continue
        flat[:, chosen, channel] = struck(flat[:, chosen, channel], np.True_, fault.effect)
    return result


def _faulty_phases(stage: StageSchedule, fault: Fault) -> tuple[Array, Array]:
    """The phases of every row and column of the map before the pool, with the counters' registers changed."""
    width = sizes(stage, "configuration")[2]
    registers = [*stage.origin, stage.period[0] - 1, stage.period[1] - 1]
    for register, _, bit in fault.sites:
        registers[register] = struck(registers[register], 1 << bit, fault.effect)
    rows, columns = (
        np.array(list(phase_counter(extent, pool, start, last, width)), dtype=np.int64)
        for extent, pool, start, last in zip(stage.output_map, stage.pool, registers[:2], registers[2:], strict=True)
    )
    return rows, columns


def phase_counter(extent: int, pool: int, start: int, last: int, width: int) -> Iterator[int]:
    """A phase counter of `width` bits: from `start`, on after every `pool` pixels, to 0 after `last`.

    >>> list(phase_counter(5, 1, 1, 2, 2)), list(phase_counter(5, 1, 3, 1, 2))
    ([1, 2, 0, 1, 2], [3, 0, 1, 0, 1])
    """
    phase = start
    for position in range(extent):
        yield phase
        if position % pool == pool - 1:
            phase = 0 if phase == last else (phase + 1) % (1 << width)


def random_fault(
    rng: np.random.Generator,
    stages: Sequence[StageSchedule],
    *,
    structure: str,
    layer: str | None = None,
    bits: int = 1,
    effect: str = "flip",
    permanent: bool = True,
) -> Fault:
    """A fault drawn evenly over all bits of a structure (over all layers that have it, or in one).

    With several bits the first is drawn and the others are its neighbours in the same word, as one particle hits them.

    Raises:
        RefdesignError: no such structure anywhere, or an unknown layer.
    """
    candidates = [stage for stage in stages if layer in (None, stage.name)]
    counts = np.array([float(np.prod(sizes(stage, structure))) for stage in candidates])
    if not counts.sum():
        raise RefdesignError(f"fault, {structure}: found no such structure in layer {layer or 'of any name'}")
    stage = candidates[int(rng.choice(len(candidates), p=counts / counts.sum()))]
    extent = sizes(stage, structure)
    first, second, bit = (int(rng.integers(most)) for most in extent)
    several = {(first, second, (bit + step) % extent[2]) for step in range(bits)}
    sites = ((first, second, bit), *sorted(several - {(first, second, bit)}))
    return Fault(
        layer=stage.name,
        structure=structure,
        sites=sites,
        effect=effect,
        window=None if permanent else int(rng.integers(windows(stage, structure))),
        synapse_fold=0 if permanent else int(rng.integers(stage.synapse_folds)),
    )
