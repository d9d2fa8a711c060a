"""Error rates: what they strike, beside faults one by one, and what a campaign makes of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from refdesign import api, datasets
from refdesign.errors import RefdesignError
from simulator.campaign import Plan, run_campaign, summarise
from simulator.error_rates import RATED, logits_at_rate
from simulator.faults import EFFECTS, Fault, FaultySimulator, sizes
from simulator.run import Simulator
from simulator.schedule import fit
from tests.simulator.pipelines import random_pipeline

ALL_IMAGES, ALL_LABELS = datasets.load("digits", "test")
IMAGES, LABELS = ALL_IMAGES[:9], ALL_LABELS[:9]


def digits(name: str = "digits") -> Simulator:
    network = api.pretrained(name)
    return Simulator(network, fit(network))


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("structure", ["weights", "thresholds"])
def test_every_bit_wrong_is_every_fault_at_once(structure: str, effect: str) -> None:
    struck = 0
    for seed in range(6):
        pipeline = random_pipeline(seed, exact=True)
        simulator = Simulator(pipeline.network, pipeline.accelerator)
        for stage in simulator.stages:
            extent = sizes(stage, structure)
            if not np.prod(extent):
                continue
            fault = Fault(layer=stage.name, structure=structure, sites=tuple(np.ndindex(*extent)), effect=effect)
            faulty = FaultySimulator(simulator, pipeline.images)
            found = logits_at_rate(
                simulator, pipeline.images, structure, 1.0, seed=(seed,), effect=effect, layers=(stage.name,)
            )
            assert np.array_equal(found, faulty.logits(fault))
            struck += not np.array_equal(found, faulty.clean["logits"])
    assert struck


@pytest.mark.parametrize("structure", RATED)
def test_a_rate_strikes_that_share_of_the_bits_and_more_at_a_higher_one(
    structure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator = digits()
    changed: list[dict[str, np.ndarray]] = []
    real = simulator.outputs

    def outputs(images, *, memories, noise, wanted):  # type: ignore[no-untyped-def]
        found = {}
        for stage, memory in zip(simulator.stages, simulator.memories, strict=True):
            other = memories.get(stage.name, memory)
            found[f"{stage.name} limit"] = np.unpackbits((memory.limit ^ other.limit).view(np.uint8))
            found[f"{stage.name} flip"] = memory.flip ^ other.flip
            found[f"{stage.name} weights"] = np.unpackbits((memory.weights ^ other.weights).view(np.uint8))
            if stage.name in noise:
                found[f"{stage.name} bits"] = noise[stage.name](np.zeros((9, *stage.pooled_map, 64), np.bool_))
        changed.append(found)
        return real(images, memories=memories, noise=noise, wanted=wanted)

    monkeypatch.setattr(simulator, "outputs", outputs)
    for rate in (0.01, 0.05):
        logits_at_rate(simulator, IMAGES, structure, rate, seed=(3, 1, 4))
    low, high = changed
    assert all((low[name] <= high[name]).all() for name in low if not name.endswith("limit"))
    flips = sum(int(values.sum()) for name, values in high.items() if name.split()[1] in (structure, "flip", "bits"))
    bits = {
        "weights": 392_256,
        "thresholds": 7 * 256,  # the flips alone: the sign of a limit stands in many bits
        "activations": sum(9 * int(np.prod(stage.pooled_map)) * 64 for stage in simulator.stages),
    }[structure]
    # Five standard deviations of a binomial.
    assert abs(flips - 0.05 * bits) < 5 * (0.05 * 0.95 * bits) ** 0.5


def test_noise_on_activations_is_another_one_in_every_image() -> None:
    simulator = digits()
    same = np.repeat(IMAGES[:1], 40, axis=0)
    logits = logits_at_rate(simulator, same, "activations", 0.02, seed=(0,))
    assert len(np.unique(logits, axis=0)) > 30
    stuck = logits_at_rate(simulator, same, "weights", 0.02, seed=(0,))
    assert len(np.unique(stuck, axis=0)) == 1


def test_what_is_no_rate_or_has_none_is_refused() -> None:
    simulator = digits("digits-sign")
    for structure, rate, message in (
        ("accumulators", 0.1, "found 'accumulators', expected one of weights, thresholds, activations"),
        ("weights", 1.5, "found 1.5, expected a probability"),
    ):
        with pytest.raises(RefdesignError, match=message):
            logits_at_rate(simulator, IMAGES, structure, rate, seed=(0,))
    for change in ({"bits": 2}, {"permanent": False}, {"structures": ("configuration",)}):
        with pytest.raises(RefdesignError, match="campaign, rates: found"):
            replace(Plan(structures=("weights",), rates=(0.1,)), **change)


def test_a_campaign_over_rates_goes_on_and_is_a_curve(tmp_path: Path) -> None:
    simulators = {name: digits(name) for name in ("digits-sign", "digits-2d")}
    plan = Plan(structures=("thresholds",), trials=3, rates=(0.0, 0.3), layers=("conv2", "conv4"))
    file = tmp_path / "trials.jsonl"
    whole = run_campaign(simulators, IMAGES, LABELS, plan, path=file)
    assert [(row["network"], row["rate"], row["trial"]) for row in whole] == [
        (name, rate, trial) for name in simulators for rate in (0.0, 0.3) for trial in range(3)
    ]
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:6]))
    assert run_campaign(simulators, IMAGES, LABELS, plan, path=file) == whole
    assert [json.loads(line) for line in file.read_text().splitlines()[1:]] == whole
    curve = summarise(whole, ("network", "structure", "rate"))
    assert [row["rate"] for row in curve] == [0.0, 0.3] * 2
    assert all(row["accuracy"].mean == row["accuracy_drop"].mean + 1 == 1 for row in curve if not row["rate"])
    assert all(row["changed"].mean > 0.2 for row in curve if row["rate"])
