"""Whole convolutions, on top of `refdesign.verify.strategies`, for the tests of `refdesign.ops`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from refdesign.verify import strategies

Pair = tuple[int, int]


@dataclass(frozen=True)
class Geometry:
    """A convolution; weights are (out, *kernel, depth), inputs (images, *extent, depth*groups)."""

    images: int
    extent: Pair
    kernel: Pair
    depth: int
    out: int
    keywords: dict[str, Any]

    @property
    def groups(self) -> int:
        """The number of groups."""
        return int(self.keywords["groups"])

    @property
    def loop_keywords(self) -> dict[str, Any]:
        """The keywords as `tests.ops.loops.convolution` names them."""
        keywords = dict(self.keywords)
        return {"mode": keywords.pop("padding_mode"), **keywords}


@st.composite
def geometries(draw: st.DrawFn, max_depth: int = 70) -> Geometry:
    """Convolutions with pairwise different extents; now and then an empty batch, or a wide stride or window."""
    rows = draw(st.integers(1, 8))
    columns = draw(st.integers(1, 9).filter(lambda value: value != rows))
    keywords = draw(strategies.geometries(rows, columns))
    kernel = keywords.pop("kernel")
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    return Geometry(
        images=draw(st.integers(0, 2)),
        extent=(rows, columns),
        kernel=kernel,
        depth=draw(st.one_of(st.integers(1, min(12, max_depth)), st.integers(1, max_depth))),
        out=groups * draw(st.integers(1, 4)),
        keywords={**keywords, "groups": groups},
    )
