from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdesign.conventions import PAPER, Conventions
from refdesign.errors import RefdesignError
from refdesign.ops.dither import first_phase, phase_thresholds, phases, slices, threshold_map, thresholds_over
from refdesign.parameters import ThresholdKernel
from refdesign.verify.strategies import conventions, threshold_kernels


@given(st.integers(1, 40), st.integers(1, 9))
def test_center_crop_is_the_crop_of_whole_periods(extent: int, period: int) -> None:
    """As the released Keras code does it: tile ceil(extent/period) periods, crop the centre."""
    tiles = -(-extent // period)
    tiled = np.tile(np.arange(period), tiles)
    before = (tiled.size - extent) // 2
    assert np.array_equal(phases(extent, period, "center_crop"), tiled[before : before + extent])


@given(st.integers(1, 40), st.integers(1, 9))
def test_top_left_starts_with_the_kernel(extent: int, period: int) -> None:
    assert phases(extent, period, "top_left").tolist() == [i % period for i in range(extent)]


def test_the_keras_phase_of_the_specification() -> None:
    assert first_phase(16, 3, "center_crop") == 1


@given(st.data(), conventions())
def test_threshold_map_cell_by_cell(data: st.DataObject, choices: Conventions) -> None:
    height, width, channels = data.draw(st.sampled_from([(5, 7, 6), (1, 3, 4), (7, 11, 12)]))
    kernel = data.draw(threshold_kernels(channels, height, width))
    m, n, g = kernel.shape
    cells = threshold_map(kernel, height, width, channels, choices)
    assert cells.shape == (height, width, channels)
    assert cells.dtype == np.float32
    for i, j, c in np.ndindex(height, width, channels):
        part = c % g if choices.channel_map == "tile" else c // (channels // g)
        row = (i + first_phase(height, m, choices.kernel_origin)) % m
        column = (j + first_phase(width, n, choices.kernel_origin)) % n
        assert cells[i, j, c] == kernel.values[row, column, part]


def test_channel_maps_differ() -> None:
    kernel = ThresholdKernel(np.arange(3, dtype=np.float32).reshape(1, 1, 3))
    assert phase_thresholds(kernel, 6, PAPER).ravel().tolist() == [0, 1, 2, 0, 1, 2]
    assert phase_thresholds(kernel, 6, PAPER.replace(channel_map="repeat")).ravel().tolist() == [0, 0, 1, 1, 2, 2]


def test_a_dense_layer_is_a_map_of_one_pixel() -> None:
    kernel = ThresholdKernel(np.arange(12, dtype=np.float32).reshape(3, 4))
    assert thresholds_over((5, 2), kernel, PAPER).tolist() == [0, 0]
    # Of three rows and four columns the centre of one pixel is row 1, column 1.
    assert thresholds_over((5, 2), kernel, PAPER.replace(kernel_origin="center_crop")).tolist() == [5, 5]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: slices(6, 4, "tile"), r"g = 4 slices, expected a divisor of 6 channels"),
        (lambda: slices(6, 3, "other"), r"channel_map: found 'other'"),
        (lambda: phases(0, 3, "top_left"), r"a map of 0 pixels"),
        (lambda: phases(5, 3, "middle"), r"kernel_origin: found 'middle'"),
        (lambda: thresholds_over((2, 3, 4), ThresholdKernel(np.zeros((1, 1), np.float32)), PAPER), r"\(2, 3, 4\)"),
    ],
)
def test_refusals(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(RefdesignError, match=message):
        call()
