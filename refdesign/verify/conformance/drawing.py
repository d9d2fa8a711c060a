"""Hypothesis strategies for the networks and images of a case, within an implementation's capabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import reject
from hypothesis import strategies as st
from numpy.typing import NDArray

from refdesign.api import Network
from refdesign.bits import PackedBits
from refdesign.conventions import PAPER, Conventions
from refdesign.network import BinaryConv2d, BinaryDense, CombinedConv2d, Layer, MaxPool, PixelConv2d
from refdesign.parameters import BatchNorm, ThresholdKernel
from refdesign.verify import parameter_strategies as parameters
from refdesign.verify.conformance.capabilities import VALUES, Capabilities, traits
from refdesign.verify.conformance.cases import Case
from refdesign.verify.network_strategies import networks

LARGEST_EXTENT = 8


@dataclass(frozen=True, eq=False, repr=False)
class Example:
    """A network and the images that it is run on: uint8 (N, H, W, C)."""

    network: Network
    images: NDArray[np.uint8]


@st.composite
def examples(draw: st.DrawFn, case: Case, capabilities: Capabilities) -> Example:
    """Networks and images of a case; what the implementation lacks is not drawn.

    >>> from hypothesis import find, settings
    >>> from refdesign.verify.conformance.cases import case
    >>> found = find(examples(case("windows/stride"), Capabilities()), lambda e: True, settings=settings(database=None))
    >>> [layer.kind for layer in found.network.layers]
    ['pixel_conv2d', 'binary_conv2d', 'binary_dense']
    """
    if case.on in ("any", "residual"):
        data = draw(networks(conventions=conventions(case, capabilities), residual=case.on == "residual"))
        network = Network.from_data(data)
    else:
        network = _focussed(draw, case, capabilities)
    count = draw(st.sampled_from(case.images))
    if capabilities.missing(traits(network, count)):
        reject()
    return Example(network, _images(draw, (count, *network.input_shape), case))


@st.composite
def conventions(draw: st.DrawFn, case: Case, capabilities: Capabilities) -> Conventions:
    """The conventions of a case: its own choices, otherwise those of `PAPER`, where the implementation has them.

    Whole networks are drawn under any conventions.
    """
    whole = case.on in ("any", "residual")
    chosen: dict[str, Any] = {}
    for name in PAPER.to_dict():
        usual = getattr(PAPER, name)
        if name not in VALUES:
            continue
        kinds = {str(value): value for value in ((1, -1, 0) if name == "sign_at_zero" else VALUES[name])}
        allowed = [kinds[value] for value in capabilities.allowed(name)]
        wanted = case.conventions.get(name, allowed if whole else (usual,))
        fits = [value for value in wanted if value in allowed] or allowed
        if not fits:
            reject()
        chosen[name] = draw(st.sampled_from(fits))
    if chosen["sign_rule"] == "keras_round":
        chosen["sign_at_zero"] = -1
    return PAPER.replace(**chosen)


def _images(draw: st.DrawFn, shape: tuple[int, ...], case: Case) -> NDArray[np.uint8]:
    if case.saturated and draw(st.booleans()):
        return np.full(shape, draw(st.sampled_from((0, 255))), dtype=np.uint8)
    return draw(parameters.images(shape))


def _weights(draw: st.DrawFn, shape: tuple[int, ...], case: Case) -> PackedBits:
    """Weights of ±1; at times, where the case is about that, all alike."""
    if case.saturated and draw(st.booleans()):
        words = draw(parameters.packed(shape)).words
        alike = np.broadcast_to(_full_words(shape[-1]), words.shape).copy()
        return PackedBits(alike if draw(st.booleans()) else np.zeros_like(words), shape[-1])
    return draw(parameters.packed(shape))


def _full_words(length: int) -> NDArray[np.uint64]:
    octets = np.packbits(np.ones(length, dtype=np.bool_), bitorder="little")
    padded = np.zeros(-(-length // 64) * 8, dtype=np.uint8)
    padded[: octets.size] = octets
    return padded.view("<u8").astype(np.uint64)


def _focussed(draw: st.DrawFn, case: Case, capabilities: Capabilities) -> Network:
    choices = draw(conventions(case, capabilities))
    height = draw(st.integers(2, LARGEST_EXTENT - 1))
    width = draw(st.integers(2, LARGEST_EXTENT).filter(lambda extent: extent != height))
    if "dense" in case.on:  # a dense layer sees the channels of one or a few pixels
        height, width = draw(st.sampled_from(((1, 1), (1, 2), (2, 1), (2, 3))))
    depth = draw(st.sampled_from(case.depth))
    shape = (height, width, depth)
    layers: list[Layer] = []
    if case.on != "pixels":
        channels = draw(st.sampled_from(case.channels))
        weights = _weights(draw, (channels, 1, 1, depth), case)
        layers.append(PixelConv2d(name="first", weights=weights, multiplier=2, offset=-255))
        shape = (height, width, channels)
    special, shape = _special(draw, case, choices, shape)
    layers.append(special)
    if not case.on.startswith("last"):
        inputs = int(np.prod(shape))
        layers.append(BinaryDense(name="last", weights=draw(parameters.packed((4, inputs)))))
    return Network(name=case.name, input_shape=(height, width, depth), layers=tuple(layers), conventions=choices)


def _special(
    draw: st.DrawFn, case: Case, choices: Conventions, shape: tuple[int, int, int]
) -> tuple[Layer, tuple[int, int, int]]:
    height, width, depth = shape
    outputs = draw(st.sampled_from(case.outputs))
    if "dense" in case.on:
        inputs = height * width * depth
        tail = _tail(draw, case, choices, (1, 1, outputs), inputs)
        return BinaryDense(name="special", weights=_weights(draw, (outputs, inputs), case), **tail), (1, 1, outputs)
    rows, columns = _axis(draw, case, height), _axis(draw, case, width)
    groups = draw(st.sampled_from(case.groups))
    weight_shape = (outputs, rows["kernel"], columns["kernel"], depth // groups)
    geometry: dict[str, Any] = {
        name: (rows[name], columns[name]) for name in ("stride", "padding", "dilation")
    } | {"padding_mode": case.mode, "groups": groups}  # fmt: skip
    extents = [_extent(axis, extent) for axis, extent in ((rows, height), (columns, width))]
    pool = _pool(draw, case, extents)
    if pool is not None:
        extents = [(e - size) // step + 1 for e, size, step in zip(extents, pool.size, pool.stride, strict=True)]
    reach = weight_shape[1] * weight_shape[2] * weight_shape[3]
    if case.on == "last bases":
        return _bases(draw, choices, weight_shape, geometry), (extents[0], extents[1], outputs)
    special: dict[str, Any] = {"weights": _weights(draw, weight_shape, case)}
    if case.on == "pixels":
        special["multiplier"], special["offset"] = draw(st.sampled_from(((2, -255), (1, 0), (-3, 7))))
        reach *= 64
        if case.integers:
            special["weights"] = (draw(parameters.images(weight_shape)).astype(np.int32) - 127) * 3
            reach *= 100
            if draw(st.booleans()):
                special["weights"] = np.abs(special["weights"]) + 1
    tail = _tail(draw, case, choices, (extents[0], extents[1], outputs), reach)
    kind = PixelConv2d if case.on == "pixels" else BinaryConv2d
    return kind(name="special", pool=pool, **geometry, **special, **tail), (extents[0], extents[1], outputs)


def _bases(
    draw: st.DrawFn, choices: Conventions, weight_shape: tuple[int, int, int, int], geometry: dict[str, Any]
) -> CombinedConv2d:
    """Three bases with scales that no power of two relates, so that every product and sum of theirs is rounded.

    Batch norm scales by 1 and adds nothing: a last place that differs in a sum differs in the logits, too.
    """
    channels = weight_shape[0]
    ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    steps = draw(st.lists(st.integers(1, 999), min_size=3 * channels, max_size=3 * channels))
    scales = (np.array(steps, dtype=np.float64) / 997 + 1 / 3).astype(np.float32).reshape(3, channels)
    planes = tuple(draw(parameters.packed(weight_shape)) for _ in range(3))
    norm = BatchNorm(ones, zeros, zeros, ones, 0.0)
    return CombinedConv2d(name="special", weights=planes, scales=scales, batch_norm=norm, **geometry)


def _tail(draw: st.DrawFn, case: Case, choices: Conventions, shape: tuple[int, int, int], reach: int) -> dict[str, Any]:
    """Batch norm and dither of the special layer."""
    kernel: ThresholdKernel | None = None
    norm: BatchNorm | None = None
    height, width, channels = shape
    if case.dither != "none":
        slices = channels if case.dither == "3d" else 1
        kernel = draw(parameters.threshold_kernels(slices, height, width))
        if case.dither == "3d" and kernel.shape[2] == 1:
            least = next(g for g in range(2, channels + 1) if channels % g == 0)
            lift = np.arange(least, dtype=np.float32)
            kernel = ThresholdKernel(kernel.values + lift)
    if case.norm:
        norm = draw(parameters.batch_norms(channels, reach, kernel=kernel, conventions=choices))
    return {"batch_norm": norm, "kernel": kernel}


def _axis(draw: st.DrawFn, case: Case, extent: int) -> dict[str, int]:
    """One of the case's geometries along an axis that fits a map of `extent` pixels."""
    most = {"symmetric": extent, "reflect": extent - 1, "circular": extent}.get(case.mode, extent)
    fits = [
        {"kernel": kernel, "stride": stride, "dilation": dilation, "padding": padding}
        for kernel in case.kernels
        for stride in case.strides
        for dilation in case.dilations
        for padding in case.paddings
        if padding <= most and extent + 2 * padding >= dilation * (kernel - 1) + 1
    ]
    return draw(st.sampled_from(fits or [{"kernel": 1, "stride": 1, "dilation": 1, "padding": 0}]))


def _extent(axis: dict[str, int], extent: int) -> int:
    return (extent + 2 * axis["padding"] - axis["dilation"] * (axis["kernel"] - 1) - 1) // axis["stride"] + 1


def _pool(draw: st.DrawFn, case: Case, extents: list[int]) -> MaxPool | None:
    if not case.pools:
        return None
    sizes = [draw(st.sampled_from([pool for pool in case.pools if pool[0] <= e] or [(1, 1)])) for e in extents]
    return MaxPool(size=(sizes[0][0], sizes[1][0]), stride=(sizes[0][1], sizes[1][1]))
