"""The official binary files: made here byte by byte as their pages describe them, and read back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refdesign.datasets import binary_files, load
from refdesign.datasets.binary_files import FORMATS
from refdesign.errors import RefdesignError


def pixel(image: int, row: int, column: int, channel: int) -> int:
    return (37 * image + 5 * row + 11 * column + 101 * channel) % 251


def cifar_record(image: int, *labels: int) -> bytes:
    planes = (pixel(image, r, c, ch) for ch in range(3) for r in range(32) for c in range(32))
    return bytes([*labels, *planes])


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same formats with three images to a file; the real sizes are tested below."""
    for name, source in FORMATS.items():
        splits: Any = {split: (files, 3) for split, (files, _) in source.splits.items()}
        monkeypatch.setitem(binary_files.FORMATS, name, replace(source, splits=splits))


@pytest.mark.usefixtures("few")
def test_cifar10(tmp_path: Path) -> None:
    for batch in range(5):
        records = [cifar_record(3 * batch + n, (3 * batch + n) % 10) for n in range(3)]
        (tmp_path / f"data_batch_{batch + 1}.bin").write_bytes(b"".join(records))
    images, labels = load("cifar10", "train", tmp_path)
    assert images.dtype == np.uint8
    assert images.shape == (15, 32, 32, 3)
    assert labels.dtype == np.int64
    assert labels.tolist() == [*range(10), *range(5)]
    assert images.flags.c_contiguous
    for image, row, column, channel in ((0, 0, 0, 0), (4, 31, 2, 1), (14, 5, 30, 2), (7, 0, 31, 1)):
        assert images[image, row, column, channel] == pixel(image, row, column, channel)


@pytest.mark.usefixtures("few")
def test_cifar100_gives_the_fine_labels_and_finds_its_official_folder(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    (folder / "test.bin").write_bytes(b"".join(cifar_record(n, 19, 97 + n) for n in range(3)))
    images, labels = load("cifar100", "test", str(tmp_path))
    assert labels.tolist() == [97, 98, 99]
    assert images[2, 3, 17, 1] == pixel(2, 3, 17, 1)


@pytest.mark.usefixtures("few")
def test_stl10_is_column_by_column_and_counts_from_1(tmp_path: Path) -> None:
    values = bytes(pixel(n, r, c, ch) for n in range(3) for ch in range(3) for c in range(96) for r in range(96))
    (tmp_path / "test_X.bin").write_bytes(values)
    (tmp_path / "test_y.bin").write_bytes(bytes([1, 10, 5]))
    images, labels = load("stl10", "test", tmp_path)
    assert images.shape == (3, 96, 96, 3)
    assert images.flags.c_contiguous
    assert labels.tolist() == [0, 9, 4]
    for image, row, column, channel in ((0, 1, 0, 0), (2, 95, 3, 1), (1, 4, 90, 2)):
        assert images[image, row, column, channel] == pixel(image, row, column, channel)


@pytest.mark.parametrize(
    ("name", "split", "sizes", "shape"),
    [
        (
            "cifar10",
            "train",
            {f"data_batch_{n}.bin": 30_730_000 for n in (1, 2, 3, 4, 5)},
            (50_000, 32, 32, 3),
        ),
        ("cifar10", "test", {"test_batch.bin": 30_730_000}, (10_000, 32, 32, 3)),
        ("cifar100", "train", {"train.bin": 153_700_000}, (50_000, 32, 32, 3)),
        ("cifar100", "test", {"test.bin": 30_740_000}, (10_000, 32, 32, 3)),
        ("stl10", "train", {"train_X.bin": 138_240_000, "train_y.bin": 5_000}, (5_000, 96, 96, 3)),
        ("stl10", "test", {"test_X.bin": 221_184_000, "test_y.bin": 8_000}, (8_000, 96, 96, 3)),
    ],
)
def test_the_official_sizes(
    name: str, split: str, sizes: dict[str, int], shape: tuple[int, ...], tmp_path: Path
) -> None:
    """Sizes as the archives have them; the files are sparse, and only the labels' file of STL-10 is written."""
    for file, size in sizes.items():
        with (tmp_path / file).open("wb") as stream:
            if file.endswith("_y.bin"):
                stream.write(b"\x01" * size)
            stream.truncate(size)
    images, labels = load(name, split, tmp_path)
    assert images.shape == shape
    assert labels.shape == shape[:1]
    assert not labels.any()


def refused(message: str, name: str, split: str, root: Path) -> None:
    with pytest.raises(RefdesignError) as caught:
        load(name, split, root)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_say_where_to_get_them(tmp_path: Path) -> None:
    refused("dataset cifar10: data_batch_1.bin is missing in", "cifar10", "train", tmp_path)
    refused("get cifar-10-binary.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html", "cifar10", "test", tmp_path)
    refused("the folder does not exist; get stl10_binary.tar.gz", "stl10", "test", tmp_path / "none")


def test_one_missing_batch_is_named_before_the_others_are_read(tmp_path: Path) -> None:
    for number in (1, 2, 3, 5):
        (tmp_path / f"data_batch_{number}.bin").write_bytes(b"short")
    refused("data_batch_4.bin is missing", "cifar10", "train", tmp_path)


@pytest.mark.parametrize("folder", ["", "cifar-10-batches-py"])
def test_pickles_are_refused_and_the_right_archive_is_named(folder: str, tmp_path: Path) -> None:
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "data_batch_1").write_bytes(b"\x80\x04")
    refused("the pickled Python version, which is not read", "cifar10", "train", tmp_path)
    refused("get the binary version, cifar-10-binary.tar.gz", "cifar10", "train", tmp_path)


@pytest.mark.usefixtures("few")
def test_wrong_sizes_and_labels(tmp_path: Path) -> None:
    good = b"".join(cifar_record(n, n) for n in range(3))
    path = tmp_path / "test_batch.bin"
    path.write_bytes(good[:-1])
    refused(f"{path}: found 9218 bytes, expected 9219 (3 records of 3073 bytes)", "cifar10", "test", tmp_path)
    path.write_bytes(good + good[:3073])
    refused("found 12292 bytes, expected 9219", "cifar10", "test", tmp_path)
    path.write_bytes(good[: 2 * 3073] + cifar_record(2, 10))
    refused(f"{path}: image 2: found label 10, expected 0 to 9", "cifar10", "test", tmp_path)
    (tmp_path / "test_X.bin").write_bytes(bytes(3 * 27_648))
    (tmp_path / "test_y.bin").write_bytes(bytes([1, 0, 3]))
    refused("test_y.bin: image 1: found label 0, expected 1 to 10", "stl10", "test", tmp_path)
    (tmp_path / "test_y.bin").write_bytes(bytes([1, 2]))
    refused("test_y.bin: found 2 bytes, expected 3 (3 labels)", "stl10", "test", tmp_path)


@pytest.mark.slow
def test_the_jpeg_copy_of_cifar10(cifar10_root: Path) -> None:
    """All ten classes in equal numbers, pixels where the page says that they are."""
    for split, count in (("train", 50_000), ("test", 10_000)):
        images, labels = load("cifar10", split, cifar10_root)
        assert images.shape == (count, 32, 32, 3)
        assert np.bincount(labels).tolist() == [count // 10] * 10
    raw = (cifar10_root / "test_batch.bin").read_bytes()
    for index, row, column, channel in ((0, 1, 2, 0), (9_999, 31, 30, 2), (5_017, 8, 19, 1)):
        assert images[index, row, column, channel] == raw[index * 3073 + 1 + channel * 1024 + row * 32 + column]
        assert labels[index] == raw[index * 3073]
