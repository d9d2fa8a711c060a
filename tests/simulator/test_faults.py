"""Faults against the stepping model with the same bits tampered with, and campaigns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refdesign import api, datasets
from refdesign.errors import RefdesignError
from refdesign.network import Stage
from simulator.campaign import Plan, run_campaign, summarise
from simulator.estimates import clustered, wilson
from simulator.faults import STRUCTURES, Fault, FaultySimulator, phase_counter, random_fault, sizes
from simulator.memory import StageMemory
from simulator.run import Simulator
from simulator.schedule import fit
from simulator.stepping import step
from simulator.units.mvtu import Mvtu, Signals
from simulator.units.sliding_window import Operand
from tests.simulator.pipelines import Pipeline, random_pipeline


def final_sums(pipeline: Pipeline, simulator: Simulator, **tampered: Any) -> np.ndarray[Any, Any]:
    """The stepping model's last accumulators, by image: (N, words * slots), 0 in masked slots (nobody reads them)."""
    words = step(pipeline.network, pipeline.accelerator, pipeline.images, **tampered).words
    present = simulator.stages[-1].channels.ravel() >= 0
    sums = np.array(words).reshape(len(pipeline.images), -1, present.size)
    return np.where(present, sums, 0).reshape(len(sums), -1)


def fast_sums(simulator: Simulator, logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The fast simulator's logits (accumulators, as the last layer has no batch norm here) by slot."""
    last = simulator.stages[-1]
    channels = last.channels.ravel()
    values = logits.reshape(len(logits), -1, last.layer.out_channels)
    return np.where(channels >= 0, values[..., channels], 0).reshape(len(logits), -1)


def without_last_batch_norm(pipeline: Pipeline) -> Pipeline:
    last = pipeline.network.layers[-1]
    assert isinstance(last, Stage)
    layers = (*pipeline.network.layers[:-1], replace(last, batch_norm=None))
    network = type(pipeline.network)(
        name="tampered",
        input_shape=pipeline.network.input_shape,
        layers=layers,
        conventions=pipeline.network.conventions,
    )
    return replace(pipeline, network=network, images=pipeline.images[:1])


def tampering(fault: Fault, simulator: Simulator) -> dict[str, Any]:
    """The fault, done to the stepping model by hand."""
    index = simulator.index(fault.layer)
    stage, memory = simulator.stages[index], simulator.memories[index]
    width = stage.config.threshold_width
    if fault.structure in ("weights", "thresholds") and fault.window is None:
        weights, limit, flip = memory.weights.copy(), memory.limit.copy(), memory.flip.copy()
        for pe, address, bit in fault.sites:
            if fault.structure == "weights":
                weights[pe, address, 0] ^= np.uint64(1 << bit)
            elif bit == width:
                flip[pe, address] ^= True
            else:
                value = int(limit[pe, address]) % (1 << width) ^ 1 << bit
                limit[pe, address] = value - (1 << width) * (value >= 1 << width - 1)
        memories = list(simulator.memories)
        memories[index] = StageMemory(weights=weights, limit=limit, flip=flip)
        return {"memories": memories}

    def prepare(name: str, mvtu: Mvtu) -> None:
        if name != fault.layer:
            return
        evaluate = mvtu.evaluate

        def activations(operand: Operand, in_valid: bool, out_ready: bool) -> Signals:
            signals = evaluate(operand, in_valid, out_ready)
            pooled = mvtu.rows.window * stage.pooled_map[1] + mvtu.columns.window
            bits = list(signals.bits)
            for pe, nf, _ in fault.sites:
                here = stage.channels[nf, pe] >= 0 and signals.nf == nf
                if here and fault.window in (None, pooled):
                    bits[pe] ^= 1
            return replace(signals, bits=tuple(bits))

        def accumulators() -> None:
            for pe, accumulator in enumerate(mvtu.accumulators):
                honest = accumulator.sum

                def struck(pe: int = pe, honest: Any = honest, accumulator: Any = accumulator, **given: Any) -> int:
                    accumulator.width = replace(accumulator.width, overflow="wrap")
                    value = int(honest(**given))
                    window = mvtu.rows.position * stage.output_map[1] + mvtu.columns.position
                    for site_pe, nf, bit in fault.sites:
                        if site_pe == pe and (
                            fault.window is None
                            or (mvtu.fold.nf == nf and fault.window == window and mvtu.fold.sf == fault.synapse_fold)
                        ):
                            value ^= 1 << bit
                    half = 1 << stage.config.accumulator_width - 1
                    return (value + half) % (2 * half) - half

                accumulator.sum = struck  # type: ignore[method-assign]

        if fault.structure == "activations":
            mvtu.evaluate = activations  # type: ignore[method-assign]
        elif fault.structure == "accumulators":
            accumulators()

    return {"prepare": prepare}


@pytest.mark.parametrize(
    ("structure", "permanent"),
    [
        ("weights", True),
        ("thresholds", True),
        ("activations", True),
        ("activations", False),
        ("accumulators", True),
        ("accumulators", False),
    ],
)
def test_faults_are_those_of_the_stepping_model(structure: str, permanent: bool) -> None:
    struck = 0
    for seed in range(8):
        pipeline = without_last_batch_norm(random_pipeline(seed, exact=True))
        simulator = Simulator(pipeline.network, pipeline.accelerator)
        if not any(np.prod(sizes(stage, structure)) for stage in simulator.stages):
            continue
        rng = np.random.default_rng(seed)
        fault = random_fault(rng, simulator.stages, structure=structure, bits=1 + seed % 2, permanent=permanent)
        faulty = FaultySimulator(simulator, pipeline.images)
        found = fast_sums(simulator, faulty.logits(fault))
        assert np.array_equal(found, final_sums(pipeline, simulator, **tampering(fault, simulator))), (seed, fault)
        struck += not np.array_equal(found, fast_sums(simulator, faulty.clean["logits"]))
    assert struck


@pytest.mark.parametrize("structure", ["weights", "thresholds"])
def test_a_transient_fault_in_a_memory_is_the_permanent_one_in_one_pixel(structure: str) -> None:
    for seed in range(6):
        pipeline = random_pipeline(seed, exact=True)
        simulator = Simulator(pipeline.network, pipeline.accelerator)
        stage = simulator.stages[0]
        if stage.thresholds is None or stage.config.pool == "bits":
            continue
        rng = np.random.default_rng(seed)
        fault = random_fault(rng, simulator.stages, structure=structure, layer=stage.name, permanent=False)
        faulty = FaultySimulator(simulator, pipeline.images)
        maps = pipeline.images
        clean = faulty.clean[f"{stage.name}.bits"] > 0
        once, _ = faulty._stage(0, stage, fault, maps)
        always, _ = faulty._stage(0, stage, replace(fault, window=None), maps)
        window = int(fault.window or 0)
        row, column = divmod(window, stage.output_map[1] if structure == "weights" else stage.pooled_map[1])
        if structure == "weights":
            row, column = row // stage.pool[0], column // stage.pool[1]
        differs = (once != clean).any(axis=(0, 3))
        assert not np.delete(differs.ravel(), row * differs.shape[1] + column if row < len(differs) else 0).any()
        if structure == "thresholds":
            assert np.array_equal(once[:, row, column], always[:, row, column])


def test_configuration_faults_move_the_phase() -> None:
    moved = 0
    for seed in range(12):
        pipeline = random_pipeline(seed, exact=True)
        simulator = Simulator(pipeline.network, pipeline.accelerator)
        for stage in simulator.stages:
            if stage.thresholds is None or max(stage.period) < 2:
                continue
            register = 0 if stage.period[0] > 1 else 1
            fault = Fault(layer=stage.name, structure="configuration", sites=((register, 0, 0),))
            faulty = FaultySimulator(simulator, pipeline.images)
            moved += not np.array_equal(faulty.logits(fault), faulty.clean["logits"])
    assert moved
    assert list(phase_counter(7, 2, 1, 2, 2)) == [1, 1, 2, 2, 0, 0, 1]


def small() -> tuple[Simulator, Pipeline]:
    pipeline = random_pipeline(5, exact=True)
    return Simulator(pipeline.network, pipeline.accelerator), pipeline


@pytest.mark.parametrize(
    "fault",
    [
        Fault(layer="none", structure="weights", sites=((0, 0, 0),)),
        Fault(layer="conv0", structure="weights", sites=((99, 0, 0),)),
        Fault(layer="conv0", structure="accumulators", sites=((0, 0, 0),), window=10**6),
        Fault(layer="conv0", structure="accumulators", sites=((0, 0, 0),), window=0, synapse_fold=10**6),
    ],
)
def test_faults_that_there_are_not_are_refused(fault: Fault) -> None:
    simulator, pipeline = small()
    with pytest.raises(RefdesignError):
        FaultySimulator(simulator, pipeline.images).logits(fault)


def test_a_campaign_goes_on_where_it_stopped(tmp_path: Path) -> None:
    simulator, pipeline = small()
    labels = np.zeros(len(pipeline.images), np.int64)
    plan = Plan(structures=("weights", "accumulators"), trials=4, seed=7)
    whole = run_campaign({"a": simulator}, pipeline.images, labels, plan)
    file = tmp_path / "trials.jsonl"
    run_campaign({"a": simulator}, pipeline.images, labels, plan, path=file)
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:4]) + lines[4][:20])  # interrupted while the fourth trial was written
    seen: list[tuple[int, int]] = []
    again = run_campaign(
        {"a": simulator}, pipeline.images, labels, plan, path=file, progress=lambda *done: seen.append(done)
    )
    assert again == whole
    assert seen[-1] == (8, 8)
    assert [json.loads(line) for line in file.read_text().splitlines()[1:]] == whole
    with pytest.raises(RefdesignError, match="another campaign"):
        run_campaign({"a": simulator}, pipeline.images, labels, replace(plan, seed=8), path=file)
    file.write_text("nonsense\n")
    with pytest.raises(RefdesignError, match="no campaign"):
        run_campaign({"a": simulator}, pipeline.images, labels, plan, path=file)


def test_the_same_seed_draws_the_same_faults() -> None:
    simulator, _ = small()
    for structure in STRUCTURES:
        faults = [random_fault(np.random.default_rng(4), simulator.stages, structure=structure) for _ in range(2)]
        assert faults[0] == faults[1]


def test_intervals_know_clusters() -> None:
    # Four observations in two clusters that agree within carry the information of two.
    rough = clustered([0.0, 0.0, 1.0, 1.0], [["a", "a", "b", "b"]])
    fine = clustered([0.0, 0.0, 1.0, 1.0], [["a", "b", "c", "d"]])
    assert rough.mean == fine.mean == 0.5
    # By hand: cluster sums -1 and 1, variance 2/1 * 2 / 16 = 1/4; apart: 4/3 * 4 * 1/4 / 16 = 1/12.
    # Student's 97.5 % points with 1 and 3 degrees of freedom, from a table: 12.706 and 3.182.
    assert rough.high - 0.5 == pytest.approx(12.706 * 0.25**0.5, rel=1e-4)
    assert fine.high - 0.5 == pytest.approx(3.182 * (1 / 12) ** 0.5, rel=1e-3)
    assert np.isnan(clustered([0.5, 0.5], [["a", "a"]]).low)
    # Values that are all the same say nothing of how far others may lie.
    same = clustered([0.1] * 3, [["a", "b", "c"]])  # whose mean in floating point is not 0.1
    assert (round(same.mean, 9), same.clusters) == (0.1, 3)
    assert np.isnan([same.low, same.high]).all()
    # Wilson's interval for 1 of 10, from its published formula: 0.0179 to 0.4042.
    estimate = wilson(1, 10)
    assert (round(estimate.low, 4), round(estimate.high, 4)) == (0.0179, 0.4042)


def test_plain_sign_has_no_phase_counters_to_configure() -> None:
    networks = {name: api.pretrained(name) for name in ("digits-sign", "digits-2d")}
    simulators = {name: Simulator(network, fit(network)) for name, network in networks.items()}
    images, labels = datasets.load("digits", "test")
    images, labels = images[:7], labels[:7]
    plan = Plan(structures=("configuration",), trials=3)
    seen: list[tuple[int, int]] = []
    rows = run_campaign(simulators, images, labels, plan, progress=lambda *done: seen.append(done))
    assert [row["network"] for row in rows] == ["digits-2d"] * 3
    assert seen[-1] == (3, 3)
    (row,) = summarise([{**row, "corrupted": 7 - row["trial"]} for row in rows], ("structure",))
    assert (row["corrupted"].mean, row["corrupted"].high) == (pytest.approx(6 / 7), 1)  # shares of at most 1
    with pytest.raises(RefdesignError, match="'digits-sign' have no configuration in their stages"):
        run_campaign({"digits-sign": simulators["digits-sign"]}, images, labels, plan)


def test_summaries_count_every_trial_once() -> None:
    simulator, pipeline = small()
    labels = np.zeros(len(pipeline.images), np.int64)
    rows = run_campaign({"x1": simulator, "x2": simulator}, pipeline.images, labels, Plan(trials=3))
    groups = summarise(rows, ("network", "structure"), group=lambda name: name[0])
    assert [group["trials"] for group in groups] == [6] * len(STRUCTURES)
    by_place = summarise(rows, ("structure", "layer", "bit"))
    assert sum(group["trials"] for group in by_place) == len(rows)
    places = [(STRUCTURES.index(group["structure"]), group["layer"], group["bit"]) for group in by_place]
    assert places == sorted(places)
    assert any(np.isnan(group["accuracy_drop"].low) for group in by_place)  # one fault alone
