from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdesign.bits import pack, pack_bool
from refdesign.errors import RefdesignError
from refdesign.ops.two_field import TwoFieldConv
from tests.ops import loops
from tests.ops.strategies import Geometry, geometries


@given(geometries(), st.integers(0, 2**32 - 1))
def test_equals_plain_loops(case: Geometry, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.choice([-1, 1], (case.images, *case.extent, case.depth))
    w = rng.choice([-1, 1], (2 * case.out, *case.kernel, case.depth))
    settings = {**case.keywords}
    del settings["groups"]
    found = TwoFieldConv(pack(w), case.extent, **settings)(pack(x))
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, loops.convolution(x, w, **{**case.loop_keywords, "groups": 1}))


@pytest.mark.parametrize("fan_in", [4094, 5000])
@pytest.mark.parametrize("ends", ["equal", "opposite"])
def test_exact_up_to_the_ends_of_its_range(fan_in: int, ends: str) -> None:
    """Every s1 and s2 from their lowest to their highest value, as near to 2**24 as the check lets pass."""
    share = fan_in if fan_in < 4095 else fan_in // 2 + 400
    w = np.empty((2, fan_in), dtype=bool)
    w[1] = np.arange(fan_in) < share
    w[0] = w[1] if ends == "equal" else ~w[1]
    # The first image is all -1, the last all +1; between them ever more elements turn +1.
    x = np.arange(fan_in)[::-1] < np.arange(0, fan_in + 1, 7)[:, np.newaxis]
    expected = (2 * x.astype(np.int64) - 1) @ (2 * w.astype(np.int64) - 1).T
    layer = TwoFieldConv(pack_bool(w.reshape(2, 1, 1, fan_in)), (1, 1))
    found = layer(pack_bool(x.reshape(-1, 1, 1, fan_in)))
    np.testing.assert_array_equal(found[:, 0, 0], expected)


def test_refuses_weights_that_it_cannot_prove_exact() -> None:
    w = pack_bool(np.ones((2, 1, 1, 4096), dtype=bool))
    with pytest.raises(RefdesignError, match="partial sums reach 16789504, expected less than 2\\*\\*24"):
        TwoFieldConv(w, (1, 1))
    with pytest.raises(RefdesignError, match="found 3 output channels, expected an even one"):
        TwoFieldConv(pack(np.ones((3, 1, 1, 2))), (1, 1))
