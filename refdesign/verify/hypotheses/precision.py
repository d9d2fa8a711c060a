"""Narrow floating-point formats that numbers get lost in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LARGEST_HALF = 65504


def _half(values: NDArray[Any]) -> NDArray[np.float32]:
    clipped: NDArray[Any] = np.clip(values, -_LARGEST_HALF, _LARGEST_HALF)
    return clipped.astype(np.float16).astype(np.float32)


def _brain(values: NDArray[Any]) -> NDArray[np.float32]:
    """Rounded to bfloat16, ties to even."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


ROUNDINGS: dict[str, Callable[[NDArray[Any]], NDArray[np.float32]]] = {"float16": _half, "bfloat16": _brain}
"""By the format's name, what rounds to it: any numbers in, float32 out."""
