"""Which PE and SIMD every layer should have: the cheapest accelerator for a rate, and the cheapest for every rate.

Without stalls an image leaves every so many cycles as the slowest stage computes for one. So each layer chooses for
itself among the foldings that are fast enough, and only a limit on block RAMs couples them: the cheapest whole is found
exactly, by adding up the layers' best choices one layer after the other. What stalls add, where a line buffer holds too
little of the next image, `Simulator.times` says.

The cost is lanes, the sum of PE * SIMD: XNORs a cycle. Of foldings with equally many lanes the one with fewer block
RAMs of weights wins, then the one with fewer PEs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from refdesign.errors import RefdesignError
from refdesign.network import NetworkData
from simulator.config import Accelerator
from simulator.schedule import divisors, fit, schedule
from simulator.stage import StageSchedule
from simulator.storage import weight_storage


@dataclass(frozen=True, kw_only=True)
class Folding:
    """One layer's PE and SIMD, and what they cost.

    Attributes:
        pe, simd: they divide the layer's channels.
        cycles: for one image.
        lanes: pe * simd.
        block_rams: of its weights.
    """

    pe: int
    simd: int
    cycles: int
    lanes: int
    block_rams: float


@dataclass(frozen=True, kw_only=True)
class Point:
    """One accelerator among those that nothing beats.

    Attributes:
        foldings: of every layer.
        cycles: from image to image without stalls: those of the slowest layer.
        lanes, block_rams: of all layers.
    """

    foldings: tuple[Folding, ...]
    cycles: int
    lanes: int
    block_rams: float


def foldings(stage: StageSchedule) -> list[Folding]:
    """The foldings of a layer that no other one beats in cycles, lanes and block RAMs, the fastest first.

    >>> from refdesign.models import binarynet
    >>> network = binarynet(input_shape=(8, 8, 1), width=1 / 16)
    >>> [(one.pe, one.simd, one.cycles) for one in foldings(schedule(network, fit(network))[1])][-3:]
    [(1, 4, 9216), (1, 2, 18432), (1, 1, 36864)]
    """
    found = []
    for pe in divisors(stage.outputs):
        for simd in divisors(stage.inputs):
            folded = replace(stage, config=replace(stage.config, pe=pe, simd=simd))
            rams = weight_storage(folded).block_rams
            found.append(Folding(pe=pe, simd=simd, cycles=folded.cycles, lanes=pe * simd, block_rams=rams))
    found.sort(key=lambda one: (one.cycles, one.lanes, one.block_rams, one.pe))
    kept: list[Folding] = []
    for one in found:
        if not any(other.lanes <= one.lanes and other.block_rams <= one.block_rams for other in kept):
            kept.append(one)
    return kept


def cheapest(choices: Sequence[Sequence[Folding]], cycles: int, block_rams: float = math.inf) -> Point | None:
    """The fewest lanes with which no layer takes more cycles, within so many block RAMs; None where nothing does.

    Args:
        choices: every layer's `foldings`.
        cycles: from image to image without stalls, at most.
        block_rams: of all weights, at most.
    """
    wholes = [Point(foldings=(), cycles=0, lanes=0, block_rams=0.0)]
    for layer in choices:
        enough = [one for one in layer if one.cycles <= cycles]
        wholes = _unbeaten([_and(whole, one) for whole in wholes for one in enough])
    return next((whole for whole in wholes if whole.block_rams <= block_rams), None)


def front(network: NetworkData, *, block_rams: float = math.inf) -> list[Point]:
    """All accelerators that no other one beats in cycles and lanes, the fastest first.

    Raises:
        RefdesignError: as `simulator.schedule.schedule`; no folding keeps within `block_rams`.

    >>> from refdesign.models import binarynet
    >>> found = front(binarynet(input_shape=(8, 8, 1), width=1 / 16))
    >>> (found[0].cycles, found[0].lanes), (found[-1].cycles, found[-1].lanes)
    ((4608, 43), (36864, 9))
    """
    choices = [foldings(stage) for stage in schedule(network, fit(network))]
    points: list[Point] = []
    for cycles in sorted({one.cycles for layer in choices for one in layer}):
        point = cheapest(choices, cycles, block_rams)
        if point is not None and (not points or point.lanes < points[-1].lanes):
            points.append(point)
    if not points:
        raise _too_few(choices, block_rams)
    return points


def accelerator_for(
    network: NetworkData, cycles: int, *, block_rams: float = math.inf, **options: Any
) -> tuple[Accelerator, Point]:
    """The accelerator with the fewest lanes that takes an image every so many cycles, but for stalls.

    Args:
        network: what it is to run.
        cycles: from image to image without stalls, at most.
        block_rams: of all weights, at most.
        options: of `simulator.schedule.fit`, but for `pe` and `simd`.

    Raises:
        RefdesignError: as `simulator.schedule.schedule`; a layer that no folding makes fast enough, and how fast it
            can be; too few block RAMs, and how many are needed.

    >>> from refdesign.models import binarynet
    >>> accelerator, point = accelerator_for(binarynet(input_shape=(8, 8, 1), width=1 / 16), 5000)
    >>> [(stage.pe, stage.simd) for stage in accelerator.stages[:3]], point.cycles
    ([(8, 1), (1, 8), (1, 4)], 4608)
    """
    made = fit(network, **options)
    stages = schedule(network, made)
    choices = [foldings(stage) for stage in stages]
    for stage, layer in zip(stages, choices, strict=True):
        fastest = layer[0]
        if fastest.cycles > cycles:
            raise RefdesignError(
                f"layer {stage.name!r}: found {cycles:,} cycles an image, expected at least {fastest.cycles:,}, those "
                f"of PE {fastest.pe} and SIMD {fastest.simd}, the most that it has channels for"
            )
    point = cheapest(choices, cycles, block_rams)
    if point is None:
        raise _too_few([[one for one in layer if one.cycles <= cycles] for layer in choices], block_rams)
    folded = tuple(
        replace(config, pe=one.pe, simd=one.simd, popcount_width=one.simd.bit_length())
        for config, one in zip(made.stages, point.foldings, strict=True)
    )
    return replace(made, stages=folded), point


def _and(whole: Point, one: Folding) -> Point:
    return Point(
        foldings=(*whole.foldings, one),
        cycles=max(whole.cycles, one.cycles),
        lanes=whole.lanes + one.lanes,
        block_rams=whole.block_rams + one.block_rams,
    )


def _unbeaten(wholes: list[Point]) -> list[Point]:
    """Those with fewer block RAMs than all that have as few lanes; rising in lanes."""
    kept: list[Point] = []
    for whole in sorted(wholes, key=lambda whole: (whole.lanes, whole.block_rams)):
        if not kept or whole.block_rams < kept[-1].block_rams:
            kept.append(whole)
    return kept


def _too_few(choices: Sequence[Sequence[Folding]], found: float) -> RefdesignError:
    least = sum(min(one.block_rams for one in layer) for layer in choices)
    return RefdesignError(f"block RAMs: found {found:g}, expected at least {least:g} for the weights")
