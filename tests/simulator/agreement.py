"""What "the two models agree" means: everything that both give, compared with equality."""

from __future__ import annotations

import numpy as np

from simulator.run import Simulator
from simulator.stepping import step
from simulator.trace import Tracer
from simulator.units import TRACE_FIELDS
from tests.simulator.pipelines import Pipeline


def assert_models_agree(pipeline: Pipeline, *, signals: bool = True) -> int:
    """Compare the fast simulator with the stepping model; returns the number of cycles compared."""
    stepped = step(pipeline.network, pipeline.accelerator, pipeline.images, stalls=pipeline.stalls)
    simulator = Simulator(pipeline.network, pipeline.accelerator)
    tracer = Tracer(simulator, pipeline.images, pipeline.stalls)
    times = tracer.times
    assert times.cycles == stepped.cycles
    assert times.finished.tolist() == stepped.finished
    for name, stage_times in times.stages.items():
        assert stage_times.causes == stepped.causes[name], name
        assert sum(stage_times.causes.values()) == times.cycles
    for name, occupancy in tracer.occupancy().items():
        assert occupancy.tolist() == stepped.occupancy[name], name
    assert_words(simulator, tracer, stepped.words)
    if signals:
        for stage in simulator.stages:
            fields = tracer.stage(stage.name).fields
            for field in TRACE_FIELDS:
                found = np.array([_plain(getattr(wires, field)) for wires in stepped.signals[stage.name]], dtype=object)
                fast = fields[field].astype(object)
                if field == "word":
                    fast = (fast << 64 * np.arange(fast.shape[1], dtype=object)).sum(axis=1)
                same = (found == fast).reshape(len(found), -1).all(axis=1)
                assert same.all(), (stage.name, field, int(np.argmin(same)))
    return times.cycles


def assert_words(simulator: Simulator, tracer: Tracer, words: list[tuple[int, ...]]) -> None:
    """The sink's words are the last stage's accumulators behind its pool."""
    last = simulator.stages[-1]
    name = f"{last.name}.pooled" if last.layer.pool is not None else f"{last.name}.accumulator"
    sums = tracer.outputs[name].reshape(-1, last.layer.out_channels)
    found = np.array(words).reshape(-1, last.channels.size)
    channels = last.channels.ravel()
    for slot, channel in enumerate(channels):
        expected = sums[:, channel] if channel >= 0 else np.zeros(len(sums), np.int64)
        assert np.array_equal(found[:, slot], expected), slot


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
