"""The fast simulator against the plain model that steps cycle by cycle, and against the packed path."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from simulator.run import Simulator
from tests.simulator.agreement import assert_models_agree
from tests.simulator.pipelines import Pipeline, pipelines, random_pipeline


@given(pipelines(exact=True))
@settings(max_examples=40)
def test_outputs_equal_the_packed_path(pipeline: Pipeline) -> None:
    expected = pipeline.network.run(pipeline.images, outputs="all")
    found = Simulator(pipeline.network, pipeline.accelerator).outputs(pipeline.images)
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name].dtype == values.dtype, name
        assert np.array_equal(found[name], values), name


@pytest.mark.parametrize("seed", range(25))
def test_fast_simulator_equals_the_stepping_model(seed: int) -> None:
    assert assert_models_agree(random_pipeline(seed)) > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(25, 250))
def test_fast_simulator_equals_the_stepping_model_on_many_pipelines(seed: int) -> None:
    assert assert_models_agree(random_pipeline(seed)) > 0
