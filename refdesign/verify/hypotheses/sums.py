"""Changes of accumulators: 2p - N slips, widths, tail bits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import WORD
from refdesign.network import BinaryConv2d, BinaryDense, Convolution
from refdesign.verify.change import Change, Place
from refdesign.verify.hypotheses.precision import ROUNDINGS
from refdesign.verify.hypotheses.windows import products_in, weights_of

Integers = NDArray[np.int32]
Counted = Callable[[Integers, Integers, int], Integers]
"""Another accumulator from the right one, the number of products in each, and the whole window's number."""


def _valid(a: Integers, place: Place) -> Integers:
    """How many products each accumulator sums: zero padding and inputs of 0 count for nothing."""
    layer = place.layer
    if place.inputs.nonzero is None and not (isinstance(layer, Convolution) and layer.pads_with_zeros):
        return np.full((1,) * a.ndim, layer.fan_in, dtype=np.int32)
    found = products_in(place, weights_of(place))
    return np.full((1,) * a.ndim, layer.fan_in, dtype=np.int32) if found is None else found


def _counted(a: Integers, place: Place, change: Counted) -> Integers | None:
    """A slip in counting, of binary layers only."""
    if not isinstance(place.layer, (BinaryConv2d, BinaryDense)):
        return None
    changed = change(a, _valid(a, place), place.layer.fan_in)
    return None if np.array_equal(changed, a) else changed.astype(np.int32)


def _tail(place: Place, word: int) -> int:
    """Bits after the last channel in whole words, over the window's taps."""
    layer = place.layer
    if isinstance(layer, BinaryDense):
        return -layer.fan_in % word
    if isinstance(layer, BinaryConv2d):
        _, rows, columns, depth = layer.weight_shape
        return rows * columns * (-depth % word)
    return 0


def _tails(a: Integers, place: Place, word: int, times: int, padding: bool) -> Integers | None:
    """Tail bits count so many times; `padding`: positions in the zero padding count in N, too."""
    tail = _tail(place, word)
    if not padding:
        return (a + times * tail).astype(np.int32) if tail else None
    if not any(getattr(layer, "pads_with_zeros", False) for layer in place.network.layers):
        return None  # the same as without
    if not isinstance(place.layer, (BinaryConv2d, BinaryDense)):
        return None
    valid = _valid(a, place)
    return np.where(valid == 0, a, a + times * tail + place.layer.fan_in - valid).astype(np.int32)


def _any_sum(a: Integers, place: Place, change: Callable[[Integers], Integers]) -> Integers | None:
    """A change of the number alone, in any layer."""
    changed = change(a)
    return None if np.array_equal(changed, a) else changed.astype(np.int32)


def _saturated(a: Integers, bits: int) -> Integers:
    return np.clip(a, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def _wrapped(a: Integers, bits: int) -> Integers:
    half = 1 << (bits - 1)
    return (a + half) % (2 * half) - half


def _rounded(a: Integers, to: str) -> Integers:
    return ROUNDINGS[to](a).astype(np.int32)


def _counter(a: Integers, valid: Integers, fan_in: int, bits: int | None, matches: bool) -> Integers:
    """The count of matches or of differing bits is cut to so many bits; None: to ceil(log2 N)."""
    width = max(1, (fan_in - 1).bit_length()) if bits is None else bits
    count = (valid + a if matches else valid - a) // 2 % (1 << width)
    return 2 * count - valid if matches else valid - 2 * count


def _transposed(a: Integers, place: Place) -> Integers | None:
    return a.transpose(0, 2, 1, 3) if a.ndim == 4 and a.shape[1] == a.shape[2] > 1 else None


def _channels_reversed(a: Integers, place: Place) -> Integers | None:
    return a[..., ::-1] if a.shape[-1] > 1 else None


_S, _W, _L = "2p - N", "width", "tail bits"
_COUNTS: tuple[tuple[str, str, str, Counted], ...] = (
    ("accumulator is p, not 2p - N", _S, "the number of matches is taken for the sum", lambda a, n, k: (a + n) // 2),
    ("accumulator counts mismatches", _S, "popcount(x xor w) is taken for the sum", lambda a, n, k: (n - a) // 2),
    ("accumulator negated", "polarity", "xor stands for xnor", lambda a, n, k: -a),
    ("N of the whole window at padded borders", _S, "2p - N with the full N under zero padding",
     lambda a, n, k: a - (k - n)),
    ("padded positions count as matches", "padding", "zero padding enters as matching bits", lambda a, n, k: a + k - n),
    ("accumulator halved", _S, "p - N/2 stands for 2p - N", lambda a, n, k: a >> 1),
    ("accumulator doubled", _S, "2a stands for a", lambda a, n, k: 2 * a),
    ("counter of differing bits too narrow for N", _W, "it has ceil(log2 N) bits, so N becomes 0",
     partial(_counter, bits=None, matches=False)),
    ("counter of matches too narrow for N", _W, "it has ceil(log2 N) bits, so N becomes 0",
     partial(_counter, bits=None, matches=True)),
    ("counter of differing bits wraps at 8 bits", _W, "an octet holds the number of differing bits",
     partial(_counter, bits=8, matches=False)),
    ("counter of matches wraps at 8 bits", _W, "an octet holds the number of matches",
     partial(_counter, bits=8, matches=True)),
)  # fmt: skip
_ADDED = (
    ("accumulator + 1", "every sum is one too large", 1),
    ("accumulator - 1", "every sum is one too small", -1),
    ("accumulator + 2", "one match too many", 2),
    ("accumulator - 2", "one match too few", -2),
)
_TAILS = (
    ("tail bits of {}-bit words count as matches", "the bits after the last channel are not masked", 2, False),
    ("tail bits of {}-bit words count, N too", "tails count as matches and N counts whole words", 1, False),
    ("tail bits of {}-bit words and zero padding count, N too", "N counts whole words at the borders, too", 1, True),
    ("N in whole {}-bit words", "tails count in N, or as mismatches that N makes up for by half", -1, False),
    ("tail bits of {}-bit words count as mismatches", "tails differ, and N leaves them out", -2, False),
)


def _any(name: str, group: str, says: str, change: Callable[[Integers], Integers]) -> Change:
    return Change(name=name, group=group, says=says, accumulate=partial(_any_sum, change=change))


SUMS: tuple[Change, ...] = (
    *(Change(name=name, group=group, says=says, accumulate=partial(_counted, change=change))
      for name, group, says, change in _COUNTS),
    *(Change(name=name.format(word), group=_L, says=says,
             accumulate=partial(_tails, word=word, times=times, padding=padding),
             spelling_of=_TAILS[1][0].format(word) if padding else "")
      for name, says, times, padding in _TAILS for word in (8, 16, 32, WORD)),
    *(_any(name, _S, says, partial(np.add, np.int32(by))) for name, says, by in _ADDED),
    *(_any(f"accumulator saturates at {bits} bits", _W, f"sums are clipped to {bits} bits",
           partial(_saturated, bits=bits)) for bits in range(4, 17)),
    *(_any(f"accumulator wraps at {bits} bits", _W, f"sums are cut to {bits} bits", partial(_wrapped, bits=bits))
      for bits in range(4, 17)),
    *(_any(f"accumulator in {to}", _W, f"sums are rounded to {to}", partial(_rounded, to=to)) for to in ROUNDINGS),
    Change(name="maps transposed", group="layout", says="rows and columns of the sums are swapped",
           accumulate=_transposed),
    Change(name="output channels reversed", group="layout", says="channel C-1-c stands for c",
           accumulate=_channels_reversed),
)  # fmt: skip
"""Changes of accumulators."""
