"""Compiled JAX functions as implementations under test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
from numpy.typing import NDArray

from refdesign.network import NetworkData
from refdesign.verify.doors.mapping import Map

Array = NDArray[Any]


def model(target: Any, network: NetworkData, mapping: Map) -> FunctionModel:
    """A function of `jax.jit`, called with images as arrays of JAX."""
    return FunctionModel(target)


class FunctionModel:
    """A compiled function; what it returns is all that can be seen of it.

    Args:
        function: from images to the logits, or to a mapping, which may be nested: `{"conv1": {"bits": ...}}` gives
            `conv1.bits`.

    >>> import numpy as np
    >>> double = FunctionModel(jax.jit(lambda images: {"conv1": {"bits": images * 2}, "logits": images[:, 0]}))
    >>> sorted(double.run(np.ones((2, 3), np.int32), ())[0])
    ['conv1.bits', 'logits']
    """

    def __init__(self, function: Any) -> None:
        self._function = function
        name = getattr(function, "__name__", type(function).__name__)
        self.what = f"JAX function {name} on {jax.default_backend()}"
        self.layout, self.dtype, self.channels_first = "n h w c", "uint8", False
        self.places: Mapping[str, str] = {}
        self.returns: Sequence[str] = ()
        self.notes: Sequence[str] = ()

    def run(self, images: Array, places: Sequence[str]) -> tuple[Any, dict[str, Array]]:
        """What it returns, brought to the host."""
        returned = jax.device_get(self._function(jax.numpy.asarray(images)))
        return (dict(_flat(returned, "")) if isinstance(returned, Mapping) else returned), {}


def _flat(values: Mapping[str, Any], before: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        place = f"{before}.{name}" if before else str(name)
        found += _flat(value, place) if isinstance(value, Mapping) else [(place, value)]
    return found
