"""Reports: conservation on random pipelines, and that a report which does not add up says so."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest
from hypothesis import given

from simulator.reports import CAUSES, COLUMNS, report
from simulator.run import Simulator
from simulator.schedule import fit
from tests.simulator.pipelines import Pipeline, pipelines, random_pipeline
from tests.simulator.test_cycles_by_hand import network


@given(pipelines(exact=True))
def test_what_goes_in_comes_out(pipeline: Pipeline) -> None:
    simulator = Simulator(pipeline.network, pipeline.accelerator)
    made = report(simulator, simulator.times(len(pipeline.images), pipeline.stalls))
    assert made.failed == ()
    for row, stage in zip(made.rows, simulator.stages, strict=True):
        assert sum(row[cause] for cause in CAUSES) == row["cycles"]
        assert 0 < row["utilisation"] <= 1
        assert 0 < row["mapping_efficiency"] <= 1
        assert row["weight_bits_used"] <= row["weight_bits_read"]
        assert 1 <= row["fifo_most"] <= stage.config.fifo_depth


def test_a_lost_word_is_seen() -> None:
    pipeline = random_pipeline(3, exact=True)
    simulator = Simulator(pipeline.network, pipeline.accelerator)
    times = simulator.times(2)
    name = simulator.stages[0].name
    lossy = replace(times.stages[name], pushes=times.stages[name].pushes[:-1])
    made = report(simulator, replace(times, stages={**times.stages, name: lossy}))
    assert {check.what for check in made.failed} == {"words out", "words between"}


def test_csv_and_json_say_the_same() -> None:
    pipeline = random_pipeline(3, exact=True)
    simulator = Simulator(pipeline.network, pipeline.accelerator)
    made = report(simulator, simulator.times(3))
    rows = list(csv.DictReader(io.StringIO(made.to_csv())))
    plain = json.loads(made.to_json())
    assert [*rows[0]] == list(COLUMNS)
    for row, layer in zip(rows, plain["layers"], strict=True):
        assert {name: str(value) for name, value in layer.items()} == row
    assert plain["total"]["operations"] == sum(layer["operations"] for layer in plain["layers"])
    assert all(check["holds"] for check in plain["checks"])


def test_bits_of_a_layer_counted_by_hand() -> None:
    # 2x3 pixels, 1x1 kernel, 2 outputs, PE 1, SIMD 1: 6 windows * 2 folds * 8 planes = 96 cycles, a weight bit each.
    # The stream brings 6 * 8 operand words, the second fold reads them again. 8-bit pixels are written, 6 of them.
    tiny = network(2, 3, 1, 2)
    simulator = Simulator(tiny, fit(tiny, pe=1, simd=1))
    row = report(simulator, simulator.times(1)).rows[0]
    counted = ("compute", "operations", "weight_bits_read", "line_buffer_bits_read", "operand_bits_reread")
    assert [row[name] for name in counted] == [96, 96, 96, 48, 48]
    assert (row["input_bits_written"], row["fifo_words"], row["threshold_bits_read"]) == (48, 6, 0)
    assert row["utilisation"] == pytest.approx(96 / 99)
