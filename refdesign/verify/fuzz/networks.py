"""Small networks with every part that files must carry."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from refdesign.bits import pack_bool
from refdesign.conventions import PAPER
from refdesign.network import (
    AveragePool,
    BinaryConv2d,
    BinaryDense,
    CombinedConv2d,
    MaxPool,
    NetworkData,
    PixelConv2d,
    RealConv2d,
    RealDense,
    Shortcut,
    Stage,
)
from refdesign.parameters import BatchNorm, ThresholdKernel


def sample() -> NetworkData:
    """A small network with every part that files must carry.

    >>> sample().output_names[-1]
    'logits'
    """
    rng = np.random.default_rng(1)
    bits = [pack_bool(rng.random(shape) < 0.5) for shape in ((4, 3, 2, 2), (6, 2, 2, 4), (3, 6))]
    norms = []
    for channels in (4, 6):
        gamma, beta, mean = rng.standard_normal((3, channels)).astype(np.float32)
        norms.append(BatchNorm(gamma, beta, mean, np.ones(channels, np.float32), 1e-5))
    kernel = ThresholdKernel(np.arange(12, dtype=np.float32).reshape(2, 3, 2))
    first = PixelConv2d(
        name="first", weights=bits[0], padding=(1, 0), padding_mode="symmetric", batch_norm=norms[0], kernel=kernel
    )
    second = BinaryConv2d(name="second", weights=bits[1], pool=MaxPool(), batch_norm=norms[1], kernel=kernel)
    layers = (first, second, BinaryDense(name="last", weights=bits[2]))
    rules = PAPER.replace(arithmetic="onnxruntime")
    return NetworkData(name="fuzz", input_shape=(3, 4, 2), layers=layers, conventions=rules)


def residual_sample() -> NetworkData:
    """A small residual network with a real last layer.

    >>> residual_sample().layers[-1].kind
    'real_dense'
    """
    rng = np.random.default_rng(2)
    kernel = ThresholdKernel(np.array([[0.0, 0.5], [-0.25, 1.0]], np.float32))

    def norm(channels: int, spread: float) -> BatchNorm:
        gamma, beta = rng.standard_normal((2, channels)).astype(np.float32)
        variance = np.full(channels, spread**2, np.float32)
        return BatchNorm(gamma, beta, np.zeros(channels, np.float32), variance, 1e-5)

    bits = [pack_bool(rng.random(shape) < 0.5) for shape in ((2, 3, 3, 2), (4, 3, 3, 2))]
    stem = PixelConv2d(
        name="stem", weights=rng.integers(-9, 9, (2, 3, 3, 1), dtype=np.int32), multiplier=2, offset=-255,
        padding=(1, 1), batch_norm=norm(2, 3000.0), kernel=kernel, hardtanh=True,
    )  # fmt: skip
    first = BinaryConv2d(
        name="first", weights=bits[0], padding=(1, 1), batch_norm=norm(2, 4.0), kernel=kernel,
        shortcut=Shortcut(source="stem"), hardtanh=True,
    )  # fmt: skip
    second = BinaryConv2d(
        name="second", weights=bits[1], padding=(1, 1), stride=(2, 2), batch_norm=norm(4, 4.0),
        shortcut=Shortcut(source="first", average_pool=2, channel_padding=(1, 1)), hardtanh=True,
    )  # fmt: skip
    last = RealDense(
        name="last", weights=rng.standard_normal((3, 4)).astype(np.float32), bias=np.ones(3, np.float32),
        input_batch_norm=norm(4, 1.0),
    )  # fmt: skip
    layers = (stem, first, second, AveragePool(name="pool", size=(2, 3)), last)
    rules = PAPER.replace(arithmetic="onnxruntime")
    return NetworkData(name="residual", input_shape=(4, 6, 1), layers=layers, conventions=rules)


def real_sample() -> NetworkData:
    """A small network of real values: real first weights, several bases, an average pool, a real last layer.

    >>> real_sample().layers[1].kind
    'combined_conv2d'
    """
    rng = np.random.default_rng(8)

    def norm(channels: int) -> BatchNorm:
        gamma, beta = rng.standard_normal((2, channels)).astype(np.float32)
        return BatchNorm(gamma, beta, np.zeros(channels, np.float32), np.ones(channels, np.float32), 1e-5)

    stem = RealConv2d(
        name="stem", weights=rng.standard_normal((2, 2, 1, 3)).astype(np.float32), padding=(1, 1), padding_mode="edge",
        scale=np.full(3, 0.5, np.float32), shift=np.ones(3, np.float32), stride=(1, 2), batch_norm=norm(2),
        kernel=ThresholdKernel(np.array([[0.25, 0.5]], np.float32)),
    )  # fmt: skip
    bases = tuple(pack_bool(rng.random((4, 2, 2, 2)) < 0.5) for _ in range(2))
    several = CombinedConv2d(
        name="several", weights=bases, scales=rng.random((2, 4)).astype(np.float32), padding=(1, 0), batch_norm=norm(4),
        pool=MaxPool(),
    )  # fmt: skip
    plain = BinaryConv2d(
        name="plain", weights=pack_bool(rng.random((4, 1, 1, 4)) < 0.5), batch_norm=norm(4), hardtanh=True
    )
    last = RealDense(name="last", weights=rng.standard_normal((3, 4)).astype(np.float32), bias=np.ones(3, np.float32))
    layers = (stem, several, plain, AveragePool(name="pool", size=(3, 2)), last)
    rules = PAPER.replace(arithmetic="onnxruntime")
    return NetworkData(name="real", input_shape=(4, 7, 3), layers=layers, conventions=rules)


def plain_sample() -> NetworkData:
    """`sample` without its kernels.

    >>> plain_sample().layers[0].kernel is None
    True
    """
    network = sample()
    layers = tuple(replace(layer, kernel=None) if isinstance(layer, Stage) else layer for layer in network.layers)
    return replace(network, layers=layers)
