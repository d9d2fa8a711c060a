"""The threshold comparator of one PE, and its memory's word."""

from __future__ import annotations

from typing import NamedTuple


class ThresholdWord(NamedTuple):
    """A word of the threshold memory: fires where (accumulator >= limit) differs from flip."""

    limit: int
    flip: bool


def compare(accumulator: int, word: ThresholdWord) -> bool:
    """The output bit: one comparator for both directions and for constants.

    >>> compare(3, ThresholdWord(3, False)), compare(3, ThresholdWord(3, True))
    (True, False)
    """
    return (accumulator >= word.limit) != word.flip
