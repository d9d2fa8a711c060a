"""What memories hold: by hand, beside the memory images that are written, and beside what Yosys makes of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from refdesign import pretrained
from refdesign.models import binarynet
from simulator.memory_files import export
from simulator.rtl.synthesis import KERNELS, SIZES, unit_network
from simulator.run import Simulator
from simulator.schedule import fit, schedule
from simulator.stage import StageSchedule
from simulator.storage import Storage, storage, threshold_storage, weight_storage
from tests.shared_data import CHECKOUT
from tests.simulator.pipelines import random_pipeline


def test_a_stage_by_hand() -> None:
    # conv2 reads 5x7 pixels of 6 channels and leaves 10 channels: PE 5 in 2 folds, SIMD 3 in 2 folds, 9 taps, a pool of
    # 2x2 that keeps 3 windows a row. Sums lie in -54..54: 7 bits. A FIFO holds 4 words of conv1's 3 PEs.
    network = binarynet(input_shape=(5, 7, 1), widths=(6, 10), dense=(), classes=3, seed=1)
    first, second = storage(schedule(network, fit(network, pe=5, simd=3, fifo_depth=4)))[:2]
    assert second["weight"] == Storage(5, 2 * 9 * 2, 3)
    assert second["threshold"] == Storage(5, 2, 1 + 7)
    assert second["line_buffer"] == Storage(1, 4 * 7, 6)
    assert second["operand"] == Storage(1, 9 * 2, 3)
    assert second["pool"] == Storage(5, 2 * 3, 7)
    assert second["fifo"] == Storage(1, 4, 3)
    assert first["weight"] == Storage(3, 2 * 9, 1)  # all planes of a pixel meet the same weight
    assert first["operand"] == Storage(1, 9 * 8, 1)
    assert first["line_buffer"].width == first["fifo"].width == 8
    assert first["pool"].bits == 0


@pytest.mark.parametrize(
    ("depth", "width", "halves"),
    [(1, 1, 1), (512, 36, 1), (513, 36, 2), (512, 37, 2), (16384, 1, 1), (16385, 1, 2), (1152, 64, 6), (0, 9, 0)],
)
def test_block_rams_are_counted_in_halves(depth: int, width: int, halves: int) -> None:
    assert Storage(1, depth, width).block_rams == halves / 2
    assert Storage(7, depth, width).block_rams == 7 * halves / 2


@pytest.mark.parametrize("seed", range(6))
def test_the_memory_images_are_as_deep_and_wide(seed: int, tmp_path: Path) -> None:
    pipeline = random_pipeline(seed, exact=True)
    simulator = Simulator(pipeline.network, pipeline.accelerator)
    export(tmp_path, simulator.stages, simulator.memories, "readmemh")
    written = [re.match(r"// depth (\d+), width (\d+)", file.read_text()) for file in tmp_path.glob("*.hex")]
    held = [memory[name] for memory in storage(simulator.stages) for name in ("weight", "threshold")]
    assert len(written) == sum(memory.banks for memory in held if memory.bits)
    assert sum(int(found[1]) * int(found[2]) for found in written if found) == sum(memory.bits for memory in held)


def unit(size: str, rule: str) -> StageSchedule:
    pe, simd, channels = SIZES[size]
    network = unit_network(channels, KERNELS[rule])
    return schedule(network, fit(network, pe=pe, simd=simd))[1]


def test_yosys_takes_as_many_block_rams() -> None:
    measured = json.loads((CHECKOUT / "docs" / "measured" / "synthesis.json").read_text(encoding="utf-8"))["result"]
    for row in measured:
        stage = unit(row["size"], row["rule"])
        assert weight_storage(stage).block_rams == row["brams"]
        assert threshold_storage(stage).bits == row["threshold_bits"]


def test_a_dither_multiplies_the_thresholds_of_its_layers_and_nothing_else() -> None:
    plain, dithered = (
        storage(schedule(network, fit(network))) for network in (pretrained("digits-sign"), pretrained("digits"))
    )
    for one, other, layer in zip(plain, dithered, pretrained("digits").layers, strict=True):
        phases = 4 if layer.name.startswith("conv") else 1  # 2x2x4: a channel meets one slice
        assert other["threshold"].depth == phases * one["threshold"].depth
        assert {name: one[name] for name in one if name != "threshold"} == {
            name: other[name] for name in other if name != "threshold"
        }
