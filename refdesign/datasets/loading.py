"""`load`: a split of a dataset by name."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from refdesign.datasets.binary_files import FORMATS
from refdesign.datasets.bundled import DIGIT_SPLITS, digits
from refdesign.errors import RefdesignError

DATASETS: dict[str, tuple[str, ...]] = {
    "digits": tuple(DIGIT_SPLITS),
    **{name: tuple(source.splits) for name, source in FORMATS.items()},
}
"""The datasets by name, with their splits."""


def load(
    name: str, split: str, root: str | os.PathLike[str] | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """A split of a dataset, in file order.

    `"digits"` travels with the project and takes no root: 8 x 8 x 1, `"train"` (1150 images), `"validation"` (287)
    and `"test"` (the last 360). The others are read from their official *binary* files (never from pickles):
    `"cifar10"` and `"cifar100"` (32 x 32 x 3, the fine labels; `"train"` 50,000 and `"test"` 10,000 images) and
    `"stl10"` (96 x 96 x 3; 5,000 and 8,000 images, labels from 0).

    Args:
        name: one of `DATASETS`.
        split: one of the dataset's splits.
        root: the folder of the dataset's files, or the one that holds their official folder.

    Returns:
        uint8 images (N, H, W, C) and int64 labels (N,).

    Raises:
        RefdesignError: an unknown name or split; files that are missing (with where to get them), of another size
            than the official ones, or with labels out of range.

    >>> images, labels = load("digits", "train")
    >>> images.shape, images.dtype, labels.shape
    ((1150, 8, 8, 1), dtype('uint8'), (1150,))
    """
    if name not in DATASETS:
        raise RefdesignError(f"dataset: found {name!r}, expected one of {', '.join(DATASETS)}")
    if split not in DATASETS[name]:
        raise RefdesignError(f"dataset {name}, split: found {split!r}, expected one of {', '.join(DATASETS[name])}")
    if name == "digits":
        if root is not None:
            raise RefdesignError(f"dataset digits, root: found {str(root)!r}, expected none: the digits are built in")
        return digits(split)
    source = FORMATS[name]
    if root is None:
        raise RefdesignError(
            f"dataset {name}, root: found none, expected the folder of the files of {source.archive} from {source.home}"
        )
    return source.read(Path(root), split)
