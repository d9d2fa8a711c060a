"""Networks and wrong implementations for the tests of verification."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.api import Network, pretrained
from refdesign.bits import pack
from refdesign.conventions import Conventions
from refdesign.network import BinaryConv2d, BinaryDense, MaxPool, PixelConv2d
from refdesign.parameters import BatchNorm, ThresholdKernel

Answer = Mapping[str, NDArray[Any]]
Implementation = Callable[[NDArray[np.uint8]], Answer]


def uneven(conventions: Conventions | None = None) -> Network:
    """A small network of pairwise different extents: 7 x 10 x 2, both signs of gamma, ties, zero padding, tails.

    The kernel has 2 x 3 cells and two slices; no extent of a map is a multiple of its period.
    """
    random = np.random.default_rng(3)

    def weights(*shape: int) -> Any:
        return pack(random.choice([-1, 1], shape))

    def norm(channels: int, scale: float) -> BatchNorm:
        gamma = np.where(np.arange(channels) % 3 == 1, -1.0, 1.0) * random.uniform(0.5, 2, channels)
        mean = np.round(random.normal(0, scale, channels))
        beta = np.where(np.arange(channels) % 4 == 0, 0.0, random.normal(0, 0.2, channels))
        return BatchNorm(
            gamma.astype(np.float32), beta.astype(np.float32), mean.astype(np.float32),
            np.full(channels, scale**2, np.float32), 1e-5,
        )  # fmt: skip

    values = np.array([0.0, 0.25, 0.5, 0.75, -0.25, 0.1, 0.3, 0.9, 0.6, 0.05, 0.4, 0.0], np.float32)
    kernel = ThresholdKernel(values.reshape(2, 3, 2))
    layers = (
        PixelConv2d(
            name="first", weights=weights(10, 3, 3, 2), multiplier=2, offset=-255, padding=(1, 1),
            batch_norm=norm(10, 600.0), kernel=kernel,
        ),
        BinaryConv2d(
            name="second", weights=weights(12, 3, 3, 10), padding=(1, 1), batch_norm=norm(12, 9.0), kernel=kernel
        ),
        BinaryConv2d(
            name="third", weights=weights(14, 2, 3, 12), padding=(0, 0), pool=MaxPool(size=(2, 2), stride=(2, 2)),
            batch_norm=norm(14, 8.0), kernel=ThresholdKernel(values[:3].reshape(1, 3, 1)),
        ),
        BinaryDense(name="fourth", weights=weights(11, 3 * 4 * 14), batch_norm=norm(11, 11.0)),
        BinaryDense(name="fifth", weights=weights(5, 11)),
    )  # fmt: skip
    return Network(name="uneven", input_shape=(7, 10, 2), layers=layers, conventions=conventions or Conventions())


def images_for(network: Network, count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Random images."""
    return np.random.default_rng(seed).integers(0, 256, (count, *network.input_shape), dtype=np.uint8)


def under(network: Network, **changes: Any) -> Implementation:
    """The network under other conventions, as an implementation of it that answers everything."""
    other = Network(
        name="other", input_shape=network.input_shape, layers=network.layers,
        conventions=network.conventions.replace(**changes),
    )  # fmt: skip
    return lambda images: other.run(images, outputs="all")


def digits_repeat(network: Network) -> Implementation:
    """A factory of a wrong implementation, for the command line's tests."""
    return under(network, channel_map="repeat")


def digits_odd(network: Network) -> Implementation:
    """A factory of an implementation with bits that change with the image in a way that nothing known does."""

    def odd(images: NDArray[np.uint8]) -> Answer:
        answer = dict(network.run(images, outputs="all"))
        bits = answer["conv2.bits"].copy()
        bits[images[:, 2, 3, 0] % 7 == 3, 1, 2, 7] *= -1
        return answer | {"conv2.bits": bits}

    return odd


def digits_right(images: NDArray[np.uint8]) -> NDArray[Any]:
    """A right implementation that answers the logits only."""
    logits: NDArray[Any] = pretrained("digits").run(images)["logits"]
    return logits


def exits(images: NDArray[np.uint8]) -> Answer:
    """An implementation that ends the interpreter."""
    raise SystemExit(7)
