"""NumPy's archives: arrays of numbers by name. No header is evaluated, and no object is made of one."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.formats.archives import Archive
from refdesign.formats.tensors import checked_shape

_NPY = re.compile(
    rb"\{'descr': '(\|[iu]1|<[fiu][248])', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,9}, ?){0,7}(?:\d{1,9},?)?)\), ?\} *\n"
)


def from_bytes(data: bytes, largest: int, names: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
    """The arrays in the content of an `.npz` file, by name, in its order.

    Args:
        data: the content.
        largest: bytes that they may have together.
        names: those that are wanted; None for all of them.

    Raises:
        RefdesignError: no zip archive, a member that is no array of numbers, or too much of them.

    >>> import io
    >>> np.savez(stream := io.BytesIO(), values=np.float32([[1, 2]]))
    >>> from_bytes(stream.getvalue(), 1000)
    {'values': array([[1., 2.]], dtype=float32)}
    """
    archive = Archive(data)
    found = {}
    for member in archive.names:
        name = member.removesuffix(".npy")
        if name != member and (names is None or name in names):
            content = archive.read(member, largest)
            largest -= len(content)
            found[name] = array_from_bytes(content)
    return found


def array_from_bytes(data: bytes) -> NDArray[Any]:
    """An array in NumPy's format, whose header is matched letter by letter: it is no expression here.

    Raises:
        RefdesignError: another header, or more or fewer bytes than it says.

    >>> array_from_bytes(b"")
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: found no array of numbers in the archive: damaged, or of another type
    """
    match = _NPY.match(data, 10)
    if data[:6] != b"\x93NUMPY" or match is None or int.from_bytes(data[8:10], "little") != match.end() - 10:
        raise RefdesignError("found no array of numbers in the archive: damaged, or of another type")
    dtype, order = np.dtype(match[1].decode()), "F" if match[2] == b"True" else "C"
    shape = tuple(int(extent) for extent in match[3].decode().split(",") if extent.strip())
    rest = data[match.end() :]
    if len(rest) != math.prod(shape) * dtype.itemsize:
        raise RefdesignError(f"found {len(rest)} bytes for {dtype} of shape {shape}, expected as many as it has")
    return np.frombuffer(rest, dtype).reshape(checked_shape(shape), order="F" if order == "F" else "C")
