"""Bits and scales from latent weights, against PyTorch's binarisers and the formulas of Keras code."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.formats.binarising import RULES, binarised

pytest.importorskip("torch", reason="the extra 'torch' is not installed")

import torch

from refdesign.frameworks.torch.binarisers import Binariser, DoReFa, ReCU, XNORNet

REAL = st.floats(-2, 2, width=32) | st.sampled_from([0.0, -0.0, 2.0**-24, 2.0**-25, 3 * 2.0**-26, -(2.0**-30), 1e-40])
WEIGHTS = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=5), elements=REAL)


@given(WEIGHTS)
def test_sign_and_scales_are_those_of_pytorch(weights: NDArray[np.float32]) -> None:
    for rule, module in (("sign", Binariser()), ("xnor", XNORNet()), ("dorefa", DoReFa())):
        bits, scale = module(torch.tensor(weights))
        found = binarised(weights, rule)
        np.testing.assert_array_equal(np.where(found.signs, 1, -1), bits.numpy())
        if scale is None:
            assert found.alpha is None
            continue
        assert found.alpha is not None
        axes = weights.reshape(len(weights), -1)
        for channel, alpha in enumerate(found.alpha):
            part = axes[channel] if rule == "xnor" else axes.ravel()
            exact = sum((abs(Fraction(float(w))) for w in part), Fraction(0)) / part.size
            assert abs(Fraction(float(alpha)) - exact) <= exact * Fraction(1, 2**24) + Fraction(1, 2**149)
        np.testing.assert_allclose(found.alpha, scale.numpy(), rtol=1e-5, atol=1e-38)


@given(WEIGHTS)
def test_recu_differs_from_pytorch_only_where_it_says(weights: NDArray[np.float32]) -> None:
    if weights[0].size < 2:
        return  # a variance of one weight is no number
    bits, _ = ReCU(len(weights), tau=0.99)(torch.tensor(weights))
    found = binarised(weights, "recu")
    different = int(np.count_nonzero(np.where(found.signs, 1, -1) != bits.detach().numpy()))
    near = int(found.noted[0].split()[0]) if found.noted else 0
    assert different <= near


@given(WEIGHTS)
def test_keras_rules_are_their_formulas_in_float32(weights: NDArray[np.float32]) -> None:
    one, two = np.float32(1), np.float32(2)
    released = two * np.round(np.clip((weights + one) / two, 0, 1)) - one
    np.testing.assert_array_equal(np.where(binarised(weights, "keras_round").signs, 1, -1), released)
    limited = np.tanh(weights)
    if not np.abs(limited).max() > 0:
        with pytest.raises(RefdesignError, match="all 0"):
            binarised(weights, "larq_dorefa")
        return
    levels = two * np.round(limited / (two * np.abs(limited).max()) + np.float32(0.5)) - one
    np.testing.assert_array_equal(np.where(binarised(weights, "larq_dorefa").signs, 1, -1), levels)


def test_weights_that_are_two_valued_need_no_rule() -> None:
    weights = np.array([[1, -1, 1], [-1, -1, 1]], np.float32)
    assert binarised(weights, None).alpha is None
    scaled = binarised(weights * np.array([[0.5], [3]], np.float32), None)
    assert scaled.alpha is not None
    assert scaled.alpha.tolist() == [0.5, 3]
    np.testing.assert_array_equal(scaled.signs, weights > 0)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([[1.0, -1.0], [1.0, 0.5]], r"\|w\| from 0.5 to 1, on average 0.125 from ±1"),
        ([[1.0, 0.0]], r"\|w\| from 0 to 1, on average 0.5 from ±1"),
    ],
)
def test_latent_weights_say_how_far_they_are(weights: list[list[float]], message: str) -> None:
    with pytest.raises(RefdesignError, match=message):
        binarised(np.array(weights, np.float32), None)


def test_unknown_rules_are_refused() -> None:
    with pytest.raises(RefdesignError, match=f"expected one of {', '.join(RULES)}"):
        binarised(np.ones((1, 1), np.float32), "ternary")


def test_zeros_are_counted() -> None:
    assert binarised(np.array([[0.0, -0.0, 1.0]], np.float32), "sign").noted == (
        "2 latent weights of exactly 0 count as +1",
    )
