"""The fast simulator against the plain model that steps cycle by cycle, and against the packed path."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

from refdesign.api import Network
from refdesign.bits import pack
from refdesign.network import BinaryConv2d, BinaryDense, PixelConv2d
from simulator.run import Simulator
from simulator.schedule import fit
from simulator.stalls import NO_STALLS
from tests.simulator.agreement import assert_models_agree
from tests.simulator.pipelines import Pipeline, pipelines, random_pipeline


@given(pipelines(exact=True))
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


@pytest.mark.parametrize(("simd", "ragged"), [(58, False), (64, True), (65, True), (145, False), (290, False)])
def test_words_of_more_than_a_few_lanes(simd: int, ragged: bool) -> None:
    # 290 channels: folds of less than a word, of just one, of several, and of more than a byte can count.
    rng = np.random.default_rng(simd)
    layers = (
        PixelConv2d(name="first", weights=pack(rng.choice([-1, 1], (290, 1, 1, 1))), multiplier=2, offset=-255),
        BinaryConv2d(name="wide", weights=pack(rng.choice([-1, 1], (3, 2, 1, 290))), padding=(1, 0)),
        BinaryDense(name="last", weights=pack(rng.choice([-1, 1], (2, 30)))),
    )
    network = Network(name="wide", input_shape=(4, 2, 1), layers=layers)
    accelerator = fit(network, pe=145, simd=290)
    wide = replace(accelerator.stages[1], simd=simd, ragged=ragged, popcount_width=simd.bit_length())
    accelerator = replace(accelerator, stages=(accelerator.stages[0], wide, accelerator.stages[2]))
    images = rng.integers(0, 256, (2, 4, 2, 1), dtype=np.uint8)
    assert_models_agree(Pipeline(network, accelerator, images, NO_STALLS))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(25, 250))
def test_fast_simulator_equals_the_stepping_model_on_many_pipelines(seed: int) -> None:
    assert assert_models_agree(random_pipeline(seed)) > 0
