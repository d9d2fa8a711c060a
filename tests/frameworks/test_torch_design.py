"""DeSign: its bits are the reference's for every kernel, convention and map, its gradient the closed form at y - sT."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from refdesign.conventions import PAPER, Conventions
from refdesign.errors import RefdesignError
from refdesign.frameworks.torch import DeSign, Sign
from refdesign.ops.dither import threshold_map
from refdesign.ops.sign import dithered_sign
from refdesign.parameters import ThresholdKernel

Case = tuple[NDArray[np.float32], ThresholdKernel, Conventions, NDArray[np.float32]]


def kernel_of(values: object) -> ThresholdKernel:
    return ThresholdKernel(np.array(values, np.float32))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    rows, columns, slices = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    height, width = draw(st.integers(1, 11)), draw(st.integers(1, 13))
    channels = slices * draw(st.integers(1, 5))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rule, tie = draw(st.sampled_from([("compare", 1), ("compare", -1), ("compare", 0), ("keras_round", -1)]))
    conventions = PAPER.replace(
        arithmetic="torch",
        sign_at_zero=tie,
        sign_rule=rule,
        threshold_scale=draw(st.sampled_from(["unit", "gamma"])),
        kernel_origin=draw(st.sampled_from(["top_left", "center_crop"])),
        channel_map=draw(st.sampled_from(["tile", "repeat"])),
    )
    kernel = kernel_of(random.normal(size=(rows, columns, slices)))
    gamma = random.normal(size=channels).astype(np.float32)
    y = random.normal(size=(2, height, width, channels)).astype(np.float32)
    # Every second value stands exactly on its threshold: a tie.
    scale = gamma if conventions.threshold_scale == "gamma" else np.ones_like(gamma)
    ties = scale * threshold_map(kernel, height, width, channels, conventions)
    y = np.where(random.integers(0, 2, size=y.shape) == 1, ties, y)
    return y, kernel, conventions, gamma


@given(cases())
def test_bits_equal_the_reference(case: Case) -> None:
    y, kernel, conventions, gamma = case
    module = DeSign(kernel, conventions)
    bits = module(torch.from_numpy(y).permute(0, 3, 1, 2), torch.from_numpy(gamma))
    np.testing.assert_array_equal(bits.permute(0, 2, 3, 1).numpy(), dithered_sign(y, kernel, conventions, gamma))


def test_a_dense_layer_is_a_map_of_one_pixel() -> None:
    kernel = kernel_of([[[0.25, -0.5, 1.0]], [[3.0, 3.0, 3.0]]])
    y = torch.tensor([[0.25, 0.0, 0.75, 0.0, -1.0, 1.5], [0.0, -0.5, 1.0, 0.5, -0.25, 0.0]])
    assert DeSign(kernel)(y).int().tolist() == [[1, 1, -1, -1, -1, 1], [-1, 1, 1, 1, 1, -1]]
    assert torch.equal(DeSign(kernel)(y), DeSign(kernel)(y[:, :, None, None])[:, :, 0, 0])


def test_the_gradient_is_taken_around_the_shifted_threshold() -> None:
    kernel = kernel_of([[2.0, -0.5]])
    y = torch.tensor([[[[1.0, 0.75, 0.5]]]], requires_grad=True)
    torch.autograd.backward(DeSign(kernel, estimator="polynomial")(y).sum())
    # z = -1, 1.25, -1.5: only |z| < 1 has a gradient; the window around 0 would have given 0, 0.5, 1.
    assert y.grad is not None
    assert y.grad.flatten().tolist() == [0.0, 0.0, 0.0]
    y = torch.tensor([[[[1.75, 0.25, 2.5]]]], requires_grad=True)
    torch.autograd.backward(DeSign(kernel, estimator="polynomial")(y).sum())
    assert y.grad is not None
    assert y.grad.flatten().tolist() == [1.5, 0.5, 1.0]


def test_gamma_gets_the_gradient_of_the_formula() -> None:
    kernel = kernel_of([[0.5, 2.0]])
    gamma = torch.tensor([1.0, -1.0], requires_grad=True)
    y = torch.zeros(1, 2, 1, 3)
    torch.autograd.backward(DeSign(kernel, PAPER.replace(threshold_scale="gamma"))(y, gamma).sum())
    # |z| = 0.5, 2, 0.5 in both channels: dz/dgamma = -T where the clipped window is open.
    assert gamma.grad is not None
    assert gamma.grad.tolist() == [-1.0, -1.0]


def test_the_kernel_stays_while_the_model_trains() -> None:
    module = DeSign(kernel_of([[0.5, 1.0], [1.5, 2.0]]))
    assert list(module.parameters()) == []
    assert module.state_dict()["threshold"].shape == (1, 2, 2)


def test_sign_has_no_threshold() -> None:
    y = torch.tensor([[-0.0, 0.0, -1e-30, 1e-30]])
    assert Sign()(y).tolist() == [[1.0, 1.0, -1.0, 1.0]]
    assert Sign(PAPER.replace(sign_at_zero=0, threshold_scale="gamma"))(y).tolist() == [[0.0, 0.0, -1.0, 1.0]]


def test_wrong_input_is_refused() -> None:
    kernel = kernel_of(np.ones((2, 3, 4)))
    with pytest.raises(RefdesignError, match=r"found g = 4 slices, expected a divisor of 6 channels"):
        DeSign(kernel)(torch.zeros(1, 6, 5, 7))
    with pytest.raises(RefdesignError, match=r"found shape \(4, 5, 7\), expected"):
        DeSign(kernel)(torch.zeros(4, 5, 7))
    with pytest.raises(RefdesignError, match="expected the batch norm's gamma"):
        DeSign(kernel, PAPER.replace(threshold_scale="gamma"))(torch.zeros(1, 4, 5, 7))
    with pytest.raises(RefdesignError, match="estimator"):
        DeSign(kernel, estimator="cubic")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_bits_have_the_dtype_of_y(dtype: torch.dtype) -> None:
    assert DeSign(kernel_of([[0.5, 1.0]]))(torch.ones(2, 3, 5, 7, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize("kernel", [[[0.5, 1.0]], "threshold_2x2_v1"])
def test_what_is_no_kernel_is_refused(kernel: object) -> None:
    with pytest.raises(RefdesignError, match=r"DeSign, kernel: found a (list|str), expected a ThresholdKernel"):
        DeSign(kernel)  # type: ignore[arg-type]
