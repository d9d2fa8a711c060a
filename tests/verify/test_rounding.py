"""The bound on rounding of real logits: no named program leaves it, and what is more than rounding does."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdesign.api import Network, pretrained
from refdesign.bits import pack, unpack
from refdesign.models import resnet20, vgg_small
from refdesign.network import BinaryDense, PixelConv2d, RealDense
from refdesign.ops.batch_norm import batch_norm
from refdesign.ops.residual import real_dense
from refdesign.parameters import BatchNorm
from refdesign.verify.compare import DIFFERENT, EQUAL, Verdict, compare
from refdesign.verify.doors.callable import CallableDoor
from refdesign.verify.reports.data import sentence
from refdesign.verify.rounding import exact_logits, says, source_of_logits
from tests.verify.subjects import images_for, under, uneven

DIGITS = pretrained("digits")
FLOAT32 = np.dtype(np.float32)


def _verdict(network: Network, implementation: Any, count: int = 7, **options: Any) -> Verdict:
    return compare(network, CallableDoor(implementation, network), images_for(network, count), **options)


def _ending(bn: BatchNorm) -> Network:
    """The uneven network with a batch norm behind its last layer."""
    plain = uneven()
    last = plain.layers[-1]
    assert isinstance(last, BinaryDense)
    layers = (*plain.layers[:-1], BinaryDense(name="fifth", weights=last.weights, batch_norm=bn))
    return Network(name="ending", input_shape=plain.input_shape, layers=layers, conventions=plain.conventions)


@given(st.integers(0, 2**32 - 1), st.floats(-3, 3), st.booleans())
def test_every_program_stays_within_the_bound(seed: int, spread: float, scaled: bool) -> None:
    random = np.random.default_rng(seed)

    def drawn(positive: bool = False) -> Any:
        values = random.normal(0, 1, 5) * 10.0 ** random.uniform(-abs(spread), abs(spread), 5)
        return np.abs(values).astype(np.float32) if positive else values.astype(np.float32)

    bn = BatchNorm(drawn(), drawn(), drawn(), drawn(True), 1e-4, alpha=drawn(True) if scaled else None)
    network = _ending(bn)
    a = random.integers(-(2**20), 2**20, (13, 5)).astype(np.int32)
    exact = exact_logits(network, a)
    for program in ("real", "torch", "onnxruntime", "released_torch"):
        distance = np.abs(batch_norm(a, bn, program).astype(np.float64) - exact.values)
        assert (distance <= exact.bound(FLOAT32)).all(), program


def test_another_program_is_equal_within_rounding_and_exactly_only_with_its_own() -> None:
    other = under(DIGITS, arithmetic="onnxruntime")
    loose, strict = _verdict(DIGITS, other), _verdict(DIGITS, other, exact=True)
    assert loose.status == EQUAL
    assert strict.status == DIFFERENT
    assert 0 < loose.counts["logits"].rounded == strict.counts["logits"].differing
    assert 0 < loose.counts["logits"].furthest < 1
    assert "rounded otherwise, within their bound" in sentence(DIGITS, loose)
    assert says(DIGITS, exact=True) == "all by equality"


@pytest.mark.parametrize("excess", [1.1, 20.0])
def test_more_than_rounding_differs(excess: float) -> None:
    def nudged(images: Any) -> Any:
        answer = dict(DIGITS.run(images, outputs="all"))
        source = DIGITS.run(images, outputs="dense2.accumulator")["dense2.accumulator"]
        exact = exact_logits(DIGITS, source)
        answer["logits"] = answer["logits"].astype(np.float64)
        answer["logits"][3, 6] = exact.values[3, 6] + excess * exact.bound(FLOAT32)[3, 6]
        return answer

    verdict = _verdict(DIGITS, nudged)
    assert (verdict.status, verdict.differing) == (DIFFERENT, 1)
    assert verdict.first is not None
    assert (verdict.first.output, verdict.first.image, verdict.first.channel) == ("logits", 3, 6)


def test_a_batch_norm_folded_into_the_products_is_rounding_and_no_wrong_integer_is() -> None:
    last = DIGITS.layers[-1]
    assert isinstance(last, BinaryDense)
    assert last.batch_norm is not None
    bn = last.batch_norm
    k = (bn.gamma / np.sqrt(bn.variance + np.float32(bn.epsilon))).astype(np.float32)
    folded, shift = unpack(last.weights) * k[:, np.newaxis], bn.beta - k * bn.mean

    def fused(images: Any, error: int = 0) -> Any:
        x = DIGITS.run(images, outputs="dense1.bits")["dense1.bits"].astype(np.float32)
        total = np.zeros((len(x), 10), np.float32)
        for place in range(x.shape[1]):
            total += x[:, place : place + 1] * folded[:, place]
        return total + shift + error * k

    verdict = _verdict(DIGITS, fused)
    assert (verdict.status, verdict.differing) == (EQUAL, 0)
    assert verdict.counts["logits"].rounded > 0
    assert _verdict(DIGITS, lambda images: fused(images, 1)).differing == 70
    # However many products: what one step of the sum makes never lies within the bound.
    wide = BinaryDense(name="wide", weights=pack(np.ones((10, 70_000), np.int8)), batch_norm=bn)
    network = Network(name="wide", input_shape=(70_000, 1, 1), layers=(_pixel_layer(), wide))
    exact = exact_logits(network, np.zeros((1, 10), np.int32))
    assert (exact.bound(FLOAT32) < 2 * np.abs(k) / 3.9).all()


def _pixel_layer() -> PixelConv2d:
    one = np.ones(1, np.float32)
    norm = BatchNorm(one, one, one, one, 1e-5)
    return PixelConv2d(name="first", weights=pack(np.ones((1, 1, 1, 1), np.int8)), batch_norm=norm)


def test_half_precision_is_held_to_its_own_unit() -> None:
    def half(images: Any) -> Any:
        return DIGITS.run(images)["logits"].astype(np.float16)

    verdict = _verdict(DIGITS, half)
    assert verdict.status == EQUAL
    assert verdict.counts["logits"].rounded > 50
    assert _verdict(DIGITS, lambda images: half(images).astype(np.float32)).status == DIFFERENT


def test_no_bound_on_half_precision_lets_wrong_logits_of_a_wide_layer_pass() -> None:
    network = vgg_small(input_shape=(16, 24, 3), width=1 / 8)
    last = network.layers[-1]
    assert isinstance(last, RealDense)
    assert last.weights.shape[1] == 384

    def answers(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def run(images: Any) -> Any:
            found = dict(network.run(images, outputs="all"))
            return {**found, "logits": change(found["logits"].astype(np.float16))}

        return run

    assert _verdict(network, answers(lambda logits: logits), count=3).status == EQUAL
    for wrong in (lambda logits: np.roll(logits, 1, axis=1), lambda logits: 0 * logits):
        verdict = _verdict(network, answers(wrong), count=3)
        assert verdict.status == DIFFERENT
        assert verdict.counts["logits"].differing == verdict.differing > 25


def test_integer_logits_and_bits_know_no_tolerance() -> None:
    network = uneven()
    assert source_of_logits(network) is None
    assert says(network) == "all by equality"
    assert _verdict(network, lambda images: network.run(images)["logits"] * (1 + 1e-9)).status == DIFFERENT


@pytest.mark.parametrize("make", [resnet20, vgg_small])
def test_a_real_dense_layer_in_any_order(make: Any) -> None:
    options = {"width": 1 / 4} if make is resnet20 else {"width": 1 / 32}
    network = make(input_shape=(16, 16, 3) if make is vgg_small else (8, 12, 3), **options)
    source = source_of_logits(network)
    assert source is not None
    images = images_for(network, 3)
    outputs = network.run(images, outputs="all")
    exact = exact_logits(network, outputs[source])
    distance = np.abs(outputs["logits"] - exact.values)
    assert (distance <= exact.bound(FLOAT32)).all()

    def backwards(given_images: Any) -> Any:
        """Each sum in float32 from the last input to the first."""
        answer = dict(network.run(given_images, outputs="all"))
        last = network.layers[-1]
        before = network.layers[-2].name
        x = answer[f"{before}.real"].reshape(len(given_images), -1)
        bn = getattr(last, "input_batch_norm", None)
        x = x if bn is None else batch_norm(x, bn, network.conventions.arithmetic)
        total = np.zeros((len(x), len(last.weights)), np.float32)
        for place in range(x.shape[1])[::-1]:
            total += x[:, place : place + 1] * last.weights[:, place]
        assert not np.array_equal(total, real_dense(x, last.weights))
        answer["logits"] = total if last.bias is None else total + last.bias
        return answer

    verdict = _verdict(network, backwards, count=3)
    assert verdict.status == EQUAL
    assert verdict.counts["logits"].rounded > 0
    assert re.fullmatch(r"all by equality, but logits within \d+ float32 roundings", says(network))


def test_infinities_and_nans_are_within_no_bound() -> None:
    for value in (np.nan, np.inf):
        verdict = _verdict(DIGITS, lambda images, v=value: np.full((len(images), 10), v, np.float32))
        assert verdict.differing == 70


def test_rounding_does_not_hide_a_fault_from_the_diagnosis() -> None:
    """The diagnosis compares bit for bit: logits that are rounded otherwise are not for it to explain."""

    def wrong(images: Any) -> Any:
        answer = dict(under(DIGITS, arithmetic="onnxruntime")(images))
        answer["conv1.bits"] = -answer["conv1.bits"]
        return answer

    verdict = _verdict(DIGITS, wrong)
    assert verdict.counts["logits"].rounded > 0
    assert verdict.sample is not None
    assert set(verdict.counts) - set(verdict.sample.outputs) == {"logits"}
