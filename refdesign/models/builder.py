"""What the architectures share: layers that are added one after the other, with given or random parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refdesign.api import Network
from refdesign.bits import PackedBits, pack
from refdesign.checks import is_whole, shown
from refdesign.conventions import PAPER, Conventions, check_conventions
from refdesign.errors import RefdesignError
from refdesign.models.random_parameters import (
    GRID,
    GRID_STEP,
    random_batch_norm,
    random_bits,
    random_grid,
)
from refdesign.network import (
    AveragePool,
    BinaryConv2d,
    BinaryDense,
    Layer,
    MaxPool,
    NetworkData,
    Pair,
    PixelConv2d,
    RealConv2d,
    RealDense,
    Shortcut,
)
from refdesign.normalisation import positive_scale
from refdesign.parameters import BatchNorm, ThresholdKernel, check_kernel
from refdesign.shapes import is_shape

Seed = int | np.random.Generator

GAMMA_SCALED = PAPER.replace(threshold_scale="gamma")
"""The project's conventions for the ReCU models, whose dither is z = y - gamma*T."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerParameters:
    """The trained parameters of one layer of an architecture.

    Attributes:
        weights: OHWI or OI. Binary layers: `PackedBits` or an array of ±1. A real first layer: int32 on a grid
            (whose step is `batch_norm.alpha`), or float32 with `scale` and `shift`. A real dense layer: float32.
        batch_norm: of the accumulators; of a real dense layer, of its inputs.
        bias: float32 (O,), real dense layers only.
        scale, shift: float32 per input channel, x = fl(fl(p*scale) + shift), with float32 first-layer weights only.

    >>> LayerParameters(weights=np.ones((4, 3, 3, 2))).batch_norm is None
    True
    """

    weights: PackedBits | ArrayLike
    batch_norm: BatchNorm | None = None
    bias: NDArray[np.float32] | None = None
    scale: NDArray[np.float32] | None = None
    shift: NDArray[np.float32] | None = None


def scaled(channels: int, width: float) -> int:
    """A layer's width times the multiplier, rounded, at least 1.

    Raises:
        RefdesignError: the multiplier is not positive and finite, or the width is no integer of at least 1.

    >>> scaled(128, 0.25), scaled(16, 0.01)
    (32, 1)
    """
    if not isinstance(width, (int, float, np.number)) or not (math.isfinite(width) and width > 0):
        raise RefdesignError(f"width: found {shown(width)}, expected a positive multiplier")
    if not is_whole(channels, 1):
        raise RefdesignError(f"widths: found {shown(channels)}, expected integers of at least 1")
    return max(1, round(channels * width))


class Builder:
    """Collects the layers of one architecture; layer names and sizes are the architecture's business.

    Args:
        name: the network's name.
        input_shape: (H, W, C).
        conventions: the network's conventions.
        parameters: by layer name; None draws them from `seed`.
        seed: an integer or a generator for random parameters.
        epsilon: of random batch norms.
        padding_mode: of all convolutions.
        pixels: multiplier and offset of the first layer's input.
        metadata: the network's.
    """

    def __init__(
        self,
        *,
        name: str,
        input_shape: tuple[int, int, int],
        conventions: Conventions,
        parameters: Mapping[str, LayerParameters] | None,
        seed: Seed,
        epsilon: float,
        padding_mode: str,
        pixels: tuple[int, int],
        metadata: Mapping[str, str] | None,
    ) -> None:
        check_conventions(name, conventions)
        if not is_shape(input_shape):
            raise RefdesignError(f"{name}, input_shape: found {shown(input_shape)}, expected (H, W, C), all positive")
        if parameters is not None and not isinstance(parameters, Mapping):
            raise RefdesignError(f"{name}, parameters: found {shown(parameters)}, expected LayerParameters by name")
        self.name = name
        self.input_shape = input_shape
        self.conventions = conventions
        self.parameters = None if parameters is None else dict(parameters)
        self.rng = _generator(name, seed)
        self.epsilon = epsilon
        self.padding_mode = padding_mode
        self.pixels = pixels
        self.metadata: Mapping[str, str] = {} if metadata is None else metadata
        self.layers: list[Layer] = []
        self.shape: tuple[int, ...] = input_shape
        """The shape of the last layer's map."""

    def first_conv(
        self,
        name: str,
        out: int,
        *,
        binary: bool,
        kernel: ThresholdKernel | None = None,
        hardtanh: bool = False,
    ) -> None:
        """A 3x3 convolution on pixels, padding 1, with binary weights or real ones (on a grid)."""
        shape = self._conv_shape(name, out)
        fan_in = math.prod(shape[1:])
        multiplier, offset = self.pixels
        given = self._given(name, shape)
        if given is None:
            weights = random_bits(self.rng, shape) if binary else random_grid(self.rng, shape)
            alpha = None if binary else np.full(out, GRID_STEP, np.float32)
            # Pixels as if uniform on 0..255, grid weights on -GRID..GRID.
            deviation = (
                abs(multiplier) * 255 / math.sqrt(12) * math.sqrt(fan_in) * (1 if binary else GRID / math.sqrt(3))
            )
            batch_norm: BatchNorm | None = self._random_batch_norm(out, deviation, kernel, alpha)
        elif not binary and getattr(given.weights, "dtype", None) == np.float32:
            self._add(self._real_first(name, given, kernel, hardtanh))
            return
        else:
            weights = _bits(name, given.weights) if binary else _grid(name, given.weights)
            batch_norm = given.batch_norm
        self._add(
            PixelConv2d(
                name=name, weights=weights, multiplier=multiplier, offset=offset, padding=(1, 1),
                padding_mode=self.padding_mode, batch_norm=batch_norm, kernel=kernel, hardtanh=hardtanh,
            )
        )  # fmt: skip

    def conv(
        self,
        name: str,
        out: int,
        *,
        kernel: ThresholdKernel | None,
        pool: bool = False,
        stride: int = 1,
        scaled_weights: bool = False,
        shortcut: Shortcut | None = None,
        hardtanh: bool = False,
    ) -> None:
        """A binary 3x3 convolution, padding 1; `scaled_weights`: with a scale alpha per channel."""
        shape = self._conv_shape(name, out)
        given = self._given(name, shape)
        if given is None:
            fan_in = math.prod(shape[1:])
            alpha = None
            if scaled_weights:
                alpha = (self.rng.uniform(0.5, 1.5, out) / math.sqrt(fan_in)).astype(np.float32)
            weights = random_bits(self.rng, shape)
            batch_norm: BatchNorm | None = self._random_batch_norm(out, math.sqrt(fan_in), kernel, alpha, pooled=pool)
        else:
            weights, batch_norm = _bits(name, given.weights), given.batch_norm
            if pool and batch_norm is not None:
                weights, batch_norm = positive_scale(weights, batch_norm)
        self._add(
            BinaryConv2d(
                name=name, weights=weights, stride=(stride, stride), padding=(1, 1), padding_mode=self.padding_mode,
                pool=MaxPool() if pool else None, batch_norm=batch_norm, kernel=kernel,
                shortcut=shortcut, hardtanh=hardtanh,
            )
        )  # fmt: skip

    def dense(self, name: str, out: int) -> None:
        """A binary dense layer with batch norm, without dither."""
        shape = (out, math.prod(self.shape))
        given = self._given(name, shape)
        if given is None:
            weights = random_bits(self.rng, shape)
            batch_norm: BatchNorm | None = self._random_batch_norm(out, math.sqrt(shape[1]), None, None)
        else:
            weights, batch_norm = _bits(name, given.weights), given.batch_norm
        self._add(BinaryDense(name=name, weights=weights, batch_norm=batch_norm))

    def average_pool(self, name: str, size: Pair) -> None:
        """An average pool over the real stream."""
        self._add(AveragePool(name=name, size=size))

    def real_dense(self, name: str, out: int, *, normalised: bool) -> None:
        """A real dense layer with bias; `normalised`: with a batch norm of its inputs."""
        inputs = math.prod(self.shape)
        given = self._given(name, (out, inputs))
        if given is None:
            weights = (self.rng.standard_normal((out, inputs)) / math.sqrt(inputs)).astype(np.float32)
            bias: NDArray[np.float32] | None = (0.1 * self.rng.standard_normal(out)).astype(np.float32)
            batch_norm = self._random_batch_norm(inputs, 0.5, None, None) if normalised else None
        else:
            weights, bias, batch_norm = np.asarray(given.weights), given.bias, given.batch_norm
            if normalised != (batch_norm is not None):
                expected = "one" if normalised else "none"
                raise RefdesignError(f"layer {name!r}, batch_norm: found {batch_norm}, expected {expected}")
        self._add(RealDense(name=name, weights=weights, bias=bias, input_batch_norm=batch_norm))

    def network(self) -> Network:
        """The network of all layers that were added.

        Raises:
            RefdesignError: parameters for layers that the architecture has not.
        """
        if self.parameters:
            known = ", ".join(layer.name for layer in self.layers)
            raise RefdesignError(f"parameters: found layer {min(self.parameters)!r}, expected only {known}")
        return Network(
            name=self.name,
            input_shape=self.input_shape,
            layers=tuple(self.layers),
            conventions=self.conventions,
            metadata=self.metadata,
        )

    def _add(self, layer: Layer) -> None:
        self.layers.append(layer)
        checked = NetworkData(
            name=self.name, input_shape=self.input_shape, layers=tuple(self.layers), conventions=self.conventions
        )
        self.shape = checked.shapes[layer.name].output

    def _conv_shape(self, name: str, out: int) -> tuple[int, int, int, int]:
        if len(self.shape) != 3:
            raise RefdesignError(f"layer {name!r}: found an input of shape {self.shape}, expected (H, W, C)")
        return out, 3, 3, self.shape[2]

    def _given(self, name: str, shape: tuple[int, ...]) -> LayerParameters | None:
        if not is_whole(shape[0], 1):
            raise RefdesignError(f"layer {name!r}: found {shown(shape[0])} outputs, expected an integer of at least 1")
        if self.parameters is None:
            return None
        if name not in self.parameters:
            raise RefdesignError(f"parameters: layer {name!r} is missing")
        given = self.parameters.pop(name)
        found = given.weights.shape if isinstance(given.weights, PackedBits) else np.shape(given.weights)
        if found != shape:
            raise RefdesignError(f"layer {name!r}, weights: found shape {found}, expected {shape}")
        return given

    def _random_batch_norm(
        self,
        channels: int,
        deviation: float,
        kernel: ThresholdKernel | None,
        alpha: NDArray[np.float32] | None,
        *,
        pooled: bool = False,
    ) -> BatchNorm:
        check_kernel(self.name, kernel)
        return random_batch_norm(
            self.rng, channels, deviation, epsilon=self.epsilon, conventions=self.conventions,
            kernel=kernel, alpha=alpha, pooled=pooled,
        )  # fmt: skip

    def _real_first(
        self, name: str, given: LayerParameters, kernel: ThresholdKernel | None, hardtanh: bool
    ) -> RealConv2d:
        if given.scale is None or given.shift is None:
            raise RefdesignError(
                f"layer {name!r}, weights: found float32 without scale and shift of the pixels, expected both "
                "(or int32 weights on a grid)"
            )
        return RealConv2d(
            name=name, weights=np.asarray(given.weights), scale=given.scale, shift=given.shift, padding=(1, 1),
            padding_mode=self.padding_mode, batch_norm=given.batch_norm, kernel=kernel, hardtanh=hardtanh,
        )  # fmt: skip


def _generator(name: str, seed: Seed) -> np.random.Generator:
    try:
        return np.random.default_rng(seed)
    except (TypeError, ValueError):
        raise RefdesignError(
            f"{name}, seed: found {shown(seed)}, expected an integer from 0 on, or a generator of NumPy"
        ) from None


def _bits(name: str, weights: PackedBits | ArrayLike) -> PackedBits:
    if isinstance(weights, PackedBits):
        return weights
    try:
        return pack(weights)
    except RefdesignError as error:
        raise RefdesignError(f"layer {name!r}, weights: {error}") from error


def _grid(name: str, weights: PackedBits | ArrayLike) -> NDArray[np.int32]:
    if isinstance(weights, PackedBits) or np.asarray(weights).dtype != np.int32:
        found = "packed bits" if isinstance(weights, PackedBits) else np.asarray(weights).dtype
        raise RefdesignError(f"layer {name!r}, weights: found {found}, expected int32 on a grid, or float32")
    return np.asarray(weights)
