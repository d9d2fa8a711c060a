"""The cheapest accelerators: beside trying all of them, and beside the simulator's own rates."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache

import pytest

from refdesign import pretrained
from refdesign.api import Network
from refdesign.errors import RefdesignError
from refdesign.models import binarynet
from simulator.explore import accelerator_for, front
from simulator.run import Simulator
from simulator.schedule import fit, schedule
from simulator.stage import StageSchedule
from simulator.storage import weight_storage
from tests.simulator.pipelines import random_pipeline

TINY = binarynet(input_shape=(5, 7, 2), widths=(6, 10), dense=(), classes=3, seed=1)


def folded(stage: StageSchedule) -> list[StageSchedule]:
    pairs = itertools.product(range(1, stage.outputs + 1), range(1, stage.inputs + 1))
    return [
        replace(stage, config=replace(stage.config, pe=pe, simd=simd))
        for pe, simd in pairs
        if stage.outputs % pe == 0 and stage.inputs % simd == 0
    ]


@cache
def all_accelerators() -> list[tuple[int, int, float]]:
    """Cycles, lanes and block RAMs of every folding of the whole network."""
    stages = [folded(stage) for stage in schedule(TINY, fit(TINY))]
    return [
        (
            max(stage.cycles for stage in whole),
            sum(stage.config.pe * stage.config.simd for stage in whole),
            sum(weight_storage(stage).block_rams for stage in whole),
        )
        for whole in itertools.product(*stages)
    ]


@pytest.mark.parametrize("limit", [float("inf"), 9.0, 5.5, 3.0])
def test_no_accelerator_beats_the_front(limit: float) -> None:
    found = [(point.cycles, point.lanes) for point in front(TINY, block_rams=limit)]
    within = [(cycles, lanes) for cycles, lanes, rams in all_accelerators() if rams <= limit]
    fewest = {cycles: min(lanes for other, lanes in within if other <= cycles) for cycles, _ in within}
    unbeaten = [(c, fewest[c]) for c in sorted(fewest) if all(fewest[c] < fewest[o] for o in fewest if o < c)]
    assert found == unbeaten
    assert len(found) > 1


def test_a_limit_on_block_rams_costs_lanes_or_is_refused() -> None:
    least = min(rams for *_, rams in all_accelerators())
    assert all(point.block_rams <= least for point in front(TINY, block_rams=least))
    with pytest.raises(RefdesignError, match=f"expected at least {least:g} for the weights"):
        front(TINY, block_rams=least - 0.5)
    slowest = front(TINY)[-1]
    with pytest.raises(RefdesignError, match="block RAMs: found 0, expected at least"):
        accelerator_for(TINY, slowest.cycles, block_rams=0)


def test_the_fewest_cycles_of_a_layer_are_named() -> None:
    # 5x7 pixels, 9 taps, 8 planes, all 6 channels and both input channels at once.
    with pytest.raises(
        RefdesignError, match="layer 'conv1': found 2,519 cycles an image, expected at least 2,520, thos"
    ):
        accelerator_for(TINY, 2519)
    assert accelerator_for(TINY, 2520)[1].cycles == 2520


@pytest.mark.parametrize("seed", range(12))
def test_stalls_only_add_and_four_images_show_them(seed: int) -> None:
    network = random_pipeline(seed, exact=True).network
    for point in front(network)[::3]:
        simulator = Simulator(network, accelerator_for(network, point.cycles)[0])
        assert simulator.times(13).interval == simulator.times(4).interval >= point.cycles


@pytest.mark.parametrize(("network", "every"), [(TINY, 1), (pretrained("digits"), 4)])
def test_the_simulator_reaches_the_rate(network: Network, every: int) -> None:
    for point in front(network)[::every]:
        accelerator, same = accelerator_for(network, point.cycles)
        assert same == point
        simulator = Simulator(network, accelerator)
        assert max(stage.cycles for stage in simulator.stages) == point.cycles
        assert simulator.times(4).interval == point.cycles
