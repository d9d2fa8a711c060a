"""The data that travels with the project: handwritten digits and a photograph.

Their sources and licences stand in `data/ATTRIBUTION.md`.
"""

from __future__ import annotations

from importlib import resources

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError

DIGIT_LEVELS = 16
"""The digits' pixels are integers from 0 to this."""

DIGIT_SCALE = 15
"""A digit's level times this is its 8-bit pixel: 0 to 240, the most that an integer scale reaches in 8 bits."""

DIGIT_SPLITS = {"train": (0, 1150), "validation": (1150, 1437), "test": (1437, 1797)}
"""First and one-past-last image of each split, in file order.

The test images are the last 20 % of all (ceil(0.2 * 1797) = 360), the validation images the last 20 % of the rest
(287 of 1437); the splits do not overlap.
"""


def digits(split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The bundled handwritten digits, 8 x 8 pixels, ink bright (source: `data/ATTRIBUTION.md`).

    Args:
        split: `"train"` (1150 images), `"validation"` (287) or `"test"` (360).

    Returns:
        uint8 images (N, 8, 8, 1), the source's levels 0..16 times 15; int64 labels (N,), 0 to 9.

    Raises:
        RefdesignError: an unknown split, or a damaged installation.

    >>> images, labels = digits("test")
    >>> images.shape, int(images.max()), labels[:3]
    ((360, 8, 8, 1), 240, array([2, 3, 4]))
    """
    if split not in DIGIT_SPLITS:
        raise RefdesignError(f"dataset digits, split: found {split!r}, expected one of {', '.join(DIGIT_SPLITS)}")
    start, stop = DIGIT_SPLITS[split]
    levels = _array("digits.npz", "levels", (1797, 8, 8), DIGIT_LEVELS)
    labels = _array("digits.npz", "labels", (1797,), 9)
    pixels = levels[start:stop, :, :, np.newaxis] * np.uint8(DIGIT_SCALE)
    return pixels, labels[start:stop].astype(np.int64)


def photograph() -> NDArray[np.uint8]:
    """A freely licensed photograph, 8-bit grey, (512, 512) (source: `data/ATTRIBUTION.md`).

    Raises:
        RefdesignError: a damaged installation.

    >>> picture = photograph()
    >>> picture.shape, picture.dtype
    ((512, 512), dtype('uint8'))
    """
    return _array("photograph.npz", "image", (512, 512), 255)


def _array(file: str, key: str, shape: tuple[int, ...], highest: int) -> NDArray[np.uint8]:
    """One uint8 array of a bundled file, checked: an installation can be damaged."""
    where = f"bundled file refdesign/datasets/data/{file}"
    try:
        with (
            (resources.files("refdesign.datasets") / "data" / file).open("rb") as stream,
            np.load(stream, allow_pickle=False) as archive,
        ):
            array: NDArray[np.uint8] = archive[key]
    except Exception as error:  # Damaged archives raise almost anything.
        raise RefdesignError(f"{where}, {key}: cannot be read, install the project again ({error})") from error
    if array.dtype != np.uint8 or array.shape != shape or int(array.max()) > highest:
        raise RefdesignError(
            f"{where}, {key}: found {array.dtype} of shape {array.shape} up to {array.max()}, "
            f"expected uint8 of shape {shape} up to {highest}: install the project again"
        )
    return array
