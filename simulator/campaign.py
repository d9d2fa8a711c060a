"""Fault campaigns: many random faults, the same in every network, with intervals; interrupted ones go on.

Trial k of a structure draws its fault from the seed, the structure and k alone, so the order and the number of runs do
not matter, and networks that are compared see the same faults (where their memories are of the same size). A trial is
one fault; with rates it is one draw of every bit (`simulator.error_rates`), at each of the rates.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from refdesign.run import class_logits
from simulator.error_rates import RATED, logits_at_rate
from simulator.estimates import Estimate, clustered, wilson
from simulator.faults import EFFECTS, STRUCTURES, Fault, FaultySimulator, random_fault, sizes
from simulator.run import Simulator
from simulator.stage import StageSchedule

Row = dict[str, Any]
Key = tuple[str, str, float | None, int]
"""Of a row: network, structure, rate, trial."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a campaign draws.

    Attributes:
        structures: some of `simulator.faults.STRUCTURES`.
        trials: faults for each structure and network.
        seed: of all draws.
        bits: bits that go wrong together.
        effect: `"flip"`, `"stuck_at_0"` or `"stuck_at_1"`.
        permanent: or transient.
        rates: probabilities with which every bit of a structure goes wrong, instead of one fault.
        layers: where faults strike; none named is everywhere.

    >>> Plan(structures=("weights",), trials=3).bits
    1
    """

    structures: tuple[str, ...] = STRUCTURES
    trials: int = 100
    seed: int = 0
    bits: int = 1
    effect: str = "flip"
    permanent: bool = True
    rates: tuple[float, ...] = ()
    layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for structure in self.structures:
            if structure not in STRUCTURES:
                raise RefdesignError(
                    f"campaign, structure: found {structure!r}, expected one of {', '.join(STRUCTURES)}"
                )
        if self.effect not in EFFECTS:
            raise RefdesignError(f"campaign, effect: found {self.effect!r}, expected one of {', '.join(EFFECTS)}")
        if min(self.trials, self.bits) < 1 or self.seed < 0:
            raise RefdesignError(
                f"campaign: found trials {self.trials}, bits {self.bits}, seed {self.seed}, expected at least 1, 1, 0"
            )
        if self.rates and (self.bits > 1 or not self.permanent):
            raise RefdesignError("campaign, rates: found neighbouring or transient bits beside them, expected neither")
        for structure in self.structures:
            if self.rates and structure not in RATED:
                raise RefdesignError(f"campaign, rates: found {structure}, expected some of {', '.join(RATED)}")


def run_campaign(
    simulators: Mapping[str, Simulator],
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    plan: Plan,
    *,
    path: str | PathLike[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Row]:
    """Run all trials of a plan on every network.

    Args:
        simulators: by the name under which a network is reported.
        images: uint8 (N, H, W, C).
        labels: int64 (N,).
        plan: what is drawn.
        path: a file of JSON lines, one for each trial as it is done; trials that stand there already are not run again.
        progress: called with (trials done, trials in all).

    Returns:
        One row a trial: network, structure, rate (None for one fault), trial, layer and bit (None with a rate), images,
        correct (under the fault), clean_correct, corrupted (images whose logits changed), changed (images whose
        prediction changed).

    Raises:
        RefdesignError: a structure or a layer that no network has; a file of another campaign, or one that cannot be
            read or written.

    A network without a structure (plain Sign has no phase counters to configure) has no rows of it.

    >>> from refdesign.models import binarynet
    >>> from simulator.schedule import fit
    >>> network = binarynet(input_shape=(8, 8, 1), width=1 / 16)
    >>> images, labels = np.zeros((2, 8, 8, 1), np.uint8), np.zeros(2, np.int64)
    >>> plan = Plan(structures=("weights",), trials=2)
    >>> rows = run_campaign({"small": Simulator(network, fit(network))}, images, labels, plan)
    >>> [(row["structure"], row["trial"], row["images"]) for row in rows]
    [('weights', 0, 2), ('weights', 1, 2)]
    """
    done = _Done(path, {"plan": asdict(plan), "networks": list(simulators), "images": len(images)})
    has = {
        name: [s for s in plan.structures if any(np.prod(sizes(stage, s)) for stage in _struck_stages(simulator, plan))]
        for name, simulator in simulators.items()
    }
    for structure in plan.structures:
        if not any(structure in found for found in has.values()):
            where = ", ".join(plan.layers) or "their stages"
            raise RefdesignError(f"campaign: {' and '.join(map(repr, simulators))} have no {structure} in {where}")
    rates = plan.rates or (None,)
    total = plan.trials * len(rates) * sum(map(len, has.values()))
    rows: list[Row] = []
    for name, simulator in simulators.items():
        faulty: FaultySimulator | None = None
        for structure in has[name]:
            for rate, trial in product(rates, range(plan.trials)):
                key = (name, structure, rate, trial)
                if key not in done.rows:
                    faulty = faulty or FaultySimulator(simulator, images)
                    done.add(key, _trial(faulty, labels, plan, key))
                rows.append(done.rows[key])
                if progress is not None:
                    progress(len(rows), total)
    return rows


def _struck_stages(simulator: Simulator, plan: Plan) -> tuple[StageSchedule, ...]:
    """The stages in which faults strike."""
    return tuple(map(simulator.stage, plan.layers)) or simulator.stages


def _trial(faulty: FaultySimulator, labels: NDArray[np.int64], plan: Plan, key: Key) -> Row:
    name, structure, rate, trial = key
    seed = (plan.seed, STRUCTURES.index(structure), trial)
    fault: Fault | None = None
    if rate is None:
        fault = random_fault(
            np.random.default_rng(seed),
            _struck_stages(faulty.simulator, plan),
            structure=structure,
            bits=plan.bits,
            effect=plan.effect,
            permanent=plan.permanent,
        )
        found = faulty.logits(fault)
    else:
        found = logits_at_rate(
            faulty.simulator, faulty.images, structure, rate, seed=seed, effect=plan.effect, layers=plan.layers
        )
    clean, logits = class_logits(faulty.clean["logits"]), class_logits(found)
    predicted, expected = logits.argmax(axis=1), clean.argmax(axis=1)
    return {
        "network": name,
        "structure": structure,
        "rate": rate,
        "trial": trial,
        "layer": fault.layer if fault else None,
        "bit": fault.bit if fault else None,
        "images": len(labels),
        "correct": int((predicted == labels).sum()),
        "clean_correct": int((expected == labels).sum()),
        "corrupted": int((logits != clean).any(axis=1).sum()),
        "changed": int((predicted != expected).sum()),
    }


class _Done:
    """The trials that are done, in memory and, where there is one, in a file."""

    def __init__(self, path: str | PathLike[str] | None, header: Row) -> None:
        self.rows: dict[Key, Row] = {}
        self.path = None if path is None else Path(path)
        if self.path is None:
            return
        header = json.loads(json.dumps(header))
        try:
            text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
            # What an interruption left of the last line is dropped.
            lines = text[: text.rfind("\n") + 1].splitlines()
            if not lines:
                lines = [json.dumps(header)]
            self.path.write_text("\n".join(lines) + "\n", encoding="utf-8")
            if json.loads(lines[0]) != header:
                raise RefdesignError(f"{path}: found another campaign's trials, expected those of {header}")
            for line in lines[1:]:
                row = json.loads(line)
                self.rows[row["network"], row["structure"], row["rate"], row["trial"]] = row
        except OSError as error:
            raise RefdesignError(f"{path}: {error.strerror}") from None
        except (UnicodeDecodeError, json.JSONDecodeError, TypeError, KeyError):
            raise RefdesignError(f"{path}: found no campaign, expected JSON lines of trials") from None

    def add(self, key: Key, row: Row) -> None:
        self.rows[key] = row
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


def _mean_share(rows: Sequence[Row], ways: Sequence[Iterable[object]], confidence: float, column: str) -> Estimate:
    """The mean share of images of a column; its interval ends where shares do (NaN stays NaN)."""
    estimate = clustered([row[column] / row["images"] for row in rows], ways, confidence)
    return replace(estimate, low=max(estimate.low, 0.0), high=min(estimate.high, 1.0))


def summarise(
    rows: Sequence[Row], by: Sequence[str], *, group: Callable[[str], str] = str, confidence: float = 0.95
) -> list[Row]:
    """Rates with intervals for every group of trials.

    Args:
        rows: of `run_campaign`.
        by: the columns that make a group, for example `("network", "structure")` or `("structure", "bit")`.
        group: maps a network's name to the kind under which it counts (five seeds of one kind are five clusters).
        confidence: of the intervals.

    Returns:
        For each group its columns; `trials`; as `Estimate`s `accuracy`, `accuracy_drop`, `corrupted` and `changed`
        (images with other logits, with other predictions), means over trials, clustered by fault and network, and
        `any_corruption` (the share of faults that change any logit, Wilson over the faults).
        A single fault tells nothing about others: its means have no interval. Groups are in order: networks as they
        come, structures as in `STRUCTURES`, layers by name, bits by number.
    """
    grouped: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        key = tuple(group(row[column]) if column == "network" else row[column] for column in by)
        grouped.setdefault(key, []).append(row)
    networks = {name: place for place, name in enumerate(dict.fromkeys(group(row["network"]) for row in rows))}

    def order(key: tuple[Any, ...]) -> list[Any]:
        places = {"network": networks.__getitem__, "structure": STRUCTURES.index}
        return [places[column](value) if column in places else value for column, value in zip(by, key, strict=True)]

    result = []
    for key in sorted(grouped, key=order):
        members = grouped[key]
        draws = [(row["structure"], row["rate"], row["trial"]) for row in members]
        clusters: list[list[Any]] = [draws, [row["network"] for row in members]]
        drop = [(row["clean_correct"] - row["correct"]) / row["images"] for row in members]
        # The same fault in several networks is one draw.
        struck = float(np.mean([row["corrupted"] > 0 for row in members]))
        faults = len(set(clusters[0]))
        ways = clusters if faults > 1 else []
        shares = partial(_mean_share, members, ways, confidence)
        result.append(
            {
                **dict(zip(by, key, strict=True)),
                "trials": len(members),
                "accuracy": shares("correct"),
                "accuracy_drop": clustered(drop, ways, confidence),
                "corrupted": shares("corrupted"),
                "changed": shares("changed"),
                "any_corruption": wilson(struck * faults, faults, confidence),
            }
        )
    return result
