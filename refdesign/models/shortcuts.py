"""The parameter-free shortcut of the residual networks."""

from __future__ import annotations

from refdesign.errors import RefdesignError
from refdesign.network import Shortcut


def shortcut_to(shape: tuple[int, ...], source: str, layer: str, channels: int, stride: int) -> Shortcut:
    """The way of a map to a later addition: a 2x2 average pool where the stride is 2, zero channels where they grow.

    The missing channels are put half before and half behind; for a width that doubles and is a multiple of 4 that
    is the released code's `planes // 4` on each side.

    Args:
        shape: (H, W, C) of the map that is added.
        source: the layer that leaves it.
        layer: the layer that adds it, for the message.
        channels: the channels that must arrive.
        stride: 1, or 2.

    Raises:
        RefdesignError: an odd map with stride 2 (pool and convolution would leave different sizes), or fewer channels
            than the map has.

    >>> shortcut_to((8, 6, 16), "a", "b", 32, 2)
    Shortcut(source='a', average_pool=2, channel_padding=(8, 8))
    """
    height, width, depth = shape
    if stride == 2 and (height % 2 or width % 2):
        raise RefdesignError(f"layer {layer!r}, shortcut: found a map {(height, width)} to halve, expected even sizes")
    missing = channels - depth
    if missing < 0:
        raise RefdesignError(f"layer {layer!r}, shortcut: found {depth} channels, expected at most {channels}")
    return Shortcut(source=source, average_pool=stride, channel_padding=(missing // 2, missing - missing // 2))
