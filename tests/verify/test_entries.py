"""Wrong entries of a table: they are named, with the values, and nothing is that is not so."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from typing import Any

import jsonschema
import numpy as np
import pytest

from refdesign.api import Network, pretrained
from refdesign.bits import pack, unpack
from refdesign.network import Stage
from refdesign.ops.batch_norm import scale_and_shift
from refdesign.verify.compare import compare
from refdesign.verify.diagnosis import Diagnosis, diagnose
from refdesign.verify.doors.callable import CallableDoor
from refdesign.verify.fresh import made_images
from refdesign.verify.hypotheses.conventions import CONVENTIONS
from refdesign.verify.hypotheses.thresholds import THRESHOLDS
from refdesign.verify.hypotheses.weights import WEIGHTS
from refdesign.verify.reports.data import to_dict
from tests.verify.port import Array, Port
from tests.verify.subjects import images_for, uneven

NETWORK = uneven()
TABLES = NETWORK.thresholds()
BITS = tuple(name for name in NETWORK.output_names if name.endswith(".bits"))
RIVALS = (*CONVENTIONS, *THRESHOLDS, *WEIGHTS)
SCHEMA = json.loads((resources.files("refdesign.verify.reports") / "report.schema.json").read_text())


class _Tables(Port):
    """The port with a table of integer thresholds in place of batch norm and dither, some of its entries wrong."""

    def __init__(self, layer: str, spoil: Callable[[Array, Array], None]) -> None:
        super().__init__(NETWORK)
        self.tables = {name: (t.threshold.copy(), t.direction.copy()) for name, t in TABLES.items()}
        spoil(*self.tables[layer])

    def decide(self, layer: Stage, a: Array) -> Array:
        threshold, direction = self.tables[layer.name]
        maps = a if a.ndim == 4 else a[:, None, None]
        i, j = np.arange(maps.shape[1])[:, None] % len(threshold), np.arange(maps.shape[2]) % len(threshold[0])
        t, d = threshold[i, j], direction[i, j]
        return np.where(d > 0, maps >= t, maps <= t).reshape(a.shape) * 2 - 1


def _with_weights(layer: str, spoil: Callable[[Array], None], network: Network = NETWORK) -> Network:
    """A network with other weights in a layer."""

    def spoilt(own: Any) -> Any:
        if own.name != layer:
            return own
        weights = unpack(own.weights)
        spoil(weights)
        return replace(own, weights=pack(weights))

    layers = tuple(spoilt(own) for own in network.layers)
    return Network(name="other", input_shape=network.input_shape, layers=layers, conventions=network.conventions)


def _diagnosis(implementation: Any, *outputs: str, again: bool = True, count: int = 40) -> Diagnosis:
    """What is said of an implementation that gives all outputs, or these."""

    def some(images: Any) -> Any:
        found = implementation(images)
        return {name: found[name] for name in outputs or found}

    door = CallableDoor(some, NETWORK, repeat=False)
    verdict = compare(NETWORK, door, images_for(NETWORK, count))
    assert verdict.sample is not None
    ask = door.ask if again else None
    found = diagnose(NETWORK, verdict.sample, ask, seconds=40.0, clock=time.thread_time, catalogue=RIVALS)
    jsonschema.validate(to_dict(NETWORK, verdict, found), SCHEMA)
    return found


def _moved(cell: tuple[int, int, int], steps: int) -> Callable[[Array, Array], None]:
    def spoil(threshold: Array, direction: Array) -> None:
        threshold[cell] += steps

    return spoil


def _values(named: str, cell: tuple[int, int, int], right: int, layer: str) -> tuple[int, int]:
    """The lowest and the highest value that is named for a threshold."""
    entry = re.escape(f"threshold[{', '.join(map(str, cell))}]")
    found = re.fullmatch(rf"{entry} = (-?\d+)(?: (?:or|to) (-?\d+))? instead of {right} in {layer}", named)
    assert found is not None, named
    return int(found[1]), int(found[2] or found[1])


@pytest.mark.parametrize(
    ("layer", "cell", "steps"),
    [("first", (1, 2, 3), 60), ("second", (0, 1, 5), 4), ("second", (1, 0, 4), -6), ("fourth", (0, 0, 7), 12)],
)
def test_a_threshold_is_named(layer: str, cell: tuple[int, int, int], steps: int) -> None:
    found = _diagnosis(_Tables(layer, _moved(cell, steps)))
    assert found.confirmed, found.verdict
    right = int(TABLES[layer].threshold[cell])
    (explanation,) = found.explanations
    low, high = _values(str(explanation), cell, right, layer)
    assert low <= right + steps <= high
    assert high - low < abs(steps) / 2  # no sum of the images lies between
    assert explanation.mends == (
        f"in {layer}, let phase {cell[:2]} of channel {cell[2]} fire at {TABLES[layer].rule(*cell)}",
    )


def test_thresholds_are_named_without_the_sums() -> None:
    found = _diagnosis(_Tables("second", _moved((0, 1, 5), 4)), *BITS, "logits")
    right = int(TABLES["second"].threshold[0, 1, 5])
    low, high = _values(str(found.explanations[0]), (0, 1, 5), right, "second")
    assert low <= right + 4 <= high <= low + 1


@pytest.mark.parametrize(
    ("layer", "tap"), [("first", (3, 0, 2, 1)), ("second", (7, 1, 2, 9)), ("third", (4, 1, 0, 6)), ("fourth", (6, 131))]
)
def test_a_wrong_weight_behind_bits_is_named(layer: str, tap: tuple[int, ...]) -> None:
    def spoil(weights: Array) -> None:
        weights[tap] *= -1

    found = _diagnosis(Port(_with_weights(layer, spoil)), *BITS, "logits", count=80)
    assert [str(e) for e in found.explanations] == [f"weights[{', '.join(map(str, tap))}] inverted in {layer}"]
    assert found.confirmed


def test_a_wrong_weight_behind_bits_is_not_taken_for_thresholds() -> None:
    """Without the sums, a weight that shows in few bits, of more than one phase, looks like some thresholds."""
    digits = pretrained("digits")

    def spoil(weights: Array) -> None:
        weights[17, 1, 2, 99] *= -1

    wrong = _with_weights("conv4", spoil, digits)
    bits = [name for name in digits.output_names if name.endswith(".bits")]
    door = CallableDoor(lambda images: wrong.run(images, outputs=[*bits, "logits"]), digits, repeat=False)
    sample = compare(digits, door, made_images(digits, 235)).sample
    assert sample is not None
    found = diagnose(digits, sample, door.ask, catalogue=(), clock=time.thread_time)
    (explanation,) = found.explanations  # three bits of 235 images tell the channel, and not yet which weight
    assert re.fullmatch(r"one of \d+ weights of channel 17 inverted in conv4", str(explanation))


def test_the_weights_of_another_channel_are_named_behind_bits() -> None:
    def spoil(weights: Array) -> None:
        weights[5] = weights[8]

    found = _diagnosis(Port(_with_weights("second", spoil)), *BITS, "logits")
    assert [str(e) for e in found.explanations] == ["channel 5 summed with the weights of channel 8 in second"]


def test_several_thresholds_of_one_layer_are_named() -> None:
    cells = ((1, 0, 4), (0, 1, 5), (1, 2, 9))

    def spoil(threshold: Array, direction: Array) -> None:
        for cell in cells:
            threshold[cell] += 6

    found = _diagnosis(_Tables("second", spoil))
    assert found.confirmed, found.verdict
    (explanation,) = found.explanations
    for cell, placed in zip(cells, explanation.changes, strict=True):
        right = int(TABLES["second"].threshold[cell])
        low, high = _values(str(placed), cell, right, "second")
        assert low <= right + 6 <= high <= low + 1


def test_a_threshold_that_nothing_reaches_is_named() -> None:
    cell = (1, 2, 9)
    found = _diagnosis(_Tables("second", _moved(cell, int(TABLES["second"].direction[cell]) * 1000)))
    assert found.confirmed, found.verdict
    named = str(found.explanations[0])
    right, beyond = TABLES["second"].threshold[cell], "more" if TABLES["second"].direction[cell] > 0 else "less"
    assert re.fullmatch(rf"threshold\[1, 2, 9\] = -?\d+ or {beyond} instead of {right} in second", named), named


def test_a_turned_direction_is_named() -> None:
    def spoil(threshold: Array, direction: Array) -> None:
        direction[1, 1, 6] *= -1

    right = TABLES["second"]
    found = _diagnosis(_Tables("second", spoil))
    assert found.confirmed, found.verdict
    turned, rule = ("<=", ">=")[:: int(right.direction[1, 1, 6])], right.rule(1, 1, 6)
    named = str(found.explanations[0])
    assert re.fullmatch(rf"threshold\[1, 1, 6\]: a {turned[0]} -?\d+(?: or -?\d+)?, not {rule} in second", named), named


def test_the_thresholds_of_another_channel_are_named() -> None:
    def spoil(threshold: Array, direction: Array) -> None:
        threshold[:, :, 5], direction[:, :, 5] = threshold[:, :, 8], direction[:, :, 8]

    found = _diagnosis(_Tables("second", spoil))
    assert [str(e) for e in found.explanations] == ["channel 5 decided by the thresholds of channel 8 in second"]
    assert found.confirmed


@pytest.mark.parametrize(
    ("layer", "taps"),
    [
        ("first", [(3, 0, 2, 1)]),
        ("second", [(7, 1, 2, 9)]),
        ("second", [(7, 1, 2, 9), (7, 2, 0, 3), (11, 0, 0, 0)]),
        ("fourth", [(6, 131)]),
        ("fifth", [(2, 10)]),
    ],
)
def test_inverted_weights_are_named(layer: str, taps: list[tuple[int, ...]]) -> None:
    def spoil(weights: Array) -> None:
        for tap in taps:
            weights[tap] *= -1

    found = _diagnosis(Port(_with_weights(layer, spoil)))
    assert found.confirmed, found.verdict
    assert [p.change.name for p in found.explanations[0].changes] == [
        f"weights[{', '.join(map(str, tap))}] inverted" for tap in taps
    ]
    assert {p.where for p in found.explanations[0].changes} == {layer}


def test_an_inverted_weight_is_named_where_bits_can_be_zero() -> None:
    ternary = uneven(NETWORK.conventions.replace(sign_at_zero=0))

    def spoil(weights: Array) -> None:
        weights[6, 131] *= -1

    wrong = _with_weights("fourth", spoil, ternary)
    door = CallableDoor(lambda images: wrong.run(images, outputs="all"), ternary, repeat=False)
    sample = compare(ternary, door, images_for(ternary, 40)).sample
    assert sample is not None
    assert (sample.outputs["third.bits"] == 0).any()
    few = diagnose(ternary, sample, catalogue=())
    assert re.fullmatch(r"one of \d\d weights of channel 6 inverted in fourth", str(few.explanations[0]))
    assert len(few.explanations) == 1
    found = diagnose(ternary, sample, door.ask, catalogue=(), clock=time.thread_time)
    assert found.confirmed
    assert [str(explanation) for explanation in found.explanations] == ["weights[6, 131] inverted in fourth"]


def test_the_weights_of_another_channel_are_named() -> None:
    def spoil(weights: Array) -> None:
        weights[7] = weights[2]

    found = _diagnosis(Port(_with_weights("third", spoil)))
    assert [str(e) for e in found.explanations] == ["channel 7 summed with the weights of channel 2 in third"]
    assert found.confirmed


def test_what_one_image_leaves_open_is_not_claimed_to_be_known() -> None:
    """Several values fit few answers that nobody can ask about; the true one is among them."""
    right = int(TABLES["second"].threshold[0, 1, 5])
    found = _diagnosis(_Tables("second", _moved((0, 1, 5), 4)), again=False, count=3)
    low, high = _values(str(found.explanations[0]), (0, 1, 5), right, "second")
    assert low <= right + 4 <= high
    assert not found.confirmed


def test_no_entry_is_named_where_none_is_wrong() -> None:
    """Bits that change with the image, not with the sum."""
    right = Port(NETWORK)

    def odd(images: Any) -> Any:
        answer = right(images)
        dark = images[:, 0, 0, 0] < 128
        answer["second.bits"][dark, 0, 1, 5] = 1
        answer["second.bits"][~dark, 0, 1, 5] = -1
        return answer

    found = _diagnosis(odd)
    assert found.explanations == (), found.verdict


@pytest.mark.parametrize("layer", ["third", "fourth"])
def test_no_entry_is_named_behind_bits_where_none_is_wrong(layer: str) -> None:
    """Bits of one channel that change with the image: no weight does that, nor another channel's."""
    right = Port(NETWORK)

    def odd(images: Any) -> Any:
        answer = right(images)
        answer[f"{layer}.bits"][images[:, 3, 4, 1] < 128, ..., 6] *= -1
        return answer

    found = _diagnosis(odd, *BITS, "logits")
    assert found.explanations == (), found.verdict


def test_sums_that_no_weight_explains_name_none() -> None:
    right = Port(NETWORK)

    def odd(images: Any) -> Any:
        answer = right(images)
        answer["second.accumulator"][:, 1, 2, 7] += 2 * (images[:, 0, 0, 0] < 128)
        return answer

    found = _diagnosis(odd)
    assert found.explanations == (), found.verdict


def test_a_weight_of_integer_logits_is_named_without_their_sums() -> None:
    def spoil(weights: Array) -> None:
        weights[2, 10] *= -1

    found = _diagnosis(Port(_with_weights("fifth", spoil)), *BITS, "logits")
    assert [str(e) for e in found.explanations] == ["weights[2, 10] inverted in fifth"]


def _digits_diagnosed(layers: tuple[Any, ...]) -> Diagnosis:
    """What is said of `digits` with other layers, which answers bits and logits."""
    digits = pretrained("digits")
    wrong = Network(name="other", input_shape=digits.input_shape, layers=layers, conventions=digits.conventions)
    bits = [name for name in digits.output_names if name.endswith(".bits")]
    door = CallableDoor(lambda images: wrong.run(images, outputs=[*bits, "logits"]), digits, repeat=False)
    sample = compare(digits, door, made_images(digits, 50)).sample
    assert sample is not None
    return diagnose(digits, sample, door.ask, catalogue=RIVALS, clock=time.thread_time)


@pytest.mark.parametrize(
    ("parameter", "factor", "shift", "named"),
    [
        ("beta", 1.0, 0.5, r"c\[3\] = \S+ instead of \S+ in dense2"),
        ("gamma", -1.5, 0.0, r"k\[3\] = \S+ and c\[3\] = \S+ instead of \S+ and \S+ in dense2"),
    ],
)
def test_a_wrong_parameter_of_the_last_layer_is_named(parameter: str, factor: float, shift: float, named: str) -> None:
    *before, last = pretrained("digits").layers
    assert isinstance(last, Stage)
    assert last.batch_norm is not None
    values = getattr(last.batch_norm, parameter).copy()
    values[3] = values[3] * factor + shift
    found = _digits_diagnosed((*before, replace(last, batch_norm=replace(last.batch_norm, **{parameter: values}))))
    assert re.fullmatch(named, str(found.explanations[0])), found.verdict
    assert len(found.explanations) == 1
    assert found.confirmed
    assert found.besides is None  # to the last bit


def test_a_wrong_scale_of_the_last_layer_is_named() -> None:
    *before, last = pretrained("digits").layers
    assert isinstance(last, Stage)
    assert last.batch_norm is not None
    k, c = (part.copy() for part in scale_and_shift(last.batch_norm, "torch"))
    right, k[7] = k[7], k[7] * np.float32(1.25)
    found = _digits_diagnosed((*before, replace(last, batch_norm=replace(last.batch_norm, k=k, c=c))))
    assert str(found.explanations[0]) == f"k[7] = {k[7]:.5g} instead of {right:.5g} in dense2"
    assert found.explanations[0].mends == (f"in dense2, let k[7] be {right:.9g}",)


def test_a_weight_of_the_last_layer_is_named_behind_its_logits() -> None:
    def spoil(weights: Array) -> None:
        weights[8, 101] *= -1

    found = _digits_diagnosed(_with_weights("dense2", spoil, pretrained("digits")).layers)
    assert [str(e) for e in found.explanations] == ["weights[8, 101] inverted in dense2"]
    assert found.confirmed
