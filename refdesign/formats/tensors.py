"""Files of named arrays, from whatever framework: what they hold, before anyone says what it means."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError

LARGEST_TENSOR = 1 << 28
"""Elements of one array; extents of 0 count as 1."""

DTYPES = (
    "float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool",
)  # fmt: skip
"""The types of element that are read, by name."""


@dataclass(frozen=True)
class StoredTensor:
    """An array in a file, of which nothing but its bounds has been looked at yet.

    Attributes:
        dtype: one of `DTYPES`.
        shape: its extents.
        load: gives its elements; bfloat16 as float32, which holds it.
    """

    dtype: str
    shape: tuple[int, ...]
    load: Callable[[], NDArray[Any]]

    def float32(self) -> NDArray[np.float32]:
        """The elements, if float32 holds every one of them.

        Raises:
            RefdesignError: it does not, or one is not finite; without the tensor's name.

        >>> StoredTensor("float64", (1,), lambda: np.array([0.1])).float32()
        Traceback (most recent call last):
        refdesign.errors.RefdesignError: found 0.1, which float32 does not hold, expected float32 (convert it \
yourself: rounding is a choice)
        """
        array = self.load()
        with np.errstate(all="ignore"):
            rounded: NDArray[np.float32] = array.astype(np.float32)
            wrong = rounded.astype(np.float64) != array.astype(np.float64)
        if not np.isfinite(rounded).all():
            raise RefdesignError("found a value that is not finite, expected finite numbers")
        if wrong.any():
            raise RefdesignError(
                f"found {array[wrong].flat[0].item()!r}, which float32 does not hold, expected float32 (convert it "
                "yourself: rounding is a choice)"
            )
        return rounded


@dataclass(frozen=True, kw_only=True)
class TensorFile:
    """Named arrays from a file.

    Attributes:
        format: in words.
        tensors: by name; in the order in which they were saved, where `ordered`.
        ordered: whether that order is the one in which layers were made.
        notes: what was left aside, and which of several parts was taken.
    """

    format: str
    tensors: Mapping[str, StoredTensor]
    ordered: bool
    notes: tuple[str, ...] = ()


def checked_shape(shape: object) -> tuple[int, ...]:
    """A shape from a file, of a size that an array of weights can have.

    Raises:
        RefdesignError: no sequence of non-negative integers, too many axes, or too many elements.

    >>> checked_shape([2, 3])
    (2, 3)
    """
    if not isinstance(shape, (list, tuple)) or len(shape) > 8 or not all(type(n) is int and n >= 0 for n in shape):
        raise RefdesignError("found a shape that is none, expected at most 8 extents")
    found = tuple(shape)
    if math.prod(max(extent, 1) for extent in found) > LARGEST_TENSOR:
        raise RefdesignError(f"found shape {found} of too many elements, expected at most {LARGEST_TENSOR}")
    return found


def elements(data: bytes | memoryview, dtype: str) -> NDArray[Any]:
    """Little-endian elements as an array of one axis; bfloat16 as float32.

    >>> elements(bytes([0x80, 0x3F]), "bfloat16")
    array([1.], dtype=float32)
    """
    if dtype == "bfloat16":
        widened: NDArray[Any] = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
        return widened
    if dtype == "bool":
        truths: NDArray[Any] = np.frombuffer(data, np.uint8) != 0
        return truths
    stored = np.dtype(dtype).newbyteorder("<")
    array: NDArray[Any] = np.frombuffer(data, stored).astype(dtype)
    return array


def item_bytes(dtype: str) -> int:
    """Bytes of one element in a file.

    >>> item_bytes("bfloat16"), item_bytes("int64")
    (2, 8)
    """
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
