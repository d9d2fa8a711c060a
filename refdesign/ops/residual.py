"""The real-valued remains of residual and multi-base networks, each in a named order of float32 operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.ops.pool import average_pool2d

Float32Array = NDArray[np.float32]
_EXACT = 2**24
"""float32 holds every integer up to here."""


class ShortcutSettings(Protocol):
    """What `shortcut` reads of `refdesign.network.Shortcut`."""

    @property
    def average_pool(self) -> int:
        """Size and stride of an average pool; 1 for none."""

    @property
    def channel_padding(self) -> tuple[int, int]:
        """How many zero channels are put before and behind."""


def shortcut(real: Float32Array, settings: ShortcutSettings) -> Float32Array:
    """An earlier layer's real output on its way to a residual addition: average pool, then zero channels.

    Args:
        real: float32, (N, H, W, C).
        settings: a `refdesign.network.Shortcut`.

    Returns:
        float32, (N, H // pool, W // pool, before + C + behind).

    Raises:
        RefdesignError: not float32, or not four axes.

    >>> from types import SimpleNamespace
    >>> settings = SimpleNamespace(average_pool=2, channel_padding=(1, 0))
    >>> shortcut(np.ones((1, 2, 3, 1), dtype=np.float32), settings)
    array([[[[0., 1.]]]], dtype=float32)
    """
    if real.dtype != np.float32 or real.ndim != 4:
        raise RefdesignError(f"shortcut: found {real.dtype} of shape {real.shape}, expected float32 (N, H, W, C)")
    if settings.average_pool > 1:
        real = average_pool2d(real, settings.average_pool)
    before, behind = settings.channel_padding
    if before or behind:
        real = np.pad(real, ((0, 0), (0, 0), (0, 0), (before, behind)))
    return real


def hardtanh(x: Float32Array) -> Float32Array:
    """x clamped to [-1, 1]: float32, any shape.

    >>> hardtanh(np.array([-3.0, 0.25, 1.5], dtype=np.float32))
    array([-1.  ,  0.25,  1.  ], dtype=float32)
    """
    return np.minimum(np.maximum(x, np.float32(-1)), np.float32(1))


def combine(accumulators: Sequence[NDArray[np.int32]], scales: Float32Array) -> Float32Array:
    """Several binary bases with real scales (ABC-Net): v = fl(fl(s0*a0) + fl(s1*a1)), + fl(s2*a2) and so on.

    Args:
        accumulators: one array (..., O) of int32 per basis.
        scales: float32, (bases, O).

    Returns:
        float32, (..., O); every product and every sum is rounded to float32, in this order.

    Raises:
        RefdesignError: another number of bases, or accumulators that float32 does not hold.

    >>> combine([np.array([4, 2]), np.array([-1, 1])], np.array([[0.5, 1], [2, 4]], dtype=np.float32))
    array([0., 6.], dtype=float32)
    """
    if scales.dtype != np.float32 or scales.ndim != 2 or scales.shape[0] != len(accumulators) or not len(scales):
        raise RefdesignError(
            f"combine, scales: found {scales.dtype} of shape {scales.shape}, "
            f"expected float32 of shape ({len(accumulators)}, O)"
        )
    terms: list[Float32Array] = [_exact_float32(a) * scale for a, scale in zip(accumulators, scales, strict=True)]
    total = terms[0]
    for term in terms[1:]:
        total += term
    return total


def _exact_float32(a: NDArray[np.int32]) -> Float32Array:
    if a.size and (a.max() > _EXACT or a.min() < -_EXACT):
        found = max(int(a.max()), -int(a.min()))
        raise RefdesignError(f"combine: found an accumulator of magnitude {found}, expected at most 2**24 (float32)")
    return a.astype(np.float32)


def real_dense(x: Float32Array, weights: Float32Array, bias: Float32Array | None = None) -> Float32Array:
    """A real last layer: products summed in input order in float64, bias last, rounded to float32 once.

    Args:
        x: float32, (N, I).
        weights: float32, (O, I).
        bias: float32, (O,), or None.

    Returns:
        float32, (N, O).

    Raises:
        RefdesignError: shapes that do not fit, or not float32.

    >>> real_dense(np.float32([[1, 2]]), np.float32([[0.5, 0.25]]), np.float32([1]))
    array([[2.]], dtype=float32)
    """
    if x.dtype != np.float32 or weights.dtype != np.float32 or weights.ndim != 2 or x.shape[1:] != weights.shape[1:]:
        raise RefdesignError(
            f"real_dense: found inputs {x.dtype} {x.shape} and weights {weights.dtype} {weights.shape}, "
            "expected float32 (N, I) and (O, I)"
        )
    # A float64 holds the product of two float32 exactly, so the only roundings are those of the sums.
    inputs, columns = x.T.astype(np.float64), weights.T.astype(np.float64)
    total = np.zeros((x.shape[0], weights.shape[0]))
    for value, column in zip(inputs, columns, strict=True):
        total += value[:, np.newaxis] * column
    if bias is not None:
        total += bias.astype(np.float64)
    return total.astype(np.float32)
