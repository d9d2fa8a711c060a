"""Threshold kernels in MATLAB's `.mat` files, as the authors release them: one variable `kernel`.

A file from elsewhere is not trusted, and no parser in C sees it: its structure (MAT-file level 5, the format of the
released files) is walked here, with every length checked and decompression bounded, and the numbers are taken as they
lie.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refdesign.errors import RefdesignError

__all__ = ["read_mat", "read_variables", "write_mat"]

LARGEST_FILE = 1 << 24
"""Bytes, packed or unpacked; a kernel of 4096 cells and 64 slices in float64 is 2 MiB."""
VARIABLE = "kernel"

_COMPRESSED, _MATRIX = 15, 14
_INT8, _INT32, _UINT32 = 1, 5, 6
_NUMBERS = {1: "<i1", 2: "<u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8"}
_CLASSES = {
    1: "cell array", 2: "structure", 3: "object", 4: "text", 5: "sparse matrix", 6: "float64", 7: "float32", 8: "int8",
    9: "uint8", 10: "int16", 11: "uint16", 12: "int32", 13: "uint32", 14: "int64", 15: "uint64",
}  # fmt: skip
_NUMERIC_CLASSES = range(6, 16)
_COMPLEX_OR_LOGICAL = 0x0A00


class _Malformed(Exception):
    """What is wrong with the file, in words that follow 'found'."""


@dataclass(frozen=True)
class Variable:
    """One variable of a file.

    Attributes:
        name: its name.
        shape: its extents.
        kind: its class, in words.
        values: its numbers, float64; None where it is no real numeric array.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    values: NDArray[np.float64] | None


def _element(data: bytes, at: int) -> tuple[int, bytes, int]:
    """One data element: its type, its bytes, and where the next one starts."""
    if at + 8 > len(data):
        raise _Malformed("a file that ends within an element")
    kind, size = struct.unpack_from("<II", data, at)
    if kind >> 16:
        # The small format: length and type in one word, up to four bytes beside it.
        kind, size, start, following = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        if size > 4:
            raise _Malformed("an element whose length contradicts its format")
    else:
        start = at + 8
        following = start + size + (0 if kind == _COMPRESSED else -size % 8)
    if start + size > len(data):
        raise _Malformed("a file that ends within an element")
    return kind, data[start : start + size], following


def _matrix(body: bytes) -> Variable:
    """The variable in an array element; its numbers only where they are real."""
    kind, flags, at = _element(body, 0)
    if kind != _UINT32 or len(flags) != 8:
        raise _Malformed("an array without flags")
    word = struct.unpack_from("<I", flags)[0]
    kind, dimensions, at = _element(body, at)
    if kind != _INT32 or len(dimensions) % 4 or not 8 <= len(dimensions) <= 32:
        raise _Malformed("an array without two to eight dimensions")
    shape = struct.unpack(f"<{len(dimensions) // 4}i", dimensions)
    if min(shape) < 0:
        raise _Malformed(f"an array of shape {shape}")
    kind, raw, at = _element(body, at)
    if kind != _INT8:
        raise _Malformed("an array without a name")
    name = raw[:64].decode("ascii", "backslashreplace")
    called = _CLASSES.get(word & 0xFF, "unknown")
    if word & 0xFF not in _NUMERIC_CLASSES or word & _COMPLEX_OR_LOGICAL:
        return Variable(name, shape, called, None)
    kind, numbers, at = _element(body, at)
    cells = 1
    for extent in shape:
        cells *= extent
    if kind not in _NUMBERS or len(numbers) != cells * np.dtype(_NUMBERS[kind]).itemsize:
        raise _Malformed(f"{len(numbers)} bytes of numbers for an array of shape {shape}")
    if at < len(body):
        raise _Malformed("an array with parts beyond its numbers")
    values = np.frombuffer(numbers, _NUMBERS[kind]).astype(np.float64).reshape(shape, order="F")
    return Variable(name, shape, called, values)


def _variables(data: bytes) -> list[Variable]:
    """All variables of a file's content, packed or not."""
    if len(data) < 136 or data[124:128] != b"\x00\x01IM":
        raise _Malformed("no MAT-file of level 5 (little-endian)")
    found, at, room = [], 128, LARGEST_FILE
    while at < len(data):
        kind, body, at = _element(data, at)
        if kind == _COMPRESSED:
            inflater = zlib.decompressobj()
            try:
                unpacked = inflater.decompress(body, room)
            except zlib.error as error:
                raise _Malformed(f"packed data that cannot be unpacked ({error})") from None
            if not inflater.eof:
                raise _Malformed(f"packed data that is cut short or larger than {LARGEST_FILE} bytes")
            # At least 1: zlib takes 0 for no bound.
            room = max(1, room - len(unpacked))
            kind, body, following = _element(unpacked, 0)
            if following < len(unpacked):
                raise _Malformed("more than one variable in one packed element")
        if kind != _MATRIX:
            raise _Malformed("no array")
        found.append(_matrix(body))
    return found


def _kernel(data: bytes) -> NDArray[np.float64]:
    """The one variable `kernel`, always (m, n, g)."""
    variables = _variables(data)
    if len(variables) != 1:
        raise _Malformed("more than one variable")
    only = variables[0]
    if only.values is None:
        raise _Malformed("a variable that is no real numeric array")
    if not 2 <= len(only.shape) <= 3:
        raise _Malformed("an array without two or three dimensions")
    if min(only.shape) < 1:
        raise _Malformed(f"an array of shape {only.shape}")
    if only.name != VARIABLE:
        raise _Malformed(f"a variable named {only.name!r}")
    return only.values if only.values.ndim == 3 else only.values[:, :, np.newaxis]


def _content(path: str | os.PathLike[str]) -> bytes:
    file = Path(path)
    try:
        with file.open("rb") as stream:
            data = stream.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise RefdesignError(f"{file}: cannot be read ({reason})") from error
    return data


def read_mat(path: str | os.PathLike[str]) -> NDArray[np.float64]:
    """The variable `kernel` of a `.mat` file, always (m, n, g), float64.

    Args:
        path: a MAT-file of level 5 with that one variable, a real numeric array of two or three dimensions.

    Raises:
        RefdesignError: the file cannot be read, is too large, or is anything else.

    Source: released code (`scipy.io.loadmat`, variable `kernel`).

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_mat(f"{folder}/k.mat", [[0.5, 1.0]])
    ...     read_mat(f"{folder}/k.mat").tolist()
    [[[0.5], [1.0]]]
    """
    data = _content(path)
    try:
        return kernel_from_bytes(data)
    except RefdesignError as error:
        raise RefdesignError(f"{Path(path)}: {error}") from error


def kernel_from_bytes(data: bytes) -> NDArray[np.float64]:
    """The kernel in a file's content; see `read_mat`.

    >>> kernel_from_bytes(b"MATLAB")
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: found no MAT-file of level 5 (little-endian), expected one real array 'kernel' in \
a MAT-file of level 5
    """
    try:
        if len(data) > LARGEST_FILE:
            raise _Malformed(f"more than {LARGEST_FILE} bytes")
        kernel = _kernel(data)
    except _Malformed as error:
        hint = " (a newer one is HDF5: save it with -v7)" if data[:10] == b"MATLAB 7.3" else ""
        raise RefdesignError(
            f"found {error}, expected one real array 'kernel' in a MAT-file of level 5{hint}"
        ) from None
    if not np.isfinite(kernel).all():
        raise RefdesignError("variable 'kernel': found a non-finite value, expected finite numbers")
    return kernel


def read_variables(path: str | os.PathLike[str]) -> list[Variable]:
    """All variables of a `.mat` file, those that are no real arrays without their values.

    Raises:
        RefdesignError: the file cannot be read, is too large, or is no MAT-file of level 5; names it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_mat(f"{folder}/k.mat", [[0.5, 1.0]])
    ...     [(variable.name, variable.shape) for variable in read_variables(f"{folder}/k.mat")]
    [('kernel', (1, 2))]
    """
    data = _content(path)
    try:
        if len(data) > LARGEST_FILE:
            raise _Malformed(f"more than {LARGEST_FILE} bytes")
        return _variables(data)
    except _Malformed as error:
        raise RefdesignError(f"{Path(path)}: found {error}, expected a MAT-file of level 5") from None


def write_mat(path: str | os.PathLike[str], kernel: ArrayLike) -> None:
    """Write a kernel as the authors do: variable `kernel`, float64, packed; g = 1 as (m, n).

    Args:
        path: the file to write.
        kernel: (m, n) or (m, n, g), finite.

    Raises:
        RefdesignError: another shape, non-finite values, or a file that cannot be written.

    >>> write_mat("k.mat", [1.0])
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: kernel: found shape (1,), expected (m, n) or (m, n, g)
    """
    from scipy.io import savemat  # here, so that not every command waits for SciPy to be imported

    array = np.asarray(kernel, dtype=np.float64)
    if array.ndim not in (2, 3) or array.size == 0:
        raise RefdesignError(f"kernel: found shape {array.shape}, expected (m, n) or (m, n, g)")
    if not np.isfinite(array).all():
        raise RefdesignError("kernel: found a non-finite value, expected finite numbers")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    try:
        with Path(path).open("wb") as stream:
            savemat(stream, {VARIABLE: array}, do_compression=True)
    except OSError as error:
        raise RefdesignError(f"{path}: cannot be written ({error.strerror})") from error
