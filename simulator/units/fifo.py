"""The FIFO between two stages, with registered ready and valid."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Word = TypeVar("Word")


@dataclass
class Fifo(Generic[Word]):
    """A queue of `depth` words.

    >>> fifo = Fifo[int](depth=1)
    >>> fifo.in_ready, fifo.out_valid
    (True, False)
    >>> fifo.clock(push=7, pop=False)
    >>> fifo.in_ready, fifo.out_valid, fifo.head, fifo.count
    (False, True, 7, 1)
    """

    depth: int
    words: deque[Word] = field(default_factory=deque)

    @property
    def count(self) -> int:
        """Words that it holds."""
        return len(self.words)

    @property
    def in_ready(self) -> bool:
        """Whether it takes a word in this cycle."""
        return self.count < self.depth

    @property
    def out_valid(self) -> bool:
        """Whether it offers a word in this cycle."""
        return self.count > 0

    @property
    def head(self) -> Word:
        """The word that it offers."""
        return self.words[0]

    def clock(self, *, push: Word | None, pop: bool) -> None:
        """The rising edge: a word leaves, a word enters, both as the handshakes of this cycle say."""
        if pop:
            self.words.popleft()
        if push is not None:
            self.words.append(push)
