"""The faster of two exact ways to compute a binary convolution on the machine at hand."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.bits import PackedBits
from refdesign.errors import RefdesignError
from refdesign.ops.conv import PreparedConv
from refdesign.ops.two_field import TwoFieldConv

_MANY = 16
"""From this many images on a trial of the matrix product pays."""


class FastestConv:
    """A convolution that decides, when it first sees a large batch, whether matrix products are faster here.

    XNOR and popcount are tried against `refdesign.ops.two_field`, where its check proves it exact, on the first
    images of the batch. Both give the same integers, so what is chosen can only be seen in the time. Small
    batches and maps that carry zeros always go by XNOR and popcount.

    Args:
        w, extent, stride, padding, padding_mode, dilation, groups: as in `refdesign.ops.conv.PreparedConv`.

    Raises:
        RefdesignError: weights or a geometry that do not fit.

    >>> from refdesign.bits import pack
    >>> FastestConv(pack(np.ones((1, 3, 3, 5))), (2, 3), padding=1)(pack(np.ones((1, 2, 3, 5))))[0, :, :, 0]
    array([[20, 30, 20],
           [20, 30, 20]], dtype=int32)
    """

    def __init__(self, w: PackedBits, extent: tuple[int, int], *, groups: int = 1, **geometry: Any) -> None:
        self._popcount = PreparedConv(w, extent, groups=groups, **geometry)
        self._two_field: TwoFieldConv | None = None
        self._arguments = (w, extent, groups, geometry)
        self._decided = False

    def __call__(self, x: PackedBits) -> NDArray[np.int32]:
        """The accumulators of packed maps (N, H, W, I): int32, (N, H', W', O)."""
        if x.nonzero is None and x.words.shape[0] >= _MANY:
            if not self._decided:
                self._decide(x)
            if self._two_field is not None:
                return self._two_field(x)
        return self._popcount(x)

    def _decide(self, x: PackedBits) -> None:
        self._decided = True
        w, extent, groups, geometry = self._arguments
        if groups != 1:
            return
        try:
            candidate = TwoFieldConv(w, extent, **geometry)
        except RefdesignError:  # not provably exact, or an odd number of outputs
            return
        height, width = self._popcount.windows.output
        few = PackedBits(x.words[: max(1, 256 // (height * width))], x.length)
        if _seconds(candidate, few) < _seconds(self._popcount, few):
            self._two_field = candidate


def _seconds(convolve: PreparedConv | TwoFieldConv, x: PackedBits) -> float:
    """The time of the second of two runs: the first one fetches memory."""
    convolve(x)
    start = perf_counter()
    convolve(x)
    return perf_counter() - start
