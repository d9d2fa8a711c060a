"""The official binary files of CIFAR-10, CIFAR-100 and STL-10.

CIFAR (<https://www.cs.toronto.edu/~kriz/cifar.html>): records of one label byte (CIFAR-100: a coarse, then a fine
one) and the image's red, green and blue plane, each row by row. STL-10 (<https://cs.stanford.edu/~acoates/stl10/>):
images and labels in files of their own, planes column by column, labels from 1.

Pickled batches are not read: unpickling runs whatever the file says.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class BinaryDataset(ABC):
    """Where a dataset's official binary files are and what they hold.

    Attributes:
        name: the dataset's name in `refdesign.datasets.load`.
        home: the page that offers it.
        archive: the archive to unpack, which holds `folder`.
        folder: the folder in the archive.
        splits: for each split its files and the number of images in each.
    """

    name: str
    home: str
    archive: str
    folder: str
    splits: Mapping[str, tuple[tuple[str, ...], int]]
    classes: int

    @abstractmethod
    def read(self, root: Path, split: str) -> tuple[Images, Labels]:
        """A split's uint8 images (N, H, W, C) and int64 labels (N,), in file order."""

    def path(self, root: Path, file: str) -> Path:
        """The file, in `root` or in the official folder inside it.

        Raises:
            RefdesignError: it is in neither; the message says where to get it.
        """
        for folder in (root, root / self.folder):
            if (folder / file).is_file():
                return folder / file
        reason = f"expected it there or in {self.folder}/ inside; get {self.archive} from {self.home} and unpack it"
        if not root.is_dir():
            reason = f"the folder does not exist; get {self.archive} from {self.home} and unpack it"
        elif self._pickles(root):
            reason = (
                "the folder holds the pickled Python version, which is not read (a pickle can run code); "
                f"get the binary version, {self.archive}, from {self.home} and unpack it"
            )
        raise RefdesignError(f"dataset {self.name}: {file} is missing in {root}: {reason}")

    @staticmethod
    def _pickles(root: Path) -> bool:
        names = {"cifar-10-batches-py": ("data_batch_1", "test_batch"), "cifar-100-python": ("train", "test")}
        return any(
            (folder / file).is_file()
            for official, files in names.items()
            for folder in (root, root / official)
            for file in files
        )


@dataclass(frozen=True, kw_only=True)
class Cifar(BinaryDataset):
    """Records of label bytes (the last one is the label) and three planes of 32 x 32, row by row."""

    label_bytes: int

    def read(self, root: Path, split: str) -> tuple[Images, Labels]:
        files, count = self.splits[split]
        record = self.label_bytes + 3 * 32 * 32
        images = np.empty((len(files) * count, 32, 32, 3), np.uint8)
        labels = np.empty(len(files) * count, np.int64)
        # Every file is looked for before the first one is read.
        paths = [self.path(root, file) for file in files]
        for index, path in enumerate(paths):
            rows = slice(index * count, (index + 1) * count)
            records = read_bytes(path, count * record, f"{count} records of {record} bytes").reshape(count, record)
            images[rows] = records[:, self.label_bytes :].reshape(count, 3, 32, 32).transpose(0, 2, 3, 1)
            labels[rows] = check_labels(path, records[:, self.label_bytes - 1], 0, self.classes)
        return images, labels


@dataclass(frozen=True, kw_only=True)
class Stl10(BinaryDataset):
    """One file of images, three planes of 96 x 96 each, column by column; one file of labels from 1."""

    pixels: ClassVar[int] = 3 * 96 * 96

    def read(self, root: Path, split: str) -> tuple[Images, Labels]:
        files, count = self.splits[split]
        image_path, label_path = (self.path(root, file) for file in files)
        planes = read_bytes(image_path, count * self.pixels, f"{count} images of {self.pixels} bytes")
        found = read_bytes(label_path, count, f"{count} labels")
        images = np.ascontiguousarray(planes.reshape(count, 3, 96, 96).transpose(0, 3, 2, 1))
        return images, check_labels(label_path, found, 1, self.classes) - 1


def read_bytes(path: Path, size: int, holds: str) -> NDArray[np.uint8]:
    """A file's bytes, after its size was checked.

    Args:
        path: the file.
        size: the bytes that it must have.
        holds: what these bytes are, for the message.

    Raises:
        RefdesignError: the file has another size or cannot be read.
    """
    try:
        found = path.stat().st_size
        if found != size:
            raise RefdesignError(f"{path}: found {found} bytes, expected {size} ({holds}); get the file again")
        array = np.fromfile(path, dtype=np.uint8, count=size)
    except OSError as error:
        raise RefdesignError(f"{path}: cannot be read: {error.strerror or error}") from error
    if array.size != size:
        raise RefdesignError(f"{path}: found {array.size} bytes, expected {size}: it changed while it was read")
    return array


def check_labels(path: Path, labels: NDArray[np.uint8], first: int, classes: int) -> Labels:
    """The labels as int64, after a check that they lie in first .. first + classes - 1.

    Raises:
        RefdesignError: one lies outside; the message names the image.
    """
    wrong = np.flatnonzero((labels < first) | (labels >= first + classes))
    if wrong.size:
        raise RefdesignError(
            f"{path}: image {wrong[0]}: found label {labels[wrong[0]]}, expected {first} to {first + classes - 1}; "
            "the file is damaged or another one"
        )
    return labels.astype(np.int64)


FORMATS: dict[str, BinaryDataset] = {
    "cifar10": Cifar(
        name="cifar10",
        home="https://www.cs.toronto.edu/~kriz/cifar.html",
        archive="cifar-10-binary.tar.gz",
        folder="cifar-10-batches-bin",
        splits={
            "train": (tuple(f"data_batch_{number}.bin" for number in range(1, 6)), 10_000),
            "test": (("test_batch.bin",), 10_000),
        },
        classes=10,
        label_bytes=1,
    ),
    "cifar100": Cifar(
        name="cifar100",
        home="https://www.cs.toronto.edu/~kriz/cifar.html",
        archive="cifar-100-binary.tar.gz",
        folder="cifar-100-binary",
        splits={"train": (("train.bin",), 50_000), "test": (("test.bin",), 10_000)},
        classes=100,
        label_bytes=2,
    ),
    "stl10": Stl10(
        name="stl10",
        home="https://cs.stanford.edu/~acoates/stl10/",
        archive="stl10_binary.tar.gz",
        folder="stl10_binary",
        splits={"train": (("train_X.bin", "train_y.bin"), 5_000), "test": (("test_X.bin", "test_y.bin"), 8_000)},
        classes=10,
    ),
}
"""The datasets that are read from official binary files, by name."""
