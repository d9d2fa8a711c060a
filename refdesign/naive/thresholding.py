"""From an accumulator to its sign, a number at a time: batch norm, dither, sign (docs/method.md, sections 1 and 3)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import copysign, isfinite, isnan

from refdesign.conventions import Conventions
from refdesign.errors import RefdesignError
from refdesign.naive import float32
from refdesign.network import Stage
from refdesign.parameters import BatchNorm

KERAS_BOUNDARY = Fraction(1, 2**24)
"""The activation of the released Keras code fires exactly above this value."""

LARGEST_EXACT = 2**24
"""float32 holds every integer up to here."""

Number = int | float
"""An accumulator (int), or the real sum of an unfolded layer (float that holds a float32)."""


@dataclass(frozen=True)
class ChannelConstants:
    """One channel's batch norm.

    Attributes:
        gamma, beta, mean, alpha: the parameters, as float32 (a zero has its sign); alpha is 1 where the batch norm
            has none.
        scales: whether the batch norm has an alpha.
        factor, offset: the exact map factor*a + offset that stands before all this.
        square: variance + epsilon, exact.
        deviation: fl(sqrt(fl(variance + epsilon))), as float32.
        k, c: the scale and shift of the float programs, as float32 (0 where the program has none).
    """

    gamma: float
    beta: float
    mean: float
    alpha: float
    scales: bool
    factor: Fraction
    offset: Fraction
    square: Fraction
    deviation: float
    k: float
    c: float

    def numerator(self, a: Number) -> Fraction:
        """The exact gamma*(alpha*a - mean)."""
        moved = self.factor * Fraction(a) + self.offset
        return Fraction(self.gamma) * (Fraction(self.alpha) * moved - Fraction(self.mean))


def channel_constants(batch_norm: BatchNorm, channel: int, arithmetic: str, where: str) -> ChannelConstants:
    """The exact constants of one channel, with k and c of the named float program (docs/method.md, section 3, table).

    Args:
        batch_norm: the parameters of all channels.
        channel: which one.
        arithmetic: one of `conventions.ARITHMETICS`.
        where: the layer's name for error messages.

    Raises:
        RefdesignError: keras arithmetic without k, k or c beyond float32, or an exact map under a float program.

    >>> bn = BatchNorm([3.0], [1.0], [2.0], [3.0], 1.0)
    >>> constants = channel_constants(bn, 0, "torch", "conv1")
    >>> constants.square, constants.k, constants.c
    (Fraction(4, 1), 1.5, -2.0)
    """
    gamma, beta = float(batch_norm.gamma[channel]), float(batch_norm.beta[channel])
    mean, variance = float(batch_norm.mean[channel]), float(batch_norm.variance[channel])
    alpha = 1.0 if batch_norm.alpha is None else float(batch_norm.alpha[channel])
    deviation = float32.square_root(float32.add(variance, batch_norm.epsilon))
    k = c = 0.0
    if arithmetic in ("torch", "onnxruntime", "keras"):
        if batch_norm.k is not None:
            k = float(batch_norm.k[channel])
        elif arithmetic == "keras":
            raise RefdesignError(
                f"layer {where!r}, batch_norm, k: found none, expected the scale that TensorFlow computed "
                "(its reciprocal square root is not correctly rounded, so k cannot be recomputed)"
            )
        else:
            k = float32.multiply(gamma, float32.divide(1.0, deviation))
        if batch_norm.c is not None:
            c = float(batch_norm.c[channel])
        elif arithmetic == "torch":
            c = float32.fused_multiply_add(-mean, k, beta)
        else:
            c = float32.subtract(beta, float32.multiply(mean, k))
        for name, value in (("k", k), ("c", c)):
            if not isfinite(value):
                raise RefdesignError(
                    f"layer {where!r}, batch_norm, {name}: found {value} in channel {channel}, "
                    "expected a scale and shift that float32 holds"
                )
    factor, offset = Fraction(1), Fraction(0)
    if batch_norm.affine is not None:
        if arithmetic != "real":
            raise RefdesignError(
                f"layer {where!r}, batch_norm, affine: found an exact map of the accumulators under {arithmetic!r}, "
                "expected arithmetic 'real'"
            )
        factor = Fraction(batch_norm.affine.numerator, batch_norm.affine.denominator)
        offset = Fraction(batch_norm.affine.offsets[channel], batch_norm.affine.denominator)
    return ChannelConstants(
        gamma=gamma,
        beta=beta,
        mean=mean,
        alpha=alpha,
        scales=batch_norm.alpha is not None,
        factor=factor,
        offset=offset,
        square=Fraction(variance) + Fraction(batch_norm.epsilon),
        deviation=deviation,
        k=k,
        c=c,
    )


IDENTITY = ChannelConstants(
    gamma=1.0,
    beta=0.0,
    mean=0.0,
    alpha=1.0,
    scales=False,
    factor=Fraction(1),
    offset=Fraction(0),
    square=Fraction(1),
    deviation=1.0,
    k=1.0,
    c=0.0,
)
"""A layer without batch norm: y is the accumulator."""


def phases(extent: int, period: int, kernel_origin: str) -> list[int]:
    """The kernel's row (or column) that is used at each row (or column) of a map.

    Args:
        extent: rows (or columns) of the map.
        period: rows (or columns) of the kernel.
        kernel_origin: `"top_left"`, or `"center_crop"`: as the released Keras code does, whole periods are laid
            out until they cover the map, and the centre of that is cropped.

    >>> phases(4, 3, "top_left"), phases(4, 3, "center_crop")
    ([0, 1, 2, 0], [1, 2, 0, 1])
    """
    tiled: list[int] = []
    while len(tiled) < extent:
        tiled += range(period)
    start = 0 if kernel_origin == "top_left" else (len(tiled) - extent) // 2
    return tiled[start : start + extent]


def kernel_slice(channel: int, channels: int, slices: int, channel_map: str) -> int:
    """Which of the kernel's slices a channel uses.

    >>> [kernel_slice(c, 6, 2, "tile") for c in range(6)], [kernel_slice(c, 6, 2, "repeat") for c in range(6)]
    ([0, 1, 0, 1, 0, 1], [0, 0, 0, 1, 1, 1])
    """
    return channel % slices if channel_map == "tile" else channel // (channels // slices)


def exact_terms(
    a: Number, constants: ChannelConstants, threshold: float, conventions: Conventions
) -> tuple[Fraction, Fraction]:
    """(p, q) such that the exact z is p/sqrt(variance + epsilon) + q.

    >>> exact_terms(3, IDENTITY, 0.5, Conventions())
    (Fraction(3, 1), Fraction(-1, 2))
    """
    scale = Fraction(constants.gamma) if conventions.threshold_scale == "gamma" else Fraction(1)
    return constants.numerator(a), Fraction(constants.beta) - scale * Fraction(threshold)


def nearest(p: Fraction, square: Fraction, q: Fraction) -> float:
    """The exact p/sqrt(square) + q of `"real"` arithmetic as float32; what rounds to zero is a zero without a sign.

    >>> nearest(Fraction(-1, 2**200), Fraction(1), Fraction(0))
    0.0
    """
    return float32.round_quotient_by_root(p, square, q) + 0.0  # -0.0 + 0.0 is 0.0


def normalise(a: Number, constants: ChannelConstants, arithmetic: str) -> float:
    """y, the batch norm of an accumulator, as float32: by the float program, or the exact value rounded once.

    Args:
        a: an accumulator, or a real sum that float32 holds.
        constants: the channel's.
        arithmetic: one of `conventions.ARITHMETICS`.

    >>> constants = channel_constants(BatchNorm([3.0], [0.0], [0.0], [7.0], 0.0), 0, "onnxruntime", "conv1")
    >>> normalise(1, constants, "onnxruntime") - normalise(1, constants, "real") == 2.0**-23
    True
    """
    one = constants
    if arithmetic == "real":
        return nearest(one.numerator(a), one.square, Fraction(one.beta))
    v = float32.multiply(one.alpha, float(a)) if one.scales else float(a)
    if arithmetic == "torch":
        return float32.fused_multiply_add(v, one.k, one.c)
    if arithmetic in ("onnxruntime", "keras"):
        return float32.add(float32.multiply(v, one.k), one.c)
    centred = float32.divide(float32.subtract(v, one.mean), one.deviation)
    return float32.add(float32.multiply(one.gamma, centred), one.beta)


def dither(a: Number, constants: ChannelConstants, threshold: float, conventions: Conventions) -> float:
    """z = y - s*T as float32: by the float program, or the exact value rounded once.

    >>> dither(3, IDENTITY, 0.5, Conventions()), dither(3, IDENTITY, 0.5, Conventions(arithmetic="torch"))
    (2.5, 2.5)
    """
    if conventions.arithmetic == "real":
        p, q = exact_terms(a, constants, threshold, conventions)
        return nearest(p, constants.square, q)
    y = normalise(a, constants, conventions.arithmetic)
    by_gamma = conventions.threshold_scale == "gamma"
    return float32.subtract(y, float32.multiply(constants.gamma, threshold) if by_gamma else threshold)


def sign_of_float(z: float, conventions: Conventions) -> int:
    """The sign of a float32 by the named rule: +1, -1, or 0 for a tie under `sign_at_zero=0`.

    `"keras_round"` is computed as the released activation is written: 2*round(clip((z + 1)/2, 0, 1)) - 1, every
    step in float32, halves to even.

    >>> [sign_of_float(z, Conventions(sign_at_zero=0)) for z in (-1.5, 0.0, 2.0**-149)]
    [-1, 0, 1]
    >>> keras = Conventions(sign_at_zero=-1, sign_rule="keras_round")
    >>> [sign_of_float(z, keras) for z in (0.0, 2.0**-24, 2.0**-24 + 2.0**-47)]
    [-1, -1, 1]
    """
    if conventions.sign_rule == "keras_round":
        half = float32.divide(float32.add(z, 1.0), 2.0)
        return 2 * round(min(max(half, 0.0), 1.0)) - 1
    if z == 0:
        return conventions.sign_at_zero
    return 1 if z > 0 else -1


def sign_exactly(a: Number, constants: ChannelConstants, threshold: float, conventions: Conventions) -> int:
    """The sign of the exact z (`"real"` arithmetic), decided without rounding anything.

    >>> sign_exactly(0, IDENTITY, 0.0, Conventions(sign_at_zero=0))
    0
    """
    p, q = exact_terms(a, constants, threshold, conventions)
    if conventions.sign_rule == "keras_round":
        return 1 if float32.sign_of_root_sum(p, constants.square, q - KERAS_BOUNDARY) > 0 else -1
    return float32.sign_of_root_sum(p, constants.square, q) or conventions.sign_at_zero


class Thresholder:
    """The stages behind one layer's accumulators, with what each (channel, threshold, accumulator) gave before.

    Accumulators are integers of a small range, so most of a map's pixels ask what another one has asked.

    Args:
        layer: whose batch norm and kernel are meant.
        shape: (H, W, C) of the pooled map; a dense layer's is (1, 1, C).
        conventions: the choices.

    Raises:
        RefdesignError: keras arithmetic without k, or k or c beyond float32.
    """

    def __init__(self, layer: Stage, shape: tuple[int, int, int], conventions: Conventions) -> None:
        self._name = layer.name
        self._conventions = conventions
        height, width, channels = shape
        m, n, g = (1, 1, 1) if layer.kernel is None else layer.kernel.shape
        self._rows = phases(height, m, conventions.kernel_origin)
        self._columns = phases(width, n, conventions.kernel_origin)
        self._slices = [kernel_slice(c, channels, g, conventions.channel_map) for c in range(channels)]
        self._kernel = [[[0.0]]] if layer.kernel is None else layer.kernel.values.tolist()
        batch_norm = layer.batch_norm
        self._constants = [
            IDENTITY if batch_norm is None else channel_constants(batch_norm, c, conventions.arithmetic, layer.name)
            for c in range(channels)
        ]
        self._signs: dict[tuple[int, float, int], int] = {}
        self._reals: dict[tuple[int, float, float, Number], float] = {}

    def constants(self, index: tuple[int, int, int]) -> ChannelConstants:
        """The batch norm at (row, column, channel)."""
        return self._constants[index[2]]

    def phase(self, index: tuple[int, int, int]) -> tuple[int, int, int]:
        """The kernel's (row, column, slice) that is used at (row, column, channel)."""
        row, column, channel = index
        return self._rows[row], self._columns[column], self._slices[channel]

    def threshold(self, index: tuple[int, int, int]) -> float:
        """T at (row, column, channel), as float32."""
        i, j, q = self.phase(index)
        return self._kernel[i][j][q]

    def sign(self, index: tuple[int, int, int], a: int) -> int:
        """The bit (+1, -1 or 0) of the pooled accumulator `a` at (row, column, channel), in a layer that folds.

        Errors as `real`.
        """
        channel, threshold = index[2], self.threshold(index)
        key = (channel, threshold, a)
        if key not in self._signs:
            if self._conventions.arithmetic == "real":
                self._signs[key] = sign_exactly(a, self._constants[channel], threshold, self._conventions)
            else:
                self._signs[key] = sign_of_float(self.real(index, a), self._conventions)
        return self._signs[key]

    def real(self, index: tuple[int, int, int], a: Number) -> float:
        """z as float32.

        Raises:
            RefdesignError: a float program that cannot hold `a`, or whose z is not a number.
        """
        channel, threshold = index[2], self.threshold(index)
        key = (channel, threshold, copysign(1.0, threshold), a)  # a threshold of -0.0 equals one of 0.0
        if key in self._reals:
            return self._reals[key]
        self._check(a)
        z = self._number(dither(a, self._constants[channel], threshold, self._conventions), channel)
        if isinstance(a, int):
            self._reals[key] = z
        return z

    def logit(self, channel: int, a: Number) -> float:
        """y as float32, for the last layer: no dither, no sign. Errors as `real`."""
        self._check(a)
        return self._number(normalise(a, self._constants[channel], self._conventions.arithmetic), channel)

    def _check(self, a: Number) -> None:
        if self._conventions.arithmetic != "real" and isinstance(a, int) and abs(a) > LARGEST_EXACT:
            raise RefdesignError(
                f"layer {self._name!r}: found the accumulator {a}, expected at most {LARGEST_EXACT} in magnitude "
                f"(exact float32) under {self._conventions.arithmetic!r} arithmetic"
            )

    def _number(self, value: float, channel: int) -> float:
        if isnan(value):
            raise RefdesignError(
                f"layer {self._name!r}, batch_norm: found a result that is not a number in channel {channel}, "
                "expected parameters that stay within float32"
            )
        return value
