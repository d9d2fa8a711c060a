"""What a comparison found: the verdict, and the sample that the diagnosis starts from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.verify.differences import FirstDifference, OutputCount
from refdesign.verify.implementation import Finding, Images

EQUAL, DIFFERENT, COULD_NOT_RUN = 0, 1, 2
"""The statuses of a verdict, which are the command line's exit statuses."""


@dataclass
class Sample:
    """Images with the implementation's answers, for the diagnosis.

    Attributes:
        numbers: the images' numbers.
        images: uint8 (N, H, W, C).
        outputs: what the implementation answered for them, by output name.
    """

    numbers: NDArray[np.intp]
    images: Images
    outputs: dict[str, NDArray[Any]]


@dataclass
class Verdict:
    """What a verification found.

    Attributes:
        network, implementation: their names.
        exact: whether real logits had to be equal, too.
        last: the outputs of which one must have been compared: `logits`, or the integers that these are made of.
        images: how many images were asked about.
        counts: by output, in order of execution, those that were compared.
        alone: by output, each layer judged by itself, on the inputs that the implementation had for it (or on the
            reference's inputs where it can be asked layer by layer).
        not_compared: outputs of the network that the implementation did not answer.
        findings: what was wrong besides differing values.
        first: the first differing value, in order of execution.
        sample: images and answers for the diagnosis, where something differs.
    """

    network: str
    implementation: str
    exact: bool = False
    last: tuple[str, ...] = ("logits",)
    images: int = 0
    counts: dict[str, OutputCount] = field(default_factory=dict)
    alone: dict[str, OutputCount] = field(default_factory=dict)
    not_compared: tuple[str, ...] = ()
    findings: list[Finding] = field(default_factory=list)
    first: FirstDifference | None = None
    sample: Sample | None = None

    @property
    def differing(self) -> int:
        """How many values differ, over all outputs."""
        return sum(count.differing for count in self.counts.values())

    @property
    def values(self) -> int:
        """How many values were compared."""
        return sum(count.values for count in self.counts.values())

    @property
    def status(self) -> int:
        """0 equal, with the last layer compared; 1 different or at fault; 2 nothing that a verdict can rest on."""
        if (
            self.differing
            or any(c.differing for c in self.alone.values())
            or any(finding.fault for finding in self.findings)
        ):
            return DIFFERENT
        return EQUAL if self.last_compared else COULD_NOT_RUN

    @property
    def last_compared(self) -> bool:
        """Whether the last layer was compared."""
        return any(name in self.counts and self.counts[name].values > 0 for name in self.last)

    @property
    def layers_at_fault(self) -> tuple[str, ...]:
        """The layers that are wrong by themselves, in order of execution."""
        names = (
            "logits" if name == "logits" else name.rpartition(".")[0] for name, c in self.alone.items() if c.differing
        )
        return tuple(dict.fromkeys(names))
