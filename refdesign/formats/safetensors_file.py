"""Foreign safetensors files: named arrays that some framework saved, without a network of this project in them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

import safetensors

from refdesign.errors import RefdesignError
from refdesign.formats.files import naming, read_bytes
from refdesign.formats.tensors import StoredTensor, TensorFile, checked_shape, elements, item_bytes

LARGEST_HEADER = 1 << 24
"""Bytes of a header, which the JSON parser makes some 25 times as large; of 10,000 arrays it has about one million."""

_DTYPES = {
    "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64", "I8": "int8", "I16": "int16",
    "I32": "int32", "I64": "int64", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
_deserialize: Callable[[bytes], list[tuple[str, dict[str, Any]]]] = safetensors.deserialize


def read(path: str | os.PathLike[str]) -> TensorFile:
    """The arrays of a safetensors file; nothing in it is trusted.

    The format has no order of its own (writers sort by name), so names are sorted here as people count: `conv2`
    before `conv10`.

    Raises:
        RefdesignError: not such a file, or a damaged one; names it.

    >>> read("/nowhere/net.safetensors")
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: /nowhere/net.safetensors: cannot be read: No such file or directory
    """
    with naming(path):
        return from_bytes(read_bytes(path))


def from_bytes(data: bytes) -> TensorFile:
    """The arrays in a file's content; see `read`.

    >>> import numpy as np, safetensors.numpy
    >>> saved = safetensors.numpy.save({"conv10.weight": np.ones(2, np.int8), "conv2.weight": np.zeros((1, 3))})
    >>> [(name, tensor.dtype, tensor.shape) for name, tensor in from_bytes(saved).tensors.items()]
    [('conv2.weight', 'float64', (1, 3)), ('conv10.weight', 'int8', (2,))]
    """
    header = int.from_bytes(data[:8], "little")
    if header > min(len(data), LARGEST_HEADER):
        raise RefdesignError(
            f"found no safetensors file: a header of {header} bytes in {len(data)}, expected at most {LARGEST_HEADER}: "
            "truncated or another format"
        )
    try:
        entries = _deserialize(data)
    except (safetensors.SafetensorError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RefdesignError(f"found no safetensors file: truncated or another format ({reason})") from error
    tensors: dict[str, StoredTensor] = {}
    unread = []
    for name, entry in sorted(entries, key=lambda pair: natural(pair[0])):
        dtype = _DTYPES.get(entry["dtype"])
        if dtype is None:
            unread.append(f"{name[:60]} ({entry['dtype']})")
            continue
        tensors[name] = _stored(name, dtype, entry)
    notes = (f"not read: {', '.join(unread[:6])}",) if unread else ()
    return TensorFile(format="safetensors", tensors=tensors, ordered=False, notes=notes)


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts numbers in names as numbers.

    >>> sorted(["conv10", "conv2", "bn1"], key=natural)
    ['bn1', 'conv2', 'conv10']
    """
    parts = re.split(r"([0-9]{1,9})", name)  # every second part is a number
    return [(int(part), "") if number % 2 else (-1, part) for number, part in enumerate(parts)]


def _stored(name: str, dtype: str, entry: dict[str, Any]) -> StoredTensor:
    try:
        shape = checked_shape(list(entry["shape"]))
    except RefdesignError as error:
        raise RefdesignError(f"tensor {name[:80]!r}: {error}") from error
    data = entry["data"]
    count = len(data) // item_bytes(dtype)
    return StoredTensor(dtype, shape, lambda: elements(bytes(data), dtype)[:count].reshape(shape))
