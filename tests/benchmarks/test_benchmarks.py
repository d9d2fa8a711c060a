"""The benchmarks compute what they say they compare; no test asserts a time."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import _measure
from refdesign.conventions import PAPER
from refdesign.models.binarynet import binarynet
from refdesign.parameters import ThresholdKernel

pytest.importorskip("torch")

from benchmarks import conv, network


def test_eager_torch_computes_the_same_logits() -> None:
    rng = np.random.default_rng(3)
    kernel = ThresholdKernel(rng.uniform(0, 2, (3, 2, 4)).astype(np.float32))
    net = binarynet(input_shape=(8, 24, 3), width=1 / 16, kernel=kernel, conventions=PAPER.replace(arithmetic="torch"))
    images = rng.integers(0, 256, (5, 8, 24, 3), dtype=np.uint8)
    np.testing.assert_array_equal(net.run(images)["logits"], network.torch_network(net)(images).numpy())


def test_a_whole_layer_is_the_same_by_either_convolution() -> None:
    layer = conv.Layer.random(conv.Shape(6, 20, 5, pool=True), 3)
    by_popcount, by_product = layer.run(layer.popcount), layer.run(layer.two_field)
    assert by_popcount.shape == (3, 2, 2, 20)
    np.testing.assert_array_equal(by_popcount.words, by_product.words)


def test_functions_are_timed_in_turns() -> None:
    calls: list[str] = []
    seconds = _measure.interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3)
    assert calls == ["a", "b"] * 4
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}


def test_ratios_compare_medians_and_least_times() -> None:
    ours, theirs = _measure.summary([0.004, 0.001, 0.002]), _measure.summary([0.002, 0.008, 0.004])
    assert _measure.ratios(ours, theirs) == {"median": 0.5, "least": 0.5}
    assert _measure.table(["layer", "x"], [["a", 1.5], ["bb", 2]]) == "layer      x\na      1.500\nbb         2"
