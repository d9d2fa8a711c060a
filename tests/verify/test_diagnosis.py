"""Diagnosis: faults of a port that was written apart are named first, and nothing is claimed that is not so."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from refdesign.api import Network
from refdesign.network import NetworkData, PixelConv2d
from refdesign.verify.change import Placed
from refdesign.verify.compare import EQUAL, compare
from refdesign.verify.diagnosis import Diagnosis, diagnose
from refdesign.verify.doors.callable import CallableDoor
from refdesign.verify.hypotheses import CATALOGUE
from refdesign.verify.mutants.catalogue import mutant
from refdesign.verify.mutants.grounds import ground
from refdesign.verify.places import acting, places
from refdesign.verify.prepared import Prepared
from refdesign.verify.variant import Variant
from tests.verify.port import FAULTS, Port
from tests.verify.subjects import images_for, uneven

NETWORK = uneven()
IMAGES = images_for(NETWORK, 40)


def _logits_only(implementation: Any) -> Any:
    return lambda images: implementation(images)["logits"]


def _diagnosis(network: NetworkData, implementation: Any, *, again: bool = True, seconds: float = 40.0) -> Diagnosis:
    door = CallableDoor(implementation, network, repeat=False)
    verdict = compare(network, door, IMAGES)
    assert verdict.sample is not None
    assert verdict.differing
    ask = door.ask if again else None
    return diagnose(network, verdict.sample, ask, seconds=seconds, clock=time.thread_time)


def test_the_port_without_a_fault_is_equal() -> None:
    verdict = compare(NETWORK, CallableDoor(Port(NETWORK), NETWORK), images_for(NETWORK, 200, 7))
    assert verdict.status == EQUAL
    assert len(verdict.counts) == len(NETWORK.output_names)


@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_fault_is_named_first(fault: str) -> None:
    diagnosis = _diagnosis(NETWORK, Port(NETWORK, fault))
    assert diagnosis.explanations, diagnosis.verdict
    assert diagnosis.confirmed
    assert diagnosis.explanations[0].fresh >= 24
    assert diagnosis.explanations[0].changes[0].change.name in FAULTS[fault]


@pytest.mark.parametrize(
    "fault",
    [
        "slices repeated",
        pytest.param("gamma loses its sign", marks=pytest.mark.slow),
        pytest.param("pads with -1", marks=pytest.mark.slow),
    ],
)
def test_a_fault_is_named_from_the_logits_alone(fault: str) -> None:
    diagnosis = _diagnosis(NETWORK, _logits_only(Port(NETWORK, fault)))
    assert diagnosis.explanations[0].changes[0].change.name in FAULTS[fault]


@pytest.mark.parametrize("layer", ["first", "second"])
def test_a_fault_in_one_layer_is_placed_there(layer: str) -> None:
    diagnosis = _diagnosis(NETWORK, Port(NETWORK, "dither added", only=layer))
    assert str(diagnosis.explanations[0]) == f"dither added in {layer}"


class _Faults(Port):
    """Faults by layer."""

    def __init__(self, *faults: tuple[str, str]) -> None:
        super().__init__(NETWORK)
        self.by_layer = faults

    def has(self, fault: str) -> bool:
        return (fault, self.layer) in self.by_layer


PAIRS: tuple[tuple[tuple[str, str], tuple[str, str]], ...] = (
    (("dither added", "first"), ("minimum pool", "third")),
    (("true convolution", "second"), ("beta forgotten", "second")),
    (("gamma loses its sign", "second"), ("flattened as nchw", "fourth")),
)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair[0][0]} and {pair[1][0]}")
def test_a_pair_of_faults_is_found(pair: tuple[tuple[str, str], tuple[str, str]]) -> None:
    diagnosis = _diagnosis(NETWORK, _Faults(*pair))
    assert diagnosis.explanations, diagnosis.verdict
    placed = diagnosis.explanations[0].changes
    assert len(placed) == 2
    for found, (fault, layer) in zip(placed, pair, strict=True):
        assert found.change.name in FAULTS[fault]
        assert found.where in (layer, "everywhere")  # some layers are the only ones of their kind
    assert diagnosis.confirmed


@pytest.mark.parametrize(("offset", "name"), [(-256, "1 too small"), (-254, "1 too large"), (-257, "2 too small")])
def test_a_neighbouring_offset_of_the_pixels_is_named(offset: int, name: str) -> None:
    first = NETWORK.layers[0]
    assert isinstance(first, PixelConv2d)
    layers = (replace(first, offset=offset), *NETWORK.layers[1:])
    wrong = Network(name="wrong", input_shape=NETWORK.input_shape, layers=layers, conventions=NETWORK.conventions)
    diagnosis = _diagnosis(NETWORK, lambda images: wrong.run(images, outputs="all"))
    assert str(diagnosis.explanations[0]) == f"pixels' offset {name}"


def test_one_output_that_is_written_wrongly_is_named_and_no_layer_behind_it_blamed() -> None:
    def written(images: Any) -> Any:
        answer = dict(NETWORK.run(images, outputs="all"))
        answer["second.bits"] = answer["second.bits"][..., ::-1]
        return answer

    assert compare(NETWORK, CallableDoor(written, NETWORK), IMAGES).layers_at_fault == ("second",)
    diagnosis = _diagnosis(NETWORK, written)
    assert str(diagnosis.explanations[0]) == "outputs written with channels reversed in second.bits"
    assert diagnosis.confirmed


def test_a_place_names_no_layer_that_a_change_leaves_as_it_is() -> None:
    """The first layer has one channel, and dense layers have no maps to take channels from."""
    digits = ground("digits").network
    (change,) = (change for change in CATALOGUE if change.name == "weights' input channels reversed")
    wide = next(placed for placed in places(digits, change) if placed.where == "the layers without a pool")
    assert "conv3" in wide.layers
    narrow = acting(digits, wide, Prepared(digits))
    assert (narrow.where, narrow.layers) == ("conv3", frozenset({"conv3"}))


@pytest.mark.slow
def test_a_pair_is_found_through_the_logits_alone() -> None:
    """Not every pair is: one of the two must bring the logits nearer than most other changes do."""
    digits, images = ground("digits").network, ground("digits").images
    changes = {change.name: change for change in CATALOGUE}
    layers = [layer.name for layer in digits.layers]
    slices = Placed(changes["slices shifted by -1"], frozenset(layers[1:]), "all layers but the first")
    rounded = Placed(changes["threshold rounded away from its firing side"], frozenset(layers))
    wrong = Variant(digits, (slices, rounded), Prepared(digits))
    door = CallableDoor(lambda given: wrong.run(given, ("logits",), idle=True)["logits"], digits, repeat=False)
    sample = compare(digits, door, images).sample
    assert sample is not None
    found = diagnose(digits, sample, door.ask, clock=time.thread_time)
    assert found.confirmed, found.verdict
    assert len(found.explanations[0].changes) == 2
    assert found.explanations[0].changes[0].change.name == "slices shifted by -1"


def test_a_fault_is_named_beside_logits_that_are_rounded_otherwise() -> None:
    """A library sums and scales in its own way: its logits are right within rounding, and never equal."""
    network = ground("windows").network
    wrong = mutant("phase-swapped").implementation(network)

    def rounded(images: Any) -> Any:
        answer = dict(wrong(images))
        logits = answer["logits"]
        return answer | {"logits": np.nextafter(logits, np.float32(np.inf), dtype=np.float32)}

    door = CallableDoor(rounded, network, repeat=False)
    sample = compare(network, door, ground("windows").images[:40], exact=True).sample
    assert sample is not None
    found = diagnose(network, sample, door.ask, clock=time.thread_time)
    assert found.besides == "logits"
    assert found.verdict.startswith("matches bit for bit, but for the rounding of logits, with phase rows and columns")
    assert found.confirmed


def test_what_cannot_be_asked_again_is_unconfirmed() -> None:
    diagnosis = _diagnosis(NETWORK, Port(NETWORK, "slices repeated"), again=False)
    assert diagnosis.explanations
    assert not diagnosis.confirmed
    assert "unconfirmed" in diagnosis.verdict


def test_nan_that_comes_with_the_batch_is_not_said_to_come_with_the_run() -> None:
    def broken(images: Any) -> Any:
        logits = NETWORK.run(images)["logits"] + 1.0
        return np.where(np.arange(5) == 3, np.nan, logits) if len(images) < 20 else logits

    assert _diagnosis(NETWORK, broken, seconds=1).depends_on == "batch"


def test_images_that_are_right_one_by_one() -> None:
    """The image before shows through a line buffer; that is said, and no change is looked for."""
    right = Port(NETWORK)

    def stale(images: Any) -> Any:
        answer = right(images)
        answer["second.bits"][1:, 0] = answer["second.bits"][:-1, -1]
        return answer

    found = _diagnosis(NETWORK, stale, seconds=1)
    assert found.right_alone
    assert found.verdict == (
        "an image's answer depends on the others that are asked with it (one by one, images are answered rightly); "
        f"no known change or pair explains it ({found.tried} tried)"
    )


def test_noise_is_not_explained() -> None:
    random = np.random.default_rng(1)

    def noise(images: Any) -> Any:
        return random.integers(-11, 12, (len(images), 5))

    diagnosis = _diagnosis(NETWORK, noise, seconds=5.0)
    assert diagnosis.explanations == ()
    assert "no known change or pair explains it" in diagnosis.verdict
    assert diagnosis.nearest is None  # nothing explains half of it


def test_what_explains_most_is_named_as_the_nearest() -> None:
    wrong = Port(NETWORK, "no dither")

    def worse(images: Any) -> Any:
        answer = {name: array for name, array in wrong(images).items() if name.startswith("first")}
        answer["first.bits"][:, 3, 4, 5] *= -1
        return answer

    diagnosis = _diagnosis(NETWORK, worse, seconds=5.0)
    assert diagnosis.explanations == ()
    assert diagnosis.nearest == "no dither in first"


def test_a_fault_that_only_the_sample_hides_is_not_claimed() -> None:
    """It answers as one known change on the sample's images and as nothing known elsewhere."""
    wrong = Port(NETWORK, "slices repeated")

    def sly(images: Any) -> Any:
        known = {image.tobytes() for image in IMAGES}
        answer = wrong(images)
        for number, image in enumerate(images):
            if image.tobytes() not in known:
                answer["logits"][number] += 1
        return answer

    assert _diagnosis(NETWORK, sly, seconds=10.0).explanations == ()


def test_a_kind_sample_does_not_end_the_search() -> None:
    """Fresh images refute the first change that fits; what they were answered leads to the right one."""
    wrong = Port(NETWORK, "no dither")
    images = images_for(NETWORK, 400, 3)
    kind = images[(wrong(images)["logits"] == Port(NETWORK, "dither added")(images)["logits"]).all(axis=1)][:6]
    door = CallableDoor(_logits_only(wrong), NETWORK, repeat=False)
    sample = compare(NETWORK, door, kind).sample
    assert sample is not None
    names = {"no dither", "dither added"}
    catalogue = [change for change in CATALOGUE if change.name in names]
    fits = diagnose(NETWORK, sample, catalogue=catalogue, clock=time.thread_time)
    assert {str(explanation) for explanation in fits.explanations} == names
    found = diagnose(NETWORK, sample, door.ask, catalogue=catalogue, clock=time.thread_time)
    assert [str(e) for e in found.explanations] == ["no dither"]
    assert found.confirmed
    only = [change for change in catalogue if change.name == "dither added"]
    assert diagnose(NETWORK, sample, door.ask, catalogue=only, clock=time.thread_time).explanations == ()


def test_the_catalogue_names_each_change_once() -> None:
    names = [change.name for change in CATALOGUE]
    assert len(set(names)) == len(names)
    assert len(names) > 300
    assert {change.spelling_of for change in CATALOGUE} - {""} <= set(names)
    assert all(change.says and change.group for change in CATALOGUE)
