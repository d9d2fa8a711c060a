from __future__ import annotations

import numpy as np
import pytest

from refdesign.network import PADDING_MODES
from refdesign.ops.padding import FILLS, Windows, source_index
from tests.ops.loops import place

NUMPY_NAMES = {"symmetric": "symmetric", "reflect": "reflect", "edge": "edge", "circular": "wrap"}


@pytest.mark.parametrize("mode", PADDING_MODES)
@pytest.mark.parametrize(("extent", "padding"), [(5, 0), (5, 3), (4, 3), (1, 0)])
def test_every_mode_of_a_network_is_known(mode: str, extent: int, padding: int) -> None:
    found = source_index(extent, padding, mode)
    expected = [place(position, extent, mode) for position in range(-padding, extent + padding)]
    assert found.tolist() == [-1 if position is None else position for position in expected]
    if mode in NUMPY_NAMES and padding:
        np.testing.assert_array_equal(found, np.pad(np.arange(extent), padding, mode=NUMPY_NAMES[mode]))  # type: ignore[call-overload]


def test_inside_marks_the_taps_on_the_map() -> None:
    windows = Windows.of((4, 3), (3, 2), stride=(2, 1), padding=(1, 0), padding_mode="zeros", dilation=1)
    assert windows.inside(0).tolist() == [[False, True, True], [True, True, True]]
    assert windows.inside(1).all()
    assert set(FILLS) == {"zeros", "ones", "minus_ones"}
