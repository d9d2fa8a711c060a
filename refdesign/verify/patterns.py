"""What the places have in common in which an output differs: sides, rows, columns, channels, images.

A pattern tells of the fault where no known change explains it: the last column of every tile, one lane of many. It is
said only if it leaves places out that so many differences would hardly all miss by chance.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations
from math import gcd

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import WORD
from refdesign.verify.differences import OutputCount

_CHANCE = 1e-3
_SHARE = 0.75  # of the places; a pattern that holds more is none


def patterns(count: OutputCount) -> list[str]:
    """The patterns of an output's differences, in words; none where nothing differs.

    >>> count = OutputCount("conv1.bits", (8, 32, 4))
    >>> ours = np.zeros((40, 8, 32, 4), np.int8)
    >>> theirs = ours.copy()
    >>> theirs[1::3, :, 15::16, :3] = 1
    >>> _ = count.add(np.arange(40), ours, theirs)
    >>> patterns(count)
    ['only in columns 15, 31: steps of 16', 'only in channels 0 to 2', 'only in images 1, 4, 7, 10, …: steps of 3']
    """
    if not count.differing:
        return []
    found: list[str] = []
    if count.by_position is not None:
        found += _positions(count.by_position, count.differing)
    tail = count.by_channel.size % WORD
    if count.by_channel.size > WORD and tail and not count.by_channel[:-tail].any():
        found.append("only in the last word of a pixel's channels, which is not full")
    elif (count.by_channel > 0).sum() > 1:
        found += _axis("channels", count.by_channel, count.differing)
    if count.image_step > 1 and _telling(1 / count.image_step, count.images - 1):
        found.append(f"only in images {_listed(count.first_images, count.image_step)}")
    return found


def _positions(counts: NDArray[np.int64], differing: int) -> Iterator[str]:
    """Rows and columns; or the sides of the map, where these hold all differences."""
    lines = [
        *_axis("rows", counts.sum(axis=1), differing),
        *_axis("columns", counts.sum(axis=0), differing),
    ]
    if lines:
        yield from lines
        return
    wrong = counts > 0
    row, column = np.indices(wrong.shape)
    sides = {
        "the first row": row == 0, "the last row": row == row.max(),
        "the first column": column == 0, "the last column": column == column.max(),
    }  # fmt: skip
    for names in (names for number in (2, 3, 4) for names in combinations(sides, number)):
        inside = np.logical_or.reduce([sides[name] for name in names])
        if not (wrong & ~inside).any() and _telling(float(inside.mean()), differing):
            yield "only on the map's border" if len(names) == 4 else f"only in {' and '.join(names)}"
            return


def _axis(name: str, counts: NDArray[np.int64], differing: int) -> list[str]:
    """The places on an axis, where these are a row of neighbours, or so many apart."""
    wrong = np.flatnonzero(counts).tolist()
    if len(wrong) == 1:
        end = {0: "the first", len(counts) - 1: "the last"}.get(wrong[0])
        one = f"{name[:-1]} {wrong[0]}" if end is None else f"{end} {name[:-1]}"
        return [f"only in {one}"] if _telling(1 / len(counts), differing) else []
    step = gcd(*(place - wrong[0] for place in wrong))
    span = range(wrong[0], wrong[-1] + 1) if step == 1 else range(wrong[0] % step, len(counts), step)
    any_two = len(wrong) == 2 and step > 1 and len(counts) % step  # are some steps apart
    if any_two or not _telling(len(span) / len(counts), differing):
        return []
    return [f"only in {name} {_listed(wrong, step)}"]


def _listed(places: Iterable[int], step: int) -> str:
    """Neighbours as a range; others by their first ones, and how far they are apart."""
    some = list(places)
    if step == 1:
        return f"{some[0]} to {some[-1]}"
    shown = ", ".join(map(str, some[:4])) + (", …" if len(some) > 4 else "")
    return f"{shown}: steps of {step}"


def _telling(share: float, differing: int) -> bool:
    """Whether differences that could be anywhere would hardly all lie in so small a share of the places."""
    return share <= _SHARE and share**differing < _CHANCE
