"""The properties find every fault that is planted in an engine's code, and none where there is none."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from refdesign.bits import pack
from refdesign.conventions import PAPER
from refdesign.network import CombinedConv2d, NetworkData, PixelConv2d
from refdesign.parameters import BatchNorm
from refdesign.run import run
from refdesign.verify import strategies
from tests.meta.engine_faults import FOLDED_FAULTS, JAX, MODULE_FAULTS, NUMBA, TORCH, Fault, planted
from tests.properties.test_torch_networks import followed

Case = tuple[NetworkData, NDArray[np.uint8], dict[str, NDArray[Any]]]
pytest.importorskip("torch", reason="the faults are planted in PyTorch code (extra 'torch')")


def cases(networks: st.SearchStrategy[NetworkData], runs: int = 6) -> list[Case]:
    """The same networks each time, with images and the reference's outputs."""
    found: list[Case] = []
    # Several short runs: a long one varies what it has drawn, and draws less that is new.
    for number in range(runs):

        @seed(number)
        @settings(
            max_examples=40, database=None, phases=[Phase.generate], deadline=None,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(networks, st.data())
        def collect(network: NetworkData, data: st.DataObject) -> None:
            images = data.draw(strategies.images((3, *network.input_shape)))
            found.append((network, images, run(network, images, outputs="all")))

        collect()
    return found


@pytest.fixture(scope="module")
def any_networks() -> list[Case]:
    """Networks of every kind, and besides some that can tie: too few of all do, and are padded with zeros."""
    ternary = strategies.conventions().map(lambda chosen: chosen.replace(sign_rule="compare", sign_at_zero=0))
    return cases(strategies.networks()) + cases(strategies.networks(conventions=ternary), runs=3)


@pytest.fixture(scope="module")
def torch_networks() -> list[Case]:
    drawn = strategies.networks(conventions=strategies.conventions(arithmetics=("torch", "released_torch")))
    return [three_bases(), *cases(drawn.map(lambda net: replace(net, layers=tuple(map(followed, net.layers)))))]


def three_bases() -> Case:
    """A network whose logits are sums of three rounded products: their order shows in the last place."""
    generator = np.random.default_rng(0)
    ones, zeros = np.ones(7, np.float32), np.zeros(7, np.float32)
    network = NetworkData(
        name="bases",
        input_shape=(6, 5, 2),
        layers=(
            PixelConv2d(
                name="first", weights=pack(generator.choice((-1, 1), (7, 3, 2, 2))), multiplier=2, offset=-255,
                batch_norm=BatchNorm(ones, zeros, zeros, ones, 1e-5),
            ),
            CombinedConv2d(
                name="last", weights=tuple(pack(generator.choice((-1, 1), (7, 2, 3, 7))) for _ in range(3)),
                scales=generator.normal(size=(3, 7)).astype(np.float32),
                batch_norm=BatchNorm(ones, zeros, zeros, ones, 1e-5),
            ),
        ),
        conventions=PAPER.replace(arithmetic="torch"),
    )  # fmt: skip
    images = generator.integers(0, 256, (3, 6, 5, 2)).astype(np.uint8)
    return network, images, run(network, images, outputs="all")


def same(found: dict[str, NDArray[Any]], expected: dict[str, NDArray[Any]]) -> bool:
    return list(found) == list(expected) and all(np.array_equal(found[name], expected[name]) for name in expected)


def engine_is_right(package: ModuleType, case: Case) -> bool:
    network, images, expected = case
    return same(package.compile(network)(images, outputs="all"), expected)


def modules_are_right(package: ModuleType, case: Case) -> bool:
    network, images, expected = case
    module = importlib.import_module(f"{package.__name__}.restore").network_module(network)
    return same(package.layer_outputs(module, images), expected)


def shows(fault: Fault, is_right: Callable[[ModuleType, Case], bool], package: ModuleType, case: Case) -> bool:
    """Whether wrong outputs come out, or what the fault is known to be refused for.

    Any other error is no finding: it would also come of a fault that is mistyped.
    """
    try:
        return not is_right(package, case)
    except Exception as error:  # in some networks a fault leaves shapes that do not fit
        return bool(fault.refused) and fault.refused in str(error)


def test_there_are_many_kinds() -> None:
    assert len({fault.name for fault in FOLDED_FAULTS}) >= 35
    assert len({(fault.engine, fault.name) for fault in FOLDED_FAULTS}) == len(FOLDED_FAULTS)


@pytest.mark.parametrize(("engine", "count"), [(TORCH, 60), (NUMBA, 60), (JAX, 6)])
def test_no_fault_is_found_where_there_is_none(engine: str, count: int, any_networks: list[Case]) -> None:
    pytest.importorskip(engine.rpartition(".")[2])
    package = importlib.import_module(engine)
    some = any_networks[:: len(any_networks) // count]
    assert len(some) >= count
    assert all(engine_is_right(package, case) for case in some)


def test_no_fault_is_found_in_the_modules(torch_networks: list[Case]) -> None:
    package = importlib.import_module(TORCH)
    assert all(modules_are_right(package, case) for case in torch_networks[:60])


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(
            fault,
            id=f"{fault.engine.rpartition('.')[2]}: {fault.name}",
            marks=[pytest.mark.slow] if fault.engine == JAX else [],  # every network is compiled anew
        )
        for fault in FOLDED_FAULTS
    ],
)
def test_a_fault_in_an_engine_is_found(fault: Fault, any_networks: list[Case]) -> None:
    pytest.importorskip(fault.engine.rpartition(".")[2])
    try:
        with planted(fault) as package:
            assert any(shows(fault, engine_is_right, package, case) for case in any_networks)
    finally:
        if fault.engine == JAX:  # no other fault's code is compiled to the same programs
            sys.modules["jax"].clear_caches()


@pytest.mark.parametrize("fault", MODULE_FAULTS, ids=lambda fault: fault.name)
def test_a_fault_in_a_float_module_is_found(fault: Fault, torch_networks: list[Case]) -> None:
    with planted(fault) as package:
        assert any(shows(fault, modules_are_right, package, case) for case in torch_networks)
