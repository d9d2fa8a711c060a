"""Convolution geometries with pairwise different extents, for the tests of `refdesign.ops`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from refdesign.network import PADDING_MODES

Pair = tuple[int, int]


@dataclass(frozen=True)
class Geometry:
    """A convolution; weights are (out, *kernel, depth), inputs (images, *extent, depth*groups)."""

    images: int
    extent: Pair
    kernel: Pair
    stride: Pair
    padding: Pair
    mode: str
    dilation: Pair
    groups: int
    depth: int
    out: int

    @property
    def keywords(self) -> dict[str, Any]:
        """As the operators name them."""
        return {
            "stride": self.stride,
            "padding": self.padding,
            "padding_mode": self.mode,
            "dilation": self.dilation,
            "groups": self.groups,
        }

    @property
    def loop_keywords(self) -> dict[str, Any]:
        """As `tests.ops.loops.convolution` names them."""
        return {**{k: v for k, v in self.keywords.items() if k != "padding_mode"}, "mode": self.mode}


@st.composite
def geometries(draw: st.DrawFn, max_depth: int = 70) -> Geometry:
    """Geometries in which every window fits the padded map and every mirror fits the map."""
    kernel = draw(st.sampled_from([(1, 1), (2, 3), (3, 1), (3, 3), (1, 4), (3, 2)]))
    dilation = (draw(st.integers(1, 2)), draw(st.integers(1, 3)))
    mode = draw(st.sampled_from(PADDING_MODES))
    padding = (draw(st.integers(0, 3)), draw(st.integers(0, 2)))
    reach = [dilation[axis] * (kernel[axis] - 1) + 1 for axis in (0, 1)]
    least = [max(1, padding[axis] + 1, reach[axis] - 2 * padding[axis]) for axis in (0, 1)]
    rows = draw(st.integers(least[0], least[0] + 4))
    columns = draw(st.integers(least[1], least[1] + 5).filter(lambda value: value != rows))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    return Geometry(
        images=draw(st.integers(0, 2)),
        extent=(rows, columns),
        kernel=kernel,
        stride=(draw(st.integers(1, 3)), draw(st.integers(1, 2))),
        padding=padding,
        mode=mode,
        dilation=dilation,
        groups=groups,
        depth=draw(st.one_of(st.integers(1, min(12, max_depth)), st.integers(1, max_depth))),
        out=groups * draw(st.integers(1, 4)),
    )
