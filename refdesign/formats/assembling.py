"""A network from a file's tensors and a plan that says, layer by layer, which of them mean what.

What a plan is stands in `refdesign.formats.plans`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import PackedBits, pack_bool
from refdesign.conventions import Conventions
from refdesign.errors import RefdesignError
from refdesign.formats.binarising import Binarised, binarised
from refdesign.formats.plans import LAYOUTS, LayerPlan, Norm
from refdesign.formats.report import Report
from refdesign.formats.tensors import StoredTensor
from refdesign.network import (
    AveragePool,
    BinaryConv2d,
    BinaryDense,
    Layer,
    NetworkData,
    PixelConv2d,
    RealConv2d,
    RealDense,
)
from refdesign.normalisation import positive_scale, positive_slope
from refdesign.parameters import BatchNorm, RationalAffine, ThresholdKernel

Float32 = NDArray[np.float32]
Root = Callable[[Float32], Float32]


@dataclass(frozen=True, kw_only=True)
class Context:
    """What holds for all layers.

    Attributes:
        tensors: the file's, by name.
        pixels: scale and offset of the pixels for each input channel, or once for all; None where nobody said it.
        usual_pixels: the architecture's own multiplier and offset, for first layers of bits, or on a grid.
        conventions: of the network.
        root: what the framework computes for 1/sqrt, needed under `"keras"` arithmetic.
    """

    tensors: Mapping[str, StoredTensor]
    conventions: Conventions
    pixels: Sequence[tuple[float, float]] | None = None
    usual_pixels: tuple[int, int] | None = None
    root: Root | None = None


def assemble(
    plans: Sequence[LayerPlan], context: Context, *, name: str, input_shape: tuple[int, int, int]
) -> tuple[NetworkData, Report]:
    """The network that a plan makes of a file's tensors.

    Raises:
        RefdesignError: a tensor that is missing, of another shape, or not of the values that its place needs; names
            the layer, the tensor, what was found and expected.

    >>> signs = np.array([1, -1, 1, -1, 1, 1], np.int8)
    >>> weights = StoredTensor("int8", (2, 1, 1, 3), lambda: signs.reshape(2, 1, 1, 3))
    >>> plan = LayerPlan(name="conv", kind="pixel_conv2d", weights="w")
    >>> from refdesign.conventions import PAPER
    >>> network, report = assemble([plan], Context(tensors={"w": weights}, conventions=PAPER, pixels=[(2, -255)]),
    ...                            name="tiny", input_shape=(4, 5, 1))
    >>> network.shapes["conv"].output, report.recognised
    ((4, 3, 2), ["conv: pixel_conv2d 2x1x3x1 from 'w', ±1"])
    """
    layers: list[Layer] = []
    report = Report()
    shape: tuple[int, ...] = input_shape
    for plan in plans:
        try:
            layer = _LayerMaker(plan, context, shape, report).layer()
            layers.append(layer)
            network = NetworkData(
                name=name, input_shape=input_shape, layers=tuple(layers), conventions=context.conventions
            )
        except RefdesignError as error:
            text = str(error)
            where = f"layer {plan.name!r}"
            raise RefdesignError(text if text.startswith(where) else f"{where}, {text}") from error
        shape = network.shapes[plan.name].output
    if not layers:
        raise RefdesignError("found a plan without layers, expected at least one")
    report.assumed = list(dict.fromkeys(report.assumed))
    return network, report


class _LayerMaker:
    """One layer; `shape` is the map that it reads."""

    def __init__(self, plan: LayerPlan, context: Context, shape: tuple[int, ...], report: Report) -> None:
        self.plan, self.context, self.shape, self.report = plan, context, shape, report

    def layer(self) -> Layer:
        plan = self.plan
        if plan.kind == "average_pool":
            self.report.recognised.append(f"{plan.name}: average_pool")
            return AveragePool(name=plan.name, **plan.settings)
        weights = self.weights()
        if plan.kind == "real_dense":
            return self.real_dense(weights)
        if plan.kind == "real_conv2d":
            return self.real_first(weights)
        bits = binarised(weights, plan.rule)
        return self.binary(weights, bits)

    def tensor(self, name: str) -> StoredTensor:
        if name not in self.context.tensors:
            held = ", ".join(list(self.context.tensors)[:8])
            raise RefdesignError(f"tensor {name[:80]!r}: is missing; the file begins with {held}")
        return self.context.tensors[name]

    def weights(self) -> Float32:
        """The weights in the project's layout."""
        plan = self.plan
        stored = self.tensor(plan.weights)
        order = LAYOUTS[plan.layout]
        if len(stored.shape) != len(order) or 0 in stored.shape:
            raise RefdesignError(f"tensor {plan.weights[:80]!r}: found shape {stored.shape}, expected {plan.layout}")
        array = _floats(plan.weights, stored).transpose(order)
        if array.ndim == 2:
            return self.flattened(array)
        return np.ascontiguousarray(array)

    def flattened(self, array: Float32) -> Float32:
        """A dense layer's weights (O, I), or a vector (I,), with the inputs as (row, column, channel)."""
        inputs = math.prod(self.shape)
        if array.shape[-1] != inputs:
            raise RefdesignError(
                f"tensor {self.plan.weights[:80]!r}: found {array.shape[-1]} inputs, expected {inputs} of a map "
                f"{self.shape}"
            )
        if self.plan.channels_first and len(self.shape) == 3:
            height, width, channels = self.shape
            split = array.reshape(*array.shape[:-1], channels, height, width)
            array = np.moveaxis(split, -3, -1).reshape(array.shape)
        return np.ascontiguousarray(array)

    def vector(self, name: str, count: int) -> Float32:
        """A parameter per channel; axes of 1 around it do not count."""
        stored = self.tensor(name)
        if math.prod(stored.shape) not in (1, count):
            raise RefdesignError(f"tensor {name[:80]!r}: found shape {stored.shape}, expected {count} channels")
        return np.array(np.broadcast_to(_floats(name, stored).reshape(-1), (count,)))

    def binary(self, weights: Float32, found: Binarised) -> Layer:
        """A layer of binary weights."""
        plan = self.plan
        bits: PackedBits = pack_bool(found.signs)
        norm = self.batch_norm(len(weights), found.alpha)
        settings: dict[str, Any] = dict(plan.settings)
        if settings.get("pool") is not None and norm is not None:
            bits, norm = positive_slope(bits, norm) if plan.pool_behind else positive_scale(bits, norm)
        norm = self.finished(norm)
        settings |= {"batch_norm": norm, "kernel": self.kernel()}
        self.note(weights, found.recognised, norm)
        self.report.assumed += [*found.assumed, *(f"{plan.name}: {line}" for line in found.noted)]
        if plan.kind == "binary_dense":
            return BinaryDense(name=plan.name, weights=bits, **settings)
        if plan.kind == "binary_conv2d":
            return BinaryConv2d(name=plan.name, weights=bits, **settings)
        pixels = self.pixels(usual=True)
        if len(set(pixels)) == 1 and all(float(part).is_integer() for part in pixels[0]):
            multiplier, offset = (int(part) for part in pixels[0])
            return PixelConv2d(name=plan.name, weights=bits, multiplier=multiplier, offset=offset, **settings)
        signs = np.where(found.signs, np.float32(1), np.float32(-1))
        return self.real_conv(signs, pixels, settings)

    def real_first(self, weights: Float32) -> Layer:
        """A first layer of real weights: integers on a grid, or float32."""
        plan = self.plan
        settings: dict[str, Any] = dict(plan.settings)
        norm = self.finished(self.batch_norm(len(weights), None))
        settings |= {"batch_norm": norm, "kernel": self.kernel()}
        if plan.pool_behind and settings.get("pool") is not None:
            raise RefdesignError("found a max pool behind the batch norm of real weights, expected it before")
        if plan.grid is None:
            self.note(weights, "real", norm)
            return self.real_conv(weights, self.pixels(usual=False), settings)
        self.note(weights, f"real, integers up to {plan.grid} on a grid", norm)
        grid = np.rint(np.clip(weights, -1, 1) * np.float32(plan.grid)).astype(np.int32)
        multiplier, offset = (int(part) for part in self.pixels(usual=True)[0])
        return PixelConv2d(name=plan.name, weights=grid, multiplier=multiplier, offset=offset, **settings)

    def real_conv(self, weights: Float32, pixels: Sequence[tuple[float, float]], settings: dict[str, Any]) -> Layer:
        channels = self.shape[2] if len(self.shape) == 3 else 1
        if len(pixels) not in (1, channels):
            raise RefdesignError(f"pixels: found {len(pixels)} pairs of scale and offset, expected 1 or {channels}")
        both = np.broadcast_to(np.array(pixels, np.float64), (channels, 2)).astype(np.float32)
        self.report.assumed.append(
            f"{self.plan.name}: pixels are scaled as x = fl(fl(p*scale) + offset) in float32; bits that depend on the "
            "order of a float sum are listed as uncertain"
        )
        return RealConv2d(
            name=self.plan.name, weights=weights, scale=both[:, 0].copy(), shift=both[:, 1].copy(), **settings
        )

    def pixels(self, *, usual: bool) -> Sequence[tuple[float, float]]:
        """Scale and offset of the pixels; `usual`: the architecture's own will do."""
        if self.context.pixels is None and usual and self.context.usual_pixels is not None:
            multiplier, offset = self.context.usual_pixels
            self.report.assumed.append(f"pixels p enter as {multiplier}*p{offset:+d}, as the architecture has it")
            return [self.context.usual_pixels]
        if self.context.pixels is None:
            raise RefdesignError(
                "pixels: the file does not say how 8-bit pixels p become the network's inputs x = SCALE*p + OFFSET, "
                "expected it as an option, such as 2,-255 (--pixels)"
            )
        return self.context.pixels

    def real_dense(self, weights: Float32) -> Layer:
        plan = self.plan
        norm = None
        if plan.batch_norm is not None:
            norm = self.parameters(plan.batch_norm, weights.shape[1])
            if plan.channels_first:
                norm = replace(
                    norm, gamma=self.flattened(norm.gamma), beta=self.flattened(norm.beta),
                    mean=self.flattened(norm.mean), variance=self.flattened(norm.variance),
                )  # fmt: skip
            norm = self.finished(norm)
        bias = None if plan.bias is None else self.vector(plan.bias, len(weights))
        self.note(weights, "real", norm)
        return RealDense(name=plan.name, weights=weights, bias=bias, input_batch_norm=norm)

    def note(self, weights: Float32, how: str, norm: BatchNorm | None) -> None:
        plan = self.plan
        line = f"{plan.name}: {plan.kind} {'x'.join(map(str, weights.shape))} from {plan.weights!r}, {how}"
        if plan.alpha is not None:
            line += f", scale from {plan.alpha!r}"
        if plan.batch_norm is not None and norm is not None:
            line += f", batch norm from {plan.batch_norm.mean!r} and its neighbours (epsilon {norm.epsilon:.3g})"
        if plan.bias is not None:
            line += f", bias from {plan.bias!r}"
        if isinstance(plan.kernel, str):
            line += f", thresholds from {plan.kernel!r}"
        self.report.recognised.append(line)

    def parameters(self, names: Norm, channels: int, alpha: Float32 | None = None) -> BatchNorm:
        mean, variance = self.vector(names.mean, channels), self.vector(names.variance, channels)
        gamma = np.ones(channels, np.float32) if names.gamma is None else self.vector(names.gamma, channels)
        # Without beta the shift is -mean*k, which is -0.0 where the mean is 0.
        beta = -np.zeros(channels, np.float32) if names.beta is None else self.vector(names.beta, channels)
        return BatchNorm(gamma, beta, mean, variance, names.epsilon, alpha=alpha)

    def batch_norm(self, channels: int, alpha: Float32 | None) -> BatchNorm | None:
        """The batch norm of the sums, a scale and a bias included."""
        plan = self.plan
        if plan.alpha is not None:
            alpha = self.vector(plan.alpha, channels)
        bias = None if plan.bias is None else self.vector(plan.bias, channels)
        if bias is not None and not bias.any():
            bias = None
        if plan.batch_norm is None:
            if alpha is None and bias is None:
                return None
            ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
            return BatchNorm(ones, zeros if bias is None else bias, zeros, ones, 0.0, alpha=alpha)
        norm = self.parameters(plan.batch_norm, channels, alpha)
        return norm if bias is None else self.biased(norm, bias)

    def biased(self, norm: BatchNorm, bias: Float32) -> BatchNorm:
        """A bias before the batch norm: exact, so only in exact arithmetic."""
        if self.context.conventions.arithmetic != "real":
            raise RefdesignError(
                f"tensor {self.plan.bias!r}: found a bias before a batch norm, which only exact arithmetic moves into "
                "it, expected --arithmetic real"
            )
        if norm.alpha is not None or self.plan.pool_behind:
            raise RefdesignError(
                f"tensor {self.plan.bias!r}: found a bias behind scaled weights, or before a batch norm with a max "
                "pool behind it, expected none"
            )
        exact = [Fraction(float(value)) for value in bias]
        denominator = math.lcm(*(value.denominator for value in exact))
        offsets = tuple(int(value * denominator) for value in exact)
        return replace(norm, affine=RationalAffine(denominator, offsets, denominator))

    def finished(self, norm: BatchNorm | None) -> BatchNorm | None:
        """With the k and c that the framework computes, where the arithmetic needs them."""
        if norm is None or self.context.conventions.arithmetic != "keras":
            return norm
        if self.plan.batch_norm is None:
            return replace(norm, k=norm.gamma, c=norm.beta)
        if self.context.root is None:
            raise RefdesignError("batch norm: found no k for the arithmetic 'keras', expected TensorFlow to compute it")
        k = norm.gamma * self.context.root(norm.variance + np.float32(norm.epsilon))
        return replace(norm, k=k, c=norm.beta - norm.mean * k)

    def kernel(self) -> ThresholdKernel | None:
        """The threshold kernel; None where all thresholds are 0."""
        kernel = self.plan.kernel
        if isinstance(kernel, str):
            stored = self.tensor(kernel)
            if len(stored.shape) != 3 or math.prod(stored.shape) > 1 << 20:
                raise RefdesignError(f"tensor {kernel[:80]!r}: found shape {stored.shape}, expected (g, m, n)")
            kernel = ThresholdKernel(_floats(kernel, stored).transpose(1, 2, 0))
        return kernel if kernel is not None and kernel.values.any() else None


def _floats(name: str, stored: StoredTensor) -> Float32:
    try:
        return stored.float32()
    except RefdesignError as error:
        raise RefdesignError(f"tensor {name[:80]!r}: {error}") from error
