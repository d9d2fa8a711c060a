"""Packed bits: arrays of +1 and -1 with 64 elements to a word, and their dot products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refdesign.checks import as_array, is_whole
from refdesign.errors import RefdesignError

WORD = 64
"""Bits in a word."""


def words_for(length: int) -> int:
    """The number of words that hold `length` bits.

    >>> words_for(65)
    2
    """
    return -(-length // WORD)


def tail_mask(length: int) -> NDArray[np.uint64]:
    """One word for each word of `length` packed bits, with ones where an element stands. Shape (words,).

    >>> [hex(word) for word in tail_mask(66)]
    ['0xffffffffffffffff', '0x3']
    """
    mask = np.full(words_for(length), ~np.uint64(0), dtype=np.uint64)
    if length % WORD:
        mask[-1] = np.uint64((1 << length % WORD) - 1)
    return mask


@dataclass(frozen=True, eq=False)
class PackedBits:
    """Elements of {-1, +1} along the last axis, 64 to a word; bit 1 is +1 (docs/method.md, section 2).

    Element c of the last axis is bit c mod 64 of word c div 64 (little-endian bit order). The bits after
    the last element are 0.

    Attributes:
        words: uint64, shape (..., words_for(length)).
        length: the number of elements along the last axis, before packing.
        nonzero: None for two-valued elements. Otherwise uint64 of the shape of `words`: a 0 bit there says
            that the element is 0 (an exact tie under `sign_at_zero=0`); its bit in `words` is 0 too.

    Raises:
        RefdesignError: wrong dtype, number of words, or bits set after the last element.

    >>> bits = pack([[1, -1, 1]])
    >>> bits.words, bits.length, bits.shape
    (array([[5]], dtype=uint64), 3, (1, 3))
    """

    words: NDArray[np.uint64]
    length: int
    nonzero: NDArray[np.uint64] | None = None

    def __post_init__(self) -> None:
        if not is_whole(self.length, 1):
            raise RefdesignError(f"packed bits, length: found {self.length!r}, expected at least 1")
        self._check("words", self.words)
        if self.nonzero is not None:
            self._check("nonzero", self.nonzero)
            if self.nonzero.shape != self.words.shape:
                raise RefdesignError(
                    f"packed bits, nonzero: found shape {self.nonzero.shape}, expected {self.words.shape}"
                )
            if np.any(self.words & ~self.nonzero):
                raise RefdesignError("packed bits, words: a bit is set where the element is zero")

    def _check(self, field: str, words: NDArray[np.uint64]) -> None:
        if not isinstance(words, np.ndarray) or words.dtype != np.uint64:
            found = getattr(words, "dtype", type(words).__name__)
            raise RefdesignError(f"packed bits, {field}: found {found}, expected uint64")
        if words.ndim == 0 or words.shape[-1] != words_for(self.length):
            raise RefdesignError(
                f"packed bits, {field}: found shape {words.shape}, expected {words_for(self.length)} words "
                f"along the last axis for {self.length} elements"
            )
        if self.length % WORD and np.any(words[..., -1] >> np.uint64(self.length % WORD)):
            raise RefdesignError(f"packed bits, {field}: bits are set after the last of {self.length} elements")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the unpacked array."""
        return (*self.words.shape[:-1], self.length)


def pack(x: ArrayLike, axis: int = -1) -> PackedBits:
    """Pack an array of ±1 or bool (True is +1).

    Args:
        x: integers or floats that are all +1 or -1, or bool; at least one axis.
        axis: the axis whose elements are packed; it becomes the last one.

    Raises:
        RefdesignError: `x` holds anything else than +1 and -1, or has no elements along `axis`.

    >>> pack([True, False, True]).words
    array([5], dtype=uint64)
    >>> pack([1, 0])
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: pack: found the value 0 at index (1,), expected +1 or -1
    """
    array = as_array("pack", x)
    if array.ndim == 0 or not is_whole(axis, -array.ndim) or axis >= array.ndim:
        raise RefdesignError(f"pack: found shape {array.shape}, expected an axis {axis}")
    if array.dtype != np.bool_:
        if array.dtype.kind not in "iuf":
            raise RefdesignError(f"pack: found dtype {array.dtype}, expected ±1 as integers or floats, or bool")
        positive = array == 1
        wrong = ~positive & (array != -1)
        if wrong.any():
            index = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise RefdesignError(f"pack: found the value {array[index]} at index {index}, expected +1 or -1")
        array = positive
    return pack_bool(np.moveaxis(array, axis, -1))


def pack_bool(bits: NDArray[np.bool_]) -> PackedBits:
    """Pack booleans along the last axis; the checked core of `pack`, without its checks of values.

    >>> pack_bool(np.ones(65, dtype=np.bool_)).words
    array([18446744073709551615,                    1], dtype=uint64)
    """
    length = bits.shape[-1]
    if length % 8 == 0:  # whole octets: one pass over everything is several times faster than one per pixel
        octets = np.packbits(bits.reshape(-1), bitorder="little").reshape(*bits.shape[:-1], length // 8)
    else:
        octets = np.packbits(bits, axis=-1, bitorder="little")
    missing = words_for(length) * 8 - octets.shape[-1]
    if missing:
        octets = np.concatenate([octets, np.zeros((*octets.shape[:-1], missing), np.uint8)], axis=-1)
    words = np.ascontiguousarray(octets).view("<u8").astype(np.uint64, copy=False)
    return PackedBits(words, length)


def check_packed(where: str, value: object) -> None:
    """Refuse what is no `PackedBits`, such as an array that was not packed.

    >>> check_packed("binary_dense, inputs", np.ones((2, 3)))
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: binary_dense, inputs: found a ndarray, expected PackedBits, as pack(...) makes them
    """
    if not isinstance(value, PackedBits):
        raise RefdesignError(f"{where}: found a {type(value).__name__}, expected PackedBits, as pack(...) makes them")


def unpack(packed: PackedBits) -> NDArray[np.int8]:
    """The elements as int8: +1 and -1, and 0 where `packed.nonzero` says so. Shape `packed.shape`.

    >>> unpack(pack([1, -1, 1]))
    array([ 1, -1,  1], dtype=int8)
    """
    check_packed("unpack", packed)
    bits = _unpack_words(packed.words, packed.length)
    values = bits.view(np.int8) * np.int8(2) - np.int8(1)
    if packed.nonzero is not None:
        values *= _unpack_words(packed.nonzero, packed.length).view(np.int8)
    return values


def _unpack_words(words: NDArray[np.uint64], length: int) -> NDArray[np.uint8]:
    octets = np.ascontiguousarray(words).astype("<u8", copy=False).view(np.uint8)
    return np.unpackbits(octets, axis=-1, count=length, bitorder="little")


def xnor_popcount(a: PackedBits, b: PackedBits) -> NDArray[np.int32]:
    """Dot products over the last axis; the leading axes broadcast (docs/method.md, section 2).

    With v elements a dot product is v - 2*popcount(a xor b); elements that are zero in either count for
    nothing.

    Args:
        a, b: packed bits of the same length.

    Returns:
        int32, the broadcast shape of the leading axes.

    Raises:
        RefdesignError: not packed bits, the lengths differ, or the leading axes do not broadcast.

    >>> int(xnor_popcount(pack([1, 1, -1]), pack([1, -1, -1])))
    1
    """
    check_packed("xnor_popcount, a", a)
    check_packed("xnor_popcount, b", b)
    if a.length != b.length:
        raise RefdesignError(f"xnor_popcount: found lengths {a.length} and {b.length}, expected equal ones")
    try:
        np.broadcast_shapes(a.words.shape, b.words.shape)
    except ValueError:
        raise RefdesignError(
            f"xnor_popcount: the leading axes {a.shape[:-1]} and {b.shape[:-1]} do not broadcast"
        ) from None
    differ = a.words ^ b.words
    valid: NDArray[np.int32] | int = a.length
    masks = [plane for plane in (a.nonzero, b.nonzero) if plane is not None]
    if masks:
        mask = masks[0] if len(masks) == 1 else masks[0] & masks[1]
        differ &= mask
        valid = np.bitwise_count(mask).sum(axis=-1, dtype=np.int32)
    counts = np.bitwise_count(differ).sum(axis=-1, dtype=np.int32)
    return np.asarray(valid - 2 * counts, dtype=np.int32)
