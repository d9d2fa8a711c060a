"""What differing places have in common: named where it is so, and not where chance may have made it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from refdesign.verify.differences import OutputCount
from refdesign.verify.patterns import patterns

SHAPE = (11, 32, 70)


def _of(*where: Any, share: float = 0.2, shape: tuple[int, ...] = SHAPE) -> list[str]:
    """The patterns of bits that differ at random, at these places."""
    ours = np.ones((24, *shape), np.int8)
    theirs = ours.copy()
    for place in where:
        some = theirs[place]
        some[np.random.default_rng(5).random(some.shape) < share] = -1
    count = OutputCount("conv.bits", shape)
    for part in (slice(0, 7), slice(7, 24)):
        count.add(np.arange(24)[part], ours[part], theirs[part])
    return patterns(count)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (np.s_[:, -1], ["only in the last row"]),
        (np.s_[:, :, 0], ["only in the first column"]),
        (np.s_[:, 5], ["only in row 5"]),
        (np.s_[:, :, 15::16], ["only in columns 15, 31: steps of 16"]),
        (np.s_[:, 1::2, 16:24], ["only in rows 1, 3, 5, 7, …: steps of 2", "only in columns 16 to 23"]),
        (np.s_[:, 0, 0], ["only in the first row", "only in the first column"]),
        (np.s_[..., 3::16], ["only in channels 3, 19, 35, 51, …: steps of 16"]),
        (np.s_[..., 64:], ["only in the last word of a pixel's channels, which is not full"]),
        (np.s_[..., 40:], ["only in channels 40 to 69"]),
        (np.s_[2::3], ["only in images 2, 5, 8, 11, …: steps of 3"]),
    ],
)
def test_a_pattern_is_named(where: Any, expected: list[str]) -> None:
    assert _of(where) == expected


def test_sides_of_the_map() -> None:
    first, last = np.s_[:, 0], np.s_[:, -1]
    left, right = np.s_[:, :, 0], np.s_[:, :, -1]
    assert _of(last, right) == ["only in the last row and the last column"]
    assert _of(first, last, left, right) == ["only on the map's border"]


def test_what_chance_may_have_made_is_not_said() -> None:
    assert _of(np.s_[:, :, :, :]) == []
    assert _of(np.s_[0:1, 1, 15, 3]) == []
    assert _of(np.s_[3:5, 10, 2:4, 3:5], share=1.0, shape=(11, 34, 5))[:1] == ["only in the last row"]
    assert _of(np.s_[..., 16::51]) == []  # channels 16 and 67: any two are some steps apart
    assert _of(np.s_[:, 1:], shape=(34, 11, 5)) == []  # all but one row: no pattern
