"""Changes of what a sum runs over: positions of windows, padding, taps, channels, groups, pixels.

The sums are taken anew, on unpacked integers, from a table of the positions that every window's taps meet.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import WORD, PackedBits, unpack
from refdesign.network import BinaryConv2d, BinaryDense, Convolution, PixelConv2d
from refdesign.ops.padding import FILLS
from refdesign.verify.change import Change, Place

Integers = NDArray[np.int32]
Array = NDArray[Any]
Table = NDArray[np.intp]
Reach = Callable[[Convolution, int, Table, Table], Table]
"""Where a window's tap lies on an axis: layer, axis, window number, tap number."""


def usual_reach(layer: Convolution, axis: int, window: Table, tap: Table) -> Table:
    """Where a window's tap lies on an axis, below 0 or beyond the map in the padding."""
    return window * layer.stride[axis] + tap * layer.dilation[axis] - layer.padding[axis]


def _shown(position: Table, extent: int, mode: str) -> Table:
    """The position on the map that a position on the endless axis shows; -1 where it shows a constant."""
    if mode in FILLS:
        return np.where((position >= 0) & (position < extent), position, -1)
    if mode == "edge":
        return np.clip(position, 0, extent - 1)
    if mode == "circular":
        return position % extent
    period = 2 * extent if mode == "symmetric" else max(1, 2 * extent - 2)
    folded = position % period
    return np.minimum(folded, (period - 1 if mode == "symmetric" else period) - folded)


def inputs_of(place: Place) -> Array | None:
    """What a layer sums products of: int64 pixels behind their map, or int8 bits; None for other layers."""
    layer = place.layer
    if isinstance(layer, PixelConv2d):
        pixels: Array = place.inputs.astype(np.int64)
        return pixels * layer.multiplier + layer.offset
    if isinstance(layer, BinaryDense):
        return unpack(place.inputs).reshape(len(place.inputs.words), -1)
    return unpack(place.inputs) if isinstance(layer, BinaryConv2d) else None


def weights_of(place: Place) -> Array:
    """The layer's weights as integers, (O, kernel rows, kernel columns, I/groups) or (O, I)."""
    weights: Any = getattr(place.layer, "weights")  # noqa: B009  (only some layers have them)
    return unpack(weights) if isinstance(weights, PackedBits) else np.asarray(weights)


def windows_of(
    place: Place, layer: Convolution, x: Array, *, reach: Reach = usual_reach, fill: int | None = None
) -> Array:
    """What every window of a convolution meets: (N, H', W', kernel rows, kernel columns, C).

    Args:
        place: where it is.
        layer: the convolution.
        x: its inputs, (N, H, W, C).
        reach: positions of windows and taps.
        fill: the constant outside the map; None: the layer's own.
    """
    shape = place.network.shapes[layer.name]
    rows, columns = (
        _table(layer, axis, reach, shape.accumulator[axis], layer.weight_shape[1 + axis], x.shape[1 + axis])
        for axis in (0, 1)
    )
    grid = (rows[:, np.newaxis, :, np.newaxis], columns[np.newaxis, :, np.newaxis, :])
    windows = x[:, grid[0], grid[1]]
    outside = (grid[0] < 0) | (grid[1] < 0)
    windows[:, outside] = FILLS.get(layer.padding_mode, 0) if fill is None else fill
    return windows


def resummed(
    place: Place,
    *,
    x: Array | None = None,
    weights: Array | None = None,
    reach: Reach = usual_reach,
    fill: int | None = None,
    group: Callable[[Array, int], Array] | None = None,
) -> Integers | None:
    """A layer's sums, taken anew under a change of what they run over.

    Args:
        place: the layer and its input.
        x: other inputs of the same shape.
        weights: other weights of the same shape.
        reach: other positions of windows and taps.
        fill: another constant outside the map.
        group: gives the input channels of a group, (..., C) and the group's number in.

    Returns:
        int32, as the layer's accumulator; None for layers without integer ones.
    """
    layer = place.layer
    x = inputs_of(place) if x is None else x
    if x is None:
        return None
    w = weights_of(place) if weights is None else weights
    if not isinstance(layer, Convolution):
        return _products(x, w)
    windows = windows_of(place, layer, x, reach=reach, fill=fill)
    out, kernel_rows, kernel_columns, depth = w.shape
    pick = group or (lambda all_, number: all_[..., number * depth : (number + 1) * depth])
    outputs = out // layer.groups
    taps = kernel_rows * kernel_columns * depth
    sums = [
        _products(
            pick(windows, number).reshape(-1, taps), w[number * outputs : (number + 1) * outputs].reshape(-1, taps)
        )
        for number in range(layer.groups)
    ]
    return np.concatenate(sums, axis=-1).reshape(*windows.shape[:3], out)


def products_in(place: Place, weights: Array) -> Integers | None:
    """How many products each sum has: those of inputs and weights that are not 0; None as in `resummed`."""
    x = inputs_of(place)
    if x is None:
        return None
    fill = abs(FILLS.get(getattr(place.layer, "padding_mode", "zeros"), 0))
    return resummed(place, x=np.abs(np.sign(x)).astype(np.int8), weights=np.abs(np.sign(weights)), fill=fill)


def _table(layer: Convolution, axis: int, reach: Reach, windows: int, taps: int, extent: int) -> Table:
    window, tap = np.meshgrid(np.arange(windows), np.arange(taps), indexing="ij")
    return _shown(reach(layer, axis, window, tap), extent, layer.padding_mode)


def _products(x: Array, w: Array) -> Integers:
    """Sums of products, exact: float32 holds those of bits, float64 those of pixels."""
    kind = np.float32 if x.dtype == np.int8 and w.dtype == np.int8 and w.shape[-1] < 2**24 else np.float64
    sums: Array = np.matmul(x.astype(kind), w.astype(kind).T)
    return sums.astype(np.int32)


def _moved(a: Integers, place: Place, reach: Reach) -> Integers | None:
    layer = place.layer
    if not isinstance(layer, Convolution):
        return None
    shape = place.network.shapes[layer.name]
    for axis in (0, 1):
        args = (shape.accumulator[axis], layer.weight_shape[1 + axis], shape.input[axis])
        if (_table(layer, axis, reach, *args) != _table(layer, axis, usual_reach, *args)).any():
            return resummed(place, reach=reach)
    return None


_REACHES: tuple[tuple[str, str, str, Reach], ...] = (
    ("all padding behind", "padding", "windows start on the map's first pixel, all padding lies below and to the right",
     lambda layer, axis, window, tap: usual_reach(layer, axis, window, tap) + layer.padding[axis]),
    ("all padding before", "padding", "windows end on the map's last pixel, all padding lies above and to the left",
     lambda layer, axis, window, tap: usual_reach(layer, axis, window, tap) - layer.padding[axis]),
    ("padding of rows and columns exchanged in place", "padding", "above as much as is meant for the left",
     lambda layer, axis, window, tap:
         usual_reach(layer, axis, window, tap) + layer.padding[axis] - layer.padding[1 - axis]),
    ("taps side by side in spite of the dilation", "geometry", "dilated windows in number, plain ones in reach",
     lambda layer, axis, window, tap: usual_reach(layer, axis, window, tap) - tap * (layer.dilation[axis] - 1)),
    ("windows at the last pixel of their step", "geometry", "strided windows start where their step ends",
     lambda layer, axis, window, tap: usual_reach(layer, axis, window, tap) + layer.stride[axis] - 1),
    ("windows one pixel late", "off by one", "windows lie one pixel further down and right",
     lambda layer, axis, window, tap: usual_reach(layer, axis, window, tap) + 1),
    ("windows one pixel early", "off by one", "windows lie one pixel further up and left",
     lambda layer, axis, window, tap: usual_reach(layer, axis, window, tap) - 1),
)  # fmt: skip


def _padded_before_map(a: Integers, place: Place) -> Integers | None:
    """Padding stands for a pixel, and goes through the pixels' map."""
    layer = place.layer
    if not isinstance(layer, PixelConv2d) or layer.padding == (0, 0) or layer.padding_mode not in FILLS:
        return None
    fill = FILLS[layer.padding_mode]
    mapped = layer.multiplier * fill + layer.offset
    return None if mapped == fill else resummed(place, fill=mapped)


def _pixels(a: Integers, place: Place, read: Callable[[NDArray[np.uint8]], Array]) -> Integers | None:
    layer = place.layer
    if not isinstance(layer, PixelConv2d):
        return None
    return resummed(place, x=read(place.inputs).astype(np.int64) * layer.multiplier + layer.offset)


_PIXELS: tuple[tuple[str, str, Callable[[NDArray[np.uint8]], Array]], ...] = (
    ("pixels as signed octets", "128 to 255 are read as -128 to -1", lambda p: p.view(np.int8)),
    ("pixels' lowest bit lost", "the lowest bit plane is left out", lambda p: p & 254),
    ("pixels' highest bit lost", "the highest bit plane is left out", lambda p: p & 127),
    ("pixels' bits reversed", "the highest bit is taken for the lowest",
     lambda p: np.packbits(np.unpackbits(p[..., np.newaxis], axis=-1), axis=-1, bitorder="little")[..., 0]),
)  # fmt: skip


def _zeros_as(a: Integers, place: Place, value: int) -> Integers | None:
    """Inputs that are 0 are packed as if they had a sign."""
    x = inputs_of(place)
    if x is None or isinstance(place.layer, PixelConv2d) or x.all():
        return None
    return resummed(place, x=np.where(x == 0, value, x).astype(np.int8))


def _without(a: Integers, place: Place, lost: str) -> Integers | None:
    """Sums that leave out the last tap, the last input channel, or the channels of the last word."""
    layer = place.layer
    if not isinstance(layer, (PixelConv2d, BinaryConv2d, BinaryDense)):
        return None
    w = weights_of(place).copy()
    depth = w.shape[-1]
    if lost == "tap":
        if w.ndim != 4 or w.shape[1] * w.shape[2] == 1:
            return None
        w[:, -1, -1] = 0
    elif lost == "tap, dense layers as windows of one tap":
        if w.ndim == 4:
            w[:, -1, -1] = 0
        else:
            w[:] = 0
    elif lost == "channel":
        w[..., -1] = 0
    elif depth <= WORD or (lost == "word that is not full" and depth % WORD == 0):
        return None
    else:
        w[..., (depth - 1) // WORD * WORD :] = 0
    return resummed(place, weights=w)


_LOST = (
    ("tap", ""),
    ("channel", ""),
    ("word that is not full", ""),
    ("word", "last word that is not full lost"),
    ("tap, dense layers as windows of one tap", "last tap lost"),
)
"""What is lost, and which of these it is a spelling of."""


def _high_nibbles(a: Integers, place: Place) -> Integers | None:
    """Differing bits of an octet's upper half count 17 times: the popcount's last mask stands before its addition."""
    if not isinstance(place.layer, (BinaryConv2d, BinaryDense)):
        return None
    w = weights_of(place).copy()
    upper = np.arange(w.shape[-1]) % 8 >= 4
    if not upper.any():
        return None
    w[..., ~upper] = 0
    agreeing, counted = resummed(place, weights=w), products_in(place, w)
    return None if agreeing is None or counted is None else a - 16 * (counted - agreeing)


def _grouped(a: Integers, place: Place, kind: str) -> Integers | None:
    layer = place.layer
    if not isinstance(layer, Convolution) or layer.groups == 1:
        return None
    depth, groups = layer.weight_shape[3], layer.groups
    if kind == "outputs":
        shape = (*a.shape[:-1], groups, a.shape[-1] // groups)
        return np.ascontiguousarray(a.reshape(shape).swapaxes(-1, -2)).reshape(a.shape)
    if kind == "inputs":
        return resummed(place, group=lambda windows, number: windows[..., number::groups][..., :depth])
    if kind == "first":
        return resummed(place, group=lambda windows, number: windows[..., :depth])
    return resummed(
        place,
        group=lambda windows, number: windows[..., (groups - 1 - number) * depth : (groups - number) * depth],
    )


_GROUPS = (
    ("groups take every G-th channel", "group g reads channels g, g + G, ...", "inputs"),
    ("groups' outputs interleaved", "the groups' outputs take turns instead of lying one behind the other", "outputs"),
    ("groups share the first group's input", "every group reads the first group's channels", "first"),
    ("groups' inputs in reverse", "the last group's channels stand for the first's", "reversed"),
)

WINDOWS: tuple[Change, ...] = (
    *(Change(name=name, group=group, says=says, accumulate=partial(_moved, reach=reach))
      for name, group, says, reach in _REACHES),
    Change(name="padding before the pixels' map", group="padding", accumulate=_padded_before_map,
           says="the border is filled with pixels, which are mapped as the others are"),
    *(Change(name=name, group="input", says=says, accumulate=partial(_pixels, read=read))
      for name, says, read in _PIXELS),
    *(Change(name=f"zeros packed as {value:+d}", group="sign", accumulate=partial(_zeros_as, value=value),
             says=f"an input of 0 enters the sum as {value:+d}") for value in (-1, 1)),
    *(Change(name=f"last {lost} lost", group="off by one", says=f"sums leave out the last {lost}",
             accumulate=partial(_without, lost=lost), spelling_of=spelling) for lost, spelling in _LOST),
    Change(name="popcount's last mask misplaced", group="counting", accumulate=_high_nibbles,
           says="differing bits 4 to 7 of an octet count 17 times"),
    *(Change(name=name, group="groups", says=says, accumulate=partial(_grouped, kind=kind))
      for name, says, kind in _GROUPS),
)  # fmt: skip
"""Changes of what sums run over."""
