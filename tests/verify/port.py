"""A port of a network as an engineer would write it, in plain NumPy, with faults that can be switched on.

It shares nothing with the diagnosis: sums by shifted slices, the decision in float64 from batch norm and dither. On
the networks of these tests float64 decides as exact arithmetic does, which the tests check first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from refdesign.bits import unpack
from refdesign.network import BinaryDense, Convolution, NetworkData, PixelConv2d, Stage

Array = Any
"""Arrays of every kind; a port is not typed."""
_MODES = {"symmetric": "symmetric", "zeros": "constant"}


class Port:
    """The network as a callable; `faults` are the names that its methods look for."""

    def __init__(self, network: NetworkData, *faults: str, only: str | None = None) -> None:
        self.network = network
        self.faults = set(faults)
        self.only = only
        self.layer = ""

    def has(self, fault: str) -> bool:
        return fault in self.faults and self.only in (None, self.layer)

    def __call__(self, images: Array) -> dict[str, Array]:
        found: dict[str, Array] = {}
        x: Array = images.astype(np.int64)
        for layer in self.network.layers:
            assert isinstance(layer, Stage)
            self.layer = layer.name
            a = self.sums(layer, x)
            found[f"{layer.name}.accumulator"] = a
            if layer.pool is not None:
                before, a = a, self.pool(layer, a)
                found[f"{layer.name}.pooled"] = a
                if self.has("threshold before pool"):
                    bits = self.decide(layer, before)
                    rows, columns = a.shape[1:3]
                    windows = bits[:, : 2 * rows, : 2 * columns].reshape(len(bits), rows, 2, columns, 2, -1)
                    down = self.norm(layer)[0] < 0
                    x = np.where(down, windows.min(axis=(2, 4)), windows.max(axis=(2, 4)))
                    found[f"{layer.name}.bits"] = x
                    continue
            if layer is self.network.layers[-1]:
                found["logits"] = self.logits(layer, a)
                break
            x = self.decide(layer, a)
            found[f"{layer.name}.bits"] = x
        return found

    def sums(self, layer: Stage, x: Array) -> Array:
        packed: Any = layer.weights  # type: ignore[attr-defined]
        weights = unpack(packed).astype(np.int64)
        if self.has("xor for xnor"):
            weights = -weights
        if isinstance(layer, BinaryDense):
            if x.ndim == 4:
                x = x.transpose(0, 3, 1, 2) if self.has("flattened as nchw") else x
            a = x.reshape(len(x), -1) @ weights.T
            return self.narrow(layer, a, len(weights[0]))
        assert isinstance(layer, Convolution)
        if isinstance(layer, PixelConv2d):
            x = x if self.has("raw pixels") else x * layer.multiplier + layer.offset
        if self.has("true convolution"):
            weights = weights[:, ::-1, ::-1]
        if self.has("weights transposed"):
            weights = weights.swapaxes(1, 2)
        margins = ((0, 0), (layer.padding[0],) * 2, (layer.padding[1],) * 2, (0, 0))
        mode = layer.padding_mode
        fill = -1 if self.has("pads with -1") else 1 if self.has("pads with +1") else 0
        zeros = self.has("pads with 0")
        if mode == "zeros" or fill or zeros:
            padded = np.pad(x, margins, constant_values=fill)
        else:
            padded = np.pad(x, margins, mode="symmetric")
        _, rows, columns, _ = weights.shape
        height, width = padded.shape[1] - rows + 1, padded.shape[2] - columns + 1
        a = np.zeros((len(x), height, width, len(weights)), np.int64)
        for row in range(rows):
            for column in range(columns):
                a += padded[:, row : row + height, column : column + width] @ weights[:, row, column].T
        return self.narrow(layer, a, weights[0].size)

    def narrow(self, layer: Stage, a: Array, fan_in: int) -> Array:
        if self.has("wraps at 8 bits"):
            a = (a + 128) % 256 - 128
        if self.has("saturates at 6 bits"):
            a = np.clip(a, -32, 31)
        if self.has("matches only") and not isinstance(layer, PixelConv2d):
            a = (a + fan_in) // 2
        if self.has("one match too many") and not isinstance(layer, PixelConv2d):
            a = a + 2
        if self.has("one product too few") and not isinstance(layer, PixelConv2d):
            a = a - 1  # odd sums, which the layer itself cannot have
        return a

    def pool(self, layer: Stage, a: Array) -> Array:
        rows, columns = a.shape[1] // 2, a.shape[2] // 2
        windows = a[:, : 2 * rows, : 2 * columns].reshape(len(a), rows, 2, columns, 2, a.shape[3])
        return windows.min(axis=(2, 4)) if self.has("minimum pool") else windows.max(axis=(2, 4))

    def norm(self, layer: Stage) -> tuple[Array, Array]:
        bn = layer.batch_norm
        assert bn is not None
        epsilon = 0.5 if self.has("large epsilon") else bn.epsilon
        gamma = np.abs(bn.gamma) if self.has("gamma loses its sign") else bn.gamma
        std = np.sqrt(bn.variance.astype(np.float64) + epsilon)
        if self.has("variance for deviation"):
            std = std**2
        k = gamma.astype(np.float64) / std
        mean = 0 if self.has("mean forgotten") else -bn.mean if self.has("mean added") else bn.mean
        beta = 0 if self.has("beta forgotten") else bn.beta
        return k, beta - mean * k

    def dither(self, layer: Stage, height: int, width: int, channels: int) -> Array:
        if layer.kernel is None or self.has("no dither"):
            return np.zeros((height, width, channels))
        values = layer.kernel.values.astype(np.float64)
        m, n, g = values.shape
        if self.has("kernel transposed"):
            i, j = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
            return values[j % m, i % n][:, :, np.arange(channels) % g]
        i, j = np.arange(height) % m, np.arange(width) % n
        if self.has("phase shifted by a column"):
            j = (np.arange(width) + 1) % n
        if self.has("cropped at the centre"):
            i = (np.arange(height) + (-(-height // m) * m - height) // 2) % m
            j = (np.arange(width) + (-(-width // n) * n - width) // 2) % n
        c = np.arange(channels) // (channels // g) if self.has("slices repeated") else np.arange(channels) % g
        t = values[i[:, None, None], j[None, :, None], c]
        if self.has("column phase runs on"):
            t = values[i[:, None, None], (np.arange(height * width) % n).reshape(height, width, 1), c]
        return -t if self.has("dither added") else t

    def decide(self, layer: Stage, a: Array) -> Array:
        k, c = self.norm(layer)
        y = a * k + c
        maps = y if y.ndim == 4 else y[:, None, None]
        z = maps - self.dither(layer, *maps.shape[1:])
        z = np.where(np.abs(z) < 1e-9, 0.0, z)
        if self.has("strictly above"):
            bits = np.where(z > 0, 1, -1)
        else:
            bits = np.where(z >= 0, 1, -1)
        if self.has("bits turned round"):
            bits = -bits
        return bits.reshape(y.shape)

    def logits(self, layer: Stage, a: Array) -> Array:
        return a


FAULTS: dict[str, tuple[str, ...]] = {
    "xor for xnor": ("accumulator negated", "weights inverted"),
    "flattened as nchw": ("flattened as NCHW",),
    "raw pixels": ("pixels as p",),
    "true convolution": ("weights turned by half",),
    "pads with -1": ("padding_mode=minus_ones",),
    "pads with +1": ("padding_mode=ones",),
    "wraps at 8 bits": ("accumulator wraps at 8 bits",),
    "saturates at 6 bits": ("accumulator saturates at 6 bits",),
    "one match too many": ("accumulator + 2",),
    "one product too few": ("accumulator - 1",),
    "minimum pool": ("minimum pool",),
    "gamma loses its sign": ("gamma as |gamma|",),
    "variance for deviation": ("variance as standard deviation",),
    "mean forgotten": ("mean ignored",),
    "mean added": ("mean negated",),
    "beta forgotten": ("beta ignored",),
    "no dither": ("no dither",),
    "dither added": ("dither added",),
    "kernel transposed": ("phase rows and columns swapped", "kernel transposed"),
    # On these maps the two give the same phases, in every layer.
    "phase shifted by a column": ("phase shifted by (0, 1)", "kernel_origin=center_crop"),
    "cropped at the centre": ("kernel_origin=center_crop",),
    "slices repeated": ("channel_map=repeat",),
    "column phase runs on": ("phase runs on over row ends",),
    "threshold before pool": ("phase of unpooled pixels",),
    "strictly above": ("sign_at_zero=-1",),
    "bits turned round": ("bits inverted",),
}
"""The faults, with what the diagnosis may call them."""
