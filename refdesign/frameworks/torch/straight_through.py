"""The sign with a gradient of its own: the straight-through estimators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from refdesign.conventions import PAPER, Conventions
from refdesign.errors import RefdesignError

KERAS_ROUND_BOUNDARY = 2.0**-24
"""2*round(clip((z + 1)/2, 0, 1)) - 1 in float32, ties to even, is +1 exactly above this z."""


def _clipped(z: Tensor) -> Tensor:
    return (z.abs() <= 1).to(z.dtype)


def _identity(z: Tensor) -> Tensor:
    return torch.ones_like(z)


def _polynomial(z: Tensor) -> Tensor:
    return (2 - (2 * z).abs()).clamp(min=0)


ESTIMATORS: dict[str, Callable[[Tensor], Tensor]] = {
    "clipped": _clipped,
    "identity": _identity,
    "polynomial": _polynomial,
}
"""What stands for the derivative of the sign at z: `"clipped"` is 1 where |z| <= 1 and 0 elsewhere (BinaryNet),
`"identity"` is 1 everywhere, `"polynomial"` is max(0, 2 - |2z|) (the released ReCU code, from Bi-Real Net)."""


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
        return gradients[0] * ESTIMATORS[ctx.estimator](z), None, None, None


def check_estimator(estimator: str) -> None:
    """Raise `RefdesignError` unless the estimator is one of `ESTIMATORS`.

    >>> check_estimator("cubic")
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: estimator: found 'cubic', expected one of clipped, identity, polynomial
    """
    if estimator not in ESTIMATORS:
        raise RefdesignError(f"estimator: found {estimator!r}, expected one of {', '.join(ESTIMATORS)}")


def straight_through_sign(z: Tensor, estimator: str = "clipped", conventions: Conventions = PAPER) -> Tensor:
    """The sign of z forward, an estimator's gradient backward.

    Args:
        z: floating point, any shape.
        estimator: one of `ESTIMATORS`; the gradient that arrives is multiplied by its value at z.
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
