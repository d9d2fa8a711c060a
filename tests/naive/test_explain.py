"""An explanation tells the same story as the run."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdesign import naive
from refdesign.bits import pack
from refdesign.conventions import Conventions
from refdesign.errors import RefdesignError
from refdesign.naive.thresholding import Thresholder
from refdesign.network import (
    AveragePool,
    BinaryConv2d,
    BinaryDense,
    MaxPool,
    NetworkData,
    PixelConv2d,
    RealConv2d,
    Shortcut,
    Stage,
)
from refdesign.parameters import BatchNorm, ThresholdKernel
from refdesign.verify import strategies


@given(strategies.networks(), st.data())
def test_the_story_is_the_runs(network: NetworkData, data: st.DataObject) -> None:
    images = data.draw(strategies.images((1, *network.input_shape)))
    results = naive.run(network, images)
    stream = images
    for layer in network.layers[:-1]:
        if isinstance(layer, (BinaryConv2d, PixelConv2d, BinaryDense)) and layer.shortcut is None:
            bits = results[f"{layer.name}.bits"][0]
            index = tuple(data.draw(st.integers(0, extent - 1)) for extent in bits.shape)
            why = naive.explain(layer, network.conventions, stream[0], index)
            assert why.bit == bits[index]
            sums = results[f"{layer.name}.accumulator"][0]
            channel = index[-1]
            for window in why.windows:
                assert window.accumulator == (sums[*window.place, channel] if sums.ndim == 3 else sums[channel])
                if why.binary:
                    assert window.accumulator == 2 * window.popcount - window.valid
            assert why.pooled == max(window.accumulator for window in why.windows)
            if layer.name in network.real_sources and not layer.hardtanh:
                assert why.steps[-1].value == results[f"{layer.name}.real"][0][index]
            low, high = why.enclosure
            assert low <= high
            if why.bit:
                assert (why.margin > 0) == (why.bit > 0) or why.margin == 0
        if isinstance(layer, Stage):
            stream = results[f"{layer.name}.bits"]


@given(st.data(), strategies.conventions())
def test_the_fold_is_the_sign_of_every_accumulator(data: st.DataObject, conventions: Conventions) -> None:
    inputs, outputs = 11, 3
    kernel = data.draw(strategies.threshold_kernels(outputs))
    layer = BinaryDense(
        name="d",
        weights=data.draw(strategies.packed((outputs, inputs))),
        batch_norm=data.draw(strategies.batch_norms(outputs, inputs, kernel=kernel, conventions=conventions)),
        kernel=kernel,
    )
    channel = data.draw(st.integers(0, outputs - 1))
    fold = naive.explain(layer, conventions, data.draw(strategies.bits((inputs,))), (channel,)).fold
    assert fold is not None
    assert (fold.low, fold.high, fold.step) == (-inputs, inputs, 1 if conventions.sign_at_zero == 0 else 2)
    thresholder = Thresholder(layer, (1, 1, outputs), conventions)
    for a in range(fold.low, fold.high + 1, fold.step):
        if fold.direction == 0:
            expected = fold.constant
        elif fold.threshold is not None and (a - fold.threshold) * fold.direction >= 0:
            expected = 1
        elif fold.ties is not None and fold.ties[0] <= a <= fold.ties[1]:
            expected = 0
        else:
            expected = -1
        assert thresholder.sign((0, 0, channel), a) == expected


def test_an_explanation_by_hand() -> None:
    """Two windows under a pool: sums 1*1 - 1*(-1) = 2 and -2; y = -a/2 + 1; T = 0.5 in phase (0, 1)."""
    gamma, beta, mean, variance = (np.array([x], np.float32) for x in (-1, 1, 0, 3.75))
    bn = BatchNorm(gamma, beta, mean, variance, 0.25)
    layer = BinaryConv2d(
        name="c",
        weights=pack(np.array([[[[1, -1]]]])),
        pool=MaxPool(size=(1, 2), stride=(1, 2)),
        batch_norm=bn,
        kernel=ThresholdKernel(np.array([[9, 0.5, 9]], dtype=np.float32)),
    )
    x = np.array([[[-1, -1], [-1, -1], [1, -1], [-1, 1]]], dtype=np.int8)
    why = naive.explain(layer, Conventions(), x, (0, 1, 0))
    assert [window.accumulator for window in why.windows] == [2, -2]
    assert [window.place for window in why.windows] == [(0, 2), (0, 3)]
    assert why.windows[1].taps[0].agree == (0, 0)
    assert (why.pooled, why.phase, why.threshold, why.bit) == (2, (0, 1, 0), 0.5, -1)
    assert why.enclosure == (Fraction(-1, 2), Fraction(-1, 2))
    assert why.margin == Fraction(-1, 2)
    assert {step.name: step.value for step in why.steps} == {
        "numerator": Fraction(-2), "square": Fraction(4), "y": 0.0, "s*T": Fraction(1, 2), "z": -0.5
    }  # fmt: skip
    assert why.fold is not None
    assert (why.fold.direction, why.fold.threshold, why.fold.ties) == (-1, 0, None)  # fires at a <= 1


def test_a_residual_addition() -> None:
    layer = BinaryConv2d(name="c", weights=pack(np.array([[[[1]]]])), shortcut=Shortcut(source="a"))
    x = np.array([[[1], [-1]]], dtype=np.int8)
    why = naive.explain(layer, Conventions(), x, (0, 0, 0), shortcut=np.array([[[-1.5], [0]]], dtype=np.float32))
    assert (why.steps[-1].name, why.steps[-1].value, why.bit, why.fold) == ("r", -0.5, -1, None)
    with pytest.raises(RefdesignError, match=r"layer 'c', shortcut: found none, expected float32 of shape \(1, 2, 1\)"):
        naive.explain(layer, Conventions(), x, (0, 0, 0))


def test_what_does_not_fit_is_refused() -> None:
    layer = BinaryConv2d(name="c", weights=pack(np.ones((3, 2, 1, 2))))
    x = np.ones((4, 5, 2), dtype=np.int8)
    cases = [
        (x, (3, 0, 0), r"layer 'c', index: found \(3, 0, 0\), expected \(row, column, channel\) below \(3, 5, 3\)"),
        (x, (0, 0), r"layer 'c', index: found \(0, 0\)"),
        (x, (0, -1, 0), r"layer 'c', index"),
        (x.astype(np.uint8), (0, 0, 0), r"layer 'c', input: found uint8 of shape \(4, 5, 2\), expected int8"),
        (x[:, :, :1], (0, 0, 0), r"layer 'c', input: found int8 of shape \(4, 5, 1\), expected int8, \(H, W, 2\)"),
        (x * np.int8(3), (0, 0, 0), r"layer 'c', input: found 3, expected \+1, -1 or 0"),
        (x[:1], (0, 0, 0), r"layer 'c', input: found shape \(1, 5, 2\), too small"),
    ]
    for array, index, message in cases:
        with pytest.raises(RefdesignError, match=message):
            naive.explain(layer, Conventions(), array, index)
    one = np.ones(1, np.float32)
    real = RealConv2d(name="r", weights=np.ones((1, 1, 1, 1), np.float32), scale=one, shift=one)
    for other in (AveragePool(name="p", size=(1, 1)), real):
        with pytest.raises(RefdesignError, match="expected integer accumulators"):
            naive.explain(other, Conventions(), x, (0, 0, 0))
