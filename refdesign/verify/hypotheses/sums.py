"""Changes of accumulators: 2p - N slips, widths, tail bits."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import WORD, PackedBits, unpack
from refdesign.network import BinaryConv2d, BinaryDense, CombinedConv2d, Convolution, PixelConv2d
from refdesign.ops import unpacked
from refdesign.verify.variant import Change, Place

Integers = NDArray[np.int32]


def _binary(place: Place) -> bool:
    return isinstance(place.layer, (BinaryConv2d, BinaryDense))


def _valid(a: Integers, place: Place) -> Integers:
    """How many products each accumulator sums, broadcastable to it."""
    layer = place.layer
    if not isinstance(layer, Convolution) or not layer.pads_with_zeros:
        return np.full((1,) * a.ndim, layer.fan_in, dtype=np.int32)
    height, width, channels = place.network.shapes[layer.name].input
    out, rows, columns, depth = layer.weight_shape
    ones = np.ones((1, height, width, channels), dtype=np.int8)
    return unpacked.conv2d(
        ones, np.ones((out, rows, columns, depth), np.int8), stride=layer.stride, padding=layer.padding,
        padding_mode="zeros", dilation=layer.dilation, groups=layer.groups,
    )  # fmt: skip


def _matches(a: Integers, place: Place) -> Integers | None:
    return (a + _valid(a, place)) // 2 if _binary(place) else None


def _mismatches(a: Integers, place: Place) -> Integers | None:
    return (_valid(a, place) - a) // 2 if _binary(place) else None


def _full_fan_in(a: Integers, place: Place) -> Integers | None:
    """2p - N with the whole window's N, where the padding counts for nothing."""
    if not _binary(place):
        return None
    valid = _valid(a, place)
    return a - (place.layer.fan_in - valid) if (valid != place.layer.fan_in).any() else None


def _padding_matches(a: Integers, place: Place) -> Integers | None:
    """The padded positions count as matches."""
    if not _binary(place):
        return None
    valid = _valid(a, place)
    return a + (place.layer.fan_in - valid) if (valid != place.layer.fan_in).any() else None


def _tail(place: Place, word: int) -> int:
    """Bits after the last channel in whole words, over the window's taps."""
    layer = place.layer
    if isinstance(layer, BinaryDense):
        return -layer.fan_in % word
    if isinstance(layer, BinaryConv2d):
        _, rows, columns, depth = layer.weight_shape
        return rows * columns * (-depth % word)
    return 0


def _tail_matches(a: Integers, place: Place, word: int) -> Integers | None:
    tail = _tail(place, word)
    return a + 2 * tail if tail else None


def _tail_in_both(a: Integers, place: Place, word: int) -> Integers | None:
    """p counts the tails as matches and N the whole words: they cancel by half."""
    tail = _tail(place, word)
    return a + tail if tail else None


def _padded_n(a: Integers, place: Place, word: int) -> Integers | None:
    tail = _tail(place, word)
    return a - tail if tail else None


def _negated(a: Integers, place: Place) -> Integers | None:
    return -a if _binary(place) else None


def _doubled(a: Integers, place: Place) -> Integers | None:
    return (2 * a).astype(np.int32) if _binary(place) else None


def _halved(a: Integers, place: Place) -> Integers | None:
    return a >> 1 if _binary(place) else None


def _added(a: Integers, place: Place, by: int) -> Integers:
    return a + np.int32(by)


def _saturated(a: Integers, place: Place, bits: int) -> Integers | None:
    clipped = np.clip(a, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    return clipped if (clipped != a).any() else None


def _wrapped(a: Integers, place: Place, bits: int) -> Integers | None:
    half = 1 << (bits - 1)
    wrapped = ((a + half) % (2 * half) - half).astype(np.int32)
    return wrapped if (wrapped != a).any() else None


def _masked(a: Integers, place: Place, lost: str) -> Integers | None:
    """Sums that leave out the last tap, the last input channel, or the channels of the last word."""
    layer = place.layer
    weights = getattr(layer, "weights", None)
    if not isinstance(weights, PackedBits) or isinstance(layer, CombinedConv2d):
        return None
    w = unpack(weights).astype(np.int8)
    depth = w.shape[-1]
    if lost == "tap":
        if w.ndim != 4 or w.shape[1] * w.shape[2] == 1:
            return None
        w[:, -1, -1] = 0
    elif lost == "channel":
        w[..., -1] = 0
    elif depth <= WORD:
        return None
    else:
        w[..., (depth - 1) // WORD * WORD :] = 0
    if isinstance(layer, BinaryDense):
        return unpacked.dense(unpack(place.inputs).reshape(len(a), -1), w)
    if not isinstance(layer, Convolution):
        return None
    x = place.inputs
    if isinstance(layer, PixelConv2d):
        x = x.astype(np.int64) * layer.multiplier + layer.offset
    else:
        x = unpack(x)
    return unpacked.conv2d(
        x, w, stride=layer.stride, padding=layer.padding, padding_mode=layer.padding_mode,
        dilation=layer.dilation, groups=layer.groups,
    )  # fmt: skip


def _transposed(a: Integers, place: Place) -> Integers | None:
    return a.transpose(0, 2, 1, 3) if a.ndim == 4 and a.shape[1] == a.shape[2] > 1 else None


def _channels_reversed(a: Integers, place: Place) -> Integers | None:
    return a[..., ::-1] if a.shape[-1] > 1 else None


_S, _W = "2p - N", "width"

SUMS: tuple[Change, ...] = (
    Change(
        name="accumulator is p, not 2p - N",
        group=_S,
        says="the number of matches is taken for the sum",
        accumulate=_matches,
    ),
    Change(
        name="accumulator counts mismatches",
        group=_S,
        says="popcount(x xor w) is taken for the sum",
        accumulate=_mismatches,
    ),
    Change(name="accumulator negated", group="polarity", says="xor stands for xnor", accumulate=_negated),
    Change(
        name="N of the whole window at padded borders",
        group=_S,
        says="2p - N with the full N under zero padding",
        accumulate=_full_fan_in,
    ),
    Change(
        name="padded positions count as matches",
        group="padding",
        says="zero padding enters as matching bits",
        accumulate=_padding_matches,
    ),
    *(
        Change(
            name=f"tail bits of {word}-bit words count as matches",
            group="tail bits",
            says="the bits after the last channel are not masked",
            accumulate=partial(_tail_matches, word=word),
        )
        for word in (8, 16, 32, WORD)
    ),
    *(
        Change(
            name=f"tail bits of {word}-bit words count, N too",
            group="tail bits",
            says="tails count as matches and N counts whole words",
            accumulate=partial(_tail_in_both, word=word),
        )
        for word in (8, 16, 32, WORD)
    ),
    *(
        Change(
            name=f"N in whole {word}-bit words",
            group="tail bits",
            says="N is the number of packed bits, tails included",
            accumulate=partial(_padded_n, word=word),
        )
        for word in (8, 16, 32, WORD)
    ),
    Change(name="accumulator halved", group=_S, says="p - N/2 stands for 2p - N", accumulate=_halved),
    Change(name="accumulator doubled", group=_S, says="2a stands for a", accumulate=_doubled),
    Change(name="accumulator + 1", group=_S, says="every sum is one too large", accumulate=partial(_added, by=1)),
    Change(name="accumulator - 1", group=_S, says="every sum is one too small", accumulate=partial(_added, by=-1)),
    Change(name="accumulator + 2", group=_S, says="one match too many", accumulate=partial(_added, by=2)),
    Change(name="accumulator - 2", group=_S, says="one match too few", accumulate=partial(_added, by=-2)),
    *(
        Change(
            name=f"accumulator saturates at {bits} bits",
            group=_W,
            says=f"sums are clipped to {bits} bits",
            accumulate=partial(_saturated, bits=bits),
        )
        for bits in range(4, 17)
    ),
    *(
        Change(
            name=f"accumulator wraps at {bits} bits",
            group=_W,
            says=f"sums are cut to {bits} bits",
            accumulate=partial(_wrapped, bits=bits),
        )
        for bits in range(4, 17)
    ),
    *(
        Change(
            name=f"last {lost} lost",
            group="off by one",
            says=f"sums leave out the last {lost}",
            accumulate=partial(_masked, lost=lost),
        )
        for lost in ("tap", "channel", "word")
    ),
    Change(
        name="maps transposed", group="layout", says="rows and columns of the sums are swapped", accumulate=_transposed
    ),
    Change(
        name="output channels reversed",
        group="layout",
        says="channel C-1-c stands for c",
        accumulate=_channels_reversed,
    ),
)
"""Changes of accumulators."""
