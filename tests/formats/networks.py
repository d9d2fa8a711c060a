"""Networks that between them have every kind of layer and every optional field, for tests of files."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from refdesign.bits import PackedBits, pack_bool
from refdesign.conventions import LARQ, RELEASED_TORCH
from refdesign.network import (
    AveragePool,
    BinaryConv2d,
    BinaryDense,
    CombinedConv2d,
    Layer,
    MaxPool,
    NetworkData,
    PixelConv2d,
    RealConv2d,
    RealDense,
    Shortcut,
)
from refdesign.parameters import BatchNorm, RationalAffine, ThresholdKernel
from refdesign.verify.strategies import networks


def _bits(rng: np.random.Generator, *shape: int) -> PackedBits:
    return pack_bool(rng.integers(0, 2, shape).astype(np.bool_))


def _real(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    return rng.standard_normal(shape).astype(np.float32)


def _batch_norm(rng: np.random.Generator, channels: int, **more: Any) -> BatchNorm:
    variance = rng.uniform(0.5, 2, channels).astype(np.float32)
    gamma, beta, mean = (_real(rng, channels) for _ in range(3))
    return BatchNorm(gamma, beta, mean, variance, 1e-5, **more)


def binary_network() -> NetworkData:
    """Packed first layer, pool, 2D kernel with levels, dense; k and c as a framework computed them."""
    rng = np.random.default_rng(5)
    kernel = ThresholdKernel.from_levels([[0, 1, 4], [3, 2, 5]], (0.0, 0.311, 0.631, 0.967, 1.335, 1.766))
    first = PixelConv2d(
        name="first", weights=_bits(rng, 6, 3, 2, 4), multiplier=2, offset=-255, padding=(1, 2),
        padding_mode="symmetric", batch_norm=_batch_norm(rng, 6, k=_real(rng, 6), c=_real(rng, 6)), kernel=kernel,
    )  # fmt: skip
    second = BinaryConv2d(
        name="second", weights=_bits(rng, 66, 2, 3, 3), groups=2, stride=(2, 1), dilation=(1, 2),
        pool=MaxPool(size=(2, 3)), batch_norm=_batch_norm(rng, 66, alpha=_real(rng, 66), k=_real(rng, 66)),
        kernel=ThresholdKernel(_real(rng, 3, 2, 11)),
    )  # fmt: skip
    # A map of 9 x 10: 9 x 13 after the first, 4 x 9 and pooled 2 x 4 after the second layer.
    affine = RationalAffine(2, (-255, 2**200, 0, 1 - 2**255, 7), 510)
    third = BinaryDense(name="third", weights=_bits(rng, 5, 2 * 4 * 66), batch_norm=_batch_norm(rng, 5, affine=affine))
    last = BinaryDense(name="last", weights=_bits(rng, 7, 5))
    return NetworkData(
        name="binary", input_shape=(9, 10, 4), layers=(first, second, third, last), conventions=LARQ,
        metadata={"licence": "CC0 — free", "trained": "nowhere\nat all", "": '"quoted" \\ \ud800'},
    )  # fmt: skip


def real_network(*, grid: bool) -> NetworkData:
    """A real first layer (int32 on a grid, or float32), bases, shortcut, average pool, real dense layer."""
    rng = np.random.default_rng(6)
    batch_norm = _batch_norm(rng, 4, alpha=np.full(4, 0.125, np.float32))
    first: Layer
    if grid:
        weights = rng.integers(-(2**15), 2**15, (4, 3, 1, 2), dtype=np.int32)
        first = PixelConv2d(name="first", weights=weights, padding=(1, 0), batch_norm=batch_norm, hardtanh=True)
    else:
        first = RealConv2d(
            name="first", weights=_real(rng, 4, 3, 1, 2), scale=_real(rng, 2), shift=_real(rng, 2), padding=(1, 0)
        )
    bases = (_bits(rng, 6, 1, 3, 4), _bits(rng, 6, 1, 3, 4))
    second = CombinedConv2d(
        name="second", weights=bases, scales=_real(rng, 2, 6), stride=(2, 2), padding=(0, 1),
        shortcut=Shortcut(source="first", average_pool=2, channel_padding=(2, 0)), hardtanh=True,
        kernel=ThresholdKernel(_real(rng, 2, 2, 3), np.arange(12).reshape(2, 2, 3)),
    )  # fmt: skip
    pool = AveragePool(name="pool", size=(2, 1))
    last = RealDense(
        name="last", weights=_real(rng, 3, 2 * 5 * 6), bias=_real(rng, 3) if grid else None,
        input_batch_norm=_batch_norm(rng, 60) if grid else None,
    )  # fmt: skip
    return NetworkData(
        name="real", input_shape=(8, 10, 2), layers=(first, second, pool, last), conventions=RELEASED_TORCH
    )


def examples() -> list[NetworkData]:
    """The three of this module."""
    return [binary_network(), real_network(grid=True), real_network(grid=False)]


@st.composite
def described_networks(draw: st.DrawFn) -> NetworkData:
    """Drawn networks with metadata, names of all kinds, and kernels that know their levels."""
    network = draw(networks())
    texts = st.text(max_size=8)
    names = texts.filter(str.isprintable)
    layers: list[Layer] = []
    for layer in network.layers:
        kernel = getattr(layer, "kernel", None)
        if kernel is not None and draw(st.booleans()):
            levels = np.arange(kernel.values.size).reshape(kernel.shape)
            level_set = draw(st.none() | st.just(tuple(kernel.values.ravel().tolist())))
            layer = replace(layer, kernel=ThresholdKernel(kernel.values, levels, level_set))  # type: ignore[call-arg]
        layers.append(layer)
    return NetworkData(
        name=draw(names), input_shape=network.input_shape, layers=tuple(layers), conventions=network.conventions,
        metadata=draw(st.dictionaries(texts, texts, max_size=3)),
    )  # fmt: skip
