"""Float modules with a real stream equal the reference under their named arithmetic, and come back from it whole."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refdesign.api import Network
from refdesign.bits import PackedBits
from refdesign.frameworks.torch import layer_outputs
from refdesign.frameworks.torch.export import module_network
from refdesign.frameworks.torch.restore import network_module
from refdesign.network import CombinedConv2d, Layer, NetworkData, PixelConv2d, RealConv2d, RealDense, Stage
from refdesign.parameters import BatchNorm
from refdesign.verify import strategies
from tests.properties.plain import plain, same
from tests.properties.test_paths import examples


def own(batch_norm: BatchNorm | None) -> BatchNorm | None:
    """Without what a framework cannot carry."""
    return batch_norm and replace(batch_norm, k=None, c=None, affine=None)


def followed(layer: Layer) -> Layer:
    """The nearest layer that the modules have."""
    if isinstance(layer, RealDense):
        norm = layer.input_batch_norm
        return replace(layer, input_batch_norm=norm and replace(norm, alpha=None, k=None, c=None))
    if isinstance(layer, RealConv2d):
        return plain(layer)
    if isinstance(layer, CombinedConv2d):
        return replace(layer, batch_norm=layer.batch_norm and replace(own(layer.batch_norm), alpha=None))  # type: ignore[type-var]
    return replace(layer, batch_norm=own(layer.batch_norm)) if isinstance(layer, Stage) else layer


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("arithmetic", ["torch", "released_torch"])
def test_modules_equal_the_reference(arithmetic: str, residual: bool) -> None:
    drawn = strategies.networks(conventions=strategies.conventions(arithmetics=(arithmetic,)), residual=residual)
    networks = drawn.map(lambda net: replace(net, layers=tuple(followed(layer) for layer in net.layers)))

    @settings(max_examples=examples(1.5))
    @given(networks, st.data())
    def agree(network: NetworkData, data: st.DataObject) -> None:
        images = data.draw(strategies.images((2, *network.input_shape)), label="images")
        module = network_module(network)
        ours = Network.from_data(network).run(images, outputs="all")
        theirs = layer_outputs(module, images)
        assert list(theirs) == list(ours)
        for name, expected in ours.items():
            np.testing.assert_array_equal(theirs[name], expected, err_msg=name, strict=True)
        comes_back_whole(network, module_network(module, name=network.name, input_shape=network.input_shape))

    agree()


def comes_back_whole(network: NetworkData, again: Network) -> None:
    assert again.conventions == network.conventions
    for ours, theirs in zip(network.layers, again.layers, strict=True):
        assert type(ours) is type(theirs)
        for item in fields(ours):
            mine, other = getattr(ours, item.name), getattr(theirs, item.name)
            if isinstance(mine, tuple) and isinstance(mine[0], PackedBits):
                assert all(same(a, b) for a, b in zip(mine, other, strict=True))
            else:
                pixels = isinstance(ours, PixelConv2d) and item.name == "weights"
                assert same(mine, other), (ours.name, item.name, pixels)
