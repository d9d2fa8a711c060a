"""PyTorch's modules compute any sequential binary network to the bit, and the network comes back from them whole."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from refdesign.api import Network
from refdesign.frameworks.torch import from_network, layer_outputs, to_network
from refdesign.network import NetworkData, Stage
from refdesign.verify import strategies
from tests.properties.plain import plain, same


def networks() -> st.SearchStrategy[NetworkData]:
    torch_only = strategies.conventions(arithmetics=("torch",))
    return strategies.networks(conventions=torch_only, residual=False).map(
        lambda network: replace(network, layers=tuple(plain(layer) for layer in network.layers))
    )


@given(networks(), st.data())
def test_modules_equal_the_packed_path(network: NetworkData, data: st.DataObject) -> None:
    images = data.draw(strategies.images((2, *network.input_shape)), label="images")
    theirs = layer_outputs(from_network(network), images)
    ours = Network.from_data(network).run(images, outputs="all")
    assert list(theirs) == list(ours)
    for name, expected in ours.items():
        np.testing.assert_array_equal(theirs[name], expected, err_msg=name, strict=True)
        if expected.dtype == np.float32:
            np.testing.assert_array_equal(np.signbit(theirs[name]), np.signbit(expected), err_msg=name)


@given(networks())
def test_a_network_comes_back_whole(network: NetworkData) -> None:
    again = to_network(from_network(network), name=network.name, input_shape=network.input_shape)
    dithered = [layer for layer in network.layers[:-1] if isinstance(layer, Stage) and layer.kernel is not None]
    if any(layer.kernel is not None and layer.kernel.values.any() for layer in dithered):
        assert again.conventions == network.conventions
    else:  # without thresholds there is no scale for them
        assert again.conventions == network.conventions.replace(threshold_scale="unit")
    for ours, theirs in zip(network.layers, again.layers, strict=True):
        assert type(ours) is type(theirs)
        for item in fields(ours):
            last_kernel = item.name == "kernel" and ours is network.layers[-1]
            assert last_kernel or same(getattr(ours, item.name), getattr(theirs, item.name)), (ours.name, item.name)
