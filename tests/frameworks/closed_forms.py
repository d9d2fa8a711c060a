"""What every framework's float layers are compared with, in NumPy: the estimators, and the authors' PyTorch block."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from refdesign.parameters import BatchNorm, ThresholdKernel

Array = NDArray[np.float32]

# Multiples of 1/64, where every value of every estimator is exact, and numbers that are as large as can be.
POINTS: Array = np.append(np.arange(-131, 132) / 64, [-1e30, 1e30]).astype(np.float32)

# Where signs are decided: zeros, subnormal numbers, the boundary of keras_round and its neighbours.
NEAR_TIES: Array = np.array(
    [0, -0.0, 2.0**-149, -(2.0**-149), 2.0**-127, -(2.0**-127), 2.0**-126, -(2.0**-126), 2.0**-24, -(2.0**-24),
     np.nextafter(np.float32(2.0**-24), np.float32(1)), np.nextafter(np.float32(2.0**-24), np.float32(0)),
     0.5, -0.5, 1, -1, 1e30, -1e30],
    dtype=np.float32,
)  # fmt: skip

ESTIMATORS: dict[str, Callable[[Array], Array]] = {
    "clipped": lambda z: (np.abs(z) <= 1).astype(np.float32),
    "identity": np.ones_like,
    "polynomial": lambda z: np.maximum(np.float32(0), 2 - 2 * np.abs(z)),
}
"""The gradient of a bit at z."""


class ReleasedBlock:
    """The authors' block from the spec: gamma-scaled thresholds after their batch norm, exact ties give 0.

    Attributes:
        batch_norm, kernel: its parameters; the roots of the variances are exact.
        accumulators: float32, (3, 5, 7, 6).
        y: what the batch norm makes of them.
        bits: +1, -1 and, at ties, 0.
    """

    def __init__(self) -> None:
        variance = np.array([4, 0.25, 1, 16, 9, 1], np.float32)
        self.batch_norm = BatchNorm(
            [1, -0.5, 2, 0, -1, 0.25], [0.5, 0, -1, 3, 0, 0], [2, -4, 0, 1, 3, 0], variance, 0.0
        )
        self.kernel = ThresholdKernel(np.array([[[0, 0.5], [1, 1.5]], [[-1, 2], [0.25, 0]]], np.float32))
        self.accumulators: Array = np.random.default_rng(5).integers(-12, 13, (3, 5, 7, 6)).astype(np.float32)
        self.y = self.normalised(variance)
        self.bits = self.signs(self.y)
        assert (self.bits == 0).sum() > 9

    def normalised(self, variance: Array) -> Array:
        """y, with this variance."""
        bn = self.batch_norm
        return (bn.gamma * ((self.accumulators - bn.mean) / np.sqrt(variance)) + bn.beta).astype(np.float32)

    def signs(self, y: Array) -> Array:
        """The bits of y."""
        bits: Array = np.sign(y - self.batch_norm.gamma * np.tile(self.kernel.values, (3, 4, 3))[:5, :7])
        return bits
