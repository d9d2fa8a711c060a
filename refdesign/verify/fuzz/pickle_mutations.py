"""Pickles with their operations changed one by one: still operations, of a program that no pickler wrote."""

from __future__ import annotations

import pickletools
import random

_OPERATIONS: tuple[bytes, ...] = (
    b"(", b"N", b"\x88", b"\x89", b"J\xff\xff\xff\x7f", b"J\xff\xff\xff\xff", b"K\x00", b"K\x01", b"K\x03",
    b"M\x00\x01", b"\x8a\x00", b"\x8a\x09" + b"\xff" * 8 + b"\x7f", b"\x8a\xff" + b"\x7f" * 255, b"G" + bytes(8),
    b"X\x00\x00\x00\x00", b"X\x07\x00\x00\x00storage", b"X\x06\x00\x00\x00module", b"\x8c\x01w",
    b"\x8d\x02" + bytes(7) + b"ab", b"U\x01a", b"T\x01\x00\x00\x00a", b"C\x01a", b"B\x01\x00\x00\x00a",
    b"\x8e\x01" + bytes(7) + b"a", b"}", b"]", b")", b"\x8f", b"\x91", b"t", b"l", b"\x85", b"\x86", b"\x87",
    b"q\x00", b"r\x01\x00\x00\x00", b"\x94", b"h\x00", b"j\x01\x00\x00\x00", b"ctorch._utils\n_rebuild_tensor\n",
    b"ctorch._utils\n_rebuild_parameter\n", b"ctorch\nSize\n", b"cbuiltins\ndict\n", b"ctorch\nHalfStorage\n",
    b"ctorch\nQUInt8Storage\n", b"cos\nsystem\n", b"\x93", b"R", b"\x81", b"\x92", b"b", b"Q", b"a", b"e", b"\x90",
    b"s", b"u", b"0", b"2", b"\x80\x05", b"\x95" + bytes(8), b".", b"i", b"\x82\x01", b"2\x86" * 40,
    b"2\x86" * 40 + b"\x8c\x01w\x93",
)  # fmt: skip
"""Operations that readers know, and a few that they do not, with arguments."""


def mutate_pickles(rng: random.Random, data: bytes) -> bytes:
    """A few operations put in, taken out, doubled, exchanged, or put in another's place, in any of a row of pickles.

    Args:
        rng: decides.
        data: pickles, one after the other; what follows the last one stays.

    >>> mutate_pickles(random.Random(2), b"\\x80\\x02K\\x01.") != b"\\x80\\x02K\\x01."
    True
    """
    operations, end = _split(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at, change = rng.randrange(len(operations)), rng.randrange(5)
        if change == 0 and len(operations) > 1:
            del operations[at]
        elif change == 1:
            operations.insert(at, operations[at])
        elif change == 2:
            other = rng.randrange(len(operations))
            operations[at], operations[other] = operations[other], operations[at]
        elif change == 3:
            operations[at] = rng.choice(_OPERATIONS)
        else:
            operations.insert(at, rng.choice(_OPERATIONS))
    return b"".join(operations) + data[end:]


def _split(data: bytes) -> tuple[list[bytes], int]:
    """The operations of all pickles that data begin with, and where the last of them ends."""
    found: list[bytes] = []
    end = 0
    while data[end : end + 1] == b"\x80":
        at = [place for _, _, place in pickletools.genops(data[end:]) if place is not None]
        stop = at[-1] + 1
        found += [data[end + first : end + last] for first, last in zip(at, [*at[1:], stop], strict=True)]
        end += stop
    return found, end
