"""The three paths of the same network agree exactly: packed and folded, float and unfolded, naive."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refdesign.bits import pack
from refdesign.conventions import ARITHMETICS, PAPER, PRESETS
from refdesign.network import AveragePool, NetworkData, PixelConv2d
from refdesign.parameters import BatchNorm
from refdesign.run import PATHS, run
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


@pytest.mark.parametrize("arithmetic", [name for name in ARITHMETICS if name != "keras"])
def test_real_streams_agree_in_the_sign_of_zero(arithmetic: str) -> None:
    """A z of -1e-60 or so rounds to zero: the same zero everywhere, for those who compare the bytes of a stream."""
    layer = PixelConv2d(
        name="conv",
        weights=pack(np.ones((1, 1, 1, 1))),
        batch_norm=BatchNorm([-1e-45], [0.0], [3.0], [1e30], 0.0),
    )
    network = NetworkData(
        name="tiny",
        input_shape=(1, 3, 1),
        layers=(layer, AveragePool(name="pool", size=(1, 1))),
        conventions=PAPER.replace(arithmetic=arithmetic),
    )
    images = np.array([[[[0], [3], [255]]]], np.uint8)
    words = {path: run(network, images, path=path, outputs="conv.real")["conv.real"].view(np.uint32) for path in PATHS}
    np.testing.assert_array_equal(words["packed"], words["naive"])
    np.testing.assert_array_equal(words["float"], words["naive"])
