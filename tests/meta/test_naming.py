"""The diagnosis, measured with mutants that were written without a look at it."""

from __future__ import annotations

import time

import numpy as np
import pytest

from refdesign.verify.compare import compare
from refdesign.verify.diagnosis import diagnose
from refdesign.verify.doors.callable import CallableDoor
from refdesign.verify.fresh import fresh_images
from refdesign.verify.mutants.catalogue import catalogue, mutant
from refdesign.verify.mutants.grounds import GROUNDS, ground
from refdesign.verify.mutants.naming import name_all, name_on
from refdesign.verify.mutants.subject.forward import Implementation
from refdesign.verify.prepared import Prepared
from refdesign.verify.variant import Variant

QUICK = {
    "bits-big-endian": "ties",
    "tail-counts": "borders",
    "outputs-reversed": "borders",
    "dilation-ignored": "windows",
    "circular-as-edge": "windows",
    "comparison-strict": "rounding",
    "phase-from-one": "ties",
    "first-image-reused": "rounding",
    "shortcut-lost": "residual",
    "bases-in-reverse": "residual",
}
"""Mutants of many kinds, and networks on which they show."""


@pytest.mark.parametrize("name", GROUNDS)
def test_on_every_network_the_implementation_without_a_fault_is_equal(name: str) -> None:
    network = ground(name).network
    verdict = compare(network, CallableDoor(Implementation(network), network), ground(name).images[:40])
    assert verdict.status == 0
    assert set(verdict.counts) == set(network.output_names)


@pytest.mark.parametrize("name", QUICK)
def test_a_mutant_is_named_first(name: str) -> None:
    found = name_on(mutant(name), QUICK[name])
    assert found.first, found
    assert found.confirmed


def test_a_mutant_is_named_first_by_its_logits_alone() -> None:
    found = name_on(mutant("slices-other-map"), "borders", logits_only=True)
    assert found.first, found


@pytest.mark.parametrize("name", ["mean-variance-swapped", "answers-from-before"])
def test_what_no_change_explains_is_not_claimed(name: str) -> None:
    found = name_on(mutant(name), "ties", seconds=3.0)
    assert found.shows
    assert found.found == ()


@pytest.mark.parametrize(("name", "what"), [("first-image-reused", "batch"), ("answers-from-before", "run")])
def test_answers_that_depend_on_more_than_the_image_are_said_to(name: str, what: str) -> None:
    assert name_on(mutant(name), "ties", seconds=2.0).depends_on == what


@pytest.mark.parametrize(("name", "where"), [("xor-as-xnor", "ties"), ("phase-column-late", "windows")])
def test_every_explanation_holds_on_images_that_the_diagnosis_has_not_seen(name: str, where: str) -> None:
    network, images = ground(where).network, ground(where).images
    implementation = mutant(name).implementation(network)
    door = CallableDoor(implementation, network, repeat=False)
    sample = compare(network, door, images).sample
    assert sample is not None
    found = diagnose(network, sample, door.ask, clock=time.thread_time)
    assert found.explanations
    unseen = fresh_images(network, np.random.default_rng(99), 60)
    answers = implementation(unseen)
    for explanation in found.explanations:
        claimed = Variant(network, explanation.changes, Prepared(network)).run(unseen, tuple(answers))
        assert all(np.array_equal(claimed[output], array) for output, array in answers.items())


def test_how_long_a_search_takes_is_counted_in_processor_time() -> None:
    started = time.process_time()
    found = name_on(mutant("mean-variance-swapped"), "windows", seconds=1.0)
    assert found.found == ()
    assert time.process_time() - started < 30


@pytest.mark.slow
def test_nine_of_ten_mutants_are_named_first() -> None:
    wanted = [entry for entry in catalogue() if entry.named]
    found = [naming for naming in name_all(wanted, workers=2) if naming.shows]
    named = {entry.name for entry in wanted} - {naming.mutant for naming in found if not naming.first}
    assert {naming.mutant for naming in found} == {entry.name for entry in wanted}
    assert len(named) >= 0.9 * len(wanted), sorted({entry.name for entry in wanted} - named)
    assert len([entry for entry in catalogue()[:60] if entry.name in named]) >= 45
    assert max(naming.seconds for naming in found if naming.ground == "digits") < 60
