"""Values of an implementation that are no numbers: NaN, and the undefined bits (X, Z) of a simulation.

No change of the reference gives them, so that they are said as findings and left out of the diagnosis.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from refdesign.verify.doors.words import UNDEFINED


def undefined(theirs: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Where values are no numbers; infinities are.

    >>> undefined(np.array([1.0, np.nan, np.inf])).tolist()
    [False, True, False]
    >>> undefined(np.array([-1, UNDEFINED])).tolist()
    [False, True]
    """
    if theirs.dtype.kind == "f":
        return np.asarray(np.isnan(theirs))
    if theirs.dtype == np.int64:
        return np.asarray(theirs == UNDEFINED)
    return np.zeros(theirs.shape, dtype=np.bool_)


def as_number(value: np.generic) -> float | str:
    """One value of theirs, for a report: bool as -1 and +1, undefined bits as X.

    >>> as_number(np.True_), as_number(np.int8(-1)), as_number(np.int64(UNDEFINED))
    (1.0, -1.0, 'X')
    """
    if value.dtype == np.bool_:
        return 1.0 if value else -1.0
    if value.dtype == np.int64 and value == UNDEFINED:
        return "X"
    return float(value)


def defined(outputs: Mapping[str, NDArray[np.generic]], images: int) -> tuple[tuple[str, ...], NDArray[np.intp]]:
    """What can be explained: outputs that are numbers in some image, and the images in which all of these are.

    Args:
        outputs: by name, (N, ...).
        images: N.

    Returns:
        Names of outputs, and numbers of rows.

    >>> some = np.array([[1.0, 2.0], [np.nan, 3.0]])
    >>> names, rows = defined({"conv1.bits": some, "logits": np.full((2, 3), np.nan)}, 2)
    >>> names, rows.tolist()
    (('conv1.bits',), [0])
    """
    broken = {name: undefined(array).reshape(images, -1).any(axis=1) for name, array in outputs.items()}
    names = tuple(name for name, rows in broken.items() if not rows.all())
    left = np.ones(images, dtype=np.bool_)
    for name in names:
        left &= ~broken[name]
    return names, np.flatnonzero(left)


class NotFinite:
    """Where an output has values that are not finite, over all batches so far.

    Args:
        channels: how many the output has.

    >>> where = NotFinite(4)
    >>> where.add(np.array([[1, 2, 3, 4], [1, 2, np.nan, 4]]))
    >>> where.says(2)
    'found nan in channel 2, in 1 of 2 images, expected finite numbers'
    """

    def __init__(self, channels: int) -> None:
        self._channels = np.zeros(channels, dtype=np.bool_)
        self._images = 0
        self._first: np.generic | None = None

    def add(self, theirs: NDArray[np.generic]) -> None:
        """Note those of some images, (N, ..., C)."""
        if theirs.dtype.kind != "f":
            return
        odd = ~np.isfinite(theirs)
        if not odd.any():
            return
        if self._first is None:
            self._first = theirs[odd][0]
        self._images += int(odd.reshape(len(odd), -1).any(axis=1).sum())
        self._channels |= odd.reshape(-1, odd.shape[-1]).any(axis=0)

    def says(self, images: int) -> str | None:
        """What was found, of so many images; None: nothing."""
        if self._first is None:
            return None
        channels = np.flatnonzero(self._channels)
        where = f"channel{'s' * (len(channels) > 1)} {', '.join(map(str, channels[:8]))}"
        where += ", ..." if len(channels) > 8 else ""
        if len(channels) == len(self._channels):
            where = f"all {len(channels)} channels"
        share = f"all {images}" if self._images == images else f"{self._images:,} of {images:,}"
        return f"found {self._first} in {where}, in {share} images, expected finite numbers"
