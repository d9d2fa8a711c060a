"""The sign with a gradient of its own: the straight-through estimators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from refdesign.conventions import PAPER, Conventions
from refdesign.frameworks.estimators import check_estimator
from refdesign.ops.sign import KERAS_ROUND_BOUNDARY


def _clipped(z: Tensor) -> Tensor:
    return (z.abs() <= 1).to(z.dtype)


def _identity(z: Tensor) -> Tensor:
    return torch.ones_like(z)


def _polynomial(z: Tensor) -> Tensor:
    return (2 - (2 * z).abs()).clamp(min=0)


_DERIVATIVES: dict[str, Callable[[Tensor], Tensor]] = {
    "clipped": _clipped,
    "identity": _identity,
    "polynomial": _polynomial,
}
"""Each estimator's value at z."""


class _StraightThroughSign(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(z: Tensor, estimator: str, sign_at_zero: int, sign_rule: str) -> Tensor:
        if sign_rule == "keras_round":
            fires = z > KERAS_ROUND_BOUNDARY
        elif sign_at_zero == 0:
            return torch.sign(z)
        else:
            fires = z >= 0 if sign_at_zero == 1 else z > 0
        return fires.to(z.dtype) * 2 - 1

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, str, int, str], output: Tensor) -> None:
        z, estimator, _, _ = inputs
        ctx.save_for_backward(z)
        ctx.estimator = estimator

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (z,) = ctx.saved_tensors
        return gradients[0] * _DERIVATIVES[ctx.estimator](z), None, None, None


def straight_through_sign(z: Tensor, estimator: str = "clipped", conventions: Conventions = PAPER) -> Tensor:
    """The sign of z forward, an estimator's gradient backward.

    Args:
        z: floating point, any shape.
        estimator: one of `estimators.ESTIMATORS`; the gradient that arrives is multiplied by its value at z.
        conventions: `sign_at_zero` and `sign_rule` decide ties (docs/method.md, section 3).

    Returns:
        The dtype and shape of `z`, holding +1 and -1 (and 0 at exact zeros under `sign_at_zero=0`).

    Raises:
        RefdesignError: an unknown estimator.

    >>> z = torch.tensor([-2.0, -0.5, 0.0, 0.75], requires_grad=True)
    >>> bits = straight_through_sign(z, "polynomial")
    >>> bits.sum().backward()
    >>> bits.tolist(), z.grad.tolist()
    ([-1.0, -1.0, 1.0, 1.0], [0.0, 1.0, 2.0, 0.5])
    """
    check_estimator(estimator)
    apply: Callable[[Tensor, str, int, str], Tensor] = _StraightThroughSign.apply
    return apply(z, estimator, conventions.sign_at_zero, conventions.sign_rule)
