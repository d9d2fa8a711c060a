"""What a reader says of a foreign file besides the network in it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Report:
    """What was recognised in a file, and what was assumed.

    Attributes:
        recognised: one line for each layer, and for the signs.
        assumed: one line for each choice that the file does not make.
    """

    recognised: list[str] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)

    def __add__(self, other: Report) -> Report:
        """Both, one after the other; what was assumed is said once.

        >>> Report(assumed=["a", "b"]) + Report(["conv1"], ["b", "c"])
        Report(recognised=['conv1'], assumed=['a', 'b', 'c'])
        """
        return Report([*self.recognised, *other.recognised], list(dict.fromkeys([*self.assumed, *other.assumed])))
