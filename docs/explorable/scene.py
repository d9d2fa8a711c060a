"""What the page shows: a photograph, a network of two binary layers on it, and the choices that a reader has.

The network is `dots` (every grey pixel becomes one bit), `conv` (four binary 3x3 filters on those bits) and `sum`
(adds the four bits of a pixel: what a next layer sees).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from refdesign import datasets, design
from refdesign.bits import pack
from refdesign.conventions import PAPER, Conventions
from refdesign.network import BinaryConv2d, NetworkData, PixelConv2d
from refdesign.ops.pixels import pixel_conv2d
from refdesign.parameters import NO_DITHER, BatchNorm, ThresholdKernel

LEVELS = (0, 1, 3, 5, 7, 9)
"""The sums of nine products behind a ReLU: a designed kernel's cells hold one of them."""

LIGHTS = tuple(step * 0.1875 for step in range(-8, 9))
"""beta of `dots`: how bright the dots come out."""
GAMMAS = tuple(step / 8 for step in range(-16, 17))
BETAS = tuple(step / 4 for step in range(-6, 7))
ZEROS = (1, -1, 0)
"""`sign_at_zero`."""
EPSILON = 0.0
"""Zero, so that exact ties can be reached with round numbers."""

FILTERS: dict[str, list[list[int]]] = {
    "authors": design.AUTHORS_WEIGHTS.tolist(),
    "edge": [[1, 1, 1], [-1, -1, -1], [-1, -1, -1]],
    "corner": [[-1, -1, -1], [-1, 1, 1], [-1, 1, 1]],
    "blur": [[1, 1, 1], [1, 1, 1], [1, 1, 1]],
}
"""The four filters of `conv`; the first is the one that the authors judge their kernels with."""

MEANS = (0.0, 0.0, 0.0, 0.0)
VARIANCES = (9.0, 4.0, 4.0, 25.0)
"""Batch statistics of `conv`: the photograph's under Bayer 4x4, to whole means and deviations, so that sums lie on
boundaries (`tests/docs` compares)."""

BAYER: dict[int, list[list[int]]] = {2: [[0, 2], [3, 1]]}
for _size in (4, 8):
    _half = 4 * np.array(BAYER[_size // 2])
    BAYER[_size] = np.block([[_half, _half + 2], [_half + 3, _half + 1]]).tolist()
"""Bayer's index matrices: the order in which the cells of a tile light up."""

DESIGNED_2X2 = [[1, 3], [3, 1]]
"""The best 2x2 kernel for the photograph under the authors' filter; `tables` proves it at every build."""
DESIGNED_ALL = [[1, 3], [3, 7]]
"""The best one for the photograph over all 512 filters; proven likewise."""
PUBLISHED_3X3 = "threshold_3x3_symmetric_v1"
CHEQUERBOARD = [[0, 9], [9, 0]]

INPUTS: dict[str, str] = {
    "one": "one threshold",
    "bayer2": "Bayer 2×2",
    "bayer4": "Bayer 4×4",
    "bayer8": "Bayer 8×8",
    "d2": "designed 2×2",
    "d2all": "designed 2×2, all filters",
    "d3": "published 3×3",
    "check": "0 and 9",
}
"""The kernels of `dots`, by their names in addresses."""
DITHERS: dict[str, str] = {"sign": "Sign", "2d": "DeSign 2D, 2×2", "3x3": "DeSign 2D, 3×3", "3d": "DeSign 3D, 2×2×4"}
"""The kernels of `conv`."""


@dataclass(frozen=True)
class State:
    """One choice of every control that changes a value; the names are those in addresses.

    >>> State(gamma=-1.0).network().layers[1].batch_norm.gamma
    array([-1., -1., -1., -1.], dtype=float32)
    """

    dots: str = "bayer4"
    light: float = 0.0
    gamma: float = 1.0
    beta: float = 0.0
    dither: str = "2d"
    zero: int = 1
    same_filter: int | None = None
    """All four channels carry this filter, instead of one each."""

    def network(self) -> NetworkData:
        """The network in this state; `run` gives all that the page shows."""
        return network(self)


@cache
def photograph() -> NDArray[np.uint8]:
    """The bundled photograph at a third of its size: uint8 (151, 169).

    Neither side is a multiple of a kernel's period: with aligned sizes a wrong phase can hide.

    >>> photograph().shape
    (151, 169)
    """
    rows, columns = 151, 169
    whole = datasets.photograph()[15 : 15 + 3 * rows, 3 : 3 + 3 * columns].astype(np.int64)
    sums = whole.reshape(rows, 3, columns, 3).sum(axis=(1, 3))
    grey: NDArray[np.uint8] = ((2 * sums + 9) // 18).astype(np.uint8)
    return grey


@cache
def dots_statistics() -> tuple[float, float]:
    """Mean and variance of the centred pixels 2p - 255, rounded to an even number and an integer.

    Centred pixels are odd: from an even mean none lies on the boundary, so sign(0) does not matter in `dots`.
    """
    centred = 2 * photograph().astype(np.int64) - 255
    return 2.0 * round(float(centred.mean()) / 2), float(round(float(centred.var())))


@cache
def input_kernel(name: str) -> ThresholdKernel:
    """The threshold kernel of `dots`, in units of the normalised pixel.

    Bayer's thresholds stand evenly over the 256 greys; a designed kernel's levels are re-scaled to the photograph,
    by the quantiser of its own values, as the method re-scales them to a batch norm's distribution.
    """
    mean, variance = dots_statistics()
    deviation = np.sqrt(variance + EPSILON)
    if name == "one":
        return NO_DITHER
    if name.startswith("bayer"):
        ranks = np.array(BAYER[int(name.removeprefix("bayer"))])
        grey = 256 * (ranks + 0.5) / ranks.size
        return ThresholdKernel(((2 * grey - 255 - mean) / deviation).tolist())
    values = (2 * photograph().astype(np.float64) - 255 - mean) / deviation
    scaled = design.empirical_levels(values, len(LEVELS))
    return ThresholdKernel(design.rescaled(_levels(name), LEVELS, scaled).tolist())


def _levels(name: str) -> NDArray[np.float64]:
    if name == "d3":
        indices = design.published(PUBLISHED_3X3).levels
        if indices is None:
            raise ValueError(f"{PUBLISHED_3X3}: expected level indices")
        return np.array(LEVELS, dtype=np.float64)[indices[:, :, 0]]
    return np.array({"d2": DESIGNED_2X2, "d2all": DESIGNED_ALL, "check": CHEQUERBOARD}[name], dtype=np.float64)


@cache
def conv_levels() -> tuple[float, ...]:
    """The six levels of `conv`'s kernels, re-scaled to a batch-normalised sum: the half-wave quantiser's."""
    return tuple(float(np.float32(level)) for level in design.half_wave_levels(len(LEVELS)))


@cache
def dither_levels(name: str) -> NDArray[np.int64]:
    """Which level every cell of a kernel of `conv` holds: (m, n, g), the index in `conv_levels`; not for `sign`."""
    if name == "3d":
        cells = design.shift(DESIGNED_ALL, 4)
    elif name == "3x3":
        cells = _levels("d3")[:, :, np.newaxis]
    else:
        cells = np.array(DESIGNED_ALL, dtype=np.float64)[:, :, np.newaxis]
    return np.searchsorted(np.array(LEVELS, dtype=np.float64), cells).astype(np.int64)


@cache
def dither_kernel(name: str) -> ThresholdKernel | None:
    """The threshold kernel of `conv`; None is plain Sign."""
    return None if name == "sign" else ThresholdKernel.from_levels(dither_levels(name), conv_levels())


def filters(same: int | None = None) -> NDArray[np.int8]:
    """The weights of `conv`: int8 (4, 3, 3, 1); with `same` all four channels carry that one filter."""
    weights = np.array(list(FILTERS.values()), dtype=np.int8)[:, :, :, np.newaxis]
    return weights if same is None else np.repeat(weights[same : same + 1], len(weights), axis=0)


def conventions(zero: int = 1) -> Conventions:
    """Those of the page: exact arithmetic, and what the sign of zero is."""
    return PAPER.replace(sign_at_zero=zero)


def dots_layer(kernel: str, light: float) -> PixelConv2d:
    """A grey pixel p becomes 2p - 255, is normalised, meets its threshold and leaves as one bit."""
    mean, variance = dots_statistics()
    return PixelConv2d(
        name="dots",
        weights=pack(np.ones((1, 1, 1, 1), np.int8)),
        multiplier=2,
        offset=-255,
        batch_norm=BatchNorm([1.0], [light], [mean], [variance], EPSILON),
        kernel=None if kernel == "one" else input_kernel(kernel),
    )


def conv_norm(gamma: float, beta: float, same: int | None = None) -> BatchNorm:
    """The batch norm of `conv`: one gamma and beta for all channels, the statistics of each filter's sums."""
    of = range(len(FILTERS)) if same is None else [same] * len(FILTERS)
    count = len(FILTERS)
    return BatchNorm(
        [gamma] * count, [beta] * count, [MEANS[i] for i in of], [VARIANCES[i] for i in of], EPSILON
    )  # fmt: skip


def network(state: State) -> NetworkData:
    """The network of a state: it takes the photograph (1, 151, 169, 1)."""
    conv = BinaryConv2d(
        name="conv",
        weights=pack(filters(state.same_filter)),
        batch_norm=conv_norm(state.gamma, state.beta, state.same_filter),
        kernel=dither_kernel(state.dither),
    )
    total = BinaryConv2d(name="sum", weights=pack(np.ones((1, 1, 1, len(FILTERS)), np.int8)))
    return NetworkData(
        name="photograph",
        input_shape=(*photograph().shape, 1),
        layers=(dots_layer(state.dots, state.light), conv, total),
        conventions=conventions(state.zero),
    )


def dots_sums(greys: NDArray[np.uint8]) -> NDArray[np.int32]:
    """The accumulators of `dots` for grey pixels (H, W): int32 (1, H, W, 1)."""
    layer = dots_layer("one", 0.0)
    return pixel_conv2d(greys[np.newaxis, :, :, np.newaxis], layer.weights, multiplier=2, offset=-255)
