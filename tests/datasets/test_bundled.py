"""The data that travels with the project: the digits as their source has them, the splits, the photograph."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refdesign.datasets import DATASETS, load, photograph
from refdesign.errors import RefdesignError


def test_the_digits_are_those_of_scikit_learn_in_its_order() -> None:
    source = pytest.importorskip(
        "sklearn.datasets", reason="scikit-learn has the originals (extra 'train')"
    ).load_digits()
    splits = [load("digits", split) for split in ("train", "validation", "test")]
    images = np.concatenate([images for images, _ in splits])
    labels = np.concatenate([labels for _, labels in splits])
    assert images.dtype == np.uint8
    assert labels.dtype == np.int64
    assert np.array_equal(images[..., 0], source.images * 15)
    assert np.array_equal(labels, source.target)


def test_the_test_images_are_the_last_fifth() -> None:
    sizes = {split: len(load("digits", split)[1]) for split in DATASETS["digits"]}
    assert sizes == {"train": 1150, "validation": 287, "test": 360}
    assert sum(sizes.values()) == 1797
    assert 0.2 * 1797 <= sizes["test"] < 0.2 * 1797 + 1
    for split in sizes:
        assert set(load("digits", split)[1].tolist()) == set(range(10))


def test_what_is_returned_can_be_changed_without_changing_the_next() -> None:
    images, labels = load("digits", "test")
    images[:] = 7
    labels[:] = 7
    again, fresh = load("digits", "test")
    assert again.max() == 240
    assert fresh.max() == 9


def test_the_photograph() -> None:
    picture = photograph()
    assert (picture.shape, picture.dtype) == ((512, 512), np.dtype(np.uint8))
    assert int(picture.max()) - int(picture.min()) > 200
    assert picture.std() > 40


def test_bundled_files_are_small_and_attributed() -> None:
    folder = resources.files("refdesign.datasets") / "data"
    attribution = (folder / "ATTRIBUTION.md").read_text()
    for entry in folder.iterdir():
        if entry.name.endswith(".npz"):
            assert len(entry.read_bytes()) < 200_000
            assert f"## {entry.name}" in attribution
    assert "CC BY 4.0" in attribution
    assert "CC0" in attribution


@pytest.mark.parametrize(
    ("name", "split", "root", "message"),
    [
        ("mnist", "test", None, "dataset: found 'mnist', expected one of digits, cifar10, cifar100, stl10"),
        ("digits", "all", None, "dataset digits, split: found 'all', expected one of train, validation, test"),
        ("cifar10", "validation", "x", "dataset cifar10, split: found 'validation', expected one of train, test"),
        ("digits", "test", "x", "dataset digits, root: found 'x', expected none"),
        ("cifar100", "test", None, "dataset cifar100, root: found none, expected the folder"),
    ],
)
def test_wrong_arguments(name: str, split: str, root: str | None, message: str) -> None:
    with pytest.raises(RefdesignError) as caught:
        load(name, split, root)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not an archive at all"])
def test_a_damaged_installation(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "photograph.npz").write_bytes(content)
    monkeypatch.setattr("refdesign.datasets.bundled.resources.files", lambda package: tmp_path)
    with pytest.raises(RefdesignError, match=r"photograph.npz, image: cannot be read, install the project again"):
        photograph()
    with pytest.raises(RefdesignError, match=r"digits.npz, levels: cannot be read"):
        load("digits", "test")


@pytest.mark.parametrize("image", [np.zeros((512, 511), np.uint8), np.zeros((512, 512), np.int64)])
def test_another_array_in_the_installation(image: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data" / "photograph.npz", image=image)
    monkeypatch.setattr("refdesign.datasets.bundled.resources.files", lambda package: tmp_path)
    with pytest.raises(RefdesignError, match=r"photograph.npz, image: found .* expected uint8 of shape \(512, 512\)"):
        photograph()
