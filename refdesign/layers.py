"""Layers as frozen dataclasses: everything from a layer's input to its bits.

Convolution or dense product, optional max pool, batch norm, dither, optional shortcut and hardtanh, sign: the
stages stand in that order (docs/method.md, section 1).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import PackedBits
from refdesign.errors import RefdesignError
from refdesign.parameters import BatchNorm, ThresholdKernel

PADDING_MODES = ("zeros", "ones", "minus_ones", "symmetric", "reflect", "edge", "circular")
"""How positions outside the map are filled (docs/method.md, section 2)."""

Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class MaxPool:
    """Max pool over accumulators, (rows, columns), without padding; what does not fill a window is cut off."""

    size: Pair = (2, 2)
    stride: Pair = (2, 2)


@dataclass(frozen=True, kw_only=True)
class Shortcut:
    """A residual addition: the real output of an earlier layer is added to z.

    Attributes:
        source: the name of the layer whose real output is added.
        average_pool: size and stride of an average pool on the way; 1 for none.
        channel_padding: how many zero channels are put before and behind.
    """

    source: str
    average_pool: int = 1
    channel_padding: Pair = (0, 0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """What all layers share: a name."""

    name: str
    kind: ClassVar[str]
    takes: ClassVar[str]
    """`"pixels"`, `"bits"` or `"real"`: which stream the layer reads."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage(Layer):
    """The stages behind an accumulator: pool, batch norm, dither, shortcut, hardtanh, sign.

    Attributes:
        pool: an optional max pool over the accumulators.
        batch_norm: an optional batch norm; without it y is the accumulator (times the layer's scale).
        kernel: the dither's threshold kernel; None is plain Sign (T = 0).
        shortcut: an optional residual addition, after the dither.
        hardtanh: whether the real stream is clamped to [-1, 1]; the bits do not change by it.
    """

    pool: MaxPool | None = None
    batch_norm: BatchNorm | None = None
    kernel: ThresholdKernel | None = None
    shortcut: Shortcut | None = None
    hardtanh: bool = False

    @property
    def out_channels(self) -> int:
        """The number of output channels O."""
        raise AttributeError

    @property
    def fan_in(self) -> int:
        """Products summed in one accumulator."""
        raise AttributeError

    @property
    def folds(self) -> bool:
        """Whether the bits are integer thresholds on integer accumulators: no residual addition."""
        return self.shortcut is None


@dataclass(frozen=True, kw_only=True, eq=False)
class Convolution(Stage):
    """Geometry of a convolution over NHWC maps with OHWI weights.

    Attributes:
        stride, padding, dilation: (rows, columns).
        padding_mode: one of `PADDING_MODES`.
        groups: input and output channels fall into this many independent groups.
    """

    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    padding_mode: str = "zeros"
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """(O, kernel rows, kernel columns, I/groups)."""
        raise AttributeError

    @property
    def out_channels(self) -> int:
        return self.weight_shape[0]

    @property
    def fan_in(self) -> int:
        _, rows, columns, depth = self.weight_shape
        return rows * columns * depth

    @property
    def geometry(self) -> dict[str, Any]:
        """Stride, padding, padding mode, dilation and groups, by the names that the operators give them."""
        return {
            "stride": self.stride,
            "padding": self.padding,
            "padding_mode": self.padding_mode,
            "dilation": self.dilation,
            "groups": self.groups,
        }

    @property
    def pads_with_zeros(self) -> bool:
        """Whether some windows have positions that count for nothing."""
        return self.padding_mode == "zeros" and self.padding != (0, 0)


@dataclass(frozen=True, kw_only=True, eq=False)
class BinaryConv2d(Convolution):
    """Binary weights on binary activations; the accumulator is an integer.

    Attributes:
        weights: packed along the input channels, shape (O, kernel rows, kernel columns, I/groups).
    """

    weights: PackedBits
    kind: ClassVar[str] = "binary_conv2d"
    takes: ClassVar[str] = "bits"

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        return _shape4(self.name, self.weights.shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class PixelConv2d(Convolution):
    """The first layer on 8-bit pixels: x = multiplier*p + offset, a = sum x*w exactly (docs/method.md, section 2).

    Attributes:
        weights: `PackedBits` for weights of ±1, or int32 of shape (O, kernel rows, kernel columns, I/groups)
            for real weights on a fixed-point grid (the grid's step is then `batch_norm.alpha`).
        multiplier, offset: integers that map a pixel to its value, (1, 0) or (2, -255) in networks trained
            here. Padding with "zeros", "ones", "minus_ones" fills x (not p) with 0, +1, -1.
    """

    weights: PackedBits | NDArray[np.int32]
    multiplier: int = 1
    offset: int = 0
    kind: ClassVar[str] = "pixel_conv2d"
    takes: ClassVar[str] = "pixels"

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        return _shape4(self.name, self.weights.shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class RealConv2d(Convolution):
    """A first layer with arbitrary float32 weights, for networks from elsewhere.

    Each sum is taken over rows, columns, channels in that order in float64 and rounded to float32 once; the
    framework's own sum may differ from it by rounding, so bits with a margin below the bound of that rounding
    are listed as uncertain (output `<layer>.uncertain`). That bound is, with n = `fan_in` and u = 2**-24,
    (n*u/(1 - n*u) + 2*n*2**-53) * (sum of |x*w|) + u*|sum of x*w| + (n + 1)*2**-149: n roundings of float32 and
    n of float64 on the way of each product, the last rounding, and underflow. It is computed in float64 in this
    order, rounded to float32 and then to the next number up.

    Attributes:
        weights: float32, shape (O, kernel rows, kernel columns, I/groups).
        scale, shift: float32 per input channel (I,): x = fl(fl(p*scale) + shift).
    """

    weights: NDArray[np.float32]
    scale: NDArray[np.float32]
    shift: NDArray[np.float32]
    kind: ClassVar[str] = "real_conv2d"
    takes: ClassVar[str] = "pixels"

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        return _shape4(self.name, self.weights.shape)

    @property
    def folds(self) -> bool:
        return False


@dataclass(frozen=True, kw_only=True, eq=False)
class CombinedConv2d(Convolution):
    """Several binary bases with real scales (ABC-Net): v = fl(fl(s0*a0) + fl(s1*a1)) + ..., in this order.

    No single integer threshold exists for it; it stays unfolded.

    Attributes:
        weights: one `PackedBits` per basis, each of shape (O, kernel rows, kernel columns, I/groups).
        scales: float32, shape (bases, O).
    """

    weights: tuple[PackedBits, ...]
    scales: NDArray[np.float32]
    kind: ClassVar[str] = "combined_conv2d"
    takes: ClassVar[str] = "bits"

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        return _shape4(self.name, self.weights[0].shape)

    @property
    def folds(self) -> bool:
        return False


@dataclass(frozen=True, kw_only=True, eq=False)
class BinaryDense(Stage):
    """Binary weights on all bits of the layer before, flattened as (row, column, channel).

    Attributes:
        weights: packed along the inputs, shape (O, I).
    """

    weights: PackedBits
    kind: ClassVar[str] = "binary_dense"
    takes: ClassVar[str] = "bits"

    @property
    def out_channels(self) -> int:
        return self.weights.shape[0]

    @property
    def fan_in(self) -> int:
        return self.weights.length


@dataclass(frozen=True, kw_only=True, eq=False)
class AveragePool(Layer):
    """Average pool over the real stream: sums row by row in float32, then one division.

    Attributes:
        size: size and stride, (rows, columns).
    """

    size: Pair
    kind: ClassVar[str] = "average_pool"
    takes: ClassVar[str] = "real"


@dataclass(frozen=True, kw_only=True, eq=False)
class RealDense(Layer):
    """A real last layer on the real stream, flattened as (row, column, channel).

    The products are summed in input order in float64, bias last, and rounded to float32 once.

    Attributes:
        weights: float32, shape (O, I).
        bias: float32 (O,), or None.
        input_batch_norm: an optional batch norm of the inputs (I channels).
    """

    weights: NDArray[np.float32]
    bias: NDArray[np.float32] | None = None
    input_batch_norm: BatchNorm | None = None
    kind: ClassVar[str] = "real_dense"
    takes: ClassVar[str] = "real"

    @property
    def out_channels(self) -> int:
        """The number of outputs O."""
        return int(self.weights.shape[0])


LAYER_KINDS: dict[str, type[Layer]] = {
    cls.kind: cls
    for cls in (BinaryConv2d, PixelConv2d, RealConv2d, CombinedConv2d, BinaryDense, AveragePool, RealDense)
}
"""Layer classes by the name that files carry."""


def fold_channels(layer: Stage) -> BatchNorm:
    """The layer's batch norm, or the identity where it has none."""
    if layer.batch_norm is not None:
        return layer.batch_norm
    ones = np.ones(layer.out_channels, dtype=np.float32)
    zeros = np.zeros(layer.out_channels, dtype=np.float32)
    return BatchNorm(ones, zeros, zeros, ones, 0.0, k=ones, c=zeros)


def describe(layer: Layer) -> dict[str, object]:
    """The layer's plain fields (numbers, texts, pairs, pool and shortcut) by name, without its arrays."""
    plain: dict[str, object] = {"kind": layer.kind}
    for item in fields(layer):
        value = getattr(layer, item.name)
        if isinstance(value, (str, int, tuple)) and item.name not in ("weights", "scales"):
            plain[item.name] = value
        elif isinstance(value, (MaxPool, Shortcut)):
            plain[item.name] = {entry.name: getattr(value, entry.name) for entry in fields(value)}
    return plain


def _shape4(name: str, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    if len(shape) != 4:
        raise RefdesignError(f"layer {name!r}, weights: found shape {shape}, expected (O, rows, columns, channels)")
    out, rows, columns, depth = shape
    return out, rows, columns, depth
