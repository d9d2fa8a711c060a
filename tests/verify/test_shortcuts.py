"""Layers with shortcuts, judged by themselves and diagnosed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from refdesign.network import Stage
from refdesign.run import run_layer
from refdesign.verify.compare import compare
from refdesign.verify.diagnosis import diagnose
from refdesign.verify.doors.callable import CallableDoor
from refdesign.verify.mutants.catalogue import mutant
from refdesign.verify.mutants.grounds import ground

NETWORK = ground("residual").network
IMAGES = ground("residual").images[:30]


def _wrong_in(layer: str, mistake: str) -> Any:
    """The reference with one layer's real stream spoiled; what follows from it is right."""

    class Layered:
        def __call__(self, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
            return dict(spoiled(images))

        def run_layer(
            self, name: str, inputs: NDArray[Any], real: Mapping[str, NDArray[np.float32]] | None = None
        ) -> dict[str, NDArray[Any]]:
            entry = NETWORK.layer(name)
            if not isinstance(entry, Stage):
                return (
                    {}
                    if name == "last"
                    else {f"{name}.real": NETWORK.run(IMAGES, outputs=[f"{name}.real"])[f"{name}.real"]}
                )
            assert (real is not None) == (entry.shortcut is not None)
            if name == layer and real is not None:
                real = {source: stream * 0 for source, stream in real.items()}
            return run_layer(NETWORK, entry, inputs, real=real)

    spoiled = mutant(mistake).implementation(NETWORK)
    return Layered()


def test_layers_with_shortcuts_are_judged_on_the_streams_that_they_were_given() -> None:
    """Only the layers whose shortcut is wrong are at fault, not those that follow."""
    verdict = compare(NETWORK, CallableDoor(mutant("shortcut-subsampled").implementation(NETWORK), NETWORK), IMAGES)
    assert verdict.layers_at_fault == ("third",)
    assert verdict.counts["fourth.real"].differing
    assert verdict.alone["fourth.real"].values == verdict.counts["fourth.real"].values


def test_every_layer_with_a_shortcut_that_is_lost_is_at_fault() -> None:
    verdict = compare(NETWORK, CallableDoor(mutant("shortcut-lost").implementation(NETWORK), NETWORK), IMAGES)
    assert verdict.layers_at_fault == ("second", "third", "fourth")


def test_isolated_layers_get_the_reference_s_real_streams() -> None:
    door = CallableDoor(_wrong_in("third", "shortcut-lost"), NETWORK)
    verdict = compare(NETWORK, door, IMAGES, isolated=True, layers_alone=False)
    assert verdict.layers_at_fault == ("third",)
    assert {"first.bits", "second.real", "third.real", "fourth.bits"} <= set(verdict.alone)


@pytest.mark.parametrize("mistake", ["clamp-lost", "shortcut-of-bits", "bases-share-scale"])
def test_faults_of_residual_networks_are_named(mistake: str) -> None:
    door = CallableDoor(mutant(mistake).implementation(NETWORK), NETWORK)
    sample = compare(NETWORK, door, IMAGES).sample
    assert sample is not None
    diagnosis = diagnose(NETWORK, sample, door.ask, clock=time.thread_time)
    assert diagnosis.confirmed
    assert diagnosis.explanations[0].changes[0].change.name in mutant(mistake).named


def test_a_shortcut_is_named_where_only_bits_are_answered() -> None:
    """Real streams that nobody sees: the fault shows one layer later than it is."""
    wrong = mutant("clamp-lost").implementation(NETWORK)

    def bits(images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        return {name: array for name, array in wrong(images).items() if not name.endswith(".real")}

    door = CallableDoor(bits, NETWORK)
    verdict = compare(NETWORK, door, IMAGES)
    assert verdict.first is not None
    assert verdict.first.output == "second.bits"
    assert verdict.sample is not None
    found = diagnose(NETWORK, verdict.sample, door.ask, clock=time.thread_time)
    assert str(found.explanations[0]) == "real stream not clamped"


def test_zeros_among_bits_that_the_network_does_not_know_are_no_inputs() -> None:
    borders = ground("borders")
    wrong = mutant("zero-zero").implementation(borders.network)
    verdict = compare(borders.network, CallableDoor(wrong, borders.network), borders.images)
    differing = [name for name, count in verdict.counts.items() if count.differing]
    assert differing[0].endswith(".bits")
    assert verdict.layers_at_fault[0] == differing[0].rpartition(".")[0]


def test_zeros_that_no_layer_before_can_give_are_no_inputs() -> None:
    """The network knows zeros, but not from its first layer: the second is folded for sums without them."""
    ties = ground("ties")
    right = mutant("answers-zero-one").implementation(ties.network)
    verdict = compare(ties.network, CallableDoor(right, ties.network), ties.images)
    assert verdict.counts["first.bits"].differing
    assert verdict.counts["second.accumulator"].differing == 0
    assert "first" in verdict.layers_at_fault
