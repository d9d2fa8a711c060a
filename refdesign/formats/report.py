"""What a reader says of a foreign file besides the network in it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Report:
    """What was recognised in a file, and what was assumed.

    Attributes:
        recognised: one line for each layer, and for the signs.
        assumed: one line for each choice that the file does not make.
        places: what of the file holds which output of a layer, by output name.
    """

    recognised: list[str] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)

    def __add__(self, other: Report) -> Report:
        """Both, one after the other; what was assumed is said once.

        >>> Report(assumed=["a", "b"]) + Report(["conv1"], ["b", "c"])
        Report(recognised=['conv1'], assumed=['a', 'b', 'c'], places={})
        """
        return Report(
            [*self.recognised, *other.recognised],
            list(dict.fromkeys([*self.assumed, *other.assumed])),
            self.places | other.places,
        )
