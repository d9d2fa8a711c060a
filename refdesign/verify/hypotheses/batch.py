"""Changes that make an image's answer depend on the others of its batch: what is not reset, not copied, not frozen."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.conventions import Conventions
from refdesign.network import BinaryDense, Stage
from refdesign.verify.change import Change, Decision, Place


def _running_over_images(d: Decision) -> bool:
    """The row phase goes on from image to image within a batch."""
    m, n = d.period
    height = d.rows.shape[0]
    if (m, n) == (1, 1) or height % m == 0:
        return False
    d.bits = np.concatenate([d.compare(d.a[i : i + 1], (d.rows + i * height) % m, d.columns) for i in range(len(d.a))])
    return True


def _first_for_all(a: NDArray[np.int32], place: Place) -> NDArray[np.int32]:
    return np.broadcast_to(a[:1], a.shape).copy()


def _first_for_all_dense(a: NDArray[np.int32], place: Place) -> NDArray[np.int32] | None:
    return _first_for_all(a, place) if isinstance(place.layer, BinaryDense) else None


def _own_statistics(values: NDArray[Any], layer: Stage, conventions: Conventions) -> NDArray[np.float32] | None:
    """The last batch norm by the batch's own mean and variance, in float64."""
    bn = layer.batch_norm
    if bn is None:
        return None
    scaled = values.astype(np.float64) * (1 if bn.alpha is None else bn.alpha)
    axes = tuple(range(values.ndim - 1))
    mean, variance = scaled.mean(axis=axes), scaled.var(axis=axes)
    with np.errstate(all="ignore"):
        y = bn.gamma * (scaled - mean) / np.sqrt(variance + bn.epsilon) + bn.beta
    return np.asarray(y, dtype=np.float32)


BATCH: tuple[Change, ...] = (
    Change(
        name="row phase runs on over images",
        group="batch",
        says="the row phase is not reset between images",
        decide=_running_over_images,
    ),
    Change(
        name="first image stands for all",
        group="batch",
        says="every image gets the first one's sums",
        accumulate=_first_for_all,
    ),
    Change(
        name="first image stands for all in dense layers",
        group="batch",
        says="dense layers see the first image's bits for every image",
        accumulate=_first_for_all_dense,
    ),
    Change(
        name="last batch norm by the batch's own statistics",
        group="batch",
        says="the network was left in training mode",
        logits=_own_statistics,
    ),
)
"""Changes that couple the images of a batch."""
