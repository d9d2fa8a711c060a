"""The straight-through sign: its bits are the reference's, its gradients the estimators' closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from refdesign.conventions import PAPER, RELEASED_KERAS, Conventions
from refdesign.errors import RefdesignError
from refdesign.frameworks.torch import ESTIMATORS, straight_through_sign
from refdesign.ops.sign import sign
from tests.frameworks import closed_forms
from tests.frameworks.closed_forms import NEAR_TIES, POINTS


def values(seed: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    random = np.random.default_rng(seed).normal(size=997).astype(np.float32)
    return np.concatenate([NEAR_TIES, random, random * np.float32(2.0**-24)])


@pytest.mark.parametrize("conventions", [*(PAPER.replace(sign_at_zero=tie) for tie in (1, -1, 0)), RELEASED_KERAS])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_bits_equal_the_reference(conventions: Conventions, estimator: str) -> None:
    z = values(1)
    bits = straight_through_sign(torch.from_numpy(z), estimator, conventions)
    assert bits.dtype == torch.float32
    np.testing.assert_array_equal(bits.numpy(), sign(z, conventions))


def test_keras_round_is_the_released_formula() -> None:
    z = torch.from_numpy(values(2))
    released = 2 * torch.round(torch.clip((z + 1) / 2, 0, 1)) - 1
    assert torch.equal(straight_through_sign(z, "clipped", RELEASED_KERAS), released)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_gradients_are_the_closed_form(estimator: str) -> None:
    z = torch.tensor(POINTS, requires_grad=True)
    arriving = np.arange(1, POINTS.size + 1, dtype=np.float32)
    torch.autograd.backward(straight_through_sign(z, estimator), torch.from_numpy(arriving))
    assert z.grad is not None
    np.testing.assert_array_equal(z.grad.numpy(), arriving * closed_forms.ESTIMATORS[estimator](POINTS))


def test_the_gradient_does_not_depend_on_how_ties_are_decided() -> None:
    gradients = []
    for tie in (1, -1, 0):
        z = torch.tensor([-0.0, 0.0, 0.25], requires_grad=True)
        torch.autograd.backward(straight_through_sign(z, "polynomial", PAPER.replace(sign_at_zero=tie)).sum())
        assert z.grad is not None
        gradients.append(z.grad.tolist())
    assert gradients == [[2.0, 2.0, 1.5]] * 3


def test_works_under_vmap() -> None:
    z = torch.linspace(-2, 2, 35).reshape(5, 7)
    assert torch.equal(torch.func.vmap(straight_through_sign)(z), straight_through_sign(z))


def test_an_unknown_estimator_is_named() -> None:
    with pytest.raises(RefdesignError, match="estimator: found 'cubic', expected one of clipped, identity, polynomial"):
        straight_through_sign(torch.zeros(3), "cubic")
