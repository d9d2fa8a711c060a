"""What activations keep of a layer: against the network's own bits, against loops, and on maps made by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from refdesign import Network, pack
from refdesign.api import pretrained
from refdesign.datasets import load
from refdesign.errors import RefdesignError
from refdesign.network import BinaryConv2d, PixelConv2d
from refdesign.training import feature_maps as module
from refdesign.training.feature_maps import convolutions, feature_maps, influence, kept
from tests.cli.command_line import good, refused

IMAGES = load("digits", "test")[0][:11]


@pytest.mark.parametrize(("name", "activation"), [("digits-sign", "sign"), ("digits-2d", "2d"), ("digits", "3d")])
def test_the_networks_own_activation_gives_its_own_bits(name: str, activation: str) -> None:
    network = pretrained(name)
    for layer in convolutions(network):
        maps = feature_maps(network, IMAGES, layer, (activation,))[activation]
        assert np.array_equal(maps * 2 - 1, network.run(IMAGES, outputs=(f"{layer}.bits",))[f"{layer}.bits"])


def test_total_variation_and_entropy_by_loops() -> None:
    values = np.random.default_rng(3).integers(0, 2, (3, 5, 7, 2)).astype(np.float32)
    terms = [
        math.hypot(values[n, i + 1, j, c] - values[n, i, j, c], values[n, i, j + 1, c] - values[n, i, j, c])
        for n in range(3) for i in range(4) for j in range(6) for c in range(2)
    ]  # fmt: skip
    assert module._total_variation(values) == pytest.approx(np.mean(terms))
    shares = [values[..., c].mean() for c in range(2)]
    entropies = [-(p * math.log2(p) + (1 - p) * math.log2(1 - p)) for p in shares]
    assert module._entropy(values, False) == pytest.approx(np.mean(entropies))


def test_maps_by_hand() -> None:
    constant = np.ones((2, 6, 5, 1), np.float32)
    board = np.indices((6, 5)).sum(axis=0)[None, :, :, None].astype(np.float32) % 2
    assert (module._total_variation(constant), module._entropy(constant, False)) == (0.0, 0.0)
    assert module._total_variation(board) == pytest.approx(math.sqrt(2))
    assert module._entropy(board, False) == 1.0
    # A chequerboard looks grey through windows of 2x2: it holds nothing of any shade.
    shades = np.linspace(0, 1, 30, dtype=np.float32).reshape(1, 6, 5, 1)
    assert module._likeness(board, shades) == 0.0
    assert module._likeness(shades, shades) == 1.0


def test_a_dither_keeps_more_of_the_shades_than_one_threshold() -> None:
    rows = {row.activation: row for row in kept(pretrained("digits-sign"), IMAGES, ["conv1"])}
    assert rows["2d"].likeness > rows["sign"].likeness
    assert rows["relu"].likeness == 1.0


def test_without_gamma_or_beta_bits_change_as_the_formula_says() -> None:
    network = pretrained("digits-2d")
    rows = {(row.layer, row.without): row for row in influence(network, IMAGES)}
    assert len(rows) == 2 * len(network.layers)
    first = network.layers[0]
    assert isinstance(first, PixelConv2d)
    assert first.batch_norm is not None
    changed = replace(first, batch_norm=replace(first.batch_norm, beta=np.zeros_like(first.batch_norm.beta)))
    theirs = replace(network, layers=(changed, *network.layers[1:])).run(IMAGES, outputs=("conv1.bits",))["conv1.bits"]
    share = (theirs != network.run(IMAGES, outputs=("conv1.bits",))["conv1.bits"]).mean()
    assert rows["conv1", "beta"].bits == share
    assert share > 0


def test_a_layer_that_has_no_map_is_refused() -> None:
    with pytest.raises(RefdesignError, match="layer: found 'dense1', expected one of conv1, conv2"):
        feature_maps(pretrained("digits"), IMAGES, "dense1")


def test_a_network_without_a_batch_norm_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    first, last = (pack(rng.choice((-1, 1), shape)) for shape in ((6, 3, 3, 1), (10, 6, 6, 6)))
    layers = (PixelConv2d(name="first", weights=first), BinaryConv2d(name="last", weights=last))
    path = tmp_path / "bare.safetensors"
    Network(name="bare", input_shape=(8, 8, 1), layers=layers).save(path)
    assert "bare.safetensors: found no convolution with a batch norm" in refused("activations", path, "digits")


def test_the_command_prints_and_draws(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures come with the extra 'plot'")
    picture = tmp_path / "maps.png"
    text = good("activations", "digits", "digits:test", "--first", "7", "--layer", "conv2", "--picture", picture)
    assert "likeness" in text
    assert "conv4" in text
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "--image: found 9, expected less than 7" in refused(
        "activations", "digits", "digits:test", "--first", 7, "--image", 9, "--picture", picture
    )
    assert "--layer: found 'dense1', expected one of conv1, conv2" in refused(
        "activations", "digits", "digits:test", "--layer", "dense1"
    )
    assert "activation: found '5d'" in refused("activations", "digits", "digits:test", "--activation", "5d")
