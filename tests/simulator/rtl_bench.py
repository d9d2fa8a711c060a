"""Pipelines for the RTL's tests: built together into one simulator, each with its expected trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from simulator.rtl import tools
from simulator.rtl.compare import Difference, differences
from simulator.rtl.simulation import Bench, Stimulus
from simulator.run import Simulator
from simulator.stalls import NO_STALLS
from simulator.trace import Tracer
from tests.simulator.pipelines import Pipeline, random_pipeline


def skip_without(simulator: str) -> None:
    """Skip where the simulator's tools are absent, with the reason."""
    reason = tools.missing(simulator)
    if reason:
        pytest.skip(reason)


@dataclass(frozen=True, eq=False)
class Design:
    """Pipelines in one build."""

    pipelines: tuple[Pipeline, ...]
    simulators: tuple[Simulator, ...]
    bench: Bench

    @classmethod
    def of(cls, pipelines: Sequence[Pipeline], simulator: str = "verilator", *, adder_tree: bool = False) -> Design:
        simulators = tuple(Simulator(each.network, each.accelerator) for each in pipelines)
        return cls(tuple(pipelines), simulators, Bench(simulators, simulator, adder_tree=adder_tree))

    def differences(self, folder: Path, *, stalls: bool = True, fault: int = 0) -> list[list[Difference]]:
        """Run all pipelines; what differs in each."""
        tracers = [
            Tracer(simulator, each.images, each.stalls if stalls else NO_STALLS)
            for simulator, each in zip(self.simulators, self.pipelines, strict=True)
        ]
        stimuli = [
            Stimulus(tracer.images, tracer.times.cycles, each.stalls if stalls else NO_STALLS)
            for tracer, each in zip(tracers, self.pipelines, strict=True)
        ]
        recordings = self.bench.run(stimuli, folder, fault=fault)
        return [differences(*both) for both in zip(recordings, tracers, strict=True)]


def running(seeds: Sequence[int]) -> list[Pipeline]:
    """The random pipelines of some seeds, two images each; all of these run without an overflow error."""
    return [random_pipeline(seed, images=2) for seed in seeds]
