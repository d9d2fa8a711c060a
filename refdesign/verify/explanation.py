"""What a diagnosis says: the changes that explain an implementation's answers, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from refdesign.verify.change import Placed


@dataclass(frozen=True)
class Explanation:
    """Changes of the reference that make everything equal.

    Attributes:
        changes: one or two, or some wrong entries of a table, with the layers that they are in.
        mends: for each of them, what is right.
        images: how many images they explain, bit for bit, in every output that was answered.
        fresh: how many of them were made for the diagnosis.
        folded: whether it fits only where the changed sums meet the reference's own integer thresholds.
    """

    changes: tuple[Placed, ...]
    mends: tuple[str, ...]
    images: int
    fresh: int = 0
    folded: bool = False

    def __str__(self) -> str:
        changes = " and ".join(str(placed) for placed in self.changes)
        return f"{changes}, decided by the folded thresholds" if self.folded else changes

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "changes": [
                {**placed.to_dict(), "mend": mend} for placed, mend in zip(self.changes, self.mends, strict=True)
            ],
            "images": self.images,
            "fresh_images": self.fresh,
            "folded_thresholds": self.folded,
        }


@dataclass
class Diagnosis:
    """What explains the answers.

    Attributes:
        explanations: all that still fit, best first; they cannot be told apart by what was seen.
        confirmed: whether fresh images were answered as the first explanation says.
        tried: how many changes and pairs were run.
        seconds: how long that took, by the budget's clock.
        complete: whether all was tried and asked that was to be, or the time was over.
        nearest: where nothing fits, the single change that explains most.
        depends_on: what an image's answer depends on besides the image: `"batch"`, the images that are asked
            together with it; `"run"`, anything else; None: nothing that showed.
        right_alone: whether images whose answers depend on others are answered rightly one by one.
        besides: an output that is left out: logits that are right but for their rounding, where that is not explained.
        go_on: where nothing explains the answers, a command that explains the first bit that differs; None: none does.
    """

    explanations: tuple[Explanation, ...] = ()
    confirmed: bool = False
    tried: int = 0
    seconds: float = 0.0
    complete: bool = True
    nearest: str | None = None
    depends_on: str | None = None
    right_alone: bool = False
    besides: str | None = None
    go_on: str | None = None

    @property
    def verdict(self) -> str:
        """One line."""
        alone = " (one by one, images are answered rightly)" if self.right_alone else ""
        depends = {
            "batch": f"an image's answer depends on the others that are asked with it{alone}; ",
            "run": "the same images are answered otherwise when they are asked again; ",
        }.get(self.depends_on or "", "")
        if not self.explanations and self.right_alone and not self.tried:
            return depends.removesuffix("; ")
        if not self.explanations:
            near = f"; nearest is {self.nearest}" if self.nearest else ""
            return f"{depends}no known change or pair explains it ({self.tried:,} tried{near})"
        why = "the implementation was not asked again" if self.complete else "the time was over"
        sure = "confirmed on fresh images" if self.confirmed else f"unconfirmed: {why}"
        besides = "" if self.besides is None else f", but for the rounding of {self.besides},"
        return f"{depends}matches bit for bit{besides} with {self.explanations[0]} ({sure})"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "verdict": self.verdict,
            "explanations": [explanation.to_dict() for explanation in self.explanations],
            "confirmed": self.confirmed,
            "tried": self.tried,
            "seconds": round(self.seconds, 3),
            "complete": self.complete,
            "nearest": self.nearest,
            "depends_on": self.depends_on,
            "right_alone": self.right_alone,
            "besides": self.besides,
            "go_on": self.go_on,
        }
