"""The three paths of the same network agree exactly: packed and folded, float and unfolded, naive."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from refdesign.network import NetworkData
from refdesign.run import run
from refdesign.verify import strategies


def examples(factor: float) -> int:
    """So many examples: a factor of what the profile in use says."""
    return max(1, int(settings().max_examples * factor))


def assert_paths_agree(network: NetworkData, count: int, draw_images: st.DataObject) -> None:
    """Every output of every path is the same, bit for bit, in dtype, shape and value."""
    images = draw_images.draw(strategies.images((count, *network.input_shape)), label="images")
    slow = run(network, images, path="naive", outputs="all")
    assert tuple(slow) == network.output_names
    for path in ("packed", "float"):
        fast = run(network, images, path=path, outputs="all")
        assert tuple(fast) == network.output_names
        for name, expected in slow.items():
            found = fast[name]
            assert (found.dtype, found.shape) == (expected.dtype, expected.shape), f"{path}, {name}"
            np.testing.assert_array_equal(found, expected, err_msg=f"{path}, {name}", strict=True)


@settings(max_examples=examples(2))
@given(network=strategies.networks(residual=False), count=st.integers(1, 2), data=st.data())
def test_plain_networks(network: NetworkData, count: int, data: st.DataObject) -> None:
    assert_paths_agree(network, count, data)


@settings(max_examples=examples(2))
@given(network=strategies.networks(residual=True), count=st.integers(1, 2), data=st.data())
def test_residual_networks(network: NetworkData, count: int, data: st.DataObject) -> None:
    assert_paths_agree(network, count, data)
