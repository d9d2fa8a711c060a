"""Images made for a purpose: plain ones, corners, textures, noise of every contrast, and those near thresholds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refdesign.network import NetworkData

Images = NDArray[np.uint8]


def directed_images(network: NetworkData) -> tuple[Images, list[str]]:
    """Images whose purpose has a name: all zeros, all 255, corners, edges, chequerboards, ramps.

    Returns:
        uint8 (N, H, W, C), and the N names.

    >>> from refdesign.api import pretrained
    >>> images, names = directed_images(pretrained("digits"))
    >>> names[:2], images[1].min()
    (['all zeros', 'all 255'], np.uint8(255))
    """
    height, width, channels = network.input_shape
    row, column, channel = np.meshgrid(np.arange(height), np.arange(width), np.arange(channels), indexing="ij")
    top, left = row == 0, column == 0
    bottom, right = row == height - 1, column == width - 1
    made = {
        "all zeros": row * 0,
        "all 255": row * 0 + 255,
        "all 127": row * 0 + 127,
        "all 128": row * 0 + 128,
        "corner top left": 255 * (top & left),
        "corner top right": 255 * (top & right),
        "corner bottom left": 255 * (bottom & left),
        "corner bottom right": 255 * (bottom & right),
        "edge top": 255 * top,
        "edge left": 255 * left,
        "edge bottom": 255 * bottom,
        "edge right": 255 * right,
        "centre": 255 * ((row == height // 2) & (column == width // 2)),
        "chequerboard": 255 * ((row + column) % 2),
        "chequerboard turned": 255 * ((row + column + 1) % 2),
        "rows": 255 * (row % 2),
        "columns": 255 * (column % 2),
        "ramp of rows": row * 255 // max(1, height - 1),
        "ramp of columns": column * 255 // max(1, width - 1),
        "first channel": 255 * (channel == 0),
        "last channel": 255 * (channel == channels - 1),
    }
    return np.stack(list(made.values())).astype(np.uint8), list(made)


def made_images(network: NetworkData, count: int, seed: int = 0) -> Images:
    """The images that a verification makes where none are given: the directed ones, then random ones.

    Args:
        network: gives the shape.
        count: how many random ones.
        seed: of the random ones, of which the first are the same whatever their count.

    >>> from refdesign.api import pretrained
    >>> made_images(pretrained("digits"), 3).shape
    (24, 8, 8, 1)
    """
    return np.concatenate([directed_images(network)[0], fresh_images(network, np.random.default_rng(seed), count)])


def fresh_images(network: NetworkData, random: np.random.Generator, count: int) -> Images:
    """Random images of many kinds in turn: noise, low contrast, sparse, blocks, smooth, and their negatives.

    Args:
        network: gives the shape.
        random: the source of randomness.
        count: how many.

    Returns:
        uint8 (count, H, W, C).

    >>> from refdesign.api import pretrained
    >>> fresh_images(pretrained("digits"), np.random.default_rng(0), 7).shape
    (7, 8, 8, 1)
    """
    height, width, channels = network.input_shape
    images = np.empty((count, height, width, channels), dtype=np.uint8)
    for number in range(count):
        kind = number % 6
        noise = random.integers(0, 256, (height, width, channels))
        if kind == 1:
            noise = random.integers(0, 256) // 2 + noise * int(random.integers(1, 128)) // 256
        elif kind == 2:
            noise = noise * (random.random((height, width, channels)) < random.random())
        elif kind == 3:
            size = int(random.integers(2, 5))
            small = random.integers(0, 256, (-(-height // size), -(-width // size), channels))
            noise = np.repeat(np.repeat(small, size, axis=0), size, axis=1)[:height, :width]
        elif kind == 4:
            noise = _smooth(noise)
        elif kind == 5:
            noise = np.where(noise > random.integers(0, 256), 255, 0)
        images[number] = np.clip(noise, 0, 255)
    return images


def _smooth(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Means over 3x3 neighbours, with the contrast stretched again."""
    padded = np.pad(values, ((1, 1), (1, 1), (0, 0)), mode="edge")
    height, width = values.shape[:2]
    total = sum(padded[r : r + height, c : c + width] for r in range(3) for c in range(3))
    mean = np.asarray(total) // 9
    low, high = int(mean.min()), int(mean.max())
    return (mean - low) * 255 // max(1, high - low)
