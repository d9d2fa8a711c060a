"""Changes of how images are read and outputs are written down; what is computed between is right."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.verify.change import Change

Array = NDArray[Any]
Images = NDArray[np.uint8]


def _of(part: str) -> str:
    """`bits`, `accumulator`, `pooled`, `real` or `logits`."""
    return part.rpartition(".")[2]


def _bits(name: str, array: Array, factor: int, offset: int, divisor: int) -> Array | None:
    return (array * factor + offset) // divisor if _of(name) == "bits" else None


def _negated(name: str, array: Array) -> Array | None:
    return -array if _of(name) in ("accumulator", "pooled") else None


def _nchw(name: str, array: Array) -> Array | None:
    return array.transpose(0, 3, 1, 2).reshape(array.shape) if array.ndim == 4 else None


def _mixed(name: str, array: Array, part: str | None) -> Array | None:
    """Rows and columns swapped, of square maps."""
    if array.ndim != 4 or array.shape[1] != array.shape[2] or (part is not None and _of(name) != part):
        return None
    return array.transpose(0, 2, 1, 3)


def _upside_down(name: str, array: Array) -> Array | None:
    return array[:, ::-1] if array.ndim == 4 else None


def _mirrored(name: str, array: Array) -> Array | None:
    return array[:, :, ::-1] if array.ndim == 4 else None


def _words(name: str, array: Array, word: int, whole: bool) -> Array | None:
    """Bits of a word in reverse (tails count as bits of the last word), or words in reverse."""
    if _of(name) != "bits" or (array.shape[-1] % word and whole):
        return None
    channels = array.shape[-1]
    if channels % word:
        return None
    words = array.reshape(*array.shape[:-1], channels // word, word)
    if whole:
        return None if channels == word else words[..., ::-1, :].reshape(array.shape)
    return words[..., ::-1].reshape(array.shape)


def _channels(name: str, array: Array) -> Array | None:
    return array[..., ::-1] if array.shape[-1] > 1 else None


def _folded(name: str, array: Array, pe: int) -> Array | None:
    """Channels written fold by fold with PE and fold exchanged."""
    channels = array.shape[-1]
    if channels % pe or channels == pe:
        return None
    return array.reshape(*array.shape[:-1], channels // pe, pe).swapaxes(-1, -2).reshape(array.shape)


def _swapped_bytes(name: str, array: Array) -> Array | None:
    return array.byteswap() if array.dtype.itemsize > 1 else None


def _image_transposed(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image's memory read by columns."""
    return images.swapaxes(1, 2).reshape(images.shape)


def _narrow(name: str, array: Array, dtype: type[np.integer[Any]]) -> Array | None:
    return array.astype(dtype) if array.dtype == np.int32 else None


_IMAGES: tuple[tuple[str, str, Callable[[Images], Images]], ...] = (
    ("image read with rows and columns swapped", "the image is transposed", _image_transposed),
    ("image read upside down", "the last row comes first", lambda images: images[:, ::-1]),
    ("image read mirrored", "the last column comes first", lambda images: images[:, :, ::-1]),
    ("image read with its channels reversed", "BGR for RGB", lambda images: images[..., ::-1]),
    ("image read as NCHW", "channels come before rows",
     lambda images: images.transpose(0, 3, 1, 2).reshape(images.shape)),
)  # fmt: skip

WRITING: tuple[Change, ...] = (
    Change(
        name="bits written inverted",
        group="polarity",
        says="a 1 bit is written for -1",
        write=partial(_bits, factor=-1, offset=0, divisor=1),
    ),
    Change(
        name="bits written as 0 and 1",
        group="polarity",
        says="0 stands for -1",
        write=partial(_bits, factor=1, offset=1, divisor=2),
    ),
    Change(
        name="bits written as 1 and 0",
        group="polarity",
        says="1 stands for -1 and 0 for +1",
        write=partial(_bits, factor=-1, offset=1, divisor=2),
    ),
    Change(name="accumulators written negated", group="polarity", says="-a is written", write=_negated),
    Change(name="outputs written as NCHW", group="layout", says="channels come before rows", write=_nchw),
    Change(
        name="outputs written with rows and columns swapped",
        group="layout",
        says="maps are transposed",
        write=partial(_mixed, part=None),
    ),
    Change(
        name="bits written with rows and columns swapped",
        group="layout",
        says="maps of bits are transposed",
        write=partial(_mixed, part="bits"),
    ),
    Change(name="outputs written upside down", group="layout", says="the last row comes first", write=_upside_down),
    Change(name="outputs written mirrored", group="layout", says="the last column comes first", write=_mirrored),
    Change(
        name="outputs written with channels reversed",
        group="layout",
        says="the last channel comes first",
        write=_channels,
    ),
    *(
        Change(
            name=f"bits written reversed in {word}-bit words",
            group="bit order",
            says="the first bit is written last",
            write=partial(_words, word=word, whole=False),
        )
        for word in (8, 16, 32, 64)
    ),
    *(
        Change(
            name=f"{word}-bit words written in reverse",
            group="word order",
            says="the first word is written last",
            write=partial(_words, word=word, whole=True),
        )
        for word in (8, 16, 32, 64)
    ),
    *(
        Change(
            name=f"PE and fold exchanged, PE = {pe}",
            group="layout",
            says="folded channels are written lane by lane",
            write=partial(_folded, pe=pe),
        )
        for pe in (2, 4, 8, 16, 32, 64)
    ),
    Change(
        name="numbers written big-endian",
        group="bit order",
        says="the bytes of a number are in reverse",
        write=_swapped_bytes,
    ),
    Change(
        name="accumulators written in 8 bits",
        group="width",
        says="sums are cut to int8 as they are written",
        write=partial(_narrow, dtype=np.int8),
    ),
    Change(
        name="accumulators written in 16 bits",
        group="width",
        says="sums are cut to int16 as they are written",
        write=partial(_narrow, dtype=np.int16),
    ),
    *(Change(name=name, group="input", says=says, pixels=pixels) for name, says, pixels in _IMAGES),
)
"""Changes of reading and writing."""
