"""Accumulators of one image, one window and one output channel at a time: bitarrays for bits, loops for numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import isinf
from operator import mul

import numpy as np
from bitarray import bitarray
from bitarray.util import count_and, zeros

from refdesign.bits import PackedBits
from refdesign.errors import RefdesignError
from refdesign.naive import float32
from refdesign.naive.geometry import FILLS, Place, window
from refdesign.network import BinaryConv2d, BinaryDense, CombinedConv2d, Convolution, PixelConv2d, RealConv2d

IntMap = list[list[list[int]]]
"""Rows of pixels of channels. A dense layer's is one pixel."""

FloatMap = list[list[list[float]]]

Tick = Callable[[], None]
"""Called when one output pixel is done."""


@dataclass(frozen=True)
class Bits:
    """Elements of {-1, 0, +1}: which are +1, and which are not 0."""

    positive: bitarray
    nonzero: bitarray

    @classmethod
    def of(cls, values: list[int]) -> Bits:
        """The elements of a list.

        >>> Bits.of([1, 0, -1])
        Bits(positive=bitarray('100'), nonzero=bitarray('101'))
        """
        return cls(bitarray(value > 0 for value in values), bitarray(value != 0 for value in values))


def dot(x: Bits, w: bitarray) -> int:
    """The dot product of elements with weights of ±1 (1 is +1): valid - 2*popcount(x xor w) among those not 0.

    >>> dot(Bits.of([1, 0, -1]), bitarray("110"))
    2
    """
    return x.nonzero.count() - 2 * count_and(x.positive ^ w, x.nonzero)


def unpack_rows(packed: PackedBits) -> list[bitarray]:
    """The elements of each output as one run of bits: all axes but the first are flattened in order.

    Reads the words by the definition of the layout: little-endian bit order, each row starts a new word.

    >>> unpack_rows(PackedBits(np.array([[[5], [2]]], dtype=np.uint64), 3))
    [bitarray('101010')]
    """
    rows = []
    for output in packed.words:
        row = bitarray()
        for words in output.reshape(-1, packed.words.shape[-1]):
            bits = bitarray(endian="little")
            for word in words:
                bits.frombytes(int(word).to_bytes(8, "little"))
            row.extend(bits[: packed.length])
        rows.append(row)
    return rows


def bits_in_window(pixels: list[list[Bits]], places: list[Place], channels: slice, fill: int) -> Bits:
    """The elements under a window, place by place, channel by channel; `fill` stands outside the map."""
    positive, nonzero = bitarray(), bitarray()
    depth = channels.stop - channels.start
    for place in places:
        if place is None:
            positive.extend(_constant(depth, fill > 0))
            nonzero.extend(_constant(depth, fill != 0))
        else:
            row, column = place
            positive.extend(pixels[row][column].positive[channels])
            nonzero.extend(pixels[row][column].nonzero[channels])
    return Bits(positive, nonzero)


def _constant(length: int, bit: bool) -> bitarray:
    bits = zeros(length)
    bits.setall(bit)
    return bits


class _Windows:
    """The geometry of one convolution: the places under each output pixel's window, and the groups' channels."""

    def __init__(self, layer: Convolution, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> None:
        height, width = output_shape[:2]
        self.places = [[window(layer, input_shape, i, j) for j in range(width)] for i in range(height)]
        self.fill = FILLS.get(layer.padding_mode, 0)
        out, _, _, depth = layer.weight_shape
        size = out // layer.groups
        self.groups = [
            (slice(group * depth, (group + 1) * depth), range(group * size, (group + 1) * size))
            for group in range(layer.groups)
        ]

    def map(self, pixel: Callable[[list[Place]], list[int]], tick: Tick) -> IntMap:
        """The function of the window at every output pixel."""
        result: IntMap = []
        for row in self.places:
            result.append([])
            for places in row:
                result[-1].append(pixel(places))
                tick()
        return result


class BinaryConvolution:
    """Accumulators of `BinaryConv2d`, or of one basis of `CombinedConv2d`."""

    def __init__(
        self,
        layer: BinaryConv2d | CombinedConv2d,
        weights: PackedBits,
        input_shape: tuple[int, ...],
        output_shape: tuple[int, ...],
    ) -> None:
        self._windows = _Windows(layer, input_shape, output_shape)
        self._weights = unpack_rows(weights)

    def __call__(self, bits: IntMap, tick: Tick) -> IntMap:
        """From a map of {-1, 0, +1} to the map of accumulators."""
        pixels = [[Bits.of(pixel) for pixel in row] for row in bits]

        def pixel(places: list[Place]) -> list[int]:
            sums = []
            for channels, outputs in self._windows.groups:
                x = bits_in_window(pixels, places, channels, self._windows.fill)
                sums += [dot(x, self._weights[output]) for output in outputs]
            return sums

        return self._windows.map(pixel, tick)


class Dense:
    """Accumulators of `BinaryDense`: one pixel."""

    def __init__(self, layer: BinaryDense) -> None:
        self._weights = unpack_rows(layer.weights)

    def __call__(self, bits: IntMap, tick: Tick) -> IntMap:
        """From a map of {-1, 0, +1}, flattened as (row, column, channel), to one pixel of accumulators."""
        x = Bits.of([value for row in bits for pixel in row for value in pixel])
        sums = [dot(x, weights) for weights in self._weights]
        tick()
        return [[sums]]


def integer_weights(weights: PackedBits | np.ndarray[tuple[int, ...], np.dtype[np.int32]]) -> list[list[int]]:
    """The weights of each output as a list of integers, in the order kernel row, kernel column, channel.

    >>> integer_weights(np.array([[[[3, -4]]]], dtype=np.int32))
    [[3, -4]]
    """
    if isinstance(weights, PackedBits):
        return [[1 if bit else -1 for bit in row] for row in unpack_rows(weights)]
    return [[int(weight) for weight in output.reshape(-1)] for output in weights]


def numbers_in_window(pixels: IntMap, places: list[Place], channels: slice, fill: int) -> list[int]:
    """The numbers under a window, place by place, channel by channel; `fill` stands outside the map."""
    numbers = []
    for place in places:
        if place is None:
            numbers += [fill] * (channels.stop - channels.start)
        else:
            numbers += pixels[place[0]][place[1]][channels]
    return numbers


class PixelConvolution:
    """Accumulators of `PixelConv2d`: sums of Python integers."""

    def __init__(self, layer: PixelConv2d, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> None:
        self._windows = _Windows(layer, input_shape, output_shape)
        self._weights = integer_weights(layer.weights)
        self._multiplier, self._offset = layer.multiplier, layer.offset

    def __call__(self, image: IntMap, tick: Tick) -> IntMap:
        """From a map of pixels 0 ... 255 to the map of accumulators."""
        values = [[[self._multiplier * p + self._offset for p in pixel] for pixel in row] for row in image]

        def pixel(places: list[Place]) -> list[int]:
            sums = []
            for channels, outputs in self._windows.groups:
                x = numbers_in_window(values, places, channels, self._windows.fill)
                sums += [sum(map(mul, x, self._weights[output])) for output in outputs]
            return sums

        return self._windows.map(pixel, tick)


class CombinedConvolution:
    """Sums of `CombinedConv2d`: v = fl(fl(s0*a0) + fl(s1*a1)), + fl(s2*a2), and so on."""

    def __init__(self, layer: CombinedConv2d, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> None:
        self._name = layer.name
        self._bases = [BinaryConvolution(layer, basis, input_shape, output_shape) for basis in layer.weights]
        self._scales = [[float(scale) for scale in basis] for basis in layer.scales]

    def __call__(self, bits: IntMap, tick: Tick) -> FloatMap:
        """From a map of {-1, 0, +1} to the map of v."""
        first, *others = (basis(bits, tick if i == 0 else _no_tick) for i, basis in enumerate(self._bases))
        result: FloatMap = []
        for i, row in enumerate(first):
            result.append([])
            for j, pixel in enumerate(row):
                sums = []
                for channel, a in enumerate(pixel):
                    v = float32.multiply(self._scales[0][channel], float(a))
                    for accumulators, scales in zip(others, self._scales[1:], strict=True):
                        v = float32.add(v, float32.multiply(scales[channel], float(accumulators[i][j][channel])))
                    sums.append(_finite(v, self._name))
                result[-1].append(sums)
        return result


def _no_tick() -> None:
    """Only the first basis counts its pixels."""


def _finite(v: float, name: str) -> float:
    if isinf(v) or v != v:
        raise RefdesignError(f"layer {name!r}: found the sum {v}, expected sums that float32 holds")
    return v


class RealConvolution:
    """Sums of `RealConv2d`: in float64, in the order rows, columns, channels, rounded to float32 once."""

    def __init__(self, layer: RealConv2d, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> None:
        self._name = layer.name
        self._windows = _Windows(layer, input_shape, output_shape)
        self._weights = [[float(weight) for weight in output.reshape(-1)] for output in layer.weights]
        self._values = [
            [float32.add(float32.multiply(float(p), float(scale)), float(shift)) for p in range(256)]
            for scale, shift in zip(layer.scale, layer.shift, strict=True)
        ]
        self._terms = layer.fan_in

    def __call__(self, image: IntMap, tick: Tick) -> tuple[FloatMap, FloatMap]:
        """From a map of pixels 0 ... 255 to the map of v, and to the bound of what another order may differ by."""
        sums: FloatMap = []
        bounds: FloatMap = []
        for row in self._windows.places:
            sums.append([])
            bounds.append([])
            for places in row:
                pairs = [
                    self._sum(self._numbers(image, places, channels), self._weights[output])
                    for channels, outputs in self._windows.groups
                    for output in outputs
                ]
                sums[-1].append([v for v, _ in pairs])
                bounds[-1].append([bound for _, bound in pairs])
                tick()
        return sums, bounds

    def _numbers(self, image: IntMap, places: list[Place], channels: slice) -> list[float]:
        numbers = []
        for place in places:
            for channel in range(channels.start, channels.stop):
                if place is None:
                    numbers.append(float(self._windows.fill))
                else:
                    numbers.append(self._values[channel][image[place[0]][place[1]][channel]])
        return numbers

    def _sum(self, x: list[float], w: list[float]) -> tuple[float, float]:
        total = magnitude = 0.0
        for value, weight in zip(x, w, strict=True):  # not sum(): it compensates for rounding from Python 3.12 on
            total += value * weight  # the product of two float32 is exact in float64
            magnitude += abs(value * weight)
        v = _finite(float32.round_to_float32(Fraction(total)), self._name)
        return v, self._bound(total, magnitude)

    def _bound(self, total: float, magnitude: float) -> float:
        """The bound of `network.RealConv2d`, in float64 in the order written there."""
        n, u = self._terms, 2.0**-24
        limit = (n * u / (1 - n * u) + 2 * n * 2.0**-53) * magnitude + u * abs(total) + (n + 1) * 2.0**-149
        nearest = _finite(float32.round_to_float32(Fraction(limit)), self._name)
        return float(np.nextafter(np.float32(nearest), np.float32(np.inf)))
