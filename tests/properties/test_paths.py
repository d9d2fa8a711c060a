"""The three paths of the same network agree exactly: packed and folded, float and unfolded, naive."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from refdesign.bits import pack
from refdesign.conventions import ARITHMETICS, PAPER, PRESETS
from refdesign.network import AveragePool, NetworkData, PixelConv2d
from refdesign.parameters import BatchNorm, ThresholdKernel
from refdesign.run import PATHS, run
from refdesign.verify import strategies


def examples(factor: float) -> int:
    """So many examples: a factor of what the profile in use says."""
    return max(1, int(settings().max_examples * factor))


def assert_paths_agree(network: NetworkData, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """Every output of every path is the same, bit for bit, in dtype, shape, value and sign of zero; returns them."""
    slow = run(network, images, path="naive", outputs="all")
    assert tuple(slow) == network.output_names
    for path in ("packed", "float"):
        fast = run(network, images, path=path, outputs="all")
        assert tuple(fast) == network.output_names
        for name, expected in slow.items():
            np.testing.assert_array_equal(fast[name], expected, err_msg=f"{path}, {name}", strict=True)
            np.testing.assert_array_equal(np.signbit(fast[name]), np.signbit(expected), err_msg=f"{path}, {name}, sign")
    return slow


def drawn_images(network: NetworkData, data: st.DataObject) -> NDArray[np.uint8]:
    count = data.draw(st.integers(1, 2), label="count")
    return data.draw(strategies.images((count, *network.input_shape)), label="images")


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_any_conventions(arithmetic: str, residual: bool) -> None:
    networks = strategies.networks(conventions=strategies.conventions(arithmetics=(arithmetic,)), residual=residual)

    @settings(max_examples=examples(0.6))
    @given(network=networks, data=st.data())
    def agree(network: NetworkData, data: st.DataObject) -> None:
        assert_paths_agree(network, drawn_images(network, data))

    agree()


@pytest.mark.parametrize("preset", ["RELEASED_KERAS", "RELEASED_TORCH"])
def test_released_conventions(preset: str) -> None:
    """The combinations that the released codes have, which are rare among all."""

    @settings(max_examples=examples(0.6))
    @given(network=strategies.networks(conventions=st.just(PRESETS[preset])), data=st.data())
    def agree(network: NetworkData, data: st.DataObject) -> None:
        assert_paths_agree(network, drawn_images(network, data))

    agree()


SIGNS_OF_ZERO = np.array(list(itertools.product((0.0, -0.0, 1.0, -1.0), repeat=4)), np.float32)
"""gamma, beta, mean and alpha of 256 channels: zeros of either sign, among ordinary numbers."""

PIXELS = np.array([[[[0], [0], [1], [1], [2], [2], [1]]]], np.uint8)
"""Accumulators of -1, 0 and 1 under weights of +1 and an offset of -1, each in both phases of a kernel (1, 2)."""


def zeros_in(arithmetic: str, *, real: bool) -> tuple[BatchNorm, NetworkData]:
    """A layer of 256 channels whose y (or z, where a later layer reads it) is often zero."""
    gamma, beta, mean, alpha = SIGNS_OF_ZERO.T
    k = gamma if arithmetic == "keras" else None
    norm = BatchNorm(gamma, beta, mean, np.ones_like(gamma), 0.0, alpha=alpha, k=k)
    weights = pack(np.ones((norm.channels, 1, 1, 1)))
    kernel = ThresholdKernel([[0.0, -0.0]]) if real else None
    layer = PixelConv2d(name="conv", weights=weights, offset=-1, batch_norm=norm, kernel=kernel)
    layers = (layer, AveragePool(name="pool", size=(1, 1))) if real else (layer,)
    conventions = PAPER.replace(arithmetic=arithmetic)
    return norm, NetworkData(name="zeros", input_shape=(1, 7, 1), layers=layers, conventions=conventions)


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_paths_agree_in_the_sign_of_zero(arithmetic: str, real: bool) -> None:
    """For those who compare the bytes of a stream."""
    _, network = zeros_in(arithmetic, real=real)
    found = assert_paths_agree(network, PIXELS)["conv.real" if real else "logits"]
    zeros = np.signbit(found[found == 0])
    assert zeros.size
    assert zeros.any() == (arithmetic != "real")


@pytest.mark.parametrize("arithmetic", ["torch", "released_torch"])
def test_the_sign_of_zero_is_torch_s(arithmetic: str) -> None:
    torch = pytest.importorskip("torch")
    norm, network = zeros_in(arithmetic, real=False)
    gamma, beta, mean, alpha, variance = (
        torch.tensor(array) for array in (norm.gamma, norm.beta, norm.mean, norm.alpha, norm.variance)
    )
    v = alpha * torch.tensor(PIXELS[0, 0] - np.float32(1))
    if arithmetic == "torch":
        expected = torch.nn.functional.batch_norm(v, mean, variance, gamma, beta, eps=0.0)
    else:
        expected = gamma * ((v - mean) / torch.sqrt(variance + 0.0)) + beta
    for path in PATHS:
        found = run(network, PIXELS, path=path)["logits"][0, 0]
        np.testing.assert_array_equal(found, expected.numpy())
        np.testing.assert_array_equal(np.signbit(found), np.signbit(expected.numpy()))


@pytest.mark.parametrize("arithmetic", [name for name in ARITHMETICS if name != "keras"])
def test_what_rounds_to_zero_has_one_sign(arithmetic: str) -> None:
    """A z of -1e-60 or so rounds to zero, on every path to the same."""
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
    assert_paths_agree(network, np.array([[[[0], [3], [255]]]], np.uint8))
