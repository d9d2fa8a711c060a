"""How the package's functions are compiled: for any number of threads, and kept from one start to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(*, parallel: bool = False) -> Callable[[Function], Function]:
    """A decorator: compile on the first call, into Numba's cache where it can write one.

    Args:
        parallel: whether `prange` is spread over threads.
    """

    def decorate(function: Function) -> Function:
        options: dict[str, Any] = {"parallel": parallel, "nogil": True, "error_model": "numpy"}
        try:
            made: Function = njit(cache=True, **options)(function)
        except RuntimeError:  # no folder can be written to: compiled anew by every process
            made = njit(**options)(function)
        return made

    return decorate
