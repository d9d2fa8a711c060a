"""What stays real in residual networks, one float32 at a time: average pool, shortcut, hardtanh, dense layer."""

from __future__ import annotations

from fractions import Fraction
from math import isfinite

from refdesign.errors import RefdesignError
from refdesign.naive import float32
from refdesign.naive.sums import FloatMap
from refdesign.naive.thresholding import channel_constants, normalise
from refdesign.network import RealDense, Shortcut


def average_pool(real: FloatMap, size: tuple[int, int]) -> FloatMap:
    """Averages of windows that do not overlap: sums row by row in float32, then one division.

    Args:
        real: rows of pixels of channels, float32.
        size: size and stride, (rows, columns); what does not fill a window is cut off.

    >>> average_pool([[[1.0], [2.0], [9.0]], [[4.0], [5.0], [9.0]]], (2, 2))
    [[[3.0]]]
    """
    rows, columns = size
    result: FloatMap = []
    for top in range(0, len(real) - rows + 1, rows):
        result.append([])
        for left in range(0, len(real[0]) - columns + 1, columns):
            pixel = []
            for channel in range(len(real[0][0])):
                values = [real[top + i][left + j][channel] for i in range(rows) for j in range(columns)]
                total = values[0]
                for value in values[1:]:
                    total = float32.add(total, value)
                pixel.append(float32.divide(total, float(rows * columns)))
            result[-1].append(pixel)
    return result


def shortcut(real: FloatMap, settings: Shortcut) -> FloatMap:
    """An earlier layer's real output on its way to the addition: average pool, then zero channels.

    >>> shortcut([[[1.5]]], Shortcut(source="conv1", channel_padding=(1, 2)))
    [[[0.0, 1.5, 0.0, 0.0]]]
    """
    before, behind = settings.channel_padding
    pooled = average_pool(real, (settings.average_pool, settings.average_pool))
    return [[[0.0] * before + pixel + [0.0] * behind for pixel in row] for row in pooled]


def hardtanh(x: float) -> float:
    """x clamped to [-1, 1].

    >>> hardtanh(-3.0), hardtanh(0.25)
    (-1.0, 0.25)
    """
    return min(max(x, -1.0), 1.0)


def real_dense(real: FloatMap, layer: RealDense, arithmetic: str) -> FloatMap:
    """A real dense layer: products summed in input order in float64, bias last, rounded to float32 once.

    Args:
        real: rows of pixels of channels, float32, flattened as (row, column, channel).
        layer: its weights, bias and the batch norm of its inputs.
        arithmetic: how that batch norm is computed.

    Returns:
        One pixel.

    Raises:
        RefdesignError: numbers beyond float32.
    """
    inputs = [value for row in real for pixel in row for value in pixel]
    if layer.input_batch_norm is not None:
        inputs = [
            normalise(
                _finite(x, layer), channel_constants(layer.input_batch_norm, i, arithmetic, layer.name), arithmetic
            )
            for i, x in enumerate(inputs)
        ]
    outputs = []
    for output in range(layer.out_channels):
        total = 0.0
        for x, weight in zip(inputs, layer.weights[output], strict=True):
            total += x * float(weight)  # the product of two float32 is exact in float64
        if layer.bias is not None:
            total += float(layer.bias[output])
        outputs.append(float32.round_to_float32(Fraction(_finite(total, layer))))
    return [[outputs]]


def _finite(value: float, layer: RealDense) -> float:
    if not isfinite(value):
        raise RefdesignError(f"layer {layer.name!r}: found {value}, expected numbers that float32 holds")
    return value
