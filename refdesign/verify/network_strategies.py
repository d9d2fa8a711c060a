"""Hypothesis strategies for the geometry of layers, and for whole networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from refdesign.bits import PackedBits
from refdesign.conventions import Conventions
from refdesign.errors import missing_extra
from refdesign.network import (
    PADDING_MODES,
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
from refdesign.verify import parameter_strategies as parameters

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise missing_extra("verify", "hypothesis") from error

Shape = tuple[int, int, int]

CHANNELS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 66)
"""Output channels to choose from; the last one fills more than one word."""


@dataclass(frozen=True)
class _Axis:
    """One axis of a convolution, and the extent that it leaves."""

    kernel: int
    stride: int
    dilation: int
    padding: int
    output: int


def _axes(extent: int, mode: str) -> list[_Axis]:
    """Every choice of kernel, stride, dilation and padding that fits a map of `extent` pixels."""
    most = {"symmetric": extent, "reflect": extent - 1, "circular": extent}.get(mode, 2)
    found = []
    for kernel in (1, 2, 3):
        for padding in range(min(2, most) + 1):
            for dilation in (1, 2) if kernel > 1 else (1,):
                for stride in (1, 2):
                    span = extent + 2 * padding - dilation * (kernel - 1) - 1
                    if span >= 0:
                        found.append(_Axis(kernel, stride, dilation, padding, span // stride + 1))
    return found


def _pick(draw: st.DrawFn, axes: list[_Axis], *, unlike: int = 0, target: int | None = None) -> _Axis:
    """One of the choices: of those that leave `target`, or that leave more than a pixel and not `unlike`."""
    if target is not None:
        return draw(st.sampled_from([axis for axis in axes if axis.output == target]))
    preferred = [axis for axis in axes if axis.output > 1 and axis.output != unlike]
    return draw(st.sampled_from(preferred or axes))


@st.composite
def geometries(draw: st.DrawFn, height: int, width: int, *, target: tuple[int, int] | None = None) -> dict[str, Any]:
    """Kernel size, stride, dilation, padding and padding mode of a convolution that fits a map.

    Args:
        height, width: extents of the input map.
        target: the output's extents, where they matter. Otherwise they differ from each other where they can.

    Returns:
        `kernel`, a pair, and the keyword arguments of `network.Convolution` without `groups`.

    >>> from hypothesis import find
    >>> found = find(geometries(5, 7), lambda geometry: geometry["padding_mode"] == "reflect")
    >>> found["padding"], found["stride"]
    ((0, 0), (1, 1))
    """
    mode = draw(st.sampled_from(PADDING_MODES))
    rows = _pick(draw, _axes(height, mode), target=target and target[0])
    columns = _pick(draw, _axes(width, mode), unlike=rows.output, target=target and target[1])
    return {
        "kernel": (rows.kernel, columns.kernel),
        "stride": (rows.stride, columns.stride),
        "dilation": (rows.dilation, columns.dilation),
        "padding": (rows.padding, columns.padding),
        "padding_mode": mode,
    }


@st.composite
def pools(draw: st.DrawFn, height: int, width: int) -> MaxPool:
    """Max pools that fit a map, with any stride; the output's extents differ where they can.

    >>> from hypothesis import find
    >>> find(pools(5, 7), lambda pool: pool.size[0] > 2)
    MaxPool(size=(3, 1), stride=(1, 1))
    """

    def choices(extent: int) -> list[_Axis]:
        return [
            _Axis(size, stride, 1, 0, (extent - size) // stride + 1)
            for size in range(1, min(3, extent) + 1)
            for stride in (1, 2, 3)
        ]

    rows = _pick(draw, choices(height))
    columns = _pick(draw, choices(width), unlike=rows.output)
    return MaxPool(size=(rows.kernel, columns.kernel), stride=(rows.stride, columns.stride))


class _Builder:
    """A network that grows layer by layer."""

    def __init__(self, draw: st.DrawFn, conventions: Conventions, input_shape: Shape) -> None:
        self.draw = draw
        self.conventions = conventions
        self.input_shape = input_shape
        self.shape: tuple[int, ...] = input_shape
        self.layers: list[Layer] = []
        self.sources: dict[str, Shape] = {}

    def finish(self) -> NetworkData:
        return NetworkData(
            name="drawn", input_shape=self.input_shape, layers=tuple(self.layers), conventions=self.conventions
        )

    def name(self) -> str:
        return f"layer{len(self.layers)}"

    def channels(self, *unlike: int, multiple_of: int = 1) -> int:
        fits = [c for c in CHANNELS if c % multiple_of == 0 and c not in unlike]
        return self.draw(st.sampled_from(fits or [multiple_of]))

    def tail(self, shape: tuple[int, ...], fan_in: int) -> dict[str, Any]:
        """Batch norm and kernel for a map of this shape; at times without one of them."""
        height, width, channels = shape if len(shape) == 3 else (1, 1, *shape)
        kernel = None
        if self.draw(st.integers(0, 3)):
            kernel = self.draw(parameters.threshold_kernels(channels, height, width))
        batch_norm = None
        if self.draw(st.integers(0, 7)):
            batch_norm = self.draw(
                parameters.batch_norms(channels, fan_in, kernel=kernel, conventions=self.conventions)
            )
        return {"batch_norm": batch_norm, "kernel": kernel}

    def convolution(self, *, residual: bool = False) -> None:
        height, width, inputs = self.shape
        groups = self.draw(st.sampled_from([g for g in range(1, inputs + 1) if inputs % g == 0]))
        shortcut, target = self.shortcut(groups) if residual else (None, None)
        geometry = self.draw(geometries(height, width, target=target and target[:2]))
        kernel_rows, kernel_columns = geometry.pop("kernel")
        map_shape = (
            _extent(height, kernel_rows, geometry, 0),
            _extent(width, kernel_columns, geometry, 1),
        )
        channels = target[2] if target else self.channels(inputs, *map_shape, multiple_of=groups)
        pool = None
        if shortcut is None and self.draw(st.booleans()):
            pool = self.draw(pools(*map_shape))
            map_shape = (
                (map_shape[0] - pool.size[0]) // pool.stride[0] + 1,
                (map_shape[1] - pool.size[1]) // pool.stride[1] + 1,
            )
        shape = (*map_shape, channels)
        weight_shape = (channels, kernel_rows, kernel_columns, inputs // groups)
        kind, special = self.weights(weight_shape)
        layer = kind(
            name=self.name(),
            groups=groups,
            pool=pool,
            shortcut=shortcut,
            hardtanh=self.draw(st.booleans()),
            **geometry,
            **special,
            **self.tail(shape, self.reach(weight_shape, special)),
        )
        self.layers.append(layer)
        self.shape = shape
        self.sources[layer.name] = shape

    def weights(self, shape: tuple[int, int, int, int]) -> tuple[Callable[..., Layer], dict[str, Any]]:
        """A kind of convolution that can stand here, with the fields that only it has."""
        if self.layers:
            if self.draw(st.integers(0, 3)) < 3:
                return BinaryConv2d, {"weights": self.draw(parameters.packed(shape))}
            bases = self.draw(st.sampled_from((1, 2, 3, 3, 4)))  # their order shows from three on
            planes = tuple(self.draw(parameters.packed(shape)) for _ in range(bases))
            return CombinedConv2d, {"weights": planes, "scales": self.draw(parameters.real_arrays((bases, shape[0])))}
        kind = self.draw(st.sampled_from(("packed", "integers", "real")))
        if kind == "real":
            depth = self.input_shape[2]
            scale = np.abs(self.draw(parameters.real_arrays((depth,)))) / np.float32(64)
            return RealConv2d, {
                "weights": self.draw(parameters.real_arrays(shape)),
                "scale": scale,
                "shift": self.draw(parameters.real_arrays((depth,))),
            }
        multiplier, offset = self.draw(st.sampled_from(((1, 0), (2, -255), (-3, 7))))
        weights: Any = self.draw(parameters.packed(shape))
        if kind == "integers":
            weights = (self.draw(parameters.images(shape)).astype(np.int32) - 127) * 3
        return PixelConv2d, {"weights": weights, "multiplier": multiplier, "offset": offset}

    def reach(self, shape: tuple[int, int, int, int], special: dict[str, Any]) -> int:
        """A size that this layer's accumulators do reach, for the batch norm to be drawn to."""
        fan_in = shape[1] * shape[2] * shape[3]
        if self.layers:
            return fan_in
        if "scale" in special:
            return 2 * fan_in
        return 64 * fan_in * (1 if isinstance(special["weights"], PackedBits) else 100)

    def shortcut(self, groups: int) -> tuple[Shortcut | None, Shape | None]:
        """A residual addition of an earlier layer's output, and the shape that this layer must have for it."""
        height, width, _ = self.shape
        fits = []
        for name, (rows, columns, channels) in self.sources.items():
            for pool in (1, 2):
                reachable = all(
                    any(axis.output == extent // pool for axis in _axes(now, mode))
                    for mode in PADDING_MODES
                    for extent, now in ((rows, height), (columns, width))
                )
                if reachable and min(rows, columns) >= pool:
                    fits.append((name, pool, (rows // pool, columns // pool, channels)))
        if not fits:
            return None, None
        name, pool, (rows, columns, channels) = self.draw(st.sampled_from(fits))
        missing = -channels % groups + groups * self.draw(st.integers(0, 2))  # the outputs must fill the groups
        before = self.draw(st.integers(0, missing))
        padding = (before, missing - before)
        shortcut = Shortcut(source=name, average_pool=pool, channel_padding=padding)
        return shortcut, (rows, columns, channels + missing)

    def dense(self) -> None:
        inputs = int(np.prod(self.shape))
        outputs = self.channels(inputs, *self.shape)
        layer = BinaryDense(
            name=self.name(),
            weights=self.draw(parameters.packed((outputs, inputs))),
            hardtanh=self.draw(st.booleans()),
            **self.tail((outputs,), inputs),
        )
        self.layers.append(layer)
        self.shape = (outputs,)

    def real_end(self) -> None:
        """Average pool and real dense layer, either or both."""
        which = self.draw(st.sampled_from(("both", "pool", "dense")))
        if which != "dense" and len(self.shape) == 3:
            size = (
                self.draw(st.integers(1, min(3, self.shape[0]))),
                self.draw(st.integers(1, min(3, self.shape[1]))),
            )
            self.layers.append(AveragePool(name=self.name(), size=size))
            self.shape = (self.shape[0] // size[0], self.shape[1] // size[1], self.shape[2])
        if which != "pool" or len(self.shape) == 1:
            inputs = int(np.prod(self.shape))
            outputs = self.channels(inputs)
            batch_norm = None
            if self.draw(st.booleans()):
                batch_norm = self.draw(parameters.batch_norms(inputs, 2, conventions=self.conventions))
            bias = self.draw(parameters.real_arrays((outputs,))) if self.draw(st.booleans()) else None
            weights = self.draw(parameters.real_arrays((outputs, inputs)))
            self.layers.append(RealDense(name=self.name(), weights=weights, bias=bias, input_batch_norm=batch_norm))


def _extent(extent: int, kernel: int, geometry: dict[str, Any], axis: int) -> int:
    reach = geometry["dilation"][axis] * (kernel - 1) + 1
    return int((extent + 2 * geometry["padding"][axis] - reach) // geometry["stride"][axis] + 1)


@st.composite
def networks(
    draw: st.DrawFn,
    *,
    conventions: st.SearchStrategy[Conventions] | None = None,
    residual: bool | None = None,
) -> NetworkData:
    """Small networks of every kind of layer, under any conventions.

    The first layer reads pixels (packed, integer or real weights), up to three further convolutions follow,
    then dense layers, or an average pool and a real dense layer. Extents of a map are pairwise different and no
    multiple of its kernel's period, where a layer of that input can have such a map at all.

    Args:
        conventions: which to draw from; None draws from all.
        residual: whether convolutions have shortcuts and the network ends in real layers; None draws that too.

    >>> from hypothesis import find
    >>> find(networks(), lambda network: True).output_names
    ('layer0.accumulator', 'layer0.bits', 'layer1.accumulator', 'logits')
    """
    height = draw(st.integers(3, 7))
    width = draw(st.integers(3, 8).filter(lambda extent: extent != height))
    channels = draw(st.integers(1, 4).filter(lambda count: count not in (height, width)))
    chosen = draw(parameters.conventions() if conventions is None else conventions)
    builder = _Builder(draw, chosen, (height, width, channels))
    with_shortcuts = draw(st.booleans()) if residual is None else residual
    builder.convolution()
    for _ in range(draw(st.integers(1, 3))):
        builder.convolution(residual=with_shortcuts and draw(st.booleans()))
    if with_shortcuts:
        builder.real_end()
    else:
        for _ in range(draw(st.integers(0, 2))):
            builder.dense()
    return builder.finish()
