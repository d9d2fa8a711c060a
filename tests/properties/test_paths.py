"""The three paths of the same network agree exactly: packed and folded, float and unfolded, naive."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refdesign.conventions import ARITHMETICS, PRESETS
from refdesign.network import NetworkData
from refdesign.run import run
from refdesign.verify import strategies


def examples(factor: float) -> int:
    """So many examples: a factor of what the profile in use says."""
    return max(1, int(settings().max_examples * factor))


def assert_paths_agree(network: NetworkData, data: st.DataObject) -> None:
    """Every output of every path is the same, bit for bit, in dtype, shape and value."""
    count = data.draw(st.integers(1, 2), label="count")
    images = data.draw(strategies.images((count, *network.input_shape)), label="images")
    slow = run(network, images, path="naive", outputs="all")
    assert tuple(slow) == network.output_names
    for path in ("packed", "float"):
        fast = run(network, images, path=path, outputs="all")
        assert tuple(fast) == network.output_names
        for name, expected in slow.items():
            np.testing.assert_array_equal(fast[name], expected, err_msg=f"{path}, {name}", strict=True)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_any_conventions(arithmetic: str, residual: bool) -> None:
    networks = strategies.networks(conventions=strategies.conventions(arithmetics=(arithmetic,)), residual=residual)

    @settings(max_examples=examples(0.6))
    @given(network=networks, data=st.data())
    def agree(network: NetworkData, data: st.DataObject) -> None:
        assert_paths_agree(network, data)

    agree()


@pytest.mark.parametrize("preset", ["RELEASED_KERAS", "RELEASED_TORCH"])
def test_released_conventions(preset: str) -> None:
    """The combinations that the released codes have, which are rare among all."""

    @settings(max_examples=examples(0.6))
    @given(network=strategies.networks(conventions=st.just(PRESETS[preset])), data=st.data())
    def agree(network: NetworkData, data: st.DataObject) -> None:
        assert_paths_agree(network, data)

    agree()
