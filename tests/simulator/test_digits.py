"""The shipped networks on the simulator: the golden path's predictions, and every layer's cycles."""

from __future__ import annotations

import numpy as np
import pytest

from refdesign import api, datasets
from simulator.run import Simulator
from simulator.schedule import fit
from simulator.stalls import NO_STALLS
from tests.simulator.agreement import assert_models_agree
from tests.simulator.pipelines import Pipeline


@pytest.mark.parametrize("name", ["digits", "digits-2d", "digits-sign"])
def test_a_shipped_network_predicts_as_the_golden_path(name: str) -> None:
    network = api.pretrained(name)
    images, _ = datasets.load("digits", "test")
    expected = network.run(images, outputs="all")
    for pool in ("accumulators", "bits"):
        simulator = Simulator(network, fit(network, pe=16, simd=64, pool=pool))
        simulation = simulator.run(images[:40])
        for output, values in expected.items():
            assert np.array_equal(simulation.outputs[output], values[:40]), output
        for stage in simulator.stages:
            causes = simulation.times.stages[stage.name].causes
            assert causes["compute"] == 40 * stage.cycles
            assert min(causes.values()) >= 0
        slowest = max(stage.cycles for stage in simulator.stages)
        assert simulation.times.interval == slowest
    assert np.array_equal(simulator.outputs(images)["logits"], expected["logits"])


@pytest.mark.slow
def test_a_shipped_network_step_by_step() -> None:
    network = api.pretrained("digits")
    images, _ = datasets.load("digits", "test")
    accelerator = fit(network, pe=64, simd=64, pool="bits")
    assert assert_models_agree(Pipeline(network, accelerator, images[:1], NO_STALLS)) > 5000
