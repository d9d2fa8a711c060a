"""The CIFAR-10 network that ships: small, made by its preset, and as good as its data file says."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

from docs.generator import measured
from refdesign.api import pretrained
from refdesign.training.configuration import configuration_from
from refdesign.training.data import load_test
from refdesign.training.presets import preset


def test_it_is_small() -> None:
    size = len(files("refdesign.models").joinpath("pretrained", "cifar10.safetensors").read_bytes())
    assert size < 2_200_000


def test_its_recipe_is_the_preset() -> None:
    configuration = json.loads(pretrained("cifar10").metadata["configuration"])
    assert configuration_from(configuration, "the file") == configuration_from(preset("cifar10"), "the preset")


def test_it_is_the_best_on_validation_images() -> None:
    results = measured.ROOT / "docs" / "experiments" / "cifar10.results.jsonl"
    others = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    assert float(pretrained("cifar10").metadata["validation_accuracy"]) > max(
        other["validation_accuracy"] for other in others
    )


def test_it_classifies_as_many_test_images_as_the_pages_say(cifar10_root: Path) -> None:
    test, said = load_test("cifar10", cifar10_root), measured.result("shipped")
    correct = pretrained("cifar10").run(test.images)["logits"].argmax(axis=1) == test.labels
    assert (len(correct), int(correct.sum())) == (said["images"], said["correct"])
