"""Which bits of a real first layer another order of summation may turn: the paths name the same ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdesign.conventions import Conventions
from refdesign.naive.sums import RealConvolution
from refdesign.network import BinaryDense, NetworkData, RealConv2d
from refdesign.parameters import BatchNorm
from refdesign.run import run
from refdesign.verify import strategies


def no_tick() -> None:
    """Nobody counts here."""


@pytest.mark.parametrize("arithmetic", ["real", "torch"])
def test_boundaries_planted_around_the_bound(arithmetic: str) -> None:
    """The boundary lies a multiple of the bound (or a last place beside it) away from the sum."""
    outputs, depth = 7, 3
    multiples = st.sampled_from((-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0))

    @given(st.data())
    def agree(data: st.DataObject) -> None:
        image = data.draw(strategies.images((1, 1, 2, depth)))
        parameters: dict[str, Any] = {
            "weights": data.draw(strategies.real_arrays((outputs, 1, 2, depth))),
            "scale": data.draw(strategies.real_arrays((depth,))),
            "shift": data.draw(strategies.real_arrays((depth,))),
        }
        sums, bounds = RealConvolution(RealConv2d(name="r", **parameters), (1, 2, depth), (1, 1, outputs))(
            image[0].tolist(), no_tick
        )
        v, bound = (np.array(m, dtype=np.float32).ravel() for m in (sums, bounds))
        factors = np.array([data.draw(multiples) for _ in range(outputs)], dtype=np.float32)
        toward = np.array([data.draw(st.sampled_from((-np.inf, 0, np.inf))) for _ in range(outputs)], np.float32)
        mean = v + factors * bound
        mean = np.where(toward == 0, mean, np.nextafter(mean, toward))
        one, zero = np.ones(outputs, np.float32), np.zeros(outputs, np.float32)
        layer = RealConv2d(name="r", batch_norm=BatchNorm(one, zero, mean, one, 0.0), **parameters)
        last = BinaryDense(name="d", weights=data.draw(strategies.packed((2, outputs))))
        conventions = Conventions(arithmetic=arithmetic, sign_at_zero=data.draw(st.sampled_from((1, -1, 0))))
        network = NetworkData(name="n", input_shape=(1, 2, depth), layers=(layer, last), conventions=conventions)
        slow = run(network, image, path="naive", outputs="all")
        for path in ("packed", "float"):
            fast = run(network, image, path=path, outputs="all")
            for name, expected in slow.items():
                np.testing.assert_array_equal(fast[name], expected, err_msg=f"{path}, {name}", strict=True)
        near, far = np.abs(factors) <= 0.5, np.abs(factors) == 2
        uncertain = slow["r.uncertain"].ravel()
        assert uncertain[near].all()
        assert not uncertain[far & (bound > 4 * np.spacing(np.abs(v)))].any()

    agree()
