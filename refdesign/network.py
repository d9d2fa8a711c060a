"""Networks as data: layers are frozen dataclasses, a network is a tuple of them with its conventions.

A layer is everything from its input to its bits: convolution or dense product, optional max pool, batch norm,
dither, optional shortcut and hardtanh, sign. The stages stand in that order (docs/method.md, section 1).

Two streams run from layer to layer: the *bits*, and, in residual networks, the *real* value whose sign they
are. What a layer takes and leaves is a property of its class; `Network` checks that it fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import PackedBits
from refdesign.conventions import PAPER, Conventions
from refdesign.errors import RefdesignError
from refdesign.parameters import BatchNorm, ThresholdKernel

PADDING_MODES = ("zeros", "ones", "minus_ones", "symmetric", "reflect", "edge", "circular")
"""How positions outside the map are filled (docs/method.md, section 2)."""

Pair = tuple[int, int]
Domain = tuple[NDArray[np.int64], NDArray[np.int64], int]
"""Attainable accumulators: lowest and highest (int64, per channel) and the step between neighbours."""


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


@dataclass(frozen=True, kw_only=True)
class LayerShapes:
    """The shapes of one layer's maps without the batch axis: (H, W, C), or (C,) after a dense layer."""

    input: tuple[int, ...]
    accumulator: tuple[int, ...]
    output: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class NetworkData:
    """A network as data, checked when it is made.

    Attributes:
        name: what the network is called.
        input_shape: (H, W, C) of the uint8 images.
        layers: in order of execution; the last one gives the logits.
        conventions: the choices under which the network is meant.
        metadata: free text by key (how it was trained, its accuracy, its licence).

    Raises:
        RefdesignError: layers that do not fit each other, naming the layer and the field.
    """

    name: str
    input_shape: tuple[int, int, int]
    layers: tuple[Layer, ...]
    conventions: Conventions = PAPER
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        object.__setattr__(self, "metadata", MappingProxyType(dict(self.metadata)))
        object.__setattr__(self, "_shapes", check(self))

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "metadata": dict(self.metadata)}

    @property
    def shapes(self) -> Mapping[str, LayerShapes]:
        """The shapes of every layer's maps, by layer name."""
        shapes: Mapping[str, LayerShapes] = MappingProxyType(self.__dict__["_shapes"])
        return shapes

    @property
    def real_sources(self) -> frozenset[str]:
        """The names of the layers whose real output a later layer reads."""
        names = {
            layer.shortcut.source for layer in self.layers if isinstance(layer, Stage) and layer.shortcut is not None
        }
        for before, after in zip(self.layers, self.layers[1:], strict=False):
            if after.takes == "real":
                names.add(before.name)
        return frozenset(names)

    def layer(self, name: str) -> Layer:
        """The layer of this name.

        Raises:
            RefdesignError: there is none; the message lists those that there are.
        """
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise RefdesignError(
            f"network {self.name!r}: found no layer {name!r}, expected one of "
            + ", ".join(layer.name for layer in self.layers)
        )

    @property
    def output_names(self) -> tuple[str, ...]:
        """Every output that `run` can give, in order of execution (docs/method.md, section 7)."""
        names: list[str] = []
        for layer in self.layers:
            names += layer_outputs(self, layer)
        return (*names, "logits")


def layer_outputs(network: NetworkData, layer: Layer) -> list[str]:
    """The names of one layer's outputs, in order of execution, without `logits`."""
    parts: list[str] = []
    last = layer is network.layers[-1]
    if isinstance(layer, Stage):
        if not isinstance(layer, (RealConv2d, CombinedConv2d)):
            parts.append("accumulator")
            if layer.pool is not None:
                parts.append("pooled")
        if not last:
            if layer.name in network.real_sources:
                parts.append("real")
            parts.append("bits")
            if isinstance(layer, RealConv2d):
                parts.append("uncertain")
    elif not last:
        parts.append("real")
    return [f"{layer.name}.{part}" for part in parts]


def accumulator_domain(layer: Stage, *, ternary_input: bool = False) -> Domain:
    """The attainable accumulators of a layer: per channel lowest and highest (int64, (O,)), and the step.

    Args:
        layer: a layer with integer accumulators.
        ternary_input: whether its inputs can be 0 (exact ties under `sign_at_zero=0`).

    >>> layer = BinaryDense(name="d", weights=PackedBits(np.zeros((1, 1), np.uint64), 3))
    >>> accumulator_domain(layer)
    (array([-3]), array([3]), 2)
    """
    if isinstance(layer, PixelConv2d):
        return _pixel_domain(layer)
    if not isinstance(layer, (BinaryConv2d, BinaryDense)):
        raise RefdesignError(f"layer {layer.name!r}: has no integer accumulator")
    bound = np.full(layer.out_channels, layer.fan_in, dtype=np.int64)
    sparse = ternary_input or (isinstance(layer, BinaryConv2d) and layer.pads_with_zeros)
    return -bound, bound, 1 if sparse else 2


def _pixel_domain(layer: PixelConv2d) -> Domain:
    values = (layer.offset, layer.multiplier * 255 + layer.offset)
    low, high = min(values), max(values)
    fill = {"zeros": 0, "ones": 1, "minus_ones": -1}.get(layer.padding_mode)
    padded = layer.padding != (0, 0) and fill is not None
    if padded and fill is not None:
        low, high = min(low, fill), max(high, fill)
    if isinstance(layer.weights, PackedBits):
        ones = np.bitwise_count(layer.weights.words).sum(axis=(1, 2, 3), dtype=np.int64)
        positive, negative = ones, layer.fan_in - ones
        step = abs(layer.multiplier) if not padded else 1
    else:
        weights = layer.weights.astype(np.int64).reshape(layer.out_channels, -1)
        positive = np.where(weights > 0, weights, 0).sum(axis=1)
        negative = np.where(weights < 0, -weights, 0).sum(axis=1)
        step = 1
    lowest = positive * low - negative * high
    highest = positive * high - negative * low
    return lowest, highest, max(step, 1)


def fold_channels(layer: Stage) -> BatchNorm:
    """The layer's batch norm, or the identity where it has none."""
    if layer.batch_norm is not None:
        return layer.batch_norm
    ones = np.ones(layer.out_channels, dtype=np.float32)
    zeros = np.zeros(layer.out_channels, dtype=np.float32)
    return BatchNorm(ones, zeros, zeros, ones, 0.0, k=ones, c=zeros)


def check(network: NetworkData) -> dict[str, LayerShapes]:
    """Every layer's shapes; raises `RefdesignError`, naming layer and field, where something does not fit."""
    if len(network.input_shape) != 3 or min(network.input_shape) < 1:
        raise RefdesignError(
            f"network {network.name!r}, input_shape: found {network.input_shape}, expected (H, W, C), all positive"
        )
    if not network.layers:
        raise RefdesignError(f"network {network.name!r}, layers: found none, expected at least one")
    shapes: dict[str, LayerShapes] = {}
    shape: tuple[int, ...] = tuple(network.input_shape)
    for index, layer in enumerate(network.layers):
        if not layer.name or "." in layer.name or "/" in layer.name or layer.name in shapes or layer.name == "logits":
            raise RefdesignError(
                f"layer {layer.name!r}, name: expected a name of its own without '.' and '/', and not 'logits'"
            )
        if (layer.takes == "pixels") != (index == 0):
            raise RefdesignError(
                f"layer {layer.name!r}: reads {layer.takes} as layer {index}; only the first layer reads pixels"
            )
        before = network.layers[index - 1]
        if layer.takes == "bits" and not isinstance(before, Stage):
            raise RefdesignError(f"layer {layer.name!r}: reads bits, but layer {before.name!r} leaves none")
        shapes[layer.name] = _layer_shapes(layer, shape, shapes, network)
        shape = shapes[layer.name].output
    return shapes


def _layer_shapes(
    layer: Layer, shape: tuple[int, ...], earlier: Mapping[str, LayerShapes], network: NetworkData
) -> LayerShapes:
    accumulator: tuple[int, ...]
    if isinstance(layer, Convolution):
        accumulator = _convolved(layer, shape)
    elif isinstance(layer, (BinaryDense, RealDense)):
        inputs = int(np.prod(shape))
        expected = layer.weights.shape[1] if len(layer.weights.shape) == 2 else None
        if expected != inputs:
            raise RefdesignError(
                f"layer {layer.name!r}, weights: found shape {layer.weights.shape}, expected (O, {inputs})"
            )
        accumulator = (layer.out_channels,)
        if isinstance(layer, RealDense):
            _check_real_dense(layer, inputs)
    elif isinstance(layer, AveragePool):
        if len(shape) != 3 or shape[0] < layer.size[0] or shape[1] < layer.size[1] or min(layer.size) < 1:
            raise RefdesignError(f"layer {layer.name!r}, size: found {layer.size} for a map {shape}")
        pooled = (shape[0] // layer.size[0], shape[1] // layer.size[1], shape[2])
        return LayerShapes(input=shape, accumulator=pooled, output=pooled)
    else:
        raise RefdesignError(f"layer {layer.name!r}: unknown kind {type(layer).__name__}")
    output = accumulator
    if isinstance(layer, Stage):
        output = _after_stage(layer, accumulator, earlier, network)
    return LayerShapes(input=shape, accumulator=accumulator, output=output)


def _convolved(layer: Convolution, shape: tuple[int, ...]) -> tuple[int, ...]:
    _check_geometry(layer, shape)
    _, rows, columns, _ = layer.weight_shape
    size = []
    for axis, extent, kernel in ((0, shape[0], rows), (1, shape[1], columns)):
        reach = layer.dilation[axis] * (kernel - 1) + 1
        span = extent + 2 * layer.padding[axis] - reach
        if span < 0:
            raise RefdesignError(
                f"layer {layer.name!r}, weights: the window spans {reach} pixels, "
                f"the padded map has {extent + 2 * layer.padding[axis]}"
            )
        size.append(span // layer.stride[axis] + 1)
    return (*size, layer.out_channels)


def _check_geometry(layer: Convolution, shape: tuple[int, ...]) -> None:
    where = f"layer {layer.name!r}"
    if len(shape) != 3:
        raise RefdesignError(f"{where}: a convolution reads a map (H, W, C), found {shape}")
    for name, least in (("stride", 1), ("padding", 0), ("dilation", 1)):
        pair = getattr(layer, name)
        if len(pair) != 2 or not all(isinstance(v, int) and v >= least for v in pair):
            raise RefdesignError(f"{where}, {name}: found {pair}, expected two integers, at least {least}")
    if layer.padding_mode not in PADDING_MODES:
        raise RefdesignError(
            f"{where}, padding_mode: found {layer.padding_mode!r}, expected one of {', '.join(PADDING_MODES)}"
        )
    out, _, _, depth = layer.weight_shape
    if layer.groups < 1 or out % layer.groups or depth * layer.groups != shape[2]:
        raise RefdesignError(
            f"{where}, weights: found {out} outputs of {depth} channels in {layer.groups} groups, "
            f"expected {shape[2]} input channels and outputs divisible by the groups"
        )
    for axis in (0, 1):
        limit = {"symmetric": shape[axis], "reflect": shape[axis] - 1, "circular": shape[axis]}
        if layer.padding[axis] > limit.get(layer.padding_mode, layer.padding[axis]):
            raise RefdesignError(
                f"{where}, padding: found {layer.padding[axis]}, expected at most "
                f"{limit[layer.padding_mode]} with {layer.padding_mode!r} on a map of {shape[axis]} pixels"
            )
    _check_weights(layer)


def _check_weights(layer: Convolution) -> None:
    where = f"layer {layer.name!r}"
    channels = layer.weight_shape[3] * layer.groups
    if isinstance(layer, PixelConv2d):
        if not isinstance(layer.weights, PackedBits) and layer.weights.dtype != np.int32:
            raise RefdesignError(f"{where}, weights: found {layer.weights.dtype}, expected int32 or packed bits")
        # In float64 first: int64, which the exact bounds are taken in, could overflow itself.
        value = max(abs(layer.offset), abs(255 * layer.multiplier + layer.offset), 1)
        largest = 1.0
        if not isinstance(layer.weights, PackedBits):
            largest = float(np.abs(layer.weights.astype(np.float64)).max(initial=0))
        if value * largest * layer.fan_in >= 2**62:
            raise RefdesignError(f"{where}, weights: sums could reach 2**62, expected less than 2**31 (int32)")
        low, high, _ = _pixel_domain(layer)
        widest = int(max(high.max(), -low.min()))
        if widest >= 2**31:
            raise RefdesignError(f"{where}, weights: sums reach {widest}, expected less than 2**31 (int32)")
    if isinstance(layer, RealConv2d):
        for name, shape in (("weights", layer.weight_shape), ("scale", (channels,)), ("shift", (channels,))):
            _check_float32(layer.name, name, getattr(layer, name), shape)
    if isinstance(layer, CombinedConv2d):
        _check_float32(layer.name, "scales", layer.scales, (len(layer.weights), layer.out_channels))
        for basis in layer.weights:
            if basis.shape != layer.weight_shape:
                raise RefdesignError(f"{where}, weights: found bases of shapes {layer.weight_shape} and {basis.shape}")


def _check_real_dense(layer: RealDense, inputs: int) -> None:
    _check_float32(layer.name, "weights", layer.weights, (layer.out_channels, inputs))
    if layer.bias is not None:
        _check_float32(layer.name, "bias", layer.bias, (layer.out_channels,))
    if layer.input_batch_norm is not None and layer.input_batch_norm.channels != inputs:
        raise RefdesignError(
            f"layer {layer.name!r}, input_batch_norm: found {layer.input_batch_norm.channels} channels, "
            f"expected {inputs}"
        )


def _check_float32(layer: str, field_name: str, array: NDArray[np.float32], shape: tuple[int, ...]) -> None:
    if array.dtype != np.float32 or array.shape != shape or not np.isfinite(array).all():
        raise RefdesignError(
            f"layer {layer!r}, {field_name}: found {array.dtype} of shape {array.shape}, "
            f"expected finite float32 of shape {shape}"
        )


def _after_stage(
    layer: Stage, accumulator: tuple[int, ...], earlier: Mapping[str, LayerShapes], network: NetworkData
) -> tuple[int, ...]:
    where = f"layer {layer.name!r}"
    output = accumulator
    if layer.pool is not None:
        if len(accumulator) != 3:
            raise RefdesignError(f"{where}, pool: needs a map (H, W, C), found {accumulator}")
        size = []
        for axis in (0, 1):
            kernel, stride = layer.pool.size[axis], layer.pool.stride[axis]
            if kernel < 1 or stride < 1 or kernel > accumulator[axis]:
                raise RefdesignError(
                    f"{where}, pool: found size {kernel} and stride {stride} for {accumulator[axis]} pixels"
                )
            size.append((accumulator[axis] - kernel) // stride + 1)
        output = (*size, accumulator[2])
    channels = accumulator[-1]
    if layer.batch_norm is not None and layer.batch_norm.channels != channels:
        raise RefdesignError(f"{where}, batch_norm: found {layer.batch_norm.channels} channels, expected {channels}")
    if layer.kernel is not None and channels % layer.kernel.shape[2]:
        raise RefdesignError(
            f"{where}, kernel: found g = {layer.kernel.shape[2]} slices, expected a divisor of {channels} channels"
        )
    if layer.shortcut is not None:
        _check_shortcut(layer, layer.shortcut, output, earlier)
    return output


def _check_shortcut(
    layer: Stage, shortcut: Shortcut, output: tuple[int, ...], earlier: Mapping[str, LayerShapes]
) -> None:
    where = f"layer {layer.name!r}, shortcut"
    if shortcut.source not in earlier:
        raise RefdesignError(f"{where}: found source {shortcut.source!r}, expected the name of an earlier layer")
    source = earlier[shortcut.source].output
    if len(source) != 3:
        raise RefdesignError(f"{where}: source {shortcut.source!r} leaves {source}, expected a map (H, W, C)")
    if shortcut.average_pool < 1 or min(shortcut.channel_padding) < 0:
        raise RefdesignError(f"{where}: found {shortcut}, expected a positive pool and no negative padding")
    pooled = tuple(extent // shortcut.average_pool for extent in source[:2])
    arrives = (*pooled, source[2] + sum(shortcut.channel_padding))
    if arrives != output:
        raise RefdesignError(f"{where}: {shortcut.source!r} arrives as {arrives}, expected {output}")


def _shape4(name: str, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    if len(shape) != 4:
        raise RefdesignError(f"layer {name!r}, weights: found shape {shape}, expected (O, rows, columns, channels)")
    out, rows, columns, depth = shape
    return out, rows, columns, depth


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
