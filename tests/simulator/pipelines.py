"""Random networks that the hardware runs, accelerators for them, and stalls: everything a pipeline needs, by seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from refdesign.api import Network
from refdesign.bits import pack
from refdesign.conventions import PAPER, Conventions
from refdesign.errors import RefdesignError
from refdesign.network import (
    PADDING_MODES,
    BinaryConv2d,
    BinaryDense,
    Layer,
    MaxPool,
    PixelConv2d,
)
from refdesign.parameters import BatchNorm, ThresholdKernel
from simulator.config import Accelerator, StageConfig
from simulator.schedule import fit, schedule
from simulator.stalls import Stalls


@dataclass(frozen=True)
class Pipeline:
    """A network on an accelerator, with images and stalls."""

    network: Network
    accelerator: Accelerator
    images: NDArray[np.uint8]
    stalls: Stalls


def random_pipeline(seed: int, *, exact: bool = False, images: int | None = None) -> Pipeline:
    """The pipeline of a seed; with `exact`, every width holds every value."""
    rng = np.random.default_rng(seed)
    network = random_network(rng)
    accelerator = random_accelerator(rng, network, exact=exact)
    count = int(rng.integers(1, 4)) if images is None else images
    pixels = rng.integers(0, 256, (count, *network.input_shape), dtype=np.uint8)
    return Pipeline(network, accelerator, pixels, random_stalls(rng))


def random_stalls(rng: np.random.Generator) -> Stalls:
    """A source and a sink that stall never, now and then, or nearly always."""
    source, sink = (rng.random(211) >= rng.choice(shares) for shares in ([0.0, 0.3, 0.9], [0.0, 0.5, 0.98]))
    source[0] = sink[0] = True
    return Stalls(source, sink)


def random_network(rng: np.random.Generator) -> Network:
    """One to three convolutions and up to two dense layers, all as small as they can be and still differ."""
    height, width = (int(extent) for extent in rng.permutation([3, 4, 5, 6])[:2])
    shape: tuple[int, ...] = (height, width, int(rng.integers(1, 4)))
    conventions = PAPER.replace(
        sign_at_zero=int(rng.choice([-1, 1])),
        arithmetic=str(rng.choice(["real", "torch"])),
        kernel_origin=str(rng.choice(["top_left", "center_crop"])),
        channel_map=str(rng.choice(["tile", "repeat"])),
    )
    input_shape = (shape[0], shape[1], shape[2])
    layers: list[Layer] = []
    convolutions = int(rng.integers(1, 4))
    for index in range(convolutions):
        layers.append(_convolution(rng, f"conv{index}", shape, pixels=index == 0))
        shape = _network(input_shape, layers, conventions).shapes[layers[-1].name].output
    for index in range(int(rng.integers(0, 3))):
        inputs, outputs = int(np.prod(shape)), int(rng.integers(1, 8))
        weights = pack(rng.choice([-1, 1], (outputs, inputs)))
        layers.append(BinaryDense(name=f"dense{index}", weights=weights, **_behind(rng, (1, 1, outputs), inputs)))
        shape = (outputs,)
    return _network(input_shape, layers, conventions)


def _network(shape: tuple[int, int, int], layers: list[Layer], conventions: Conventions) -> Network:
    return Network(name="random", input_shape=shape, layers=tuple(layers), conventions=conventions)


def _convolution(rng: np.random.Generator, name: str, shape: tuple[int, ...], *, pixels: bool) -> Layer:
    height, width, inputs = shape
    while True:
        groups = int(rng.choice([g for g in (1, 1, 2, 3) if inputs % g == 0]))
        outputs = groups * int(rng.integers(1, 6 // groups + 2))
        kernel = tuple(int(extent) for extent in rng.integers(1, 4, 2))
        layer_shape = (outputs, *kernel, inputs // groups)
        fields: dict[str, Any] = {
            "name": name,
            "weights": pack(rng.choice([-1, 1], layer_shape)),
            "stride": _pair(rng, 1, 3),
            "padding": _pair(rng, 0, 3),
            "padding_mode": str(rng.choice(PADDING_MODES)),
            "dilation": _pair(rng, 1, 3),
            "groups": groups,
        }
        multiplier, offset = ((2, -255), (1, 0), (-2, 3))[int(rng.integers(3))]
        if pixels:
            fields |= {"multiplier": multiplier, "offset": offset}
        make = PixelConv2d if pixels else BinaryConv2d
        try:
            probe: Layer = make(**fields)
            before = (PixelConv2d(name="p", weights=pack(np.ones((inputs, 1, 1, 1)))),) if not pixels else ()
            network = Network(
                name="probe", input_shape=(height, width, 1 if before else inputs), layers=(*before, probe)
            )
            extent = network.shapes[name].accumulator
            if pixels:
                schedule(network, fit(network))  # some paddings show what no pixel is
        except RefdesignError:
            continue
        pool = None
        if rng.random() < 0.5:
            size = (int(rng.integers(1, min(3, extent[0]) + 1)), int(rng.integers(1, min(3, extent[1]) + 1)))
            pool = MaxPool(size=size, stride=size)
            extent = (extent[0] // size[0], extent[1] // size[1], extent[2])
        reach = kernel[0] * kernel[1] * (inputs // groups) * (100 if pixels else 1)
        return make(**fields, pool=pool, **_behind(rng, extent, reach))


def _pair(rng: np.random.Generator, low: int, high: int) -> tuple[int, int]:
    first, second = (int(value) for value in rng.integers(low, high, 2))
    return first, second


def _behind(rng: np.random.Generator, shape: tuple[int, ...], reach: int) -> dict[str, Any]:
    channels = shape[2]
    gamma = rng.choice([-1.5, -0.5, 0.0, 0.5, 1.0, 2.0], channels, p=[0.2, 0.2, 0.1, 0.2, 0.2, 0.1])
    batch_norm = BatchNorm(
        gamma.astype(np.float32),
        rng.normal(0, 0.5, channels).astype(np.float32),
        rng.normal(0, reach**0.5 / 2, channels).astype(np.float32),
        rng.uniform(0.5, 1.5, channels).astype(np.float32) * np.float32(reach),
        1e-4,
    )
    kernel = None
    if rng.random() < 0.75:
        slices = int(rng.choice([g for g in (1, 2, 3) if channels % g == 0]))
        kernel = ThresholdKernel(rng.uniform(-1, 1, (*_pair(rng, 1, 4), slices)).astype(np.float32))
    return {"batch_norm": batch_norm, "kernel": kernel}


def random_accelerator(rng: np.random.Generator, network: Network, *, exact: bool = False) -> Accelerator:
    """Ragged folds, both places of the pool, few rows and short FIFOs; at times widths that wrap or saturate."""
    fitting = fit(network, pe=1, simd=1)
    stages = []
    for stage in schedule(network, fitting):
        # A first stage that is fast (for its eight bit planes) and later ones that are slow press back.
        first, extreme = stage.reads_pixels, rng.random() < 0.5
        pe, simd = int(rng.integers(1, stage.outputs + 1)), int(rng.integers(1, stage.inputs + 1))
        if extreme:
            pe, simd = (stage.outputs, stage.inputs) if first else (1, 1)
        least, sums = stage.config.line_buffer_rows - 1, stage.config.accumulator_width
        overflow = "error" if exact else str(rng.choice(["error", "wrap", "saturate"]))
        narrow = overflow != "error"
        stages.append(
            StageConfig(
                layer=stage.name,
                pe=pe,
                simd=simd,
                ragged=True,
                pool=str(rng.choice(["accumulators", "bits"])),
                popcount_width=max(1, simd.bit_length() - int(narrow and rng.random() < 0.3)),
                accumulator_width=max(2, sums - int(rng.integers(0, 5)) * narrow),
                threshold_width=max(2, stage.config.threshold_width - int(rng.integers(0, 4)) * narrow),
                overflow=overflow,
                line_buffer_rows=least + int(rng.integers(0, 3)),
                fifo_depth=int(rng.integers(1, 5)),
            )
        )
    return Accelerator(name="random", stages=tuple(stages), output_fifo_depth=int(rng.integers(1, 5)))


def pipelines(*, exact: bool = False) -> st.SearchStrategy[Pipeline]:
    """Pipelines for hypothesis, by seed."""
    return st.integers(0, 2**32 - 1).map(lambda seed: random_pipeline(seed, exact=exact))
