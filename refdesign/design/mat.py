"""Threshold kernels in MATLAB's `.mat` files, as the authors release them: one variable `kernel`.

A file from elsewhere is not trusted: before SciPy parses it, its structure is walked (MAT-file level 5, the
format of the released files), with every length checked, decompression bounded, and anything but one real
numeric array refused.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import scipy.io
from numpy.typing import ArrayLike, NDArray

from refdesign.errors import RefdesignError

__all__ = ["read_mat", "write_mat"]

LARGEST_FILE = 1 << 24
"""Bytes, packed or unpacked; a kernel of 4096 cells and 64 slices in float64 is 2 MiB."""
VARIABLE = "kernel"

_COMPRESSED, _MATRIX = 15, 14
_INT8, _INT32, _UINT32 = 1, 5, 6
_NUMBER_BYTES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}
_NUMERIC_CLASSES = range(6, 16)
_COMPLEX_OR_LOGICAL = 0x0A00


class _Malformed(Exception):
    """What is wrong with the file, in words that follow 'found'."""


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


def _check_matrix(body: bytes) -> tuple[int, ...]:
    """The dimensions of an array element that is named `kernel`, real and numeric."""
    kind, flags, at = _element(body, 0)
    if kind != _UINT32 or len(flags) != 8:
        raise _Malformed("an array without flags")
    word = struct.unpack_from("<I", flags)[0]
    if word & 0xFF not in _NUMERIC_CLASSES or word & _COMPLEX_OR_LOGICAL:
        raise _Malformed("a variable that is no real numeric array")
    kind, dimensions, at = _element(body, at)
    if kind != _INT32 or len(dimensions) % 4 or not 8 <= len(dimensions) <= 12:
        raise _Malformed("an array without two or three dimensions")
    shape = struct.unpack(f"<{len(dimensions) // 4}i", dimensions)
    if min(shape) < 1:
        raise _Malformed(f"an array of shape {shape}")
    kind, name, at = _element(body, at)
    if kind != _INT8 or name != VARIABLE.encode():
        raise _Malformed(f"a variable named {name[:64].decode('ascii', 'backslashreplace')!r}")
    kind, numbers, at = _element(body, at)
    cells = 1
    for extent in shape:
        cells *= extent
    if kind not in _NUMBER_BYTES or len(numbers) != cells * _NUMBER_BYTES[kind]:
        raise _Malformed(f"{len(numbers)} bytes of numbers for an array of shape {shape}")
    if at < len(body):
        raise _Malformed("an array with parts beyond its numbers")
    return shape


def _checked(data: bytes) -> bytes:
    """The file's bytes, unpacked, once they are known to be one numeric array."""
    if len(data) < 136 or data[124:128] != b"\x00\x01IM":
        raise _Malformed("no MAT-file of level 5 (little-endian)")
    kind, body, following = _element(data, 128)
    if following < len(data):
        raise _Malformed("more than one variable")
    if kind == _COMPRESSED:
        inflater = zlib.decompressobj()
        try:
            unpacked = inflater.decompress(body, LARGEST_FILE)
        except zlib.error as error:
            raise _Malformed(f"packed data that cannot be unpacked ({error})") from None
        if not inflater.eof:
            raise _Malformed(f"packed data that is cut short or larger than {LARGEST_FILE} bytes")
        kind, body, following = _element(unpacked, 0)
        if following < len(unpacked):
            raise _Malformed("more than one variable")
    if kind != _MATRIX:
        raise _Malformed("no array")
    _check_matrix(body)
    return data[:128] + struct.pack("<II", _MATRIX, len(body)) + body


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
    file = Path(path)
    try:
        with file.open("rb") as stream:
            data = stream.read(LARGEST_FILE + 1)
    except OSError as error:
        raise RefdesignError(f"{file}: cannot be read ({error.strerror})") from error
    try:
        if len(data) > LARGEST_FILE:
            raise _Malformed(f"more than {LARGEST_FILE} bytes")
        checked = _checked(data)
        kernel = np.asarray(scipy.io.loadmat(io.BytesIO(checked), variable_names=[VARIABLE])[VARIABLE])
    except _Malformed as error:
        raise RefdesignError(
            f"{file}: found {error}, expected one real array 'kernel' in a MAT-file of level 5"
        ) from None
    # The walk above leaves SciPy little to object to; what it does is not the caller's to know.
    except (ValueError, TypeError, KeyError, EOFError, OSError, NotImplementedError) as error:
        raise RefdesignError(f"{file}: found a MAT-file that cannot be read ({error})") from error
    kernel = kernel.astype(np.float64)
    if not np.isfinite(kernel).all():
        raise RefdesignError(f"{file}: variable 'kernel': found a non-finite value, expected finite numbers")
    return kernel if kernel.ndim == 3 else kernel[:, :, np.newaxis]


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
    array = np.asarray(kernel, dtype=np.float64)
    if array.ndim not in (2, 3) or array.size == 0:
        raise RefdesignError(f"kernel: found shape {array.shape}, expected (m, n) or (m, n, g)")
    if not np.isfinite(array).all():
        raise RefdesignError("kernel: found a non-finite value, expected finite numbers")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    try:
        with Path(path).open("wb") as stream:
            scipy.io.savemat(stream, {VARIABLE: array}, do_compression=True)
    except OSError as error:
        raise RefdesignError(f"{path}: cannot be written ({error.strerror})") from error
