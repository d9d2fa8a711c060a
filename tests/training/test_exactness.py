"""The promise: an exported network is the trained module, every bit of every layer, on all CIFAR-10 test images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from refdesign.api import load
from refdesign.training.configuration import Configuration
from refdesign.training.data import load_test
from refdesign.training.exactness import compare
from refdesign.training.recipe import Recipe
from refdesign.training.run import NETWORK, run, trained_module

SGD = Recipe(epochs=1, batch_size=50, optimiser="sgd", learning_rate=0.1, flip=True)
ADAM = Recipe(epochs=1, batch_size=50, flip=True)
BRIEF = {
    "binarynet": Configuration(width=1 / 8, activation="2d", recipe=ADAM, dataset="cifar10", limit=2000),
    "vgg_small": Configuration(width=1 / 16, activation="3d", recipe=SGD, dataset="cifar10", limit=1000),
    "resnet20": Configuration(width=1 / 4, activation="2d", recipe=SGD, dataset="cifar10", limit=1000),
    "resnet18": Configuration(width=1 / 16, activation="2d", recipe=SGD, dataset="cifar10", limit=500),
}


@pytest.mark.slow
@pytest.mark.parametrize("model", BRIEF)
def test_all_ten_thousand_test_images_give_the_same_bits(model: str, tmp_path: Path, cifar10_root: Path) -> None:
    run(replace(BRIEF[model], model=model), tmp_path, root=cifar10_root)
    images = load_test("cifar10", cifar10_root).images
    agreement = compare(trained_module(tmp_path), load(tmp_path / NETWORK), images)
    assert agreement.images == 10_000
    assert agreement.compared > 10_000 * 1000
    assert agreement.by_output == {}
    assert agreement.predictions == 0
