"""XNOR and the popcount tree of one PE."""

from __future__ import annotations

from simulator.units.width import Width


def xnor(word: int, weight: int, mask: int) -> int:
    """The lanes of the mask in which word and weight agree.

    >>> bin(xnor(0b1100, 0b1010, 0b0111))
    '0b1'
    """
    return ~(word ^ weight) & mask


def popcount_tree(matches: int, simd: int, width: Width) -> int:
    """The number of ones, added up in pairs level by level as the adder tree does, and held in `width`.

    Args:
        matches: SIMD bits.
        simd: how many there are.
        width: the tree's result, unsigned.

    >>> popcount_tree(0b10111, 5, Width(3, False, "error"))
    4
    """
    level = [matches >> lane & 1 for lane in range(simd)]
    while len(level) > 1:
        pairs = [a + b for a, b in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[len(pairs) * 2 :]
    return width.hold(level[0])
