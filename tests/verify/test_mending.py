"""What a diagnosis tells to do, and what a network cannot show."""

from __future__ import annotations

import pytest

from refdesign.verify.blind import blind_spots
from refdesign.verify.change import Placed
from refdesign.verify.hypotheses import CATALOGUE
from refdesign.verify.mending import RIGHT, mend
from refdesign.verify.mutants.grounds import GROUNDS, ground


@pytest.mark.parametrize("name", GROUNDS)
def test_every_change_has_a_mend_on_every_network(name: str) -> None:
    network = ground(name).network
    everywhere = frozenset(layer.name for layer in network.layers)
    for change in CATALOGUE:
        own = network.conventions.to_dict()
        if change.conventions is None or any(own[field] != value for field, value in change.conventions.items()):
            assert len(mend(Placed(change, everywhere), network)) > 10, change.name
            assert mend(Placed(change, frozenset({"second"}), "second"), network).startswith("in second, ")


def test_no_mend_is_left_over() -> None:
    assert {change.group for change in CATALOGUE} == set(RIGHT)


def test_a_mend_names_the_networks_own_conventions() -> None:
    network = ground("windows").network
    late = next(change for change in CATALOGUE if change.name == "phase runs on over row ends")
    assert "kernel_origin=center_crop" in mend(Placed(late, frozenset({"third"}), "third"), network)


def test_only_a_network_without_negative_gamma_cannot_show_its_faults() -> None:
    assert [len(blind_spots(ground(name).network)) for name in GROUNDS] == [1, 0, 0, 0, 0, 0, 0]
