"""The networks that the diagnosis is measured on: the shipped one, and small ones on which every kind of fault shows.

The small ones have what hides faults elsewhere: extents that are pairwise different and for the most part no multiples
of the dither's period, channels that do not fill their words, both signs of gamma, exact ties, borders of every kind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.api import Network, pretrained
from refdesign.bits import PackedBits, pack
from refdesign.conventions import PAPER
from refdesign.network import (
    AveragePool,
    BinaryConv2d,
    BinaryDense,
    CombinedConv2d,
    Layer,
    MaxPool,
    PixelConv2d,
    RealDense,
    Shortcut,
)
from refdesign.parameters import BatchNorm, ThresholdKernel
from refdesign.verify.fresh import directed_images, fresh_images

_VALUES = (0.25, 0.0, 0.5, 0.75, -0.25, 0.1, 0.3, 0.9, 0.6, 0.05, 0.4, 0.35, -0.5, 0.15, 0.7, 0.2, 0.45, 0.8)


@dataclass(frozen=True, eq=False)
class Ground:
    """A network, and the images that an implementation of it is asked about: uint8 (N, H, W, C)."""

    network: Network
    images: NDArray[np.uint8]


class _Maker:
    """Parameters of one network, from one source of randomness."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def weights(self, *shape: int) -> PackedBits:
        return pack(self.random.choice((-1, 1), shape))

    def norm(self, channels: int, scale: float, *, alpha: bool = False, tiny: bool = False, dead: int = 0) -> BatchNorm:
        """A batch norm whose boundaries lie on sums that occur in every fourth channel.

        `alpha`: with a scale of the weights, negative in places; `tiny`: with y just above zero at the boundary;
        `dead`: so many channels have gamma = 0.
        """
        number = np.arange(channels)
        gamma = np.where(number % 3 == 1, -1.0, 1.0) * self.random.uniform(0.5, 2, channels)
        gamma[:dead] = 0
        mean = np.round(self.random.normal(0, scale, channels) / 2) * 2 + number % 2
        beta = np.where(number % 4 == 0, 2.0**-25 if tiny else 0.0, self.random.normal(0, 0.2, channels))
        beta[:dead] = 0.25
        deviation = scale * self.random.uniform(0.8, 1.25, channels)
        scales = self.random.uniform(0.5, 1.5, channels) * np.where(number % 5 == 2, -1, 1) if alpha else None
        return BatchNorm(
            gamma.astype(np.float32), beta.astype(np.float32), mean.astype(np.float32),
            (deviation**2).astype(np.float32), 1e-5, alpha=None if scales is None else scales.astype(np.float32),
        )  # fmt: skip


def _kernel(rows: int, columns: int, slices: int = 1) -> ThresholdKernel:
    values = np.array(_VALUES[: rows * columns * slices], dtype=np.float32)
    return ThresholdKernel(values.reshape(rows, columns, slices))


def _network(name: str, shape: tuple[int, int, int], layers: list[Layer], **conventions: Any) -> Network:
    return Network(name=name, input_shape=shape, layers=tuple(layers), conventions=PAPER.replace(**conventions))


def _borders() -> Network:
    """Zero padding, tails of words, negative gamma, gamma = 0, ties: under exact arithmetic."""
    make = _Maker(3)
    first = PixelConv2d(
        name="first",
        weights=make.weights(12, 3, 2, 2),
        multiplier=2,
        offset=-255,
        padding=(1, 1),
        batch_norm=make.norm(12, 500.0),
        kernel=_kernel(2, 3, 2),
    )
    second = BinaryConv2d(
        name="second",
        weights=make.weights(70, 3, 3, 12),
        padding=(1, 1),
        batch_norm=make.norm(70, 9.0, dead=2),
        kernel=_kernel(2, 3, 2),
    )
    third = BinaryConv2d(
        name="third",
        weights=make.weights(22, 2, 3, 70),
        padding=(1, 0),
        pool=MaxPool(),
        batch_norm=make.norm(22, 19.0),
        kernel=_kernel(1, 3),
    )
    fourth = BinaryDense(
        name="fourth",
        weights=make.weights(11, 5 * 3 * 22),
        batch_norm=make.norm(11, 17.0),
        kernel=_kernel(1, 1, 11),
    )
    fifth = BinaryDense(name="fifth", weights=make.weights(5, 11), batch_norm=make.norm(5, 3.0))
    return _network("borders", (9, 7, 2), [first, second, third, fourth, fifth])  # fmt: skip


def _windows() -> Network:
    """Every kind of window: strides, dilation, groups, every padding, overlapping pools; under a float program."""
    make = _Maker(5)
    kernel = _kernel(3, 2)
    integers = make.random.integers(-40, 41, (10, 3, 3, 3)).astype(np.int32)
    layers: list[Layer] = [
        PixelConv2d(
            name="first",
            weights=integers,
            multiplier=3,
            offset=-128,
            padding=(2, 2),
            padding_mode="symmetric",
            batch_norm=make.norm(10, 30_000.0, alpha=True),
            kernel=kernel,
        ),
        BinaryConv2d(
            name="second",
            weights=make.weights(12, 3, 2, 10),
            stride=(2, 1),
            padding=(1, 0),
            padding_mode="reflect",
            batch_norm=make.norm(12, 8.0, alpha=True),
            kernel=kernel,
        ),
        BinaryConv2d(
            name="third",
            weights=make.weights(14, 3, 3, 6),
            groups=2,
            dilation=(1, 2),
            padding=(1, 2),
            padding_mode="circular",
            batch_norm=make.norm(14, 7.0, alpha=True),
            kernel=kernel,
        ),
        BinaryConv2d(
            name="fourth",
            weights=make.weights(16, 2, 3, 14),
            padding=(1, 1),
            padding_mode="edge",
            pool=MaxPool(size=(3, 2), stride=(2, 1)),
            batch_norm=make.norm(16, 9.0, alpha=True),
            kernel=kernel,
        ),
        BinaryConv2d(
            name="fifth",
            weights=make.weights(12, 3, 3, 16),
            padding=(1, 1),
            padding_mode="ones",
            batch_norm=make.norm(12, 12.0, alpha=True),
            kernel=kernel,
        ),
        BinaryConv2d(
            name="sixth",
            weights=make.weights(8, 3, 2, 12),
            padding=(1, 1),
            padding_mode="minus_ones",
            pool=MaxPool(size=(2, 3), stride=(2, 3)),
            batch_norm=make.norm(8, 9.0, alpha=True),
            kernel=kernel,
        ),
    ]
    shape = _network("shape", (13, 17, 3), layers).shapes["sixth"].output
    inputs = int(np.prod(shape))
    layers.append(BinaryDense(name="last", weights=make.weights(5, inputs), batch_norm=make.norm(5, 9.0, alpha=True)))
    return _network("windows", (13, 17, 3), layers, arithmetic="onnxruntime", kernel_origin="center_crop")  # fmt: skip


def _ties() -> Network:
    """Zeros that are carried, slices that repeat, dither scaled by gamma, small windows of 2 and 4 bits."""
    make = _Maker(7)
    layers: list[Layer] = [
        PixelConv2d(
            name="first",
            weights=make.weights(4, 2, 3, 1),
            multiplier=2,
            offset=-255,
            batch_norm=make.norm(4, 300.0),
            kernel=_kernel(2, 3, 2),
        ),
        BinaryConv2d(
            name="second", weights=make.weights(12, 1, 1, 4), batch_norm=make.norm(12, 2.0), kernel=_kernel(2, 3, 3)
        ),
        BinaryConv2d(
            name="third",
            weights=make.weights(9, 3, 2, 12),
            padding=(1, 0),
            pool=MaxPool(),
            batch_norm=make.norm(9, 8.0),
            kernel=_kernel(2, 3, 3),
        ),
        BinaryDense(name="fourth", weights=make.weights(15, 5 * 2 * 9), batch_norm=make.norm(15, 9.0)),
        BinaryDense(name="last", weights=make.weights(5, 15), batch_norm=make.norm(5, 4.0)),
    ]
    return _network(
        "ties", (11, 7, 1), layers, sign_at_zero=0, threshold_scale="gamma", channel_map="repeat"
    )  # fmt: skip


def _rounding() -> Network:
    """The released rounding rule, with y just above zero; strides of all windows."""
    make = _Maker(11)
    layers: list[Layer] = [
        PixelConv2d(
            name="first",
            weights=make.weights(8, 3, 3, 2),
            stride=(1, 2),
            multiplier=1,
            offset=0,
            padding=(1, 1),
            padding_mode="zeros",
            batch_norm=make.norm(8, 300.0, tiny=True),
        ),
        BinaryConv2d(
            name="second", weights=make.weights(13, 2, 2, 8), stride=(2, 1), batch_norm=make.norm(13, 5.0, tiny=True)
        ),
        BinaryDense(name="third", weights=make.weights(16, 5 * 6 * 13), batch_norm=make.norm(16, 19.0, tiny=True)),
        BinaryDense(name="last", weights=make.weights(5, 16)),
    ]
    return _network("rounding", (11, 13, 2), layers, sign_rule="keras_round", sign_at_zero=-1)  # fmt: skip


def _residual() -> Network:
    """Shortcuts of every kind, a layer of three bases, and a real last layer with a bias."""
    make = _Maker(13)
    layers: list[Layer] = [
        PixelConv2d(
            name="first",
            weights=make.weights(10, 3, 3, 3),
            multiplier=2,
            offset=-255,
            padding=(1, 1),
            padding_mode="symmetric",
            batch_norm=make.norm(10, 600.0),
            hardtanh=True,
        ),
        BinaryConv2d(
            name="second",
            weights=make.weights(10, 3, 3, 10),
            padding=(1, 1),
            padding_mode="symmetric",
            batch_norm=make.norm(10, 9.0),
            kernel=_kernel(2, 3),
            shortcut=Shortcut(source="first"),
            hardtanh=True,
        ),
        BinaryConv2d(
            name="third",
            weights=make.weights(16, 2, 2, 10),
            stride=(2, 2),
            batch_norm=make.norm(16, 6.0),
            shortcut=Shortcut(source="second", average_pool=2, channel_padding=(4, 2)),
            hardtanh=True,
        ),
        CombinedConv2d(
            name="fourth",
            weights=tuple(make.weights(16, 3, 3, 16) for _ in range(3)),
            padding=(1, 1),
            scales=make.random.normal(size=(3, 16)).astype(np.float32),
            padding_mode="symmetric",
            batch_norm=make.norm(16, 12.0),
            shortcut=Shortcut(source="third"),
            hardtanh=True,
        ),
        AveragePool(name="average", size=(2, 3)),
        RealDense(
            name="last",
            weights=make.random.normal(size=(5, 2 * 2 * 16)).astype(np.float32),
            bias=make.random.normal(size=5).astype(np.float32),
        ),
    ]
    return _network("residual", (9, 13, 3), layers, arithmetic="torch")  # fmt: skip


def _program() -> Network:
    """A float program that rounds at its ties, on maps whose centre a period does not share, and a pool with a rest."""
    make = _Maker(17)
    layers: list[Layer] = [
        PixelConv2d(
            name="first",
            weights=make.weights(12, 2, 2, 2),
            multiplier=2,
            offset=-255,
            batch_norm=make.norm(12, 330.0),
            kernel=_kernel(3, 2),
        ),
        BinaryConv2d(
            name="second",
            weights=make.weights(14, 2, 3, 12),
            padding=(1, 0),
            pool=MaxPool(),
            batch_norm=make.norm(14, 8.5),
            kernel=_kernel(3, 2),
        ),
        BinaryDense(name="third", weights=make.weights(15, 5 * 3 * 14), batch_norm=make.norm(15, 13.0)),
        BinaryDense(name="last", weights=make.weights(5, 15)),
    ]
    return _network("program", (11, 10, 2), layers, arithmetic="torch")


_MADE: dict[str, Callable[[], Network]] = {
    "digits": lambda: pretrained("digits"),
    "borders": _borders,
    "windows": _windows,
    "ties": _ties,
    "rounding": _rounding,
    "residual": _residual,
    "program": _program,
}
GROUNDS = tuple(_MADE)
"""The networks' names; the first is the shipped one."""
_RANDOM_IMAGES = 75


@cache
def ground(name: str) -> Ground:
    """One of the `GROUNDS`: its network, with directed and random images.

    >>> ground("borders").network.input_shape
    (9, 7, 2)
    """
    network = _MADE[name]()
    directed, _ = directed_images(network)
    random = fresh_images(network, np.random.default_rng(0), _RANDOM_IMAGES)
    return Ground(network, np.concatenate([directed, random]))
