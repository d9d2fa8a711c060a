"""Every engine equals the reference bit for bit: any network, any conventions, any images, any outputs."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from refdesign.api import load, pretrained
from refdesign.conventions import ARITHMETICS, PRESETS
from refdesign.errors import MissingExtra, RefdesignError
from refdesign.formats import native
from refdesign.frameworks import PACKAGES, compile
from refdesign.network import BinaryDense, NetworkData, PixelConv2d
from refdesign.verify import strategies
from tests.properties import engines
from tests.properties.test_paths import PIXELS, examples, zeros_in


@pytest.fixture(params=PACKAGES)
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine's name in turn; skips where its framework is not installed."""
    name: str = request.param
    try:
        compile(pretrained("digits"), name)
    except MissingExtra as error:
        pytest.skip(str(error))
    return name


def compiles_every_shape(engine: str) -> bool:
    """Whether every random network takes half a second to compile: hundreds, but for the exhaustive profile."""
    return engine == "jax" or (engine == "keras" and sys.modules["keras"].backend.backend() == "jax")


def count(engine: str) -> int:
    """How many random networks of each of 12 kinds: together 200 in every run, over 2,000 in the exhaustive one."""
    spared = compiles_every_shape(engine) and settings.get_current_profile_name() != "exhaustive"
    return min(examples(0.7), 30) if spared else examples(0.7)


_NETWORKS = itertools.count(1)


def assert_agrees(engine: str, network: NetworkData, data: st.DataObject, counterexamples: Path) -> None:
    """The engine's outputs, all of them or some, are the reference's; otherwise the case is kept."""
    if compiles_every_shape(engine) and next(_NETWORKS) % 16 == 0:
        sys.modules["jax"].clear_caches()  # no later network has these shapes again: gigabytes after a few hundred
    images = data.draw(strategies.images((data.draw(st.sampled_from((1, 2, 3, 5))), *network.input_shape)))
    names = st.lists(st.sampled_from(network.output_names), min_size=1, max_size=3, unique=True)
    outputs: Any = data.draw(st.just("all") | names, label="outputs")
    try:
        engines.assert_equals_reference(compile(network, engine), network, images, outputs)
    except BaseException:
        engines.keep(counterexamples / engine, network, images)
        raise


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_any_conventions(engine: str, arithmetic: str, residual: bool, request: pytest.FixtureRequest) -> None:
    counterexamples = Path(request.config.cache.mkdir("counterexamples"))
    networks = strategies.networks(conventions=strategies.conventions(arithmetics=(arithmetic,)), residual=residual)

    @settings(max_examples=count(engine), suppress_health_check=[HealthCheck.too_slow])
    @given(network=networks, data=st.data())
    def agree(network: NetworkData, data: st.DataObject) -> None:
        assert_agrees(engine, network, data, counterexamples)

    agree()


@pytest.mark.parametrize("preset", ["RELEASED_KERAS", "RELEASED_TORCH"])
def test_released_conventions(engine: str, preset: str, request: pytest.FixtureRequest) -> None:
    counterexamples = Path(request.config.cache.mkdir("counterexamples"))

    @settings(max_examples=count(engine), suppress_health_check=[HealthCheck.too_slow])
    @given(network=strategies.networks(conventions=st.just(PRESETS[preset])), data=st.data())
    def agree(network: NetworkData, data: st.DataObject) -> None:
        assert_agrees(engine, network, data, counterexamples)

    agree()


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_the_sign_of_zero(engine: str, arithmetic: str, real: bool) -> None:
    _, network = zeros_in(arithmetic, real=real)
    engines.assert_equals_reference(compile(network, engine), network, PIXELS, "all")


@pytest.mark.parametrize("name", ["digits", "digits-2d", "digits-sign"])
def test_shipped_networks(engine: str, name: str) -> None:
    network = pretrained(name)
    images = np.random.default_rng(4).integers(0, 256, (37, *network.input_shape), dtype=np.uint8)
    for outputs in ("all", "logits"):
        engines.assert_equals_reference(compile(network, engine), network, images, outputs)


def test_any_layout_of_the_images_gives_the_same(engine: str) -> None:
    """Reversed, transposed, from inside a larger array, read-only; one at a time or all at once."""
    network = pretrained("digits-2d")
    made = compile(network, engine)
    images = np.random.default_rng(6).integers(0, 256, (5, *network.input_shape), dtype=np.uint8)
    expected = {name: array.copy() for name, array in made(images, outputs="all").items()}
    frozen = images.copy()
    frozen.setflags(write=False)
    inside = np.zeros((5, 9, 10, 3), np.uint8)
    inside[:, :8, 1:9, 2:] = images
    for same in (
        images[::-1].copy()[::-1], np.asfortranarray(images), frozen, inside[:, :8, 1:9, 2:],
        np.broadcast_to(images[:1], images.shape),
    ):  # fmt: skip
        engines.assert_equals_reference(made, network, same, "all")
    alone = [made(images[number : number + 1], outputs="all") for number in range(5)]
    for name, array in expected.items():
        np.testing.assert_array_equal(np.concatenate([one[name] for one in alone]), array, strict=True)
    wrongs: tuple[Any, ...] = (images.astype(np.float32), images[..., 0], images[:, 1:])
    for wrong in wrongs:
        with pytest.raises(RefdesignError, match="images: found"):
            made(wrong)


def test_saved_and_loaded_equals_live(engine: str, tmp_path: Path) -> None:
    found = strategies.networks(conventions=st.just(PRESETS["RELEASED_KERAS"]), residual=False)

    @seed(9)
    @settings(max_examples=3, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(found, st.data())
    def agree(network: NetworkData, data: st.DataObject) -> None:
        images = data.draw(strategies.images((2, *network.input_shape)))
        native.write(network, tmp_path / "network.safetensors")
        loaded = load(tmp_path / "network.safetensors")
        engines.assert_equals_reference(compile(loaded, engine), network, images, "all")

    agree()


def test_no_images_give_empty_outputs(engine: str) -> None:
    network = pretrained("digits")
    engines.assert_equals_reference(
        compile(network, engine), network, np.zeros((0, *network.input_shape), np.uint8), "all"
    )


@pytest.mark.parametrize(("multiplier", "offset"), [(2**33 + 5, -7), (3, 2**40)])
def test_pixels_mapped_beyond_int32_are_exact_or_refused(engine: str, multiplier: int, offset: int) -> None:
    """Beside weights of 0 a pixel's value may be any: the sums fit all the same."""
    only = PixelConv2d(
        name="only", weights=np.zeros((3, 2, 1, 1), np.int32), multiplier=multiplier, offset=offset, padding=(1, 0)
    )
    network = NetworkData(name="zero", input_shape=(3, 4, 1), layers=(only,))
    images = np.random.default_rng(8).integers(0, 256, (2, 3, 4, 1), dtype=np.uint8)
    if engine == "keras":
        with pytest.raises(RefdesignError, match="layer 'only': found pixels mapped by"):
            compile(network, engine)
        return
    engines.assert_equals_reference(compile(network, engine), network, images, "all")


def test_a_counterexample_is_kept_and_replayed(tmp_path: Path) -> None:
    network = pretrained("digits")
    last = network.layers[-1]
    assert isinstance(last, BinaryDense)
    images = np.random.default_rng(5).integers(0, 256, (2, *network.input_shape), dtype=np.uint8)
    engines.keep(tmp_path / "case", network, images)
    engines.replay("packed", tmp_path / "case")
    other = compile(pretrained("digits-2d"), "packed")
    with pytest.raises(AssertionError):
        engines.assert_equals_reference(other, network, images, "logits")
