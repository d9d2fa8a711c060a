"""The matrix-vector-threshold unit (MVTU) with its pool, one cycle at a time."""

from __future__ import annotations

from dataclasses import dataclass

from refdesign.errors import RefdesignError
from simulator.memory import StageMemory
from simulator.stage import StageSchedule
from simulator.units.accumulator import Accumulator
from simulator.units.counters import AxisCounter, FoldCounter
from simulator.units.popcount import popcount_tree, xnor
from simulator.units.sliding_window import Operand
from simulator.units.threshold import ThresholdWord, compare
from simulator.units.width import Overflow, Width


@dataclass(frozen=True, kw_only=True)
class Signals:
    """The registers and wires of one cycle, named and sampled as in `simulator.units`."""

    nf: int
    sf: int
    row: int
    column: int
    phase_row: int
    phase_column: int
    weight_address: int
    word: int
    popcount: tuple[int, ...]
    accumulator: tuple[int, ...]
    threshold_address: int
    threshold: tuple[int, ...]
    flip: tuple[int, ...]
    bits: tuple[int, ...]
    in_valid: int
    in_ready: int
    out_valid: int
    out_ready: int
    pooled: tuple[int, ...]
    """The accumulators (or, where the pool is on bits, the bits) behind the pool."""
    operand: Operand
    fire: bool

    @property
    def takes(self) -> bool:
        """Whether a word is taken from the input stream."""
        return bool(self.in_valid and self.in_ready)

    @property
    def leaves(self) -> bool:
        """Whether a word leaves through the output stream."""
        return bool(self.out_valid and self.out_ready)


class Mvtu:
    """The MVTU of one stage.

    Args:
        stage: the stage.
        memory: its weights and thresholds.
    """

    def __init__(self, stage: StageSchedule, memory: StageMemory) -> None:
        config = stage.config
        self.stage = stage
        self.memory = memory
        self.fold = FoldCounter(stage.channel_folds, stage.synapse_folds)
        self.rows, self.columns = (
            AxisCounter(extent, pool, period, origin)
            for extent, pool, period, origin in zip(
                stage.output_map, stage.pool, stage.period, stage.origin, strict=True
            )
        )
        self.kept = [Operand(0, False)] * stage.synapse_folds
        self.tree_width = Width(config.popcount_width, False, config.overflow)
        self.accumulators = [
            Accumulator(Width(config.accumulator_width, True, config.overflow)) for _ in range(config.pe)
        ]
        windows = max(1, stage.pooled_map[1])
        self.pool_memory = [[(0,) * config.pe for _ in range(stage.channel_folds)] for _ in range(windows)]

    def evaluate(self, operand: Operand, in_valid: bool, out_ready: bool) -> Signals:
        """The wires of this cycle, from the registers and the two streams; nothing changes.

        Raises:
            RefdesignError: a value does not fit its width and the accelerator says `"error"`.
        """
        stage, fold = self.stage, self.fold
        nf, sf = fold.nf, fold.sf
        first = nf % stage.group_folds == 0
        operand_valid = in_valid or not first
        if not operand_valid:
            operand = Operand(0, False)
        elif not first:
            operand = self.kept[sf]
        plane = stage.planes[sf % len(stage.planes)]
        input_fold = sf // len(stage.planes) % stage.input_folds
        lanes = (1 << int(stage.lanes[input_fold])) - 1
        mask = lanes if operand.valid else 0
        word = operand.word & mask
        if plane.unsigned:
            mask = word
        weight_address = nf * stage.taps * stage.input_folds + sf // len(stage.planes)
        popcounts, sums = [], []
        for pe, accumulator in enumerate(self.accumulators):
            present = stage.channels[nf, pe] >= 0
            used = mask if present else 0
            matches = xnor(word, self.memory.weight(pe, weight_address), used)
            try:
                popcount = popcount_tree(matches, stage.config.simd, self.tree_width)
                total = accumulator.sum(scale=plane.scale, popcount=popcount, valid=used.bit_count(), first=sf == 0)
            except Overflow as error:
                raise self._overflow(pe, error) from None
            popcounts.append(popcount)
            sums.append(total)
        completes = fold.last_synapse and self._completes
        out_valid = operand_valid and completes
        address, words = self._threshold_words(nf)
        pooled, bits = self._pool(tuple(sums), words, nf)
        return Signals(
            nf=nf,
            sf=sf,
            row=self.rows.position,
            column=self.columns.position,
            phase_row=self.rows.phase,
            phase_column=self.columns.phase,
            weight_address=weight_address,
            word=word,
            popcount=tuple(popcounts),
            accumulator=tuple(sums),
            threshold_address=address,
            threshold=tuple(word.limit for word in words),
            flip=tuple(int(word.flip) for word in words),
            bits=bits,
            in_valid=int(in_valid),
            in_ready=int(first and (not completes or out_ready)),
            out_valid=int(out_valid),
            out_ready=int(out_ready),
            pooled=pooled,
            operand=operand,
            fire=operand_valid and (not completes or out_ready),
        )

    def clock(self, signals: Signals) -> None:
        """The rising edge after a cycle with these wires."""
        if not signals.fire:
            return
        if signals.takes:
            self.kept[signals.sf] = signals.operand
        for accumulator, value in zip(self.accumulators, signals.accumulator, strict=True):
            accumulator.clock(value)
        if self.fold.last_synapse and not self._dropped:
            self.pool_memory[self.columns.window][signals.nf] = signals.pooled
        if self.fold.advance() and self.columns.advance():
            self.rows.advance()

    @property
    def _completes(self) -> bool:
        return self.rows.ends and self.columns.ends and not self._dropped

    @property
    def _dropped(self) -> bool:
        return self.rows.dropped or self.columns.dropped

    def _threshold_words(self, nf: int) -> tuple[int, list[ThresholdWord]]:
        stage = self.stage
        if stage.thresholds is None:
            return 0, [ThresholdWord(0, False)] * stage.config.pe
        m, n = stage.period
        address = nf * (m * n) + self.rows.phase * n + self.columns.phase
        return address, [self.memory.threshold(pe, address) for pe in range(stage.config.pe)]

    def _pool(
        self, sums: tuple[int, ...], words: list[ThresholdWord], nf: int
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What stands behind the pool (and is kept there), and the output bits."""
        stage = self.stage
        alone = (self.rows.begins and self.columns.begins) or self._dropped
        before = None if alone else self.pool_memory[self.columns.window][nf]
        if stage.config.pool == "accumulators" or stage.thresholds is None:
            kept = sums if before is None else tuple(map(max, before, sums))
            return kept, self._compared(kept, words, nf)
        bits = self._compared(sums, words, nf)
        if before is not None:
            bits = tuple(
                old & new if word.flip else old | new for old, new, word in zip(before, bits, words, strict=True)
            )
        return bits, bits

    def _compared(self, sums: tuple[int, ...], words: list[ThresholdWord], nf: int) -> tuple[int, ...]:
        if self.stage.thresholds is None:
            return (0,) * len(sums)
        present = self.stage.channels[nf] >= 0
        return tuple(int(compare(value, word) and here) for value, word, here in zip(sums, words, present, strict=True))

    def _overflow(self, pe: int, error: Overflow) -> RefdesignError:
        fold = self.fold
        return RefdesignError(
            f"accelerator, stage {self.stage.name!r}: output pixel ({self.rows.position}, {self.columns.position}), "
            f"channel {self.stage.channels[fold.nf, pe]}, synapse fold {fold.sf}: {error}"
        )
