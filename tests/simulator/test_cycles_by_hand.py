"""Cycle counts of tiny configurations, counted by hand; the counting stands in each test.

The rules (`simulator.units`): the source offers one pixel a cycle from cycle 0; a FIFO's word can be popped in the
cycle after it was pushed; a pixel can be read in the cycle after it was written; a tap has 8 bit planes: 8 synapse
folds.
"""

from __future__ import annotations

import numpy as np
import pytest

from refdesign.api import Network
from refdesign.bits import pack
from refdesign.network import BinaryConv2d, BinaryDense, Layer, PixelConv2d
from refdesign.parameters import BatchNorm
from simulator.config import Accelerator
from simulator.run import Simulator
from simulator.schedule import fit
from simulator.stalls import NO_STALLS, Stalls
from simulator.stepping import step


def network(height: int, width: int, kernel: int, outputs: int, dense: int | None = None) -> Network:
    """A first layer of plane-wise ±1 weights with zero padding that keeps the map, and at times a dense layer."""
    rng = np.random.default_rng(3)
    ones = np.ones(outputs, np.float32)
    layers: list[Layer] = [
        PixelConv2d(
            name="conv",
            weights=pack(rng.choice([-1, 1], (outputs, kernel, kernel, 1))),
            padding=(kernel // 2, kernel // 2),
            multiplier=2,
            offset=-255,
            batch_norm=BatchNorm(ones, ones, ones, ones, 0.0),
        )
    ]
    if dense is not None:
        weights = pack(rng.choice([-1, 1], (dense, height * width * outputs)))
        layers.append(BinaryDense(name="dense", weights=weights))
    return Network(name="tiny", input_shape=(height, width, 1), layers=tuple(layers))


def counts(
    tiny: Network, accelerator: Accelerator, stalls: Stalls = NO_STALLS
) -> tuple[int, dict[str, dict[str, int]]]:
    """Cycles and causes of one image, the same from both models."""
    image = np.arange(np.prod(tiny.input_shape), dtype=np.uint8).reshape(1, *tiny.input_shape)
    stepped = step(tiny, accelerator, image, stalls=stalls)
    times = Simulator(tiny, accelerator).times(1, stalls)
    assert times.cycles == stepped.cycles
    assert {name: stage.causes for name, stage in times.stages.items()} == stepped.causes
    return times.cycles, stepped.causes


def causes(compute: int, fill: int, starved: int, blocked: int, drain: int) -> dict[str, int]:
    return {"compute": compute, "fill": fill, "starved": starved, "blocked": blocked, "drain": drain}


def test_one_pointwise_layer() -> None:
    # 2x3 pixels, 1x1 kernel, 2 outputs, PE 1: NF = 2, SF = 8. Pixel 0 is pushed in cycle 0, written in 1, read from 2.
    # 6 pixels * 2 * 8 = 96 cycles, 2 to 97. The last word is pushed in 97 and taken in 98: 99 cycles.
    tiny = network(2, 3, 1, 2)
    assert counts(tiny, fit(tiny, pe=1, simd=1)) == (99, {"conv": causes(96, 2, 0, 0, 1)})


def test_a_dense_layer_waits_for_the_whole_map() -> None:
    # As above; the last of the 12 words is pushed in 97, written in 98, so the dense layer starts in 99. PE 3, SIMD 2:
    # NF = 1, SF = 6 taps: 99 to 104. Its word is pushed in 104, taken in 105: 106 cycles; the convolution drains 8.
    tiny = network(2, 3, 1, 2, dense=3)
    accelerator = fit(tiny, pe=1, simd=2)
    accelerator = Accelerator(
        name="tiny", stages=(accelerator.stages[0], fit(tiny, pe=3, simd=2).stages[1]), output_fifo_depth=2
    )
    assert counts(tiny, accelerator) == (106, {"conv": causes(96, 2, 0, 0, 8), "dense": causes(6, 99, 0, 0, 1)})


def test_a_window_of_nine_taps_waits_for_the_second_row() -> None:
    # 3x4 pixels, 3x3 kernel, padding 1. The first window reads up to pixel (1, 1), the 6th: pushed in 5, written in 6,
    # read from 7. SF = 9 * 8 = 72, NF = 1: 12 * 72 = 864 cycles, 7 to 870. Pushed in 870, taken in 871: 872.
    tiny = network(3, 4, 3, 2)
    assert counts(tiny, fit(tiny, pe=2, simd=1)) == (872, {"conv": causes(864, 7, 0, 0, 1)})


def test_a_fifo_of_one_word_moves_every_second_cycle() -> None:
    # A pointwise layer of 2 outputs in 8 cycles a pixel (PE 2), then one of 4 outputs, PE 1, SIMD 2: SF = 1, NF = 4,
    # a word a cycle. Pixel 0 leaves the first layer in 9, is written in 10, read in 11. Its words leave in 11, 13,
    # 15, 17: each slot is freed in the cycle after the push, by the sink, and can be filled in the next: 3 blocked
    # cycles. In 18 nothing is there: pixel 1 left the first layer in 17 and is read in 19: 1 starved cycle, 5 times.
    # The last pixel is read in 51, its last word leaves in 57 and is taken in 58: 59 cycles.
    tiny = network(2, 3, 1, 2)
    second = BinaryConv2d(name="second", weights=pack(np.random.default_rng(4).choice([-1, 1], (4, 1, 1, 2))))
    tiny = Network(name="tiny", input_shape=tiny.input_shape, layers=(*tiny.layers, second))
    stages = fit(tiny, pe=2, simd=1).stages[:1] + fit(tiny, pe=1, simd=2).stages[1:]
    accelerator = Accelerator(name="tiny", stages=stages, output_fifo_depth=1)
    assert counts(tiny, accelerator) == (
        59,
        {"conv": causes(48, 2, 0, 0, 9), "second": causes(24, 11, 5, 6 * 3, 1)},
    )


def test_a_sink_that_takes_every_20th_cycle_blocks() -> None:
    # 6 pixels, NF = 1, SF = 8, an output FIFO of one word. Word 1 leaves in 9 and is taken in 20. Word 2, ready in 17,
    # finds the slot free in 21: 4 blocked. Word 3 is ready in 29, its slot (taken in 40) in 41: 12 blocked; likewise
    # words 4, 5, 6, ready in 49, 69, 89, leaving in 61, 81, 101. The last is taken in 120: 121 cycles, drain 19.
    tiny = network(2, 3, 1, 2)
    accelerator = fit(tiny, pe=2, simd=1, fifo_depth=1)
    every_20th = Stalls(np.ones(1, np.bool_), np.arange(20) == 0)
    assert counts(tiny, accelerator, every_20th) == (121, {"conv": causes(48, 2, 0, 4 + 4 * 12, 19)})


def test_a_source_that_offers_every_30th_cycle_starves() -> None:
    # Pixel k is pushed in 30k and read from 30k + 2, for 8 cycles: 22 starved cycles between, five times. The last sum
    # ends in 150 + 9, its word is taken in 160: 161 cycles.
    tiny = network(2, 3, 1, 2)
    every_30th = Stalls(np.arange(30) == 0, np.ones(1, np.bool_))
    assert counts(tiny, fit(tiny, pe=2, simd=1), every_30th) == (161, {"conv": causes(48, 2, 5 * 22, 0, 1)})


@pytest.mark.parametrize("rows", [3, 4])
def test_the_line_buffer_bounds_what_is_read_ahead(rows: int) -> None:
    # Two images of 3x4 pixels. The last window of the first image starts in 7 + 11*72 = 799 and its last word is taken
    # in 870. It and its row read rows 1 and 2. With 4 lines rows 0 and 1 of the next image lie in lines 3 and 0: row 0
    # of the next image (line 3) is free from the start, its row 1 takes the line of row 0, which is free long before;
    # so the second image starts in 871. With 3 lines its row 1 takes the line of row 1: free in the cycle after 870,
    # pixels (1, 0) and (1, 1) are written in 871 and 872, and the second image starts in 873, 2 later.
    tiny = network(3, 4, 3, 2)
    accelerator = fit(tiny, pe=2, simd=1, extra_rows=rows - 3)
    times = Simulator(tiny, accelerator).times(2)
    assert times.stages["conv"].starved == {3: 2, 4: 0}[rows]
    images = np.zeros((2, *tiny.input_shape), np.uint8)
    assert step(tiny, accelerator, images).causes["conv"] == times.stages["conv"].causes
    assert times.finished.tolist() == [872, 872 + 864 + {3: 2, 4: 0}[rows]]
