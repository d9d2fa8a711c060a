"""The dither's geometry: which cell of the threshold kernel stands over which pixel and channel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refdesign.checks import is_whole, shown
from refdesign.conventions import Conventions, check_conventions
from refdesign.errors import RefdesignError
from refdesign.parameters import NO_DITHER, Float32Array, ThresholdKernel, check_kernel


def first_phase(extent: int, period: int, origin: str) -> int:
    """The kernel row (or column) that stands over a map's first row (or column).

    Args:
        extent: pixels of the map along the axis, at least 1.
        period: cells of the kernel along the axis, at least 1.
        origin: `"top_left"`: 0. `"center_crop"`: the released Keras code tiles ceil(extent/period) periods and
            crops the centre, so the map starts at floor((ceil(extent/period)*period - extent)/2).

    Raises:
        RefdesignError: an extent or a period below 1, or an unknown origin.

    >>> first_phase(16, 3, "center_crop")
    1
    """
    if not (is_whole(extent, 1) and is_whole(period, 1)):
        raise RefdesignError(
            f"dither: found a map of {shown(extent)} pixels and a period of {period!r}, expected integers of at least 1"
        )
    if origin == "top_left":
        return 0
    if origin != "center_crop":
        raise RefdesignError(f"dither, kernel_origin: found {origin!r}, expected top_left or center_crop")
    return (-(-extent // period) * period - extent) // 2


def phases(extent: int, period: int, origin: str) -> NDArray[np.intp]:
    """The kernel's row (or column) over each row (or column) of a map (docs/method.md, section 3, `kernel_origin`).

    Args:
        extent, period, origin: as in `first_phase`.

    Returns:
        intp, shape (extent,), values in [0, period).

    >>> phases(7, 3, "center_crop")
    array([1, 2, 0, 1, 2, 0, 1])
    """
    first = first_phase(extent, period, origin)
    return (np.arange(extent, dtype=np.intp) + first) % period


def slices(channels: int, g: int, channel_map: str) -> NDArray[np.intp]:
    """The kernel's slice that each channel uses (docs/method.md, section 3, `channel_map`).

    Args:
        channels: C, a multiple of g.
        g: the kernel's slices.
        channel_map: `"tile"`: channel c uses slice c mod g; `"repeat"`: slice c div (C/g).

    Returns:
        intp, shape (channels,), values in [0, g).

    Raises:
        RefdesignError: g does not divide the channels, or an unknown map.

    >>> slices(6, 3, "tile"), slices(6, 3, "repeat")
    (array([0, 1, 2, 0, 1, 2]), array([0, 0, 1, 1, 2, 2]))
    """
    if not (is_whole(channels, 1) and is_whole(g, 1)) or channels % g:
        raise RefdesignError(f"threshold kernel: found g = {g} slices, expected a divisor of {channels!r} channels")
    channel = np.arange(channels, dtype=np.intp)
    if channel_map == "tile":
        return channel % g
    if channel_map != "repeat":
        raise RefdesignError(f"dither, channel_map: found {channel_map!r}, expected tile or repeat")
    return channel // (channels // g)


def phase_thresholds(kernel: ThresholdKernel, channels: int, conventions: Conventions) -> Float32Array:
    """The threshold of every phase and channel: the kernel with its slices spread over the channels.

    Args:
        kernel: shape (m, n, g), g a divisor of `channels`.
        channels: C.
        conventions: `channel_map` counts.

    Returns:
        float32, shape (m, n, C).

    >>> from refdesign.conventions import PAPER
    >>> phase_thresholds(ThresholdKernel([[[0.0, 1.0]]]), 4, PAPER)
    array([[[0., 1., 0., 1.]]], dtype=float32)
    """
    return kernel.values[:, :, slices(channels, kernel.shape[2], conventions.channel_map)]


def threshold_map(
    kernel: ThresholdKernel | None, height: int, width: int, channels: int, conventions: Conventions
) -> Float32Array:
    """The threshold over every pixel and channel of a map: T[i mod m, j mod n, slice of c] (docs/method.md, section 1).

    Args:
        kernel: shape (m, n, g); None is T = 0.
        height, width: the map's pixels, after a pool where there is one.
        channels: C, a multiple of g.
        conventions: `kernel_origin` and `channel_map` count.

    Returns:
        float32, shape (height, width, channels), layout HWC.

    Raises:
        RefdesignError: g does not divide the channels, or an empty map.

    >>> from refdesign.conventions import PAPER
    >>> threshold_map(ThresholdKernel([[0.0, 1.0]]), 1, 3, 1, PAPER)[0, :, 0]
    array([0., 1., 0.], dtype=float32)
    """
    check_kernel("threshold_map", kernel)
    check_conventions("threshold_map", conventions)
    kernel = NO_DITHER if kernel is None else kernel
    m, n, _ = kernel.shape
    cells = phase_thresholds(kernel, channels, conventions)
    rows = phases(height, m, conventions.kernel_origin)
    columns = phases(width, n, conventions.kernel_origin)
    return cells[rows[:, np.newaxis], columns]


def map_extent(shape: tuple[int, ...]) -> tuple[int, int]:
    """The height and width of an array (N, H, W, C); an array (N, C) counts as a map of one pixel.

    Raises:
        RefdesignError: neither two nor four axes.

    >>> map_extent((5, 3, 4, 2)), map_extent((5, 2))
    ((3, 4), (1, 1))
    """
    if len(shape) == 4:
        return shape[1], shape[2]
    if len(shape) == 2:
        return 1, 1
    raise RefdesignError(f"found shape {shape}, expected (N, H, W, C) or (N, C)")


def thresholds_over(shape: tuple[int, ...], kernel: ThresholdKernel, conventions: Conventions) -> Float32Array:
    """The thresholds that broadcast over an array (N, H, W, C), shape (H, W, C), or (N, C), shape (C,).

    >>> from refdesign.conventions import PAPER
    >>> thresholds_over((5, 2), ThresholdKernel([[0.5]]), PAPER)
    array([0.5, 0.5], dtype=float32)
    """
    height, width = map_extent(shape)
    cells = threshold_map(kernel, height, width, shape[-1], conventions)
    return cells if len(shape) == 4 else cells[0, 0]
