from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdesign.conventions import PAPER, RELEASED_KERAS, RELEASED_TORCH, Conventions
from refdesign.errors import RefdesignError
from refdesign.ops.dither import threshold_map
from refdesign.ops.sign import dithered_sign, sign
from refdesign.parameters import ThresholdKernel
from refdesign.verify.strategies import conventions, real_arrays, threshold_kernels

SPECIAL = np.array(
    [
        *(0.0, -0.0, 2.0**-149, -(2.0**-149), 2.0**-24, 2.0**-24 + 2.0**-47, 2.0**-24 - 2.0**-48, -(2.0**-24)),
        *(1, -1, 0.5, 3e38, -3e38, np.inf, -np.inf),
    ],
    dtype=np.float32,
)


@pytest.mark.parametrize(("at_zero", "want"), [(1, [1, 1]), (-1, [-1, -1]), (0, [0, 0])])
def test_both_zeros(at_zero: int, want: list[int]) -> None:
    assert sign(SPECIAL[:2], Conventions(sign_at_zero=at_zero)).tolist() == want


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=30))
def test_keras_round_is_the_released_activation(values: list[float]) -> None:
    """2*round(clip((z + 1)/2, 0, 1)) - 1 in float32, ties to even, also beside the boundary."""
    z = np.concatenate([SPECIAL, np.array(values, dtype=np.float32)])
    with np.errstate(over="ignore"):
        released = 2 * np.round(np.clip((z + np.float32(1)) / np.float32(2), 0, 1)) - 1
    assert np.array_equal(sign(z, RELEASED_KERAS), released)


def test_the_boundary_of_keras_round() -> None:
    assert sign(SPECIAL[4:7], RELEASED_KERAS).tolist() == [-1, 1, -1]


@given(st.data(), conventions())
def test_dithered_sign_element_by_element(data: st.DataObject, choices: Conventions) -> None:
    shape = (2, 5, 7, 3)
    kernel = data.draw(threshold_kernels(3, 5, 7))
    y, gamma = data.draw(real_arrays(shape)), data.draw(real_arrays((3,)))
    bits = dithered_sign(y, kernel, choices, gamma)
    assert bits.dtype == np.int8
    cells = threshold_map(kernel, 5, 7, 3, choices)
    for index in np.ndindex(shape):
        scale = gamma[index[-1]] if choices.threshold_scale == "gamma" else np.float32(1)
        z = y[index] - scale * cells[index[1:]]
        if choices.sign_rule == "keras_round":
            want = 1 if z > 2.0**-24 else -1
        else:
            want = choices.sign_at_zero if z == 0 else (1 if z > 0 else -1)
        assert bits[index] == want


def test_dense_layers_use_the_first_phase() -> None:
    kernel = ThresholdKernel(np.array([[0.5, 9.0]], dtype=np.float32))
    assert dithered_sign(np.array([[0.7], [0.3]], dtype=np.float32), kernel, PAPER).ravel().tolist() == [1, -1]


def test_refusals() -> None:
    y = np.zeros((2, 3), dtype=np.float32)
    with pytest.raises(RefdesignError, match="NaN at index \\(1, 2\\)"):
        sign(np.array([[0, 0, 0], [0, 0, np.nan]], dtype=np.float32), PAPER)
    with pytest.raises(RefdesignError, match="sign: found float64, expected float32"):
        sign(np.zeros(3), PAPER)  # type: ignore[arg-type]
    with pytest.raises(RefdesignError, match="y: found float64"):
        dithered_sign(np.zeros((2, 3)), None, PAPER)  # type: ignore[arg-type]
    with pytest.raises(RefdesignError, match=r"gamma: found none, expected float32 of shape \(3,\)"):
        dithered_sign(y, None, RELEASED_TORCH)
    with pytest.raises(RefdesignError, match=r"gamma: found shape \(2,\)"):
        dithered_sign(y, None, RELEASED_TORCH, [1.0, 2.0])
    with pytest.raises(RefdesignError, match="expected a divisor of 3 channels"):
        dithered_sign(y, ThresholdKernel(np.zeros((1, 1, 2), np.float32)), PAPER)
