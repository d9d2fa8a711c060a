"""Small pictures in the terminal, made of characters."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_SHADES = " ░▒▓█"
_PLAIN_SHADES = " .+#@"


def can_draw() -> bool:
    """Whether stdout's encoding has the block characters."""
    try:
        (_SHADES + "▀▄").encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def shades(image: NDArray[np.uint8], *, blocks: bool = True) -> list[str]:
    """A grey image, two characters a pixel, bright pixels full.

    Args:
        image: uint8, shape (H, W).
        blocks: False for ASCII only.

    Returns:
        H lines of 2*W characters.

    >>> shades(np.array([[0, 255]], np.uint8))
    ['  ██']
    """
    palette = _SHADES if blocks else _PLAIN_SHADES
    index = image.astype(np.int64) * len(palette) // 256
    return ["".join(palette[i] * 2 for i in row) for row in index]


def bit_map(bits: NDArray[np.int8], *, blocks: bool = True) -> list[str]:
    """A map of bits, +1 filled; half blocks put two rows in a line.

    Args:
        bits: shape (H, W); whatever is positive is filled.
        blocks: False for ASCII only, a line a row.

    Returns:
        ceil(H / 2) lines (H in ASCII) of W characters.

    >>> bit_map(np.array([[1, -1, -1], [1, 1, -1], [-1, -1, 1]]))
    ['█▄ ', '  ▀']
    >>> bit_map(np.array([[1, -1]]), blocks=False)
    ['#.']
    """
    filled = np.asarray(bits) > 0
    if not blocks:
        return ["".join("#" if bit else "." for bit in row) for row in filled]
    if len(filled) % 2:
        filled = np.concatenate([filled, np.zeros_like(filled[:1])])
    upper, lower = filled[::2], filled[1::2]
    return [
        "".join(" ▄▀█"[2 * int(top) + int(bottom)] for top, bottom in zip(*pair, strict=True))
        for pair in zip(upper, lower, strict=True)
    ]


def side_by_side(pictures: Sequence[Sequence[str]], gap: str = "  ") -> list[str]:
    """Pictures of lines, one beside the other; shorter ones are filled up below.

    >>> side_by_side([["a", "b"], ["cc"]], gap="|")
    ['a|cc', 'b|  ']
    """
    height = max(len(picture) for picture in pictures)
    filled = [[*picture, *[" " * len(picture[0])] * (height - len(picture))] for picture in pictures]
    return [gap.join(lines) for lines in zip(*filled, strict=True)]
