"""What the accelerator's memories hold: weights and thresholds, banked by PE as the unit reads them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import PackedBits, pack_bool, unpack
from refdesign.errors import RefdesignError
from refdesign.fold import Thresholds
from simulator.stage import StageSchedule
from simulator.units.threshold import ThresholdWord
from simulator.units.width import Overflow, Width


@dataclass(frozen=True, kw_only=True, eq=False)
class StageMemory:
    """One stage's memories; one bank for every PE. Masked PEs and lanes hold 0.

    Attributes:
        weights: uint64 (PE, NF*K*CF, words), a word of SIMD bits at every weight address, 64 bits to an element.
        limit: int64 (PE, NF*m*n), empty in a stage without thresholds.
        flip: bool (PE, NF*m*n).
    """

    weights: NDArray[np.uint64]
    limit: NDArray[np.int64]
    flip: NDArray[np.bool_]

    def weight(self, pe: int, address: int) -> int:
        """The word of one PE's weight memory, lane s at bit s."""
        return join_words(self.weights[pe, address])

    def threshold(self, pe: int, address: int) -> ThresholdWord:
        """The word of one PE's threshold memory."""
        return ThresholdWord(int(self.limit[pe, address]), bool(self.flip[pe, address]))


def join_words(words: NDArray[np.uint64]) -> int:
    """One integer of 64-bit words, the lowest first.

    >>> hex(join_words(np.array([5, 1], dtype=np.uint64)))
    '0x10000000000000005'
    """
    return sum(int(word) << 64 * index for index, word in enumerate(words))


def contents(stage: StageSchedule) -> StageMemory:
    """The memories of a stage, from the layer's weights and folded thresholds.

    Raises:
        RefdesignError: a limit does not fit `threshold_width` and `overflow` is `"error"`.

    >>> from refdesign.models import binarynet
    >>> from simulator.schedule import fit, schedule
    >>> network = binarynet(input_shape=(8, 8, 1), width=1 / 16)
    >>> memory = contents(schedule(network, fit(network, pe=4, simd=8))[1])
    >>> memory.weights.shape, memory.limit.shape
    ((4, 18, 1), (4, 2))
    """
    channels = stage.channels
    present = channels >= 0
    folded = fold_lanes(_weight_bits(stage), stage.config.simd)  # (O, K, CF, words)
    by_slot = np.where(present[:, :, np.newaxis], folded.reshape(len(folded), -1)[channels], np.uint64(0))
    weights = by_slot.reshape(*channels.shape, -1, folded.shape[-1]).swapaxes(0, 1)  # (PE, NF, K*CF, words)
    pe = stage.config.pe
    limit, flip = np.empty((pe, 0), np.int64), np.empty((pe, 0), np.bool_)
    if stage.thresholds is not None:
        limits, flips = _comparators(stage, stage.thresholds)
        m, n, _ = limits.shape
        limits, flips = limits.reshape(m * n, -1), flips.reshape(m * n, -1)
        limit = np.where(present, limits[:, channels], 0).transpose(2, 1, 0).reshape(pe, -1)
        flip = np.where(present, flips[:, channels], False).transpose(2, 1, 0).reshape(pe, -1)
    return StageMemory(
        weights=np.ascontiguousarray(weights.reshape(pe, -1, folded.shape[-1])),
        limit=np.ascontiguousarray(limit),
        flip=np.ascontiguousarray(flip),
    )


def fold_lanes(bits: NDArray[np.bool_], simd: int) -> NDArray[np.uint64]:
    """Channels into words of `simd` lanes: bool (..., C) to uint64 (..., CF, words), lane s at bit s.

    >>> fold_lanes(np.array([True, False, True, True, True]), 3).tolist()
    [[5], [3]]
    """
    missing = -bits.shape[-1] % simd
    if missing:
        bits = np.concatenate([bits, np.zeros((*bits.shape[:-1], missing), np.bool_)], axis=-1)
    return pack_bool(bits.reshape(*bits.shape[:-1], -1, simd)).words


def weight_bits(stage: StageSchedule, memory: StageMemory) -> NDArray[np.bool_]:
    """The weights that a memory holds, +1 as True: bool (O, K, C), C channels of one group; the inverse of `contents`.

    >>> from refdesign.models import binarynet
    >>> from simulator.schedule import fit, schedule
    >>> network = binarynet(input_shape=(8, 8, 1), width=1 / 16)
    >>> weight_bits(schedule(network, fit(network))[1], contents(schedule(network, fit(network))[1])).shape
    (8, 9, 8)
    """
    simd, words = stage.config.simd, memory.weights.shape[-1]
    nf, pe = np.nonzero(stage.channels >= 0)
    order = np.argsort(stage.channels[nf, pe])
    banks = memory.weights.reshape(stage.config.pe, stage.channel_folds, stage.taps, stage.input_folds, words)
    octets = np.ascontiguousarray(banks[pe[order], nf[order]]).astype("<u8").view(np.uint8)
    lanes = np.unpackbits(octets, axis=-1, count=simd, bitorder="little").view(np.bool_)
    return lanes.reshape(len(order), stage.taps, -1)[..., : stage.inputs]


def _weight_bits(stage: StageSchedule) -> NDArray[np.bool_]:
    """Bool (O, K, C): the layer's weights, +1 as True."""
    weights: PackedBits = getattr(stage.layer, "weights")  # noqa: B009 - every scheduled layer has packed weights
    bits: NDArray[np.bool_] = unpack(weights) > 0
    return bits.reshape(len(bits), stage.taps, stage.inputs)


def _comparators(stage: StageSchedule, thresholds: Thresholds) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(limit, flip) of shape (m, n, O), as `simulator.units` says."""
    width = Width(stage.config.threshold_width, True, stage.config.overflow)
    wanted = thresholds.threshold.astype(np.int64) + (thresholds.direction < 0)
    constant = thresholds.direction == 0
    flip = (thresholds.direction < 0) | (constant & (thresholds.constant <= 0))
    try:
        held = width.hold_all(np.where(constant, 0, wanted))
    except Overflow as error:
        beyond = ~constant & ((wanted < width.low) | (wanted > width.high))
        row, column, channel = (int(i) for i in np.argwhere(beyond)[0])
        raise RefdesignError(
            f"accelerator, stage {stage.name!r}, threshold_width: limit of phase ({row}, {column}), "
            f"channel {channel}: {error}"
        ) from None
    return np.where(constant, width.low, held), flip
