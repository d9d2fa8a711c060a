"""Registers that are too narrow: the first value that does not fit is named, or it wraps or saturates bit for bit."""

from __future__ import annotations

import re
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdesign.errors import RefdesignError
from simulator.config import StageConfig
from simulator.run import Simulator
from simulator.stepping import step
from simulator.units.width import Width
from tests.simulator.pipelines import Pipeline, random_pipeline


@given(st.integers(-300, 300), st.integers(1, 9), st.booleans(), st.sampled_from(["wrap", "saturate"]))
def test_width_against_its_definition(value: int, bits: int, signed: bool, overflow: str) -> None:
    width = Width(bits, signed, overflow)
    held = width.hold(value)
    values = range(-(1 << bits - 1), 1 << bits - 1) if signed else range(1 << bits)
    assert held in values
    if overflow == "wrap":
        assert (held - value) % (1 << bits) == 0
    else:
        assert held == min(values, key=lambda candidate: abs(candidate - value))
    assert width.hold_all(np.array([value, 0])).tolist() == [held, width.hold(0)]


def narrowed(seed: int, field: str, value: int) -> Pipeline:
    """A pipeline of one image whose first stage has a register that is too narrow, which is an error."""
    pipeline = random_pipeline(seed, exact=True, images=1)
    first = StageConfig(**{**asdict(pipeline.accelerator.stages[0]), field: value})
    accelerator = replace(pipeline.accelerator, stages=(first, *pipeline.accelerator.stages[1:]))
    return replace(pipeline, accelerator=accelerator)


@pytest.mark.parametrize("seed", range(4))
def test_both_models_name_the_same_first_overflow(seed: int) -> None:
    pipeline = narrowed(seed, "accumulator_width", 3)
    with pytest.raises(RefdesignError) as fast:
        Simulator(pipeline.network, pipeline.accelerator).run(pipeline.images)
    with pytest.raises(RefdesignError) as slow:
        step(pipeline.network, pipeline.accelerator, pipeline.images, stalls=pipeline.stalls)
    assert str(fast.value) == str(slow.value)
    assert re.fullmatch(
        r"accelerator, stage 'conv0': output pixel \(\d+, \d+\), channel \d+, synapse fold \d+: "
        r"found -?\d+, expected -4 to 3 \(3 bits\)",
        str(fast.value),
    )


def test_a_threshold_that_does_not_fit_names_phase_and_channel() -> None:
    for seed in range(20):
        pipeline = narrowed(seed, "threshold_width", 1)
        if len(pipeline.network.layers) > 1:
            with pytest.raises(
                RefdesignError, match=r"stage 'conv0', threshold_width: limit of phase \(\d, \d\), chan"
            ):
                Simulator(pipeline.network, pipeline.accelerator)
            return
    raise AssertionError("no pipeline with thresholds")
