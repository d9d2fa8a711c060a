"""Whether an implementation answers one example as the reference does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.api import Network
from refdesign.verify.compare import compare
from refdesign.verify.conformance.drawing import Example
from refdesign.verify.differences import differ
from refdesign.verify.doors.callable import CallableDoor
from refdesign.verify.implementation import Answer, Implementation, ask, comparable_outputs

Make = Callable[[Network], Implementation]
"""Binds the implementation under test to a network."""

Golden = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Judgement:
    """What became of one example.

    Attributes:
        fault: one line that says what was wrong; None: nothing.
        outputs: the outputs that were compared.
        values: how many values were compared.
    """

    fault: str | None
    outputs: tuple[str, ...] = ()
    values: int = 0


def golden(example: Example) -> Golden:
    """Every output of the reference."""
    return example.network.run(example.images, outputs="all")


def judge(
    example: Example,
    make: Make,
    *,
    expected: Golden | None = None,
    repeat: bool = False,
    time_limit: float | None = None,
) -> Judgement:
    """Ask an implementation about one example and compare every output that it answers.

    Args:
        example: the network and the images.
        make: binds the implementation to the network.
        expected: `golden(example)`, where it is known already.
        repeat: ask twice; another second answer is a fault.
        time_limit: seconds; None waits for ever.

    >>> from refdesign.api import pretrained
    >>> digits = Example(pretrained("digits"), np.zeros((2, 8, 8, 1), np.uint8))
    >>> judge(digits, lambda network: lambda images: network.run(images)).outputs
    ('logits',)
    >>> wrong = judge(digits, lambda network: lambda images: network.run(images)["logits"] + 1)
    >>> wrong.fault.partition(":")[0::2]  # doctest: +ELLIPSIS
    ('logits', ' 20 of 20 values differ, the first at image 0, channel 0: found ..., expected ...')
    """
    network = example.network
    try:
        implementation = make(network)
    except (Exception, SystemExit) as error:  # whatever a foreign implementation does is a fault of it
        return Judgement(f"raised when it was made: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
    if any(name.endswith(".uncertain") for name in network.output_names):
        return _judge_open(example, implementation, time_limit)
    answer = ask(implementation, network, example.images, time_limit=time_limit, repeat=repeat)
    for finding in answer.findings:
        if finding.fault:
            return Judgement(str(finding), tuple(answer.outputs))
    if "logits" not in answer.outputs:
        return Judgement("missing: the answer has no logits, expected at least these", tuple(answer.outputs))
    return _compared(network, answer, golden(example) if expected is None else expected)


def _compared(network: Network, answer: Answer, expected: Golden) -> Judgement:
    values = 0
    for name in comparable_outputs(network):
        if name not in answer.outputs:
            continue
        where = differ(expected[name], answer.outputs[name])
        values += where.size
        if where.any():
            return Judgement(_first(name, where, expected[name], answer.outputs[name]), tuple(answer.outputs), values)
    return Judgement(None, tuple(answer.outputs), values)


def _judge_open(example: Example, implementation: Implementation, time_limit: float | None) -> Judgement:
    """Networks in which the reference itself leaves bits open: the full comparison knows how to leave them out."""
    door = CallableDoor(implementation, example.network, time_limit=time_limit, repeat=False)
    verdict = compare(example.network, door, example.images, layers_alone=False)
    outputs = tuple(verdict.counts)
    for finding in verdict.findings:
        if finding.fault:
            return Judgement(str(finding), outputs, verdict.values)
    if verdict.first is not None:
        first = verdict.first
        text = f"{first.output}: {verdict.counts[first.output].differing} values differ"
        return Judgement(f"{text}, the first in image {first.image}, channel {first.channel}", outputs, verdict.values)
    if verdict.status:
        return Judgement("missing: the answer has no logits, expected at least these", outputs, verdict.values)
    return Judgement(None, outputs, verdict.values)


def _first(name: str, where: NDArray[np.bool_], ours: NDArray[Any], theirs: NDArray[Any]) -> str:
    index = tuple(int(i) for i in np.unravel_index(int(where.argmax()), where.shape))
    names = ("image", "row", "column", "channel") if len(index) == 4 else ("image", "channel")
    place = ", ".join(f"{axis} {i}" for axis, i in zip(names, index, strict=True))
    count = f"{int(where.sum()):,} of {where.size:,} values differ"
    return f"{name}: {count}, the first at {place}: found {theirs[index]}, expected {ours[index]}"
