"""A photograph under Sign and under DeSign: what a binary layer keeps of it.

The same integers (the pixels, or their sums under a binary 3x3 convolution) are compared with one threshold
(Sign) and with the cells of a threshold kernel (DeSign), folded to integers as in a network. Where the thresholds
lie is decided for both alike, by the method's own scaling step: the k-means quantiser of the values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from refdesign.bits import pack, unpack
from refdesign.conventions import PAPER
from refdesign.fold import fold
from refdesign.network import PixelConv2d, accumulator_domain
from refdesign.ops.pixels import pixel_conv2d
from refdesign.parameters import BatchNorm, ThresholdKernel

PLAIN = [[1]]
AUTHORS = [[1, -1, 1], [-1, -1, -1], [1, 1, -1]]
"""The binary weights that the authors judge threshold kernels with."""

_BLUR = 8
"""Pixels of the box through which bits and values are compared: the eye's distance."""


@dataclass(frozen=True, eq=False)
class Dithered:
    """One map of integers and what one activation makes of it.

    Attributes:
        name: the activation.
        values: int32, shape (H, W): what is compared with the thresholds.
        bits: int8, shape (H, W, g): one map of bits for every slice of the kernel.
        thresholds: the folded integers, ascending; a value fires from there on.
        likeness: the correlation of bits (averaged over the slices) and values, both blurred.
    """

    name: str
    values: NDArray[np.int32]
    bits: NDArray[np.int8]
    thresholds: tuple[int, ...]
    likeness: float


def dither(
    pixels: NDArray[np.uint8], weights: Sequence[Sequence[int]], name: str, levels: NDArray[np.int64]
) -> Dithered:
    """Compare a convolved photograph with a periodic threshold.

    Args:
        pixels: uint8 grey, shape (H, W).
        weights: of a binary convolution, ±1, as a list of rows; applied to 2p - 255.
        name: the activation's name.
        levels: the kernel's level indices, shape (m, n, g); one cell is plain Sign.
    """
    layer = PixelConv2d(
        name="photograph",
        weights=pack(np.array(weights)[np.newaxis, :, :, np.newaxis]),
        multiplier=2,
        offset=-255,
    )
    values = pixel_conv2d(pixels[np.newaxis, :, :, np.newaxis], layer.weights, multiplier=2, offset=-255)
    slices = levels.shape[2]
    one = np.ones(slices, np.float32)
    low, high, step = accumulator_domain(layer)
    folded = fold(
        BatchNorm(one, 0 * one, 0 * one, one, 0.0),
        ThresholdKernel.from_levels(levels, quantiser(values, int(levels.max()) + 1)),
        fan_in=layer.fan_in,
        conventions=PAPER,
        domain=(np.repeat(low, slices), np.repeat(high, slices), step),
    )
    bits = unpack(folded.apply(np.repeat(values, slices, axis=3)))[0]
    plane = values[0, :, :, 0]
    blurred = uniform_filter(bits.mean(axis=2), _BLUR), uniform_filter(plane.astype(np.float64), _BLUR)
    return Dithered(
        name=name,
        values=plane,
        bits=bits,
        thresholds=tuple(int(value) for value in np.unique(folded.threshold)),
        likeness=float(np.corrcoef(blurred[0].ravel(), blurred[1].ravel())[0, 1]),
    )


def halved(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A grey image at half its size: every 2x2 block becomes its mean, rounded half up.

    >>> halved(np.array([[1, 2], [3, 4]], np.uint8))
    array([[3]], dtype=uint8)
    """
    height, width = (extent // 2 * 2 for extent in pixels.shape)
    wide = pixels[:height, :width].astype(np.uint16)
    blocks = wide[::2, ::2] + wide[::2, 1::2] + wide[1::2, ::2] + wide[1::2, 1::2]
    return ((blocks + 2) // 4).astype(np.uint8)


def quantiser(values: NDArray[np.int32], thresholds: int) -> list[float]:
    """The boundaries of the k-means (Lloyd-Max) quantiser of integers, ascending.

    Args:
        values: integers of any shape.
        thresholds: how many boundaries; the cells are one more.

    >>> quantiser(np.array([0, 1, 10, 11]), 1)
    [5.5]
    """
    present, counts = np.unique(values, return_counts=True)
    centres = np.linspace(present[0], present[-1], thresholds + 1)
    boundaries = (centres[1:] + centres[:-1]) / 2
    # A thousand steps are more than photographs need; after them the boundaries stand, moved by the last or not.
    for _ in range(1000):
        cells = np.searchsorted(boundaries, present)
        weights = np.bincount(cells, counts, minlength=thresholds + 1)
        sums = np.bincount(cells, counts * present, minlength=thresholds + 1)
        centres = np.where(weights > 0, sums / np.maximum(weights, 1), centres)
        moved = (centres[1:] + centres[:-1]) / 2
        if np.array_equal(moved, boundaries):
            break
        boundaries = moved
    return [float(boundary) for boundary in boundaries]
