"""Training on the official formats, from small files made in them; no test image is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refdesign.api import load
from refdesign.datasets import binary_files
from refdesign.datasets.binary_files import FORMATS
from refdesign.errors import RefdesignError
from refdesign.training.configuration import Configuration
from refdesign.training.data import training_data
from refdesign.training.recipe import Recipe
from refdesign.training.run import run

RECIPE = Recipe(epochs=1, batch_size=7, flip=True, shift=2)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of training files of all three datasets, a few images each, and of no test files."""
    for name, count in (("cifar10", 6), ("cifar100", 30), ("stl10", 30)):
        source = FORMATS[name]
        splits: Any = {split: (files, count) for split, (files, _) in source.splits.items()}
        monkeypatch.setitem(binary_files.FORMATS, name, replace(source, splits=splits))
    generator = np.random.default_rng(5)
    folder = tmp_path / "data"
    folder.mkdir()

    def pixels(count: int, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return generator.integers(0, 256, (count, 3 * size * size), dtype=np.uint8)

    def labels(count: int, classes: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return (np.arange(count) % classes).astype(np.uint8)[:, None]

    for batch in range(1, 6):
        np.hstack([labels(6, 10), pixels(6, 32)]).tofile(folder / f"data_batch_{batch}.bin")
    np.hstack([labels(30, 20), labels(30, 100), pixels(30, 32)]).tofile(folder / "train.bin")
    pixels(30, 96).tofile(folder / "train_X.bin")
    (labels(30, 10) + 1).astype(np.uint8).tofile(folder / "train_y.bin")
    return folder


@pytest.mark.parametrize(
    ("dataset", "model", "width", "classes"),
    [("cifar10", "resnet20", 0.25, 10), ("cifar100", "binarynet", 1 / 32, 100), ("stl10", "vgg_small", 1 / 32, 10)],
)
def test_a_network_for_each_dataset(
    root: Path, tmp_path: Path, dataset: str, model: str, width: float, classes: int
) -> None:
    configuration = Configuration(
        dataset=dataset, model=model, width=width, activation="2d", validation=5, recipe=RECIPE
    )
    run(configuration, tmp_path / "run", root=root)
    network = load(tmp_path / "run" / "network.safetensors")
    assert network.input_shape == ((96, 96, 3) if dataset == "stl10" else (32, 32, 3))
    assert network.shapes[network.layers[-1].name].output == (classes,)


def test_the_last_images_are_held_out(root: Path) -> None:
    whole = training_data(Configuration(dataset="cifar100", validation=1), root)
    training, validation = training_data(Configuration(dataset="cifar100", validation=8), root)
    assert [len(training.labels), len(validation.labels)] == [22, 8]
    assert np.array_equal(validation.images[-1:], whole[1].images)
    assert np.array_equal(training.images, whole[0].images[:22])
    assert [len(part.labels) for part in training_data(Configuration(dataset="cifar100"), root)] == [27, 3]
    with pytest.raises(RefdesignError, match="validation: found 30, expected fewer than the 30 training images"):
        training_data(Configuration(dataset="cifar100", validation=30), root)


def test_a_label_out_of_range_is_named(root: Path) -> None:
    np.full(30, 11, np.uint8).tofile(root / "train_y.bin")
    with pytest.raises(RefdesignError, match=r"train_y\.bin: image 0: found label 11, expected 1 to 10"):
        training_data(Configuration(dataset="stl10"), root)
