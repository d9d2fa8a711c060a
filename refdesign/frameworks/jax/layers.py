"""Binary layers on floats in JAX with straight-through gradients: pure functions that can be jitted and vmapped.

Maps are NHWC and weights OHWI, as everywhere in the project. Sums of ±1 are exact in float32. Behind them XLA has its
own arithmetic: `normalise_and_dither` is the reference's, bit for bit, or it refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from refdesign.conventions import PAPER, Conventions
from refdesign.errors import RefdesignError
from refdesign.frameworks.estimators import check_estimator
from refdesign.frameworks.jax import packed
from refdesign.frameworks.subnormals import refuse_subnormals
from refdesign.ops.batch_norm import scale_and_shift, subtract_threshold
from refdesign.ops.dither import threshold_map
from refdesign.ops.padding import FILLS, Windows
from refdesign.ops.sign import KERAS_ROUND_BOUNDARY
from refdesign.parameters import NO_DITHER, BatchNorm, ThresholdKernel

PROGRAMS: dict[str, str] = {"jax-cpu-jit": "torch", "jax-cpu": "onnxruntime"}
"""XLA's float programs, and the `Conventions.arithmetic` that each equals as long as no number is subnormal.

Under `jax.jit` the CPU's y = k*v + c is one fused operation, also behind `lax.optimization_barrier`; called
operation by operation it is rounded twice. Both take subnormal numbers for zero, and give zero for them. k and c
themselves are computed by the reference, on the host.
"""

_DERIVATIVES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "clipped": lambda z: (jnp.abs(z) <= 1).astype(z.dtype),
    "identity": jnp.ones_like,
    "polynomial": lambda z: jnp.maximum(2 - jnp.abs(2 * z), 0),
}
"""Each estimator's value at z."""


@partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3))
def _sign(z: jax.Array, estimator: str, sign_at_zero: int, sign_rule: str) -> jax.Array:
    if sign_rule == "keras_round":
        return jnp.where(z > KERAS_ROUND_BOUNDARY, 1, -1).astype(z.dtype)
    # The number's bits as an integer, of which the least has those of -0.0: compared as they are, subnormal numbers
    # would be zeros to XLA.
    integers = np.dtype(f"int{8 * z.dtype.itemsize}")
    pattern = lax.bitcast_convert_type(z, integers)
    sign = jnp.where(pattern == np.iinfo(integers).min, 0, jnp.sign(pattern))
    return jnp.where(sign == 0, sign_at_zero, sign).astype(z.dtype)


@_sign.defjvp
def _sign_jvp(
    estimator: str, sign_at_zero: int, sign_rule: str, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (z,), (tangent,) = primals, tangents
    return _sign(z, estimator, sign_at_zero, sign_rule), tangent * _DERIVATIVES[estimator](z)


def straight_through_sign(z: jax.Array, estimator: str = "clipped", conventions: Conventions = PAPER) -> jax.Array:
    """The sign of z, with an estimator for its derivative, in forward mode and in reverse mode.

    Args:
        z: floating point, any shape.
        estimator: one of `estimators.ESTIMATORS`; tangents and gradients are multiplied by its value at z.
        conventions: `sign_at_zero` and `sign_rule` decide ties (docs/method.md, section 3).

    Returns:
        The dtype and shape of `z`, holding +1 and -1 (and 0 at exact zeros under `sign_at_zero=0`).

    Raises:
        RefdesignError: an unknown estimator.

    >>> z = jnp.array([-2.0, -0.5, 0.0, 0.75])
    >>> straight_through_sign(z).tolist()
    [-1.0, -1.0, 1.0, 1.0]
    >>> jax.grad(lambda z: straight_through_sign(z, "polynomial").sum())(z).tolist()
    [0.0, 1.0, 2.0, 0.5]
    """
    check_estimator(estimator)
    return _sign(z, estimator, conventions.sign_at_zero, conventions.sign_rule)


def design(
    y: jax.Array,
    kernel: ThresholdKernel,
    conventions: Conventions = PAPER,
    *,
    gamma: jax.Array | None = None,
    estimator: str = "clipped",
) -> jax.Array:
    """DeSign: b = sign(y - s*T[i mod m, j mod n, c mod g]), estimated at z = y - s*T (docs/method.md, section 1).

    Args:
        y: (N, H, W, C), or (N, C), which counts as a map of one pixel; the batch norm's output.
        kernel: the threshold kernel (m, n, g), g a divisor of C.
        conventions: all but the arithmetic, which is XLA's own, are followed.
        gamma: (C,), the batch norm's scale; needed under `threshold_scale="gamma"`.
        estimator: one of `estimators.ESTIMATORS`.

    Returns:
        +1 and -1 (0 at exact ties under `sign_at_zero=0`) in the shape and dtype of `y`.

    Raises:
        RefdesignError: another number of axes, a kernel that does not divide the channels, or no gamma.

    >>> kernel = ThresholdKernel([[0.0, 1.0], [2.0, 3.0]])
    >>> design(jnp.full((1, 3, 5, 1), 1.5), kernel)[0, :, :, 0].astype(int).tolist()
    [[1, 1, 1, 1, 1], [-1, -1, -1, -1, -1], [1, 1, 1, 1, 1]]
    """
    if y.ndim not in (2, 4):
        raise RefdesignError(f"design: found shape {y.shape}, expected (N, H, W, C) or (N, C)")
    height, width = (y.shape[1], y.shape[2]) if y.ndim == 4 else (1, 1)
    cells = jnp.asarray(threshold_map(kernel, height, width, y.shape[-1], conventions), dtype=y.dtype)
    if conventions.threshold_scale == "gamma":
        if gamma is None:
            raise RefdesignError("design: threshold_scale is 'gamma', expected the batch norm's gamma as well as y")
        cells = gamma * cells
    z = y - (cells if y.ndim == 4 else cells[0, 0])
    return straight_through_sign(z, estimator, conventions).astype(y.dtype)


def binary_conv2d(
    x: jax.Array,
    w: jax.Array,
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    padding_mode: str = "zeros",
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    estimator: str = "identity",
) -> jax.Array:
    """A convolution with the signs of latent weights (+1 at zero); differentiable in both arguments.

    Args:
        x: float32, (N, H, W, I): ±1 (exact sums), or anything else.
        w: float32 latent weights, (O, rows, columns, I/groups).
        stride, padding, padding_mode, dilation, groups: as in `refdesign.ops.conv.binary_conv2d`.
        estimator: the gradient of the weights' sign, one of `estimators.ESTIMATORS`.

    Returns:
        float32, (N, H', W', O).

    Raises:
        RefdesignError: an unknown estimator or padding mode, or a window larger than the map.

    >>> binary_conv2d(jnp.ones((1, 2, 3, 5)), jnp.ones((1, 3, 3, 5)), padding=(1, 1))[0, :, :, 0].tolist()
    [[20.0, 30.0, 20.0], [20.0, 30.0, 20.0]]
    """
    windows = Windows.of(
        (x.shape[1], x.shape[2]),
        (w.shape[1], w.shape[2]),
        stride=stride,
        padding=padding,
        padding_mode=padding_mode,
        dilation=dilation,
    )
    sums: jax.Array = lax.conv_general_dilated(
        packed.pad(x, windows, FILLS.get(padding_mode, 0)),
        straight_through_sign(w, estimator),
        windows.stride,
        "VALID",
        rhs_dilation=windows.dilation,
        dimension_numbers=("NHWC", "OHWI", "NHWC"),
        feature_group_count=groups,
        precision=lax.Precision.HIGHEST,
    )
    return sums


def binary_dense(x: jax.Array, w: jax.Array, *, estimator: str = "identity") -> jax.Array:
    """A dense layer with the signs of latent weights (+1 at zero): float32 (N, I) and (O, I) to (N, O).

    >>> binary_dense(jnp.array([[1.0, 1.0, -1.0]]), jnp.array([[0.3, 0.2, -2.0]])).tolist()
    [[3.0]]
    """
    return jnp.matmul(x, straight_through_sign(w, estimator).T, precision=lax.Precision.HIGHEST)


def normalise_and_dither(
    batch_norm: BatchNorm,
    kernel: ThresholdKernel | None,
    conventions: Conventions,
    shape: tuple[int, int, int],
    *,
    domain: tuple[int, int],
    program: str = "jax-cpu-jit",
) -> Callable[[jax.Array], jax.Array]:
    """z = y - s*T as a pure function of accumulators that equals the reference bit for bit, or a refusal.

    Args:
        batch_norm: C channels.
        kernel: the threshold kernel, or None.
        conventions: `arithmetic` must be the one that `PROGRAMS` names for the program.
        shape: (H, W, C) of the map.
        domain: the lowest and highest accumulator.
        program: `"jax-cpu-jit"` for use inside `jax.jit`, `"jax-cpu"` for use outside.

    Returns:
        A function from accumulators (N, H, W, C), int32 or float32, to float32 z; differentiable.

    Raises:
        RefdesignError: an unknown program, another arithmetic, a device whose program has not been measured, or
            numbers on the way that are subnormal (XLA takes them for zero).

    >>> bn = BatchNorm([1.0], [0.5], [3.0], [4.0], 0.0)
    >>> follow = normalise_and_dither(
    ...     bn, ThresholdKernel([[0.25]]), PAPER.replace(arithmetic="torch"), (1, 1, 1), domain=(-9, 9))
    >>> float(jax.jit(follow)(jnp.full((1, 1, 1, 1), 7.0))[0, 0, 0, 0])
    2.25
    """
    if program not in PROGRAMS:
        raise RefdesignError(f"program: found {program!r}, expected one of {', '.join(PROGRAMS)}")
    if conventions.arithmetic != PROGRAMS[program]:
        raise RefdesignError(
            f"conventions, arithmetic: found {conventions.arithmetic!r}, expected {PROGRAMS[program]!r}: JAX's program "
            f"{program!r} equals no other"
        )
    if jax.default_backend() != "cpu":
        raise RefdesignError(f"program: found the device {jax.default_backend()!r}, expected 'cpu' for {program!r}")
    cells = threshold_map(kernel or NO_DITHER, *shape, conventions)
    scaled = -subtract_threshold(np.zeros_like(cells), cells, batch_norm.gamma, conventions)
    k, c = scale_and_shift(batch_norm, conventions.arithmetic)
    alpha = batch_norm.alpha
    refuse_subnormals(batch_norm, conventions.arithmetic, scaled, domain)

    def follow(accumulators: jax.Array) -> jax.Array:
        v = accumulators.astype(jnp.float32)
        if alpha is not None:
            v = jnp.asarray(alpha) * v
        return v * jnp.asarray(k) + jnp.asarray(c) - jnp.asarray(scaled)

    return follow
