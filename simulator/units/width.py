"""What a value becomes in a register of so many bits: an error, wrapped, or saturated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError


class Overflow(RefdesignError):
    """A value does not fit its register, and the accelerator says that this is an error."""


@dataclass(frozen=True)
class Width:
    """A register's width.

    Attributes:
        bits: 1 to 64.
        signed: two's complement, or unsigned.
        overflow: `"error"`, `"wrap"` or `"saturate"`.

    >>> Width(3, True, "wrap").hold(4), Width(3, True, "saturate").hold(4), Width(3, False, "wrap").hold(9)
    (-4, 3, 1)
    """

    bits: int
    signed: bool
    overflow: str

    @property
    def low(self) -> int:
        """The lowest value that fits."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        """The highest value that fits."""
        return (1 << (self.bits - self.signed)) - 1

    def fits(self, value: int) -> bool:
        """Whether the register holds the value as it is."""
        return self.low <= value <= self.high

    def hold(self, value: int) -> int:
        """What the register holds of a value.

        Raises:
            Overflow: the value does not fit, and `overflow` is `"error"`.

        >>> Width(2, False, "error").hold(4)
        Traceback (most recent call last):
        simulator.units.width.Overflow: found 4, expected 0 to 3 (2 bits)
        """
        if self.fits(value):
            return value
        if self.overflow == "error":
            raise Overflow(f"found {value}, expected {self.low} to {self.high} ({self.bits} bits)")
        if self.overflow == "saturate":
            return self.low if value < self.low else self.high
        return (value - self.low) % (1 << self.bits) + self.low

    def hold_all(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """`hold`, of every element of an int64 array; where `overflow` is `"error"`, of the first one that fails.

        >>> Width(3, True, "wrap").hold_all(np.array([3, 4, -5]))
        array([ 3, -4,  3])
        """
        if self.bits == 64 and self.signed:
            return values
        beyond = (values < self.low) | (values > self.high)
        if not beyond.any():
            return values
        if self.overflow == "error":
            self.hold(int(values[beyond][0]))
        if self.overflow == "saturate":
            return np.clip(values, self.low, self.high)
        wrapped: NDArray[np.int64] = (values - self.low) % (1 << self.bits) + self.low
        return wrapped
