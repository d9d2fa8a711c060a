"""Bits that go wrong by a rate: every bit of a structure, each for itself with the same probability.

| structure | a bit is | it is wrong |
| --- | --- | --- |
| `weights` | a bit of a weight memory | in every cycle, as in a memory below its voltage |
| `thresholds` | a bit of {flip, limit} in a threshold memory | in every cycle |
| `activations` | an output bit of one pixel of one image | that once, as in noisy analogue logic |

The draws of one trial are the same at every rate: what is wrong at a low one is wrong at a higher one, too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from simulator.faults import struck
from simulator.memory import StageMemory, fold_lanes
from simulator.run import Array, Simulator
from simulator.stage import StageSchedule

RATED = ("weights", "thresholds", "activations")
"""Structures whose bits go wrong by a rate."""


def logits_at_rate(
    simulator: Simulator,
    images: NDArray[np.uint8],
    structure: str,
    rate: float,
    *,
    seed: tuple[int, ...],
    effect: str = "flip",
    layers: Collection[str] = (),
) -> Array:
    """The logits where every bit of a structure is wrong with a probability: (N, classes).

    Args:
        simulator: the fault-free one.
        images: uint8 (N, H, W, C).
        structure: one of `RATED`.
        rate: the probability.
        seed: of the draws; each layer adds its place.
        effect: `"flip"`, `"stuck_at_0"` or `"stuck_at_1"`.
        layers: where bits are wrong; none named is everywhere.

    Raises:
        RefdesignError: another structure, or a rate that is no probability.

    >>> from refdesign.models import binarynet
    >>> from simulator.schedule import fit
    >>> network = binarynet(input_shape=(8, 8, 1), width=1 / 16)
    >>> simulator, images = Simulator(network, fit(network)), np.zeros((2, 8, 8, 1), np.uint8)
    >>> same = logits_at_rate(simulator, images, "weights", 0.0, seed=(7,))
    >>> np.array_equal(same, simulator.outputs(images)["logits"])
    True
    """
    if structure not in RATED:
        raise RefdesignError(f"error rate, structure: found {structure!r}, expected one of {', '.join(RATED)}")
    if not 0 <= rate <= 1:
        raise RefdesignError(f"error rate: found {rate}, expected a probability, 0 to 1")
    memories: dict[str, StageMemory] = {}
    noise: dict[str, Callable[[NDArray[np.bool_]], NDArray[np.bool_]]] = {}
    for index, (stage, memory) in enumerate(zip(simulator.stages, simulator.memories, strict=True)):
        if layers and stage.name not in layers:
            continue
        draw = partial(_wrong, np.random.default_rng([*seed, index]), rate)
        if structure == "weights":
            memories[stage.name] = _weights(stage, memory, draw, effect)
        elif structure == "thresholds" and stage.thresholds is not None:
            memories[stage.name] = _thresholds(stage, memory, draw, effect)
        elif structure == "activations":
            noise[stage.name] = partial(_activations, draw, effect)
    return simulator.outputs(images, memories=memories, noise=noise, wanted=frozenset(["logits"]))["logits"]


Draw = Callable[[tuple[int, ...]], NDArray[np.bool_]]


def _wrong(rng: np.random.Generator, rate: float, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    return rng.random(shape) < rate


def _weights(stage: StageSchedule, memory: StageMemory, draw: Draw, effect: str) -> StageMemory:
    simd = stage.config.simd
    mask = fold_lanes(draw((*memory.weights.shape[:-1], simd)), simd)[..., 0, :]
    return replace(memory, weights=struck(memory.weights, mask, effect))


def _thresholds(stage: StageSchedule, memory: StageMemory, draw: Draw, effect: str) -> StageMemory:
    width = stage.config.threshold_width
    wrong = draw((*memory.limit.shape, width + 1))
    mask = (wrong[..., :width].astype(np.int64) << np.arange(width)).sum(axis=-1)
    unused = 64 - width  # the limit's sign is its highest bit
    limit = struck(memory.limit, mask, effect) << unused >> unused
    return replace(memory, limit=limit, flip=struck(memory.flip, wrong[..., width], effect))


def _activations(draw: Draw, effect: str, bits: NDArray[np.bool_]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = struck(bits, draw(bits.shape), effect)
    return found
