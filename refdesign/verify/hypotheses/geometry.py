"""Changes of a convolution's geometry, and of how a first layer maps pixels: what a layer's fields say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from refdesign.network import PADDING_MODES, Convolution, Layer, NetworkData, PixelConv2d
from refdesign.verify.change import Change


def _padded(layer: Layer, network: NetworkData, mode: str) -> Layer | None:
    if not isinstance(layer, Convolution) or layer.padding == (0, 0) or layer.padding_mode == mode:
        return None
    return replace(layer, padding_mode=mode)


def _swapped(layer: Layer, network: NetworkData, names: Sequence[str]) -> Layer | None:
    if not isinstance(layer, Convolution):
        return None
    pairs = {name: getattr(layer, name)[::-1] for name in names}
    return replace(layer, **pairs) if any(pairs[name] != getattr(layer, name) for name in pairs) else None


def _undilated(layer: Layer, network: NetworkData) -> Layer | None:
    return None if not isinstance(layer, Convolution) or layer.dilation == (1, 1) else replace(layer, dilation=(1, 1))


def _pixels(layer: Layer, network: NetworkData, multiplier: int | None, offset: int | None) -> Layer | None:
    """Another map of the pixels; None leaves a number as it is."""
    if not isinstance(layer, PixelConv2d):
        return None
    new = (
        layer.multiplier if multiplier is None else multiplier,
        layer.offset if offset is None else offset,
    )  # fmt: skip
    return None if new == (layer.multiplier, layer.offset) else replace(layer, multiplier=new[0], offset=new[1])


def _shifted(layer: Layer, network: NetworkData, by: int) -> Layer | None:
    """Another offset of the pixels."""
    return replace(layer, offset=layer.offset + by) if isinstance(layer, PixelConv2d) else None


_SWAPS = (
    ("strides swapped", ("stride",)),
    ("paddings swapped", ("padding",)),
    ("dilations swapped", ("dilation",)),
    ("stride, padding and dilation swapped", ("stride", "padding", "dilation")),
)
_PIXELS = (
    ("pixels' offset left out", "the first layer reads pixels without their offset", None, 0),
    ("pixels' multiplier left out", "the first layer reads pixels without their multiplier", 1, None),
    ("pixels as p", "the first layer reads p", 1, 0),
    ("pixels as 2p - 255", "the first layer reads 2p - 255", 2, -255),
    ("pixels as p - 128", "the first layer reads p - 128", 1, -128),
    ("pixels as 255 - p", "the first layer reads the negative", -1, 255),
)

GEOMETRY: tuple[Change, ...] = (
    *(
        Change(
            name=f"padding_mode={mode}",
            group="padding",
            says=f"the border is filled as {mode}",
            layer=partial(_padded, mode=mode),
        )
        for mode in PADDING_MODES
    ),
    *(
        Change(name=name, group="geometry", says="rows stand for columns", layer=partial(_swapped, names=names))
        for name, names in _SWAPS
    ),
    Change(name="dilation ignored", group="geometry", says="dilation is 1", layer=_undilated),
    *(
        Change(name=name, group="input", says=says, layer=partial(_pixels, multiplier=multiplier, offset=offset))
        for name, says, multiplier, offset in _PIXELS
    ),
    *(
        Change(
            name=f"pixels' offset {abs(by)} too {'small' if by < 0 else 'large'}",
            group="input",
            says=f"the first layer adds {by} to each mapped pixel, as 2p - {255 - by} does to 2p - 255",
            layer=partial(_shifted, by=by),
        )
        for by in (-1, 1, -2, 2)
    ),
)
"""Changes of geometry."""
