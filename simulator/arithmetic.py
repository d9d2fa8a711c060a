"""All cycles of a stage at once: every popcount and every accumulator, in blocks of output pixels.

A block's arrays are laid out [synapse fold][pixel][slot], slot nf*PE + pe: the inner loop then runs over many channels
of few pixels, and a block stays in cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from simulator.memory import StageMemory, fold_lanes
from simulator.stage import StageSchedule
from simulator.units.width import Overflow, Width

BLOCK = 256
"""Output pixels of a block."""

Hook = Callable[[int, slice, NDArray[Any]], None]
"""Called after every fold with (fold, pixels of the block, their accumulators (pixels, slots)); may change them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Operands:
    """The operand words of a stage for a batch of N images.

    Attributes:
        words: uint64 (N*H*W + 1, G, CF*P, words); the last pixel is the one that padding shows.
        source: int64 (N*windows, K), places in `words`.
        outside: bool (N*windows, K), where a tap counts for nothing; None where all count.
    """

    words: NDArray[np.uint64]
    source: NDArray[np.int64]
    outside: NDArray[np.bool_] | None

    @classmethod
    def of(cls, stage: StageSchedule, maps: NDArray[Any]) -> Operands:
        """From the stage's input maps: bool bits, or uint8 pixels in a first layer, (N, H, W, C) with all groups."""
        images, pixels = len(maps), stage.input_map[0] * stage.input_map[1]
        flat = maps.reshape(images * pixels, stage.groups, stage.inputs)
        shown = np.full((1, stage.groups, stage.inputs), stage.fill or 0, dtype=flat.dtype)
        flat = np.concatenate([flat, shown])
        planes = []
        for plane in stage.planes:
            if plane.constant:
                bits = np.ones(flat.shape, dtype=np.bool_)
            else:
                bits = flat.astype(np.bool_) if plane.bit is None else (flat >> plane.bit & 1).astype(np.bool_)
            planes.append(fold_lanes(bits, stage.config.simd))
        words = np.stack(planes, axis=3).reshape(len(flat), stage.groups, -1, planes[0].shape[-1])
        first = np.arange(images, dtype=np.int64)[:, np.newaxis, np.newaxis] * pixels
        off = stage.source < 0
        source = np.where(off, images * pixels, stage.source + first).reshape(-1, stage.taps)
        outside = np.tile(off, (images, 1)) if off.any() and stage.fill is None else None
        return cls(words=words, source=source, outside=outside)

    def gather(self, windows: NDArray[np.int64] | slice) -> NDArray[np.uint64]:
        """The words of these windows by synapse fold: uint64 (SF, G, windows, words)."""
        words = self.words[self.source[windows]]  # (windows, K, G, CF*P, words)
        if self.outside is not None:
            words[self.outside[windows]] = 0
        found: NDArray[np.uint64] = words.transpose(1, 3, 2, 0, 4)
        return np.ascontiguousarray(found).reshape(-1, *found.shape[2:])


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """All folds of some output pixels.

    Attributes:
        pixels: which of the batch's N*windows.
        popcount: unsigned (SF, pixels, slots): after the tree.
        accumulator: signed (SF, pixels, slots): after each addition.
    """

    pixels: slice
    popcount: NDArray[Any]
    accumulator: NDArray[Any]


class Folder:
    """Computes the blocks of one stage with given memories.

    >>> from refdesign.models import binarynet
    >>> from simulator.memory import contents
    >>> from simulator.schedule import fit, schedule
    >>> network = binarynet(input_shape=(4, 4, 1), width=1 / 32, widths=(64,), dense=(64,))
    >>> stage = schedule(network, fit(network))[0]
    >>> images = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1)
    >>> block = next(Folder(stage, contents(stage)).blocks(Operands.of(stage, images)))
    >>> block.accumulator.shape, block.accumulator.dtype
    ((72, 16, 2), dtype('int16'))
    """

    def __init__(self, stage: StageSchedule, memory: StageMemory) -> None:
        config = stage.config
        self.stage = stage
        self.present = stage.channels.ravel() >= 0
        self.tree = Width(config.popcount_width, False, config.overflow)
        self.sum = Width(config.accumulator_width, True, config.overflow)
        # What a hook leaves in a register may run over, as it would in hardware, which knows no errors.
        self.wrapping = Width(config.accumulator_width, True, config.overflow.replace("error", "wrap"))
        self.dtype = next(t for t in (np.int16, np.int32, np.int64) if stage.widest_sum <= np.iinfo(t).max)
        self.tree_fits = stage.widest_popcount <= self.tree.high
        # Where no tree overflows, no partial sum lies beyond this.
        self.sum_fits = stage.widest_sum <= self.sum.high and self.tree_fits
        addresses, words = stage.taps * stage.input_folds, memory.weights.shape[-1]
        by_slot = memory.weights.reshape(config.pe, stage.channel_folds, addresses, words)
        weights = np.ascontiguousarray(by_slot.transpose(2, 1, 0, 3)).reshape(addresses, -1, words)
        lanes = fold_lanes(np.ones((1, stage.inputs), np.bool_), config.simd)[0]
        lanes = np.tile(lanes, (stage.taps, 1))[:, np.newaxis]
        self.straight = weights & lanes
        self.inverted = ~weights & lanes  # word xor this is ones where word and weight agree
        self.inverted[:, ~self.present] = 0
        self.straight[:, ~self.present] = 0

    @property
    def exact(self) -> bool:
        """Whether no width can be exceeded, so that all accumulators are the true sums."""
        return self.sum_fits

    def blocks(
        self, operands: Operands, *, block: int = BLOCK, pixels: slice | None = None, hook: Hook | None = None
    ) -> Iterator[Block]:
        """The blocks of a batch's output pixels, in order; the arrays are used again for the next block.

        Args:
            operands: the batch's.
            block: pixels of a block.
            pixels: of the batch's N*windows, without a step; None is all.
            hook: see `Hook`.

        Raises:
            RefdesignError: a value does not fit its width and the accelerator says `"error"`: names the first one.
        """
        start, stop, _ = (pixels or slice(None)).indices(len(operands.source))
        folds, slots = self.stage.synapse_folds, self.present.size
        block = max(1, min(block, stop - start))
        small = self.stage.config.simd < 256
        popcounts = np.empty((folds, block, slots), dtype=np.uint8 if small else np.uint16)
        sums = np.empty((folds, block, slots), dtype=self.dtype if hook is None else np.int64)
        if not self.sum_fits:
            sums = sums.astype(np.int64)
        spare = np.empty((block, slots), dtype=np.uint64), np.empty((block, slots), dtype=np.int8)
        for first in range(start, stop, block):
            some = slice(first, min(first + block, stop))
            count = some.stop - first
            part = Block(pixels=some, popcount=popcounts[:, :count], accumulator=sums[:, :count])
            self._fill(part, operands, hook, spare)
            yield part

    def _fill(
        self, part: Block, operands: Operands, hook: Hook | None, spare: tuple[NDArray[np.uint64], NDArray[np.int8]]
    ) -> None:
        stage = self.stage
        words = operands.gather(part.pixels)
        outside = None if operands.outside is None else operands.outside[part.pixels]
        quick = self.sum_fits and hook is None and stage.config.simd <= 64 and self.present.all()
        count = part.popcount.shape[1]
        scratch, small = spare[0][:count], spare[1][:count]
        for fold in range(stage.synapse_folds):
            plane = stage.planes[fold % len(stage.planes)]
            address = fold // len(stage.planes)
            lanes = int(stage.lanes[address % stage.input_folds])
            gone = None if outside is None else outside[:, address // stage.input_folds]
            popcount, before = part.popcount[fold], part.accumulator[fold - 1] if fold else None
            self._count(popcount, words[fold], address, plane.unsigned, scratch)
            if gone is not None:
                popcount[gone] = 0
            if quick and plane.scale == 1 and not plane.unsigned:
                _add_small(popcount, lanes, gone, small, before, part.accumulator[fold])
                continue
            if not self.tree_fits:
                popcount[...] = self._held_counts(popcount)
            ones = np.bitwise_count(words[fold]).sum(axis=-1, dtype=np.int64).T  # (pixels, G)
            valid: Any = lanes
            if plane.unsigned:
                valid = np.repeat(ones, stage.group_folds * stage.config.pe, axis=1)
            elif gone is not None:
                valid = np.where(gone, 0, lanes)[:, np.newaxis]
            term = plane.scale * (2 * popcount.astype(self.dtype) - np.asarray(valid, dtype=self.dtype))
            if not self.present.all():
                term = term * self.present
            total = term if before is None else before + term
            if hook is not None:
                total = self.wrapping.hold_all(total.astype(np.int64))
            elif not self.sum_fits:
                total = self._held_sums(total.astype(np.int64))
            part.accumulator[fold] = total
            if hook is not None:
                hook(fold, part.pixels, part.accumulator[fold])
        if self.sum.overflow == "error" and not self.sum_fits and hook is None:
            self._refuse(part)

    def _count(
        self,
        popcount: NDArray[Any],
        words: NDArray[np.uint64],
        address: int,
        unsigned: bool,
        scratch: NDArray[np.uint64],
    ) -> None:
        """Matches of one fold: words (G, pixels, words) with the weights at an address."""
        weights = (self.straight if unsigned else self.inverted)[address]
        meet = np.bitwise_and if unsigned else np.bitwise_xor
        per_group = len(weights) // len(words)
        for group, of_group in enumerate(words):
            slots = slice(group * per_group, (group + 1) * per_group)
            out = scratch[:, slots]
            for index in range(of_group.shape[-1]):
                meet(of_group[:, index, np.newaxis], weights[slots, index], out=out)
                if index == 0:
                    np.bitwise_count(out, out=popcount[:, slots])
                else:
                    popcount[:, slots] += np.bitwise_count(out)
        if not unsigned and not self.present.all():
            popcount[:, ~self.present] = 0

    def _held_counts(self, popcount: NDArray[Any]) -> NDArray[Any]:
        if self.tree.overflow == "error":
            return popcount  # found, in order, by `_refuse`
        return self.tree.hold_all(popcount.astype(np.int64)).astype(popcount.dtype)

    def _held_sums(self, sums: NDArray[np.int64]) -> NDArray[np.int64]:
        return sums if self.sum.overflow == "error" else self.sum.hold_all(sums)

    def _refuse(self, part: Block) -> None:
        """Raise for the first value in the order of the cycles that does not fit."""
        pe = self.stage.config.pe
        wrong = part.popcount > self.tree.high
        wrong |= (part.accumulator < self.sum.low) | (part.accumulator > self.sum.high)
        if not wrong.any():
            return
        folds, pixels, _ = wrong.shape
        in_order = wrong.reshape(folds, pixels, -1, pe).transpose(1, 2, 0, 3)
        pixel, nf, fold, lane = (int(i) for i in np.argwhere(in_order)[0])
        slot = nf * pe + lane
        row, column = divmod((part.pixels.start + pixel) % self.stage.windows, self.stage.output_map[1])
        try:
            self.tree.hold(int(part.popcount[fold, pixel, slot]))
            self.sum.hold(int(part.accumulator[fold, pixel, slot]))
        except Overflow as error:
            raise RefdesignError(
                f"accelerator, stage {self.stage.name!r}: output pixel ({row}, {column}), "
                f"channel {self.stage.channels[nf, lane]}, synapse fold {fold}: {error}"
            ) from None


def _add_small(
    popcount: NDArray[np.uint8],
    lanes: int,
    gone: NDArray[np.bool_] | None,
    small: NDArray[np.int8],
    before: NDArray[Any] | None,
    out: NDArray[Any],
) -> None:
    """out = before + (2*popcount - lanes), for up to 64 lanes: the term fits int8, though 2*64 wraps on the way."""
    signed = popcount.view(np.int8)
    np.add(signed, signed, out=small)
    np.subtract(small, np.int8(lanes), out=small)
    if gone is not None:
        small[gone] = 0
    if before is None:
        out[...] = small
    else:
        np.add(before, small, out=out)
