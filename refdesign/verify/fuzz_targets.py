"""What is fuzzed: for each file format good files to start from, how they are changed, and the reader."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from refdesign.bits import pack_bool
from refdesign.conventions import PAPER
from refdesign.formats import native
from refdesign.network import (
    AveragePool,
    BinaryConv2d,
    BinaryDense,
    MaxPool,
    NetworkData,
    PixelConv2d,
    RealDense,
    Shortcut,
    Stage,
)
from refdesign.parameters import BatchNorm, ThresholdKernel
from refdesign.verify.fuzz_foreign import FOREIGN
from refdesign.verify.mutations import mutate_bytes, mutate_model
from refdesign.verify.native_mutations import mutate_native


@dataclass(frozen=True)
class Target:
    """A format to fuzz.

    Attributes:
        seeds: makes good files.
        read: the reader of a file's content.
        parts: changes a file's parts and leaves it well formed, where the format has such; else bytes are changed.
        share: of the files of a campaign.
    """

    seeds: Callable[[], list[bytes]]
    read: Callable[[bytes], object]
    share: float
    parts: Callable[[random.Random, bytes], bytes] | None = None


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


def _onnx_seeds() -> list[bytes]:
    from refdesign.formats import onnx_out

    import_module("refdesign.formats.onnx_in")  # before processes fork, so that all have one version of the reader
    forms: list[dict[str, Any]] = [{}, {"inlined": True}, {"form": "float"}, {"form": "float", "inlined": True}]
    models = [onnx_out.to_model(sample(), **form) for form in forms]
    models.append(onnx_out.to_model(residual_sample(), form="float"))
    return [model.SerializeToString() for model in models]


def plain_sample() -> NetworkData:
    """`sample` without its kernels.

    >>> plain_sample().layers[0].kernel is None
    True
    """
    network = sample()
    layers = tuple(replace(layer, kernel=None) if isinstance(layer, Stage) else layer for layer in network.layers)
    return replace(network, layers=layers)


def _qonnx_seeds() -> list[bytes]:
    import_module("refdesign.formats.onnx_in")
    from refdesign.formats import qonnx_out
    from refdesign.verify.foreign_models import brevitas_model, keras_model

    models = [qonnx_out.to_model(plain_sample()), brevitas_model(), keras_model()]
    return [model.SerializeToString() for model in models]


def _read_onnx(data: bytes) -> object:
    from refdesign.formats import onnx_in

    return onnx_in.from_bytes(data)


TARGETS: dict[str, Target] = {
    "native": Target(
        lambda: [native.to_bytes(sample()), native.to_bytes(residual_sample())], native.from_bytes, 0.6, mutate_native
    ),
    "onnx": Target(_onnx_seeds, _read_onnx, 0.08, mutate_model),
    "qonnx": Target(_qonnx_seeds, _read_onnx, 0.04, mutate_model),
}
TARGETS |= {name: Target(*parts) for name, parts in FOREIGN.items()}
"""The formats whose readers are tried, by name."""


@cache
def good_files(kind: str) -> tuple[bytes, ...]:
    """The good files of a format."""
    return tuple(TARGETS[kind].seeds())


def case(kind: str, seed: int, number: int) -> bytes:
    """One mutated file of a format; always the same for the same seed and number.

    >>> case("native", 5, 0) == case("native", 5, 0), case("native", 5, 0) == case("native", 5, 1)
    (True, False)
    """
    rng = random.Random(f"{kind} {seed} {number}")
    data, parts = rng.choice(good_files(kind)), TARGETS[kind].parts
    return parts(rng, data) if parts is not None and rng.random() < 0.7 else mutate_bytes(rng, data)
