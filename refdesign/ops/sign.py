"""The sign, by the named rule: from z to {-1, +1}, or {-1, 0, +1} where exact ties stay zero."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refdesign.checks import as_array, check_array
from refdesign.conventions import Conventions, check_conventions
from refdesign.errors import RefdesignError
from refdesign.ops.batch_norm import subtract_threshold
from refdesign.ops.dither import thresholds_over
from refdesign.parameters import NO_DITHER, Float32Array, ThresholdKernel, check_kernel

KERAS_ROUND_BOUNDARY = 2.0**-24
"""The released Keras activation, 2*round(clip((z+1)/2, 0, 1)) - 1 in float32, fires exactly above this z."""


def sign(z: Float32Array, conventions: Conventions) -> NDArray[np.int8]:
    """The sign of z (docs/method.md, section 3).

    Args:
        z: float32, any shape. Both zeros are zero.
        conventions: `sign_at_zero` says what an exact zero becomes; with `sign_rule="keras_round"` the result is
            +1 exactly where z > 2**-24.

    Returns:
        int8, shape of `z`: +1 and -1, and 0 at exact zeros under `sign_at_zero=0`.

    Raises:
        RefdesignError: `z` is not float32, or holds NaN.

    >>> from refdesign.conventions import PAPER
    >>> sign(np.float32([-0.5, -0.0, 0.5]), PAPER)
    array([-1,  1,  1], dtype=int8)
    """
    if z.dtype != np.float32:
        raise RefdesignError(f"sign: found {z.dtype}, expected float32")
    if np.isnan(z).any():
        index = tuple(int(i) for i in np.argwhere(np.isnan(z))[0])
        raise RefdesignError(f"sign: found NaN at index {index}, expected a number")
    if conventions.sign_rule == "keras_round":
        return two_valued(z > np.float32(KERAS_ROUND_BOUNDARY))
    if conventions.sign_at_zero == 1:
        return two_valued(z >= 0)
    if conventions.sign_at_zero == -1:
        return two_valued(z > 0)
    return (z > 0).view(np.int8) - (z < 0).view(np.int8)


def two_valued(fires: NDArray[np.bool_]) -> NDArray[np.int8]:
    """+1 where true, -1 where false; int8, the same shape.

    >>> two_valued(np.array([True, False]))
    array([ 1, -1], dtype=int8)
    """
    return fires.astype(np.int8) * np.int8(2) - np.int8(1)


def dithered_sign(
    y: Float32Array, kernel: ThresholdKernel | None, conventions: Conventions, gamma: ArrayLike | None = None
) -> NDArray[np.int8]:
    """The dithered sign of y: the sign of fl(y - fl(s*T)) by the named rule (docs/method.md, sections 1 and 3).

    This starts from a float32 y in every arithmetic. From accumulators under `"real"` arithmetic use
    `refdesign.ops.exact.exact_sign`, which decides without rounding y.

    Args:
        y: float32, shape (N, H, W, C), or (N, C), which counts as a map of one pixel.
        kernel: the threshold kernel (m, n, g), g a divisor of C; None is T = 0.
        conventions: all choices of sign and dither count.
        gamma: float32 (C,), the batch norm's; needed where `threshold_scale` is `"gamma"`.

    Returns:
        int8, shape of `y`.

    Raises:
        RefdesignError: wrong dtype or shape, NaN, g that does not divide C, or a missing gamma.

    >>> from refdesign.conventions import PAPER
    >>> dithered_sign(np.float32([[[[0.7], [0.7]]]]), ThresholdKernel([[0.5, 1.0]]), PAPER)[0, 0, :, 0]
    array([ 1, -1], dtype=int8)
    """
    check_kernel("dithered_sign", kernel)
    check_conventions("dithered_sign", conventions)
    check_array("dithered_sign, y", y)
    if y.dtype != np.float32:
        raise RefdesignError(f"dithered_sign, y: found {y.dtype}, expected float32")
    cells = thresholds_over(y.shape, kernel or NO_DITHER, conventions)
    scale = None if gamma is None else _gamma(gamma)
    return sign(subtract_threshold(y, cells, scale, conventions), conventions)


def _gamma(gamma: ArrayLike) -> Float32Array:
    array = as_array("dithered_sign, gamma", gamma)
    if array.dtype.kind not in "iuf":
        raise RefdesignError(f"dithered_sign, gamma: found {array.dtype}, expected numbers")
    return array.astype(np.float32)
