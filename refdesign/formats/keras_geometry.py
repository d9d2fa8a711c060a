"""Windows, strides and padding of Keras's layers, as their descriptions have them, and the maps that they leave."""

from __future__ import annotations

from typing import Any

from refdesign.errors import RefdesignError
from refdesign.formats.keras_chain import KerasLayer
from refdesign.network import MaxPool, Pair

Shape = tuple[int, ...]

RELEASED = ("conv2dbinarylayer", "densebinarylayer")
"""The authors' own layers, whose convolution mirrors a pixel on every side."""

_MOST_PIXELS = 1 << 24
_FILLS = {0: "zeros", 1: "ones", -1: "minus_ones"}


def convolution(layer: KerasLayer, shape: Shape, before: Pair | None, filled: int) -> tuple[dict[str, Any], Shape]:
    """The settings of a convolution on a map, and the map that it leaves.

    Args:
        layer: its description.
        shape: (H, W, C).
        before: padding by a layer before it, or None.
        filled: what such padding holds when the convolution reads it: 0, +1 or -1.

    Raises:
        RefdesignError: a setting that is none, or that has no counterpart.

    >>> layer = KerasLayer("conv2d", "c", {"filters": 4, "kernel_size": [3, 2], "padding": "valid"})
    >>> convolution(layer, (8, 9, 3), None, 0)[1]
    (6, 8, 4)
    """
    if len(shape) != 3:
        raise RefdesignError(f"found a convolution on {shape}, expected a map")
    size = layer.pair("kernel_size", None)
    strides = layer.pair("strides", (1, 1))
    dilation = layer.pair("dilation" if layer.kind == "binaryconv2d" else "dilation_rate", (1, 1))
    filters = layer.integer("filters", 0)
    reach = (dilation[0] * (size[0] - 1) + 1, dilation[1] * (size[1] - 1) + 1)
    padding, mode = _padded(layer, shape, reach, strides, before, filled)
    span = [shape[axis] + 2 * padding[axis] - reach[axis] for axis in (0, 1)]
    if min(span) < 0:
        raise RefdesignError(f"found a window of {size} on a map {shape}, expected a smaller one")
    left = (span[0] // strides[0] + 1, span[1] // strides[1] + 1, filters)
    if left[0] * left[1] * filters > _MOST_PIXELS:
        raise RefdesignError(f"found a map {left}, expected at most {_MOST_PIXELS} values")
    settings = {
        "stride": strides, "padding": padding, "padding_mode": mode, "dilation": dilation,
        "groups": layer.integer("groups", 1),
    }  # fmt: skip
    return settings, left


def _padded(
    layer: KerasLayer, shape: Shape, reach: Pair, strides: Pair, before: Pair | None, filled: int
) -> tuple[Pair, str]:
    """Padding and its mode."""
    if layer.kind == "binaryconv2d":
        return layer.pair("padding", (0, 0), 0), layer.text("padding_mode", "zeros")
    name = layer.text("padding", "valid")
    if layer.kind in RELEASED:
        if name != "valid":
            raise RefdesignError(f"padding: found {name!r}, expected 'valid', which the layer mirrors a pixel for")
        return (1, 1), "symmetric"
    if name == "valid":
        return before or (0, 0), _FILLS[filled]
    if name != "same" or before is not None:
        raise RefdesignError(f"padding: found {name!r} (behind ZeroPadding2D or not), expected 'valid' or 'same'")
    found = []
    for axis in (0, 1):
        extent, step = shape[axis], strides[axis]
        total = max((-(-extent // step) - 1) * step + reach[axis] - extent, 0)
        if total % 2:
            raise RefdesignError(
                f"padding: found 'same' with {total // 2} before and {total - total // 2} behind the map "
                f"{shape} at stride {step}, expected as much on both sides: ZeroPadding2D and 'valid'"
            )
        found.append(total // 2)
    value = layer.number("pad_values", 0)
    if value not in _FILLS:
        raise RefdesignError(f"pad_values: found {value:g}, expected 0, 1 or -1")
    return (found[0], found[1]), _FILLS[int(value)]


def zero_padding(layer: KerasLayer) -> Pair:
    """Rows and columns that a `ZeroPadding2D` puts on each side.

    Raises:
        RefdesignError: numbers that are none, or another number before than behind.

    >>> zero_padding(KerasLayer("zeropadding2d", "p", {"padding": [[1, 1], [2, 2]]}))
    (1, 2)
    """
    value = layer.config.get("padding", 1)
    parts = value if isinstance(value, (list, tuple)) and len(value) == 2 else (value, value)
    ends = [part if isinstance(part, (list, tuple)) and len(part) == 2 else (part, part) for part in parts]
    if any(type(n) is not int or not 0 <= n < 65_536 for end in ends for n in end):
        raise RefdesignError(f"padding: found {str(value)[:60]}, expected numbers of rows and columns")
    if any(first != last for first, last in ends):
        raise RefdesignError(f"padding: found {str(value)[:60]}, expected as much on both sides")
    return ends[0][0], ends[1][0]


def max_pool(layer: KerasLayer, shape: Shape) -> tuple[MaxPool, Shape]:
    """A max pool, and the map that it leaves.

    Raises:
        RefdesignError: windows that reach beyond the map.

    >>> max_pool(KerasLayer("maxpooling2d", "p", {"pool_size": 2}), (7, 8, 3))[1]
    (3, 4, 3)
    """
    size = layer.pair("pool_size", (2, 2))
    strides = layer.pair("strides", size)
    missing = [max((-(-n // s) - 1) * s + k - n, 0) for n, s, k in zip(shape, strides, size, strict=False)]
    if layer.text("padding", "valid") != "valid" and any(missing):
        raise RefdesignError(f"padding: found 'same' on a map {shape}, expected windows that fit, or 'valid'")
    _fits(size, shape)
    rows, columns = ((shape[axis] - size[axis]) // strides[axis] + 1 for axis in (0, 1))
    return MaxPool(size=size, stride=strides), (rows, columns, shape[2])


def average_pool(layer: KerasLayer, shape: Shape) -> tuple[Pair, Shape]:
    """The windows of an average pool, also of the whole map, and what it leaves.

    Raises:
        RefdesignError: windows that overlap, or reach beyond the map.

    >>> average_pool(KerasLayer("globalaveragepooling2d", "p", {}), (7, 8, 3))
    ((7, 8), (3,))
    """
    if len(shape) != 3:
        raise RefdesignError(f"found an average pool on {shape}, expected a map")
    whole = layer.kind == "globalaveragepooling2d"
    size = (shape[0], shape[1]) if whole else layer.pair("pool_size", (2, 2))
    if not whole and (layer.pair("strides", size) != size or layer.text("padding", "valid") != "valid"):
        raise RefdesignError("found an average pool with strides or padding of its own, expected 'valid' and none")
    _fits(size, shape)
    kept = (shape[0] // size[0], shape[1] // size[1], shape[2])
    return size, kept[2:] if whole and not layer.flag("keepdims", False) else kept


def _fits(size: Pair, shape: Shape) -> None:
    if min(shape[0] - size[0], shape[1] - size[1]) < 0:
        raise RefdesignError(f"found a pool of {size} on a map {shape}, expected a smaller one")
