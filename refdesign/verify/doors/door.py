"""What all doors have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from refdesign.verify.implementation import Answer, Finding, Images

RealStreams = Mapping[str, NDArray[Any]]
"""The real outputs of earlier layers that a layer's shortcut reads, by layer."""


class Door(Protocol):
    """A way to an implementation under test.

    Attributes:
        what: one line that names the implementation in reports.
        again: whether it can be asked about images of our choice, and again.
        few: how many of the first images are asked again by themselves, once all are equal; 0: none.
    """

    what: str
    again: bool
    few: int

    def ask(self, images: Images) -> Answer:
        """The answer to a batch of images; files answer for the next images in order."""

    def ask_layer(self, layer: str, inputs: Images, real: RealStreams | None = None) -> Answer | None:
        """The answer of one layer to inputs of our choice and to what its shortcut reads; None: it has no such way."""

    def close(self) -> tuple[Finding, ...]:
        """End it; what was wrong at the end."""
