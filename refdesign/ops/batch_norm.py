"""Batch norm and dither in a named arithmetic: exact (`"real"`) or a framework's float program, bit for bit.

The float programs are those of docs/method.md, section 3. All start from v = fl(alpha*a) and end in
z = fl(y - fl(s*T)), with fl rounding to float32.
"""

from __future__ import annotations

import numpy as np

from refdesign.conventions import ARITHMETICS, Conventions, check_conventions
from refdesign.errors import RefdesignError
from refdesign.ops.dither import thresholds_over
from refdesign.ops.exact import Values, check_values, exact_dithered_batch_norm
from refdesign.parameters import NO_DITHER, BatchNorm, Float32Array, ThresholdKernel, check_parameters

FLOAT32_INTEGERS = 2**24
"""Up to here float32 holds every integer."""

_BLOCK = 1 << 18  # elements that a fused multiply-add handles at once, so that its float64 scratch stays in cache


def fused_multiply_add(x: Float32Array, k: Float32Array, c: Float32Array) -> Float32Array:
    """fl(x*k + c) in float32 with one rounding, which NumPy lacks.

    The product of two float32 is exact in float64; the sum is taken there with *round to odd* (TwoSum gives the
    sum's error, and a sum that is not exact gets an odd last bit). Rounding that to float32 is then as good as
    rounding once (Boldo and Melquiond 2008). Plain float64 arithmetic rounds twice, which is wrong in rare cases.

    Args:
        x, k, c: float32, broadcast against each other.

    Returns:
        float32, the broadcast shape; infinite where the result overflows or an operand is infinite.

    >>> x, k, c = np.float32([3.0]), np.float32([1 + 2**-23]), np.float32([-(2.0**-80)])
    >>> fused_multiply_add(x, k, c), (x.astype(np.float64) * k + c).astype(np.float32)  # 3 + 3*2**-23 - 2**-80
    (array([3.0000002], dtype=float32), array([3.0000005], dtype=float32))
    """
    # An infinite operand (a scaled accumulator that overflowed) leaves an error that is not a number: no correction.
    with np.errstate(invalid="ignore"):
        exact = x.astype(np.float64) * k.astype(np.float64)
        addend = np.broadcast_to(c.astype(np.float64), np.broadcast_shapes(exact.shape, c.shape))
        total = exact + addend
        back = total - exact
        error = (exact - (total - back)) + (addend - back)
    bits = np.atleast_1d(total).view(np.int64).reshape(total.shape)
    to_odd = ((error > 0) | (error < 0)) & ((bits & 1) == 0)
    # One unit in the last place towards the error: away from zero where the error has the sum's sign.
    unit = np.where((error > 0) == (total > 0), np.int64(1), np.int64(-1))
    odd = np.where(to_odd, bits + unit, bits).view(np.float64)
    with np.errstate(over="ignore"):
        return np.asarray(odd.astype(np.float32))


def scale_and_shift(bn: BatchNorm, arithmetic: str) -> tuple[Float32Array, Float32Array]:
    """The k and c of y = k*v + c, as a float program computes them (or as `bn` carries them).

    Args:
        bn: the batch norm, C channels. Its `k` and `c` are used where given.
        arithmetic: `"torch"`, `"onnxruntime"` or `"keras"`.

    Returns:
        k and c, float32, shape (C,).

    Raises:
        RefdesignError: another arithmetic; `"keras"` without `bn.k` (TensorFlow's reciprocal square root is not
            correctly rounded and cannot be recomputed); or a k or c that overflows.

    >>> bn = BatchNorm([2.0], [1.0], [3.0], [4.0], 0.0)
    >>> [float(value[0]) for value in scale_and_shift(bn, "torch")]
    [1.0, -2.0]
    """
    if arithmetic not in ("torch", "onnxruntime", "keras"):
        raise RefdesignError(
            f"batch norm, arithmetic: found {arithmetic!r}, expected a program with a scale and a shift: "
            "torch, onnxruntime or keras"
        )
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if bn.k is not None:
            k = bn.k
        elif arithmetic == "keras":
            raise RefdesignError(
                "batch norm, k: found none, expected the scale that Keras computed: arithmetic 'keras' rests on "
                "TensorFlow's reciprocal square root, which cannot be recomputed from the parameters"
            )
        else:
            k = bn.gamma * (np.float32(1) / _standard_deviation(bn))
        if bn.c is not None:
            c = bn.c
        elif arithmetic == "torch":
            c = fused_multiply_add(-bn.mean, k, bn.beta)
        else:
            c = bn.beta - bn.mean * k
    for name, value in (("k", k), ("c", c)):
        wrong = np.flatnonzero(~np.isfinite(value))
        if wrong.size:
            raise RefdesignError(
                f"batch norm, {name}: found {value[wrong[0]]} in channel {wrong[0]} under arithmetic "
                f"{arithmetic!r}, expected a finite float32"
            )
    return k, c


def batch_norm(v: Values, bn: BatchNorm, arithmetic: str) -> Float32Array:
    """y = gamma*(alpha*v - mean)/sqrt(variance + epsilon) + beta in the named arithmetic (docs/method.md, section 3).

    Args:
        v: int32 accumulators or float32 reals, shape (..., C), channels last. `bn.alpha` is applied to them here.
        bn: the batch norm, C channels.
        arithmetic: one of `refdesign.conventions.ARITHMETICS`. Under `"real"` y is the correctly rounded exact
            value; the others are float programs, bit for bit.

    Returns:
        float32, shape of `v`.

    Raises:
        RefdesignError: wrong dtype or number of channels, an unknown arithmetic, accumulators beyond 2**24 in a
            float program, or what `scale_and_shift` refuses.

    >>> bn = BatchNorm([1.0], [0.5], [3.0], [4.0], 0.0)
    >>> batch_norm(np.array([[7]], dtype=np.int32), bn, "torch")
    array([[2.5]], dtype=float32)
    """
    check_batch_norm_input(v, bn, arithmetic)
    if arithmetic == "real":
        return exact_dithered_batch_norm(v, bn, np.zeros(bn.channels, np.float32), "unit")
    return _float_program(v, bn, arithmetic)


def dithered_batch_norm(
    a: Values, bn: BatchNorm, kernel: ThresholdKernel | None, conventions: Conventions
) -> Float32Array:
    """z = y - s*T, batch norm and dither in the conventions' arithmetic (docs/method.md, sections 1 and 3).

    Args:
        a: int32 accumulators or float32 reals, shape (N, H, W, C), or (N, C), which counts as a map of one pixel.
        bn: the batch norm, C channels.
        kernel: the threshold kernel (m, n, g), g a divisor of C; None is T = 0.
        conventions: `arithmetic`, `threshold_scale`, `kernel_origin` and `channel_map` count.

    Returns:
        float32, shape of `a`: under `"real"` the exact z, correctly rounded (its sign need not be the exact one's:
        `refdesign.ops.exact.exact_sign` decides bits); otherwise fl(y - fl(s*T)).

    Raises:
        RefdesignError: as `batch_norm` and `threshold_map`.

    >>> from refdesign.conventions import PAPER
    >>> bn = BatchNorm([1.0], [0.5], [3.0], [4.0], 0.0)
    >>> dithered_batch_norm(np.array([[7]], dtype=np.int32), bn, ThresholdKernel([[0.25]]), PAPER)
    array([[2.25]], dtype=float32)
    """
    check_parameters("dithered_batch_norm", bn, kernel)
    check_conventions("dithered_batch_norm", conventions)
    check_batch_norm_input(a, bn, conventions.arithmetic)
    cells = thresholds_over(a.shape, kernel or NO_DITHER, conventions)
    if conventions.arithmetic == "real":
        return exact_dithered_batch_norm(a, bn, cells, conventions.threshold_scale)
    return subtract_threshold(_float_program(a, bn, conventions.arithmetic), cells, bn.gamma, conventions)


def subtract_threshold(
    y: Float32Array, cells: Float32Array, gamma: Float32Array | None, conventions: Conventions
) -> Float32Array:
    """z = fl(y - fl(s*T)), the last step of every float program.

    Args:
        y: float32, shape (..., C).
        cells: thresholds T, float32, broadcast against `y`.
        gamma: float32 (C,); needed where `threshold_scale` is `"gamma"`.
        conventions: `threshold_scale` counts.

    Returns:
        float32, the broadcast shape.

    Raises:
        RefdesignError: s = gamma without a gamma, or for another number of channels.

    >>> from refdesign.conventions import RELEASED_TORCH
    >>> subtract_threshold(np.float32([1.0]), np.float32([0.5]), np.float32([-2.0]), RELEASED_TORCH)
    array([2.], dtype=float32)
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if conventions.threshold_scale == "gamma":
            if gamma is None or gamma.shape != y.shape[-1:]:
                found = "none" if gamma is None else f"shape {gamma.shape}"
                raise RefdesignError(
                    f"dither, gamma: found {found}, expected float32 of shape {y.shape[-1:]}: "
                    "the conventions scale the threshold by it"
                )
            cells = gamma * cells
        return np.asarray(y - cells)


def check_batch_norm_input(a: Values, bn: BatchNorm, arithmetic: str) -> None:
    """Refuse what batch norm cannot take: dtype, channels, arithmetic, integers that float32 does not hold."""
    if arithmetic not in ARITHMETICS:
        raise RefdesignError(f"batch norm, arithmetic: found {arithmetic!r}, expected one of {', '.join(ARITHMETICS)}")
    check_values(a, bn)
    if arithmetic == "real":
        return
    if bn.affine is not None:
        raise RefdesignError(
            f"batch norm, affine: found an exact map of the accumulators (a normalisation of pixels) under arithmetic "
            f"{arithmetic!r}, expected 'real': a float program rounds the pixels themselves"
        )
    if a.dtype != np.int32 or not a.size:
        return
    low, high = int(a.min()), int(a.max())
    if max(-low, high) > FLOAT32_INTEGERS:
        raise RefdesignError(
            f"batch norm: found an accumulator of {low if -low > high else high}, expected at most 2**24 in size: "
            f"arithmetic {arithmetic!r} starts from float32"
        )


def _standard_deviation(bn: BatchNorm) -> Float32Array:
    with np.errstate(over="ignore"):
        deviation: Float32Array = np.sqrt(bn.variance + np.float32(bn.epsilon))
    return deviation


def _float_program(array: Values, bn: BatchNorm, arithmetic: str) -> Float32Array:
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        v = array.astype(np.float32)
        if bn.alpha is not None:
            v *= bn.alpha
        if arithmetic == "released_torch":
            v -= bn.mean
            v /= _standard_deviation(bn)
            v *= bn.gamma
            v += bn.beta
            return v
        k, c = scale_and_shift(bn, arithmetic)
        if arithmetic == "torch":
            return _fused_by_blocks(v, k, c)
        v *= k
        v += c
        return v


def _fused_by_blocks(v: Float32Array, k: Float32Array, c: Float32Array) -> Float32Array:
    rows = v.reshape(-1, k.size)
    result = np.empty_like(rows)
    step = max(1, _BLOCK // k.size)
    for start in range(0, len(rows), step):
        result[start : start + step] = fused_multiply_add(rows[start : start + step], k, c)
    return result.reshape(v.shape)
