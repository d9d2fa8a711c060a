"""The fold: batch norm and dither as one integer threshold and one direction per phase and channel.

What stands behind an accumulator is monotone in it, and the accumulator is an integer in a known range. So the bit is
a >= t or a <= t, for every phase of the threshold kernel and every channel (docs/method.md, sections 1 and 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import PackedBits, pack_bool, tail_mask, words_for
from refdesign.boundary import IntegerThresholds, boundaries
from refdesign.certificate import Certificate
from refdesign.conventions import Conventions, check_conventions
from refdesign.domain import AttainableDomain, DomainLike, Int64Array
from refdesign.errors import RefdesignError
from refdesign.ops.dither import first_phase, phases
from refdesign.ops.padding import as_pair
from refdesign.ops.pool import pool_bits
from refdesign.parameters import NO_DITHER, BatchNorm, ThresholdKernel, check_parameters

_BLOCK = 1 << 18  # accumulators compared at once, so that the comparison's booleans are packed from cache
_NEVER = np.iinfo(np.int32).min  # every int32 is at or above it


def fold(
    batch_norm: BatchNorm,
    kernel: ThresholdKernel | None,
    *,
    fan_in: int,
    conventions: Conventions,
    domain: DomainLike | None = None,
) -> Thresholds:
    """Fold batch norm and dither into integer thresholds (docs/method.md, section 4).

    The fold asks the named arithmetic over the whole domain of attainable accumulators, so under a float program it
    is that program, bit for bit, and under `"real"` it is exact.

    Args:
        batch_norm: C channels.
        kernel: the threshold kernel (m, n, g), g a divisor of C; None is plain Sign (T = 0).
        fan_in: products summed in one accumulator.
        conventions: all choices of arithmetic, sign and dither count.
        domain: the attainable accumulators (low, high, step), integers or int64 per channel; None is every integer
            in [-fan_in, fan_in].

    Returns:
        Thresholds of shape (m, n, C).

    Raises:
        RefdesignError: g does not divide the channels; accumulators beyond int32, or beyond 2**24 in a float
            program; arithmetic `"keras"` without the batch norm's k; parameters whose k, c or z overflow; arguments of
            other types (a kernel is a `ThresholdKernel`, conventions are `Conventions`).

    >>> from refdesign.conventions import PAPER
    >>> bn = BatchNorm([1.0, -1.0], [0.0, 0.0], [0.5, 0.5], [1.0, 1.0], 0.0)
    >>> thresholds = fold(bn, None, fan_in=9, conventions=PAPER)
    >>> thresholds.threshold.ravel(), thresholds.direction.ravel()
    (array([1, 0], dtype=int32), array([ 1, -1], dtype=int8))
    """
    check_parameters("fold", batch_norm, kernel)
    check_conventions("fold", conventions)
    kernel = NO_DITHER if kernel is None else kernel
    attainable = AttainableDomain.of(domain, fan_in=fan_in, channels=batch_norm.channels)
    found = boundaries(batch_norm, kernel, conventions, attainable)
    certificate = Certificate(batch_norm, kernel, conventions, attainable, found)
    return Thresholds(*found.integers(conventions, attainable), conventions, certificate)


@dataclass(frozen=True, eq=False, repr=False)
class Thresholds:
    """Integer thresholds of one layer; arrays of shape (m, n, C): the kernel's phases and the channels.

    Attributes:
        threshold: int32, the attainable accumulator nearest the boundary on the firing side; 0 where constant.
        direction: int8, +1: fires (+1) at a >= threshold; -1: fires at a <= threshold; 0: constant.
        constant: int8, the bit of a channel whose direction is 0, in {-1, 0, +1}; 0 elsewhere.
        zero_low, zero_high: int32, the attainable accumulators that give 0 (exact ties under `sign_at_zero=0`);
            empty, as 1 to 0, where there are none. They count before direction and constant.
        conventions: the choices under which the thresholds hold.
        certificate: why these are the thresholds, per phase and channel.
    """

    threshold: NDArray[np.int32]
    direction: NDArray[np.int8]
    constant: NDArray[np.int8]
    zero_low: NDArray[np.int32]
    zero_high: NDArray[np.int32]
    conventions: Conventions
    certificate: Certificate

    def __repr__(self) -> str:
        """In one line: the shape, how many of each direction, and for what they hold.

        >>> from refdesign.conventions import PAPER
        >>> fold(BatchNorm([1.0, 0.0], [0.0, 0.0], [0.5, 0.5], [1.0, 1.0], 0.0), None, fan_in=3, conventions=PAPER)
        <Thresholds (1, 1, 2): 1 a >= t, 0 a <= t, 1 constant; arithmetic real, a in -3..3 by 1>
        """
        counts = [int((self.direction == direction).sum()) for direction in (1, -1, 0)]
        return (
            f"<Thresholds {self.shape}: {counts[0]} a >= t, {counts[1]} a <= t, {counts[2]} constant; "
            f"arithmetic {self.conventions.arithmetic}, a in {self.certificate.domain.text()}>"
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(m, n, C)."""
        m, n, channels = self.threshold.shape
        return m, n, channels

    @property
    def ternary(self) -> NDArray[np.bool_]:
        """Which phases and channels can tie (give 0) at an attainable accumulator; shape (m, n, C)."""
        return self.zero_low <= self.zero_high

    def apply(self, accumulators: NDArray[np.int32], *, checked: bool = True) -> PackedBits:
        """The bits of accumulators, after a pool where there is one.

        Args:
            accumulators: int32, shape (N, H, W, C), or (N, C), which counts as a map of one pixel.
            checked: whether accumulators that the fold did not look at are refused. False compares them with the
                same thresholds, as a circuit would; the bits are then not those of batch norm and dither.

        Returns:
            Packed bits of the same shape; `nonzero` marks exact ties, and is None where there is none.

        Raises:
            RefdesignError: not int32, or of another shape; an accumulator outside the domain of the fold (its
                channel's range and step), which is what a fan-in that is too small looks like.

        >>> from refdesign.bits import unpack
        >>> from refdesign.conventions import PAPER
        >>> bn = BatchNorm([1.0], [0.0], [0.0], [1.0], 0.0)
        >>> thresholds = fold(bn, ThresholdKernel([[0.0, 2.0]]), fan_in=9, conventions=PAPER)
        >>> unpack(thresholds.apply(np.array([[[[1], [1], [1]]]], dtype=np.int32))).ravel()
        array([ 1, -1,  1], dtype=int8)
        """
        self._check(accumulators, checked)
        if accumulators.ndim == 4:
            return self._compare(accumulators, (1, 1))
        bits = self._compare(accumulators[:, np.newaxis, np.newaxis], (1, 1))
        nonzero = None if bits.nonzero is None else bits.nonzero[:, 0, 0]
        return PackedBits(bits.words[:, 0, 0], bits.length, nonzero)

    def apply_before_pool(
        self, accumulators: NDArray[np.int32], size: int | tuple[int, int], *, checked: bool = True
    ) -> PackedBits:
        """The bits of hardware that thresholds before a max pool: the same as `apply` behind the pool.

        Each accumulator is compared under the phase of its window, (row // rows, column // columns), and the bits
        are pooled by OR where the direction is +1, by AND where it is -1 (docs/method.md, section 1).

        Args:
            accumulators: int32, shape (N, H, W, C), before the pool.
            size: the window's rows and columns, and the distance between windows; what does not fill a window is
                cut off.
            checked: as in `apply`.

        Returns:
            Packed bits, shape (N, H // rows, W // columns, C).

        Raises:
            RefdesignError: not int32, of another shape, outside the fold's domain, or a window larger than the map.

        >>> from refdesign.conventions import PAPER
        >>> bn = BatchNorm([1.0], [0.0], [0.0], [1.0], 0.0)
        >>> thresholds = fold(bn, None, fan_in=9, conventions=PAPER)
        >>> a = np.array([[[[-1], [3]], [[-5], [-7]]]], dtype=np.int32)
        >>> thresholds.apply_before_pool(a, 2).words.ravel()
        array([1], dtype=uint64)
        """
        self._check(accumulators, checked)
        rows, columns = as_pair("thresholds, size", size, 1)
        shape = accumulators.shape
        if accumulators.ndim != 4 or shape[1] < rows or shape[2] < columns:
            raise RefdesignError(
                f"thresholds, size: found a window of {(rows, columns)} for accumulators of shape {shape}, "
                "expected one that fits into a map (N, H, W, C)"
            )
        height, width = shape[1] // rows, shape[2] // columns
        bits = self._compare(accumulators[:, : height * rows, : width * columns], (rows, columns))
        m, n, _ = self.shape
        origin = self.conventions.kernel_origin
        slope = self.certificate.boundaries.slope
        over_map = slope[phases(height, m, origin)[:, np.newaxis], phases(width, n, origin)]
        return pool_bits(bits, over_map, (rows, columns))

    def to_dict(self) -> dict[str, object]:
        """The thresholds as plain data for JSON: nested lists [phase row][phase column][channel].

        >>> from refdesign.conventions import PAPER
        >>> fold(BatchNorm([1.0], [0.0], [0.5], [1.0], 0.0), None, fan_in=3, conventions=PAPER).to_dict()["threshold"]
        [[[1]]]
        """
        arrays = ("threshold", "direction", "constant", "zero_low", "zero_high")
        return {
            "shape": list(self.shape),
            "conventions": self.conventions.to_dict(),
            "domain": self.certificate.domain.to_dict(),
            **{name: getattr(self, name).tolist() for name in arrays},
        }

    def table(self) -> list[dict[str, int | str]]:
        """One row for each phase and channel: what it is and when it fires, in words.

        >>> from refdesign.conventions import PAPER
        >>> fold(BatchNorm([1.0], [0.0], [0.5], [1.0], 0.0), None, fan_in=3, conventions=PAPER).table()
        [{'row': 0, 'column': 0, 'channel': 0, 'threshold': 1, 'direction': 1, 'rule': 'a >= 1'}]
        """
        return [
            {
                "row": row,
                "column": column,
                "channel": channel,
                "threshold": int(self.threshold[row, column, channel]),
                "direction": int(self.direction[row, column, channel]),
                "rule": self.rule(row, column, channel),
            }
            for row, column, channel in np.ndindex(self.shape)
        ]

    def rule(self, row: int, column: int, channel: int) -> str:
        """When a channel fires under a phase, in words.

        Raises:
            RefdesignError: there is no such phase or channel.

        >>> from refdesign.conventions import PAPER
        >>> fold(BatchNorm([0.0], [-1.0], [0.5], [1.0], 0.0), None, fan_in=3, conventions=PAPER).rule(0, 0, 0)
        'always -1'
        """
        where = self.certificate.place(row, column, channel)
        integers = IntegerThresholds(self.threshold, self.direction, self.constant, self.zero_low, self.zero_high)
        return integers.rule(where)

    def _check(self, accumulators: NDArray[np.int32], checked: bool) -> None:
        if not isinstance(accumulators, np.ndarray) or accumulators.dtype != np.int32:
            found = getattr(accumulators, "dtype", type(accumulators).__name__)
            raise RefdesignError(f"thresholds: found {found}, expected int32 accumulators")
        if accumulators.ndim not in (2, 4) or accumulators.shape[-1] != self.shape[2]:
            raise RefdesignError(
                f"thresholds: found accumulators of shape {accumulators.shape}, "
                f"expected (N, H, W, C) or (N, C) with C = {self.shape[2]}"
            )
        if checked and accumulators.size:
            self._check_domain(accumulators)

    def _check_domain(self, accumulators: NDArray[np.int32]) -> None:
        """Refuse accumulators whose z the fold never asked for: their bits would be guesses."""
        domain = self.certificate.domain
        # Whole arrays first, in the cheapest passes: under 1 % of the time of a layer's convolution.
        if accumulators.min() < domain.low.max() or accumulators.max() > domain.high.min():
            pixels = tuple(range(accumulators.ndim - 1))
            lowest, highest = accumulators.min(axis=pixels), accumulators.max(axis=pixels)
            wrong = np.flatnonzero((lowest < domain.low) | (highest > domain.high))
            if wrong.size:
                channel = int(wrong[0])
                found = lowest[channel] if lowest[channel] < domain.low[channel] else highest[channel]
                raise RefdesignError(
                    f"thresholds, channel {channel}: found the accumulator {found}, expected one in "
                    f"the fold's domain, {domain.low[channel]} to {domain.high[channel]} (is the fan-in right?)"
                )
        if domain.step > 1 and np.any(_off_step(accumulators, domain.low, domain.step)):
            index = tuple(int(i) for i in np.argwhere(_off_step(accumulators, domain.low, domain.step))[0])
            channel = index[-1]
            raise RefdesignError(
                f"thresholds, channel {channel}: found the accumulator {accumulators[index]}, expected one in "
                f"the fold's domain, {domain.low[channel]} to {domain.high[channel]} in steps of {domain.step}"
            )

    @cached_property
    def _comparison(self) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """The bit as (a >= limit) xor flip: one comparison for both directions and for constants."""
        upwards, downwards = self.direction > 0, self.direction < 0
        limit = np.where(upwards, self.threshold, np.where(downwards, self.threshold + 1, _NEVER)).astype(np.int32)
        return limit, downwards | ((self.direction == 0) & (self.constant <= 0))

    def _compare(self, array: NDArray[np.int32], size: tuple[int, int]) -> PackedBits:
        """Bits of (N, H, W, C); the `size` = (rows, columns) pixels of a window share their window's phase."""
        samples, height, width, channels = array.shape
        rows, columns = size
        m, n, _ = self.shape
        origin = self.conventions.kernel_origin
        column_phases = np.repeat(phases(width // columns, n, origin), columns)
        limit, flip = self._comparison
        limit = limit[:, column_phases]
        flip_words = pack_bool(flip[:, column_phases]).words if flip.any() else None
        ties = bool(self.ternary.any())
        zero_low, zero_high = (
            values[:, column_phases] if ties else values for values in (self.zero_low, self.zero_high)
        )

        windows = array.reshape(samples, height // rows, rows, width, channels)
        words = np.zeros((*windows.shape[:-1], words_for(channels)), dtype=np.uint64)
        nonzero = np.zeros_like(words) if ties else None
        # Rows of windows with the same phase are every m-th; a few images at a time keep the booleans in cache.
        first = first_phase(height // rows, m, origin)
        block = max(1, _BLOCK // max(1, height * width * channels))
        buffer = np.empty((min(block, samples), *windows.shape[1:]), dtype=np.bool_)
        for start in range(0, samples, block):
            part = windows[start : start + block]
            bits = buffer[: len(part)]
            for phase in range(m):
                lines = (slice(None), slice((phase - first) % m, None, m))
                np.greater_equal(part[lines], limit[phase], out=bits[lines])
            words[start : start + block] = pack_bool(bits).words
            if nonzero is not None:
                for phase in range(m):
                    lines = (slice(None), slice((phase - first) % m, None, m))
                    a = part[lines]
                    np.logical_or(a < zero_low[phase], a > zero_high[phase], out=bits[lines])
                nonzero[start : start + block] = pack_bool(bits).words
        if flip_words is not None:
            for phase in range(m):
                words[:, (phase - first) % m :: m] ^= flip_words[phase]
        if nonzero is not None:
            words &= nonzero
            if np.array_equal(nonzero, np.broadcast_to(tail_mask(channels), nonzero.shape)):
                nonzero = None
        shape = (samples, height, width, words_for(channels))
        return PackedBits(words.reshape(shape), channels, None if nonzero is None else nonzero.reshape(shape))


def _off_step(accumulators: NDArray[np.int32], low: Int64Array, step: int) -> NDArray[Any]:
    """Not 0 where an accumulator is no whole number of steps above its channel's lowest."""
    if step == 2:
        return (accumulators ^ low.astype(np.int32)) & np.int32(1)
    return (accumulators - low) % step
