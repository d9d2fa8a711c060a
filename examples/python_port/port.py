"""The network `digits` as an engineer would port it: NumPy and a folder of vectors, no code of refdesign.

    refdesign vectors digits vectors
    refdesign verify digits digits:test --impl port.py:forward

Every layer's bits are in the answer, so that `refdesign verify` can say which one is wrong first.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
FOLDER = Path("vectors/parameters")
LAYERS = ["conv1", "conv2", "conv3", "conv4", "dense1", "dense2"]
POOLED = {"conv2", "conv4"}


def parameter(layer: str, what: str) -> Array:
    """One array of the folder: weights (O, rows, columns, I) or (O, I), thresholds (m, n, O)."""
    return np.asarray(np.load(FOLDER / f"{layer}.{what}.npy"))


def convolution(x: Array, weights: Array) -> Array:
    """Sums of products over 3x3 windows; outside, the map's edge is repeated."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    rows, columns = x.shape[1:3]
    total = np.zeros((*x.shape[:3], len(weights)), np.int64)
    for i in range(3):
        for j in range(3):
            total += padded[:, i : i + rows, j : j + columns] @ weights[:, i, j].T
    return total


def pool(a: Array) -> Array:
    """The maximum of every 2x2 pixels."""
    n, rows, columns, channels = a.shape
    return np.asarray(a.reshape(n, rows // 2, 2, columns // 2, 2, channels).max(axis=(2, 4)))


def threshold(a: Array, layer: str) -> Array:
    """A bit is +1 where direction * a >= direction * t; the thresholds repeat every 2 rows and columns."""
    t, direction = (parameter(layer, what).astype(np.int64) for what in ("threshold", "direction"))
    if a.ndim == 2:
        return np.where(direction[0, 0] * a >= direction[0, 0] * t[0, 0], 1, -1)
    rows, columns = np.arange(a.shape[1])[:, np.newaxis] % t.shape[0], np.arange(a.shape[2]) % t.shape[1]
    return np.where(direction[rows, columns] * a >= (direction * t)[rows, columns], 1, -1)


def forward(images: Array) -> dict[str, Array]:
    """From uint8 images (N, 8, 8, 1) to outputs by name."""
    answer = {}
    x = 2 * images.astype(np.int64) - 255
    for layer in LAYERS:
        weights = parameter(layer, "weights").astype(np.int64)
        a = convolution(x, weights) if weights.ndim == 4 else x.reshape(len(x), -1) @ weights.T
        if layer in POOLED:
            a = pool(a)
        if layer == LAYERS[-1]:
            answer["logits"] = a * parameter(layer, "k") + parameter(layer, "c")
        else:
            x = answer[f"{layer}.bits"] = threshold(a, layer)
    return answer
