"""Equality of networks, field by field and bit by bit; written without looking at how files are made."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np


def differences(a: Any, b: Any, where: str = "network") -> Iterator[str]:
    """Where two values differ: in type, dtype, shape or any bit (so -0.0 is not 0.0)."""
    if type(a) is not type(b):
        yield f"{where}: {type(a).__name__} and {type(b).__name__}"
    elif isinstance(a, np.ndarray):
        if a.dtype != b.dtype or a.shape != b.shape or a.tobytes() != b.tobytes():
            yield f"{where}: {a!r} and {b!r}"
    elif is_dataclass(a):
        for item in fields(a):
            yield from differences(getattr(a, item.name), getattr(b, item.name), f"{where}.{item.name}")
    elif isinstance(a, tuple):
        if len(a) != len(b):
            yield f"{where}: {len(a)} and {len(b)} entries"
        for index, (x, y) in enumerate(zip(a, b, strict=False)):
            yield from differences(x, y, f"{where}[{index}]")
    elif isinstance(a, Mapping):
        if list(a.items()) != list(b.items()):
            yield f"{where}: {dict(a)} and {dict(b)}"
    elif isinstance(a, float):
        if struct.pack("<d", a) != struct.pack("<d", b):
            yield f"{where}: {a!r} and {b!r}"
    elif a != b:
        yield f"{where}: {a!r} and {b!r}"
