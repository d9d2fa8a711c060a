"""Which layers hold subnormal numbers, which some float programs take for zero."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.ops.batch_norm import batch_norm as reference_batch_norm
from refdesign.ops.batch_norm import scale_and_shift
from refdesign.parameters import BatchNorm

_SMALLEST_NORMAL = np.finfo(np.float32).smallest_normal


def refuse_subnormals(
    batch_norm: BatchNorm, arithmetic: str, scaled: NDArray[np.float32], domain: tuple[int, int]
) -> None:
    """Refuse a layer in which any number on the way from an attainable accumulator to z is subnormal.

    XLA and TensorFlow take such a number for zero, and give zero for it.

    Args:
        batch_norm: C channels.
        arithmetic: `"torch"`, `"onnxruntime"` or `"keras"`.
        scaled: s*T over the map, (H, W, C).
        domain: the lowest and highest accumulator.

    Raises:
        RefdesignError: a parameter, step or result is subnormal, naming it.

    >>> bn = BatchNorm([1e-40], [0.0], [0.0], [1.0], 0.0)
    >>> refuse_subnormals(bn, "torch", np.zeros((1, 1, 1), np.float32), (-9, 9))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: batch norm: found a subnormal gamma, expected none: this program takes...
    """
    values = np.arange(domain[0], domain[1] + 1, dtype=np.int32)[:, np.newaxis]
    every = np.ascontiguousarray(np.broadcast_to(values, (len(values), batch_norm.channels)))
    y = reference_batch_norm(every, batch_norm, arithmetic)
    k, c = scale_and_shift(batch_norm, arithmetic)
    steps = {field: getattr(batch_norm, field) for field in ("gamma", "beta", "mean", "variance")}
    steps |= {"k": k, "c": c, "s*T": scaled}
    with np.errstate(under="ignore"):
        v = every.astype(np.float32)
        if batch_norm.alpha is not None:
            steps["alpha"] = batch_norm.alpha
            v = v * batch_norm.alpha
            steps["alpha*a"] = v
        if arithmetic != "torch":
            steps["v*k"] = v * k
            steps["mean*k"] = batch_norm.mean * k
        steps["y"] = y
        thresholds = np.unique(scaled.reshape(-1, batch_norm.channels), axis=0)
        for number, row in enumerate(thresholds):
            steps[f"z{number}"] = y - row
    for name, array in steps.items():
        small = np.abs(array)
        if ((small > 0) & (small < _SMALLEST_NORMAL)).any():
            raise RefdesignError(
                f"batch norm: found a subnormal {name.rstrip('0123456789')}, expected none: this program takes "
                "subnormal numbers for zero"
            )
