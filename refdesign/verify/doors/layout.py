"""Layouts of files in one line: `n h w fold pe -> n h w (fold pe)`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError

_TOKEN = re.compile(r"\s*(\(|\)|-?[A-Za-z][A-Za-z0-9_]*)")


@dataclass(frozen=True)
class Layout:
    """How the axes of a file become ours.

    Left of the arrow stand the axes in the file's order, slowest first; axes in parentheses are one axis of the
    file's array; a minus before a name says that the axis runs backwards. Right of it stand our axes: `n h w c`, or
    `n c` in a dense layer, where parentheses make several axes one. Without an arrow the right side is ours as it is.

    Attributes:
        left, right: groups of names; reversed axes are in `backwards`.

    >>> layout = Layout.parse("n fold h w -pe -> n h w (fold pe)", 4)
    >>> layout.apply(np.arange(8).reshape(1, 2, 1, 2, 2), (1, 1, 2, 4), {"pe": 2})[0, 0]
    array([[1, 0, 5, 4],
           [3, 2, 7, 6]])
    """

    left: tuple[tuple[str, ...], ...]
    right: tuple[tuple[str, ...], ...]
    backwards: frozenset[str]
    text: str

    @classmethod
    def parse(cls, text: str, axes: int) -> Layout:
        """Read a layout for an output with this many axes (4 or 2).

        Raises:
            RefdesignError: what is wrong with it.
        """
        left_text, arrow, right_text = text.partition("->")
        ours = "n h w c" if axes == 4 else "n c"
        left, right = _groups(left_text, text), _groups(right_text if arrow else ours, text)
        backwards = {name[1:] for group in left for name in group if name.startswith("-")}
        left = tuple(tuple(name.lstrip("-") for name in group) for group in left)
        names = [name for group in left for name in group]
        theirs = [name for group in right for name in group]
        if len(right) != axes:
            raise RefdesignError(f"layout {text!r}: found {len(right)} axes on the right, expected {axes} ({ours})")
        if len(set(names)) != len(names) or sorted(names) != sorted(theirs):
            raise RefdesignError(f"layout {text!r}: expected the same axes on both sides, each once")
        return cls(left, right, frozenset(backwards), text)

    def sizes(self, shape: tuple[int, ...], given: Mapping[str, int]) -> dict[str, int]:
        """The size of every axis, from our shape and those that are given.

        Raises:
            RefdesignError: sizes that are missing or do not divide ours.
        """
        sizes = dict(given)
        for extent, group in zip(shape, self.right, strict=True):
            unknown = [name for name in group if name not in sizes]
            known = int(np.prod([sizes[name] for name in group if name in sizes], dtype=np.int64))
            if len(unknown) > 1:
                raise RefdesignError(f"layout {self.text!r}: expected the size of {' or '.join(unknown)} (sizes = ...)")
            if known < 1 or extent % known or (not unknown and known != extent):
                raise RefdesignError(f"layout {self.text!r}: found sizes {dict(given)}, which do not make {extent}")
            if unknown:
                sizes[unknown[0]] = extent // known
        return sizes

    def file_shape(self, shape: tuple[int, ...], given: Mapping[str, int]) -> tuple[int, ...]:
        """The shape of the file's array for our shape."""
        sizes = self.sizes(shape, given)
        return tuple(int(np.prod([sizes[name] for name in group], dtype=np.int64)) for group in self.left)

    def apply(self, array: NDArray[Any], shape: tuple[int, ...], given: Mapping[str, int]) -> NDArray[Any]:
        """The file's array (or its elements in order) in our shape."""
        sizes = self.sizes(shape, given)
        names = [name for group in self.left for name in group]
        parts: NDArray[Any] = array.reshape([sizes[name] for name in names])
        parts = parts[tuple(slice(None, None, -1 if name in self.backwards else 1) for name in names)]
        order = [names.index(name) for group in self.right for name in group]
        return parts.transpose(order).reshape(shape)


def _groups(text: str, whole: str) -> tuple[tuple[str, ...], ...]:
    groups: list[tuple[str, ...]] = []
    open_: list[str] | None = None
    position = 0
    stripped = text.rstrip()
    while position < len(stripped):
        match = _TOKEN.match(stripped, position)
        if match is None:
            raise RefdesignError(
                f"layout {whole!r}: found {stripped[position:].strip()[:10]!r}, expected names of axes"
            )
        token, position = match.group(1), match.end()
        if token == "(" and open_ is None:
            open_ = []
        elif token == ")" and open_:
            groups.append(tuple(open_))
            open_ = None
        elif token in "()":
            raise RefdesignError(f"layout {whole!r}: found parentheses that do not match")
        elif open_ is not None:
            open_.append(token)
        else:
            groups.append((token,))
    if open_ is not None or not groups:
        raise RefdesignError(f"layout {whole!r}: expected names of axes with matching parentheses")
    return tuple(groups)
