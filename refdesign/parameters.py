"""The real-valued parameters that stand between an accumulator and its bit: batch norm and threshold kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refdesign.checks import as_array
from refdesign.errors import RefdesignError

Float32Array = NDArray[np.float32]


def _float32_vector(field: str, value: ArrayLike, channels: int | None) -> Float32Array:
    array = as_array(f"batch norm, {field}", value)
    if array.dtype.kind not in "iuf" or array.ndim != 1 or not array.size:
        raise RefdesignError(
            f"batch norm, {field}: found {array.dtype} of shape {array.shape}, expected float32 per channel"
        )
    if channels is not None and array.shape != (channels,):
        raise RefdesignError(f"batch norm, {field}: found {array.shape[0]} channels, expected {channels} as in gamma")
    with np.errstate(over="ignore"):
        rounded = array.astype(np.float32)
    wrong = np.flatnonzero(~np.isfinite(rounded))
    if wrong.size:
        raise RefdesignError(
            f"batch norm, {field}: found {rounded[wrong[0]]} in channel {wrong[0]}, expected finite numbers"
        )
    if isinstance(value, np.ndarray) and array.dtype != np.float32 and np.any(rounded.astype(np.float64) != array):
        channel = int(np.flatnonzero(rounded.astype(np.float64) != array)[0])
        raise RefdesignError(
            f"batch norm, {field}: found {array[channel]!r} in channel {channel}, "
            "expected values that float32 holds exactly (convert them yourself: rounding is a choice)"
        )
    rounded.flags.writeable = False
    return rounded


AFFINE_LIMIT = 2**255
"""Integers of a `RationalAffine` are smaller: float64 holds their quotients, times any float32 parameters."""


@dataclass(frozen=True)
class RationalAffine:
    """An exact map of accumulators into a batch norm: x = (numerator*a + offsets[c])/denominator.

    It carries the normalisation of pixels, which float32 parameters could only approximate;
    `refdesign.normalise_pixels` makes it.

    Attributes:
        numerator, denominator: positive integers below 2**255.
        offsets: one integer per channel, below 2**255 in size.

    Raises:
        RefdesignError: anything else.

    >>> RationalAffine(2, (-255, 0), 510).offsets
    (-255, 0)
    """

    numerator: int
    offsets: tuple[int, ...]
    denominator: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "offsets", tuple(self.offsets))
        for field, value, least, expected in (
            ("numerator", self.numerator, 1, "from 1 to below"),
            ("denominator", self.denominator, 1, "from 1 to below"),
            *((f"offsets, channel {c}", o, 1 - AFFINE_LIMIT, "smaller than") for c, o in enumerate(self.offsets)),
        ):
            if type(value) is not int or not least <= value < AFFINE_LIMIT:
                raise RefdesignError(f"affine, {field}: found {value!r}, expected an integer {expected} 2**255")


@dataclass(frozen=True, eq=False)
class BatchNorm:
    """Batch norm in inference, per channel: y = gamma*(alpha*a - mean)/sqrt(variance + epsilon) + beta.

    All arrays are float32 of shape (C,); lists of Python numbers are rounded to it, as `epsilon` is. `k` and `c`
    are the scale and shift that a framework computed from the others; float programs use them where they are given,
    because they cannot always be recomputed (TensorFlow's reciprocal square root is not correctly rounded).
    `"real"` arithmetic ignores them.

    Attributes:
        gamma, beta, mean, variance: the batch norm's parameters.
        epsilon: added to the variance; rounded to float32 first, as every framework does.
        alpha: an optional scale of the accumulator (a per-channel weight scale).
        k, c: optional, y = k*v + c with v = alpha*a.
        affine: an optional exact map that stands before all this, in place of a; only `"real"` arithmetic takes
            it, float programs refuse it.

    Raises:
        RefdesignError: non-finite values, values that float32 does not hold, unequal numbers of channels,
            variance + epsilon not positive, c without k, or an affine map beside k.

    >>> bn = BatchNorm([1.0], [0.0], [0.5], [1.0], 1e-5)
    >>> bn.channels, bn.gamma.dtype
    (1, dtype('float32'))
    >>> BatchNorm([1.0], [0.0], [0.0], [-1.0], 1e-5)
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: batch norm, variance: found -1.0 + epsilon 9.999999747378752e-06 in channel 0, \
expected a positive sum
    """

    gamma: Float32Array
    beta: Float32Array
    mean: Float32Array
    variance: Float32Array
    epsilon: float
    alpha: Float32Array | None = None
    k: Float32Array | None = None
    c: Float32Array | None = None
    affine: RationalAffine | None = None

    if TYPE_CHECKING:  # dataclasses have no way to say that what goes in is converted

        def __init__(
            self,
            gamma: ArrayLike,
            beta: ArrayLike,
            mean: ArrayLike,
            variance: ArrayLike,
            epsilon: float,
            alpha: ArrayLike | None = None,
            k: ArrayLike | None = None,
            c: ArrayLike | None = None,
            affine: RationalAffine | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        gamma = _float32_vector("gamma", self.gamma, None)
        object.__setattr__(self, "gamma", gamma)
        for field in ("beta", "mean", "variance", "alpha", "k", "c"):
            value = getattr(self, field)
            if value is not None or field in ("beta", "mean", "variance"):
                object.__setattr__(self, field, _float32_vector(field, value, gamma.size))
        given = as_array("batch norm, epsilon", self.epsilon)
        with np.errstate(over="ignore"):
            epsilon = float(np.float32(given)) if given.shape == () and given.dtype.kind in "iuf" else np.nan
        if not np.isfinite(epsilon):
            raise RefdesignError(f"batch norm, epsilon: found {self.epsilon}, expected a finite number")
        object.__setattr__(self, "epsilon", epsilon)
        wrong = np.flatnonzero(self.variance.astype(np.float64) + epsilon <= 0)
        if wrong.size:
            raise RefdesignError(
                f"batch norm, variance: found {self.variance[wrong[0]]} + epsilon {epsilon} "
                f"in channel {wrong[0]}, expected a positive sum"
            )
        if self.c is not None and self.k is None:
            raise RefdesignError("batch norm, c: found c without k, expected both or k alone")
        if self.affine is not None:
            if not isinstance(self.affine, RationalAffine):
                found = type(self.affine).__name__
                raise RefdesignError(f"batch norm, affine: found a {found}, expected a RationalAffine")
            if len(self.affine.offsets) != gamma.size:
                raise RefdesignError(
                    f"batch norm, affine: found {len(self.affine.offsets)} offsets, expected {gamma.size} as in gamma"
                )
            if self.k is not None:
                raise RefdesignError("batch norm, affine: found k beside it, which only float programs take")

    @property
    def channels(self) -> int:
        """The number of channels C."""
        return int(self.gamma.size)


@dataclass(frozen=True, eq=False)
class ThresholdKernel:
    """A periodic threshold (docs/method.md, section 1): T[i mod m, j mod n, slice of channel c].

    Attributes:
        values: float32, shape (m, n, g); (m, n) is taken as g = 1. g = 1 is DeSign 2D, g > 1 DeSign 3D.
        levels: integers of the same shape, the index of each value in its level set; None where unknown.
        level_set: the values of the levels, ascending, where known (float64 precision).

    Raises:
        RefdesignError: wrong number of axes, an empty axis, non-finite values, or levels that do not fit.

    >>> ThresholdKernel([[0.5, 1.0], [1.5, 0.0]]).shape
    (2, 2, 1)
    """

    values: Float32Array
    levels: NDArray[np.int64] | None = None
    level_set: tuple[float, ...] | None = None

    if TYPE_CHECKING:  # as in `BatchNorm`

        def __init__(
            self, values: ArrayLike, levels: ArrayLike | None = None, level_set: Sequence[float] | None = None
        ) -> None: ...

    def __post_init__(self) -> None:
        given = as_array("threshold kernel, values", self.values)
        if given.dtype.kind not in "iuf":
            raise RefdesignError(f"threshold kernel, values: found {given.dtype}, expected numbers")
        with np.errstate(over="ignore"):
            values = given.astype(np.float32)
        if values.ndim == 2:
            values = values[:, :, np.newaxis]
        if values.ndim != 3 or values.size == 0:
            raise RefdesignError(f"threshold kernel, values: found shape {values.shape}, expected (m, n) or (m, n, g)")
        if not np.isfinite(values).all():
            raise RefdesignError("threshold kernel, values: found a non-finite value, expected finite numbers")
        values.flags.writeable = False
        object.__setattr__(self, "values", values)
        if self.level_set is not None:
            object.__setattr__(self, "level_set", _level_set(self.level_set))
        if self.levels is None:
            return
        levels = as_array("threshold kernel, levels", self.levels)
        if levels.ndim == 2:
            levels = levels[:, :, np.newaxis]
        if levels.dtype.kind not in "iu" or levels.shape != values.shape:
            raise RefdesignError(
                f"threshold kernel, levels: found {levels.dtype} of shape {levels.shape}, "
                f"expected integers of shape {values.shape}"
            )
        if levels.min() < 0 or (self.level_set is not None and levels.max() >= len(self.level_set)):
            raise RefdesignError("threshold kernel, levels: an index lies outside the level set")
        levels = levels.astype(np.int64)
        levels.flags.writeable = False
        object.__setattr__(self, "levels", levels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(m, n, g): rows, columns and slices of a period."""
        m, n, g = self.values.shape
        return m, n, g

    @classmethod
    def from_levels(cls, levels: ArrayLike, level_set: Sequence[float]) -> ThresholdKernel:
        """The kernel with these level indices into this level set.

        >>> ThresholdKernel.from_levels([[0, 1]], (0.0, 2.5)).values[0, :, 0]
        array([0. , 2.5], dtype=float32)
        """
        indices, known = as_array("threshold kernel, levels", levels), _level_set(level_set)
        if indices.dtype.kind not in "iu" or indices.size == 0:
            raise RefdesignError(f"threshold kernel, levels: found {indices.dtype}, expected integers")
        if indices.min() < 0 or indices.max() >= len(known):
            raise RefdesignError("threshold kernel, levels: an index lies outside the level set")
        return cls(np.array(known)[indices].astype(np.float32), indices, known)


def _level_set(values: Sequence[float]) -> tuple[float, ...]:
    array = as_array("threshold kernel, level_set", values)
    if array.dtype.kind not in "iuf" or array.ndim != 1:
        raise RefdesignError(
            f"threshold kernel, level_set: found {array.dtype} of shape {array.shape}, expected numbers in a row"
        )
    return tuple(float(level) for level in array)


def check_parameters(where: str, batch_norm: object, kernel: object) -> None:
    """Refuse what is no `BatchNorm`, and what is neither a `ThresholdKernel` nor None, such as bare lists.

    >>> check_parameters("fold", BatchNorm([1.0], [0.0], [0.0], [1.0], 0.0), [[1.0, 2.0]])
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: fold, kernel: found a list, expected a ThresholdKernel, as \
ThresholdKernel([[1.0, 2.0]]), or None
    """
    if not isinstance(batch_norm, BatchNorm):
        raise RefdesignError(f"{where}, batch_norm: found a {type(batch_norm).__name__}, expected a BatchNorm")
    check_kernel(where, kernel)


def check_kernel(where: str, kernel: object) -> None:
    """Refuse what is neither a `ThresholdKernel` nor None.

    >>> check_kernel("dithered_sign", None)
    """
    if kernel is not None and not isinstance(kernel, ThresholdKernel):
        raise RefdesignError(
            f"{where}, kernel: found a {type(kernel).__name__}, expected a ThresholdKernel, as "
            "ThresholdKernel([[1.0, 2.0]]), or None"
        )


NO_DITHER = ThresholdKernel(np.zeros((1, 1, 1), dtype=np.float32))
"""T = 0: the plain sign."""
