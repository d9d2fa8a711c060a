"""Accelerator files and accelerators that do not fit: every refusal is one line that says what was expected."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refdesign.api import Network
from refdesign.bits import pack
from refdesign.conventions import PAPER
from refdesign.errors import RefdesignError
from refdesign.models import binarynet, resnet20
from refdesign.network import BinaryConv2d, BinaryDense, Layer, MaxPool, PixelConv2d
from refdesign.parameters import BatchNorm
from simulator.config import Accelerator, StageConfig
from simulator.run import Simulator
from simulator.schedule import fit, schedule
from tests.simulator.pipelines import random_pipeline

NETWORK = binarynet(input_shape=(8, 8, 1), width=1 / 16)
FITTING = fit(NETWORK, pe=4, simd=8)


def with_stage(index: int, **changes: Any) -> Accelerator:
    stages = list(FITTING.stages)
    stages[index] = replace(stages[index], **changes)
    return replace(FITTING, stages=tuple(stages))


def test_files_round_trip(tmp_path: Path) -> None:
    FITTING.save(tmp_path / "a.json")
    assert Accelerator.load(tmp_path / "a.json") == FITTING


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.update(colour="red"), "unknown field 'colour'"),
        (lambda data: data.pop("name"), "field 'name' is missing"),
        (lambda data: data["stages"][1].pop("simd"), "stage 1: field 'simd' is missing"),
        (lambda data: data["stages"][1].update(simmd=3), "stage 1: unknown field 'simmd'"),
        (lambda data: data["stages"][1].update(simd="8"), "stage 'conv2', simd: found '8', expected an integer"),
        (lambda data: data["stages"][1].update(pe=0), "pe: found 0, expected an integer of at least 1"),
        (lambda data: data["stages"][1].update(pe=True), "pe: found True"),
        (lambda data: data["stages"][1].update(pool="later"), "pool: found 'later', expected one of"),
        (lambda data: data["stages"][1].update(accumulator_width=65), "expected at most 64 bits"),
        (lambda data: data["stages"][1].update(ragged=1), "ragged: found 1, expected true or false"),
        (lambda data: data["stages"][1].update(layer="conv1"), "found layer 'conv1' twice"),
        (lambda data: data.update(stages=[]), "stages: found none"),
        (lambda data: data.update(stages={}), "stages: found dict, expected a list"),
        (lambda data: data.update(version=2), "version 2"),
        (lambda data: data.update(output_fifo_depth=0), "output_fifo_depth: found 0"),
        (lambda data: data["stages"].__setitem__(0, 7), "stage 0: found int, expected an object"),
    ],
)
def test_files_with_wrong_fields_are_refused(change: Any, message: str, tmp_path: Path) -> None:
    data = FITTING.to_dict()
    change(data)
    file = tmp_path / "wrong.json"
    file.write_text(json.dumps(data))
    with pytest.raises(RefdesignError, match=message) as refused:
        Accelerator.load(file)
    assert str(refused.value).startswith(str(file))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00", '{"name": "a", "name": "b"}', "[" * 100_000])
def test_files_that_are_no_accelerators_are_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.json"
    file.write_text(text)
    with pytest.raises(RefdesignError, match=r"wrong\.json"):
        Accelerator.load(file)


def test_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RefdesignError, match=r"none\.json"):
        Accelerator.load(tmp_path / "none.json")
    with pytest.raises(RefdesignError, match=r"a\.json"):
        FITTING.save(tmp_path / "none" / "a.json")


@pytest.mark.parametrize(
    ("accelerator", "message"),
    [
        (
            with_stage(1, pe=3),
            "stage 'conv2', pe: found 3, which does not divide the 8 output channels; expected a div",
        ),
        (with_stage(1, simd=5), "stage 'conv2', simd: found 5, which does not divide the 8 input channels"),
        (with_stage(1, pe=9, ragged=True), "stage 'conv2', pe: found 9, expected at most the 8 output channels"),
        (with_stage(1, line_buffer_rows=2), "line_buffer_rows: found 2, expected at least 3"),
        (replace(FITTING, stages=FITTING.stages[1:]), "found layers conv2, "),
        (with_stage(1, popcount_width=2), r"conv2.*popcount_width|expected 0 to 3 \(2 bits\)"),
    ],
)
def test_accelerators_that_do_not_fit_are_refused(accelerator: Accelerator, message: str) -> None:
    images = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 1), dtype=np.uint8)
    with pytest.raises(RefdesignError, match=message):
        Simulator(NETWORK, accelerator).run(images)


def network_of(*layers: Layer, conventions: Any = PAPER) -> Network:
    return Network(name="n", input_shape=(5, 4, 1), layers=layers, conventions=conventions)


FIRST = PixelConv2d(name="first", weights=pack(np.ones((2, 1, 1, 1))), multiplier=2, offset=-255)


def last(inputs: int) -> BinaryDense:
    return BinaryDense(name="last", weights=pack(np.ones((3, inputs))))


LAST = last(40)
ONES, ZEROS = np.ones(2, np.float32), np.zeros(2, np.float32)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (resnet20(width=1 / 8), "layer 'conv1'"),
        (network_of(replace(FIRST, weights=np.ones((2, 1, 1, 1), np.int32)), LAST), "layer 'first', weights"),
        (network_of(replace(FIRST, pool=MaxPool(size=(2, 2), stride=(1, 1))), last(24)), "'first', pool: found size"),
        (network_of(replace(FIRST, padding=(1, 1), padding_mode="minus_ones", offset=0), last(84)), "padding_mode"),
        (
            network_of(
                replace(FIRST, batch_norm=BatchNorm(ONES, ZEROS, ONES, ONES, 0.0)),
                LAST,
                conventions=PAPER.replace(sign_at_zero=0),
            ),
            "layer 'first': channel 0 and 1 more can tie at zero",
        ),
    ],
)  # fmt: skip
def test_networks_that_the_hardware_does_not_run_are_refused_by_layer(network: Network, message: str) -> None:
    with pytest.raises(RefdesignError, match=message):
        fit(network)


def test_pipelines_for_tests_reach_every_corner() -> None:
    # The agreement tests are only as good as the pipelines that they draw.
    drawn = [random_pipeline(seed) for seed in range(25)]
    stages = [stage for p in drawn for stage in schedule(p.network, p.accelerator)]
    assert {stage.config.fifo_depth for stage in stages} == {1, 2, 3, 4}
    assert {stage.config.overflow for stage in stages} == {"error", "wrap", "saturate"}
    assert {stage.config.pool for stage in stages if stage.pool != (1, 1)} == {"accumulators", "bits"}
    assert {type(stage.layer) for stage in stages} == {PixelConv2d, BinaryConv2d, BinaryDense}
    assert any(stage.groups > 1 for stage in stages)
    assert any(stage.config.line_buffer_rows == stage.least_rows for stage in stages)
    assert any((stage.channels < 0).any() for stage in stages)
    assert any(stage.inputs % stage.config.simd for stage in stages)
    assert any(
        stage.output_map[0] // stage.pool[0] % stage.period[0]
        and stage.output_map[1] // stage.pool[1] % stage.period[1]
        for stage in stages
    )
    causes = [Simulator(p.network, p.accelerator).times(3, p.stalls).stages.values() for p in drawn]
    assert sum(times.blocked > 0 for run in causes for times in run) > 10
    assert sum(times.starved > 0 for run in causes for times in run) > 10


def test_stage_configs_are_data() -> None:
    assert StageConfig(**FITTING.to_dict()["stages"][0]) == FITTING.stages[0]
