from __future__ import annotations

import numpy as np
import pytest

from refdesign.bits import PackedBits, pack, pack_bool
from refdesign.ops import fastest
from refdesign.ops.conv import binary_conv2d


@pytest.mark.parametrize("winner", ["PreparedConv", "TwoFieldConv"])
@pytest.mark.parametrize(("images", "groups", "ties"), [(17, 1, False), (3, 1, False), (17, 2, False), (17, 1, True)])
def test_whatever_is_chosen_gives_the_same(
    monkeypatch: pytest.MonkeyPatch, winner: str, images: int, groups: int, ties: bool
) -> None:
    monkeypatch.setattr(fastest, "_seconds", lambda convolve, x: float(type(convolve).__name__ != winner))
    rng = np.random.default_rng(7)
    values = rng.integers(-1, 2, (images, 5, 3, 4)) if ties else rng.choice([-1, 1], (images, 5, 3, 4))
    x = PackedBits(pack_bool(values > 0).words, 4, pack_bool(values != 0).words if ties else None)
    w = pack(rng.choice([-1, 1], (6, 3, 2, 4 // groups)))
    geometry = {"stride": (2, 1), "padding": 1, "padding_mode": "zeros", "dilation": 1, "groups": groups}
    layer = fastest.FastestConv(w, (5, 3), **geometry)  # type: ignore[arg-type]
    for _ in range(2):
        np.testing.assert_array_equal(layer(x), binary_conv2d(x, w, **geometry))  # type: ignore[arg-type]


def test_stays_with_popcount_where_the_product_is_not_exact() -> None:
    rng = np.random.default_rng(8)
    x = pack_bool(rng.random((16, 1, 1, 5001)) < 0.5)
    w = pack_bool(np.ones((2, 1, 1, 5001), dtype=bool))
    layer = fastest.FastestConv(w, (1, 1))
    np.testing.assert_array_equal(layer(x), binary_conv2d(x, w))
