from __future__ import annotations

import json
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from refdesign.bits import unpack
from refdesign.conventions import PAPER, RELEASED_KERAS, RELEASED_TORCH, Conventions
from refdesign.errors import RefdesignError
from refdesign.fold import Thresholds, fold
from refdesign.ops.batch_norm import dithered_batch_norm
from refdesign.ops.dither import phases
from refdesign.parameters import BatchNorm, Float32Array, ThresholdKernel
from refdesign.verify.strategies import batch_norms, conventions, threshold_kernels
from tests.exactly import square_root

CHANNELS, FAN_IN = 4, 6


def vector(*values: float) -> Float32Array:
    return np.array(values, dtype=np.float32)


def bits_of(thresholds: Thresholds, row: int, column: int, channel: int) -> dict[int, int]:
    """The bit of every attainable accumulator under one phase, from a map as large as the kernel."""
    m, n, channels = thresholds.shape
    low, high, step = thresholds.certificate.entry(row, column, channel).domain
    values = np.arange(low, high + 1, step, dtype=np.int32)
    a = np.broadcast_to(values[:, None, None, None], (values.size, m, n, channels))
    i = phases(m, m, thresholds.conventions.kernel_origin).tolist().index(row)
    j = phases(n, n, thresholds.conventions.kernel_origin).tolist().index(column)
    return dict(
        zip(values.tolist(), unpack(thresholds.apply(np.ascontiguousarray(a)))[:, i, j, channel].tolist(), strict=True)
    )


@given(st.data(), conventions())
def test_the_neighbours_prove_the_channel(data: st.DataObject, choices: Conventions) -> None:
    """They stand where the bit changes and nowhere else, next to each other, with the z that makes the bit."""
    kernel = data.draw(threshold_kernels(CHANNELS))
    bn = data.draw(batch_norms(CHANNELS, FAN_IN, kernel=kernel, conventions=choices))
    try:
        thresholds = fold(bn, kernel, fan_in=FAN_IN, conventions=choices, domain=(-FAN_IN, FAN_IN, 2))
    except RefdesignError as error:
        assume("finite" not in str(error) and "overflow" not in str(error))
        raise
    boundary = Fraction(1, 2**24) if choices.sign_rule == "keras_round" else Fraction(0)
    for entry in thresholds.certificate.entries():
        bits = bits_of(thresholds, entry.row, entry.column, entry.channel)
        attainable = sorted(bits)
        changes = [pair for pair in pairwise(attainable) if bits[pair[0]] != bits[pair[1]]]
        want = sorted({a for pair in changes for a in pair}) or [attainable[0], attainable[-1]]
        assert [neighbour.accumulator for neighbour in entry.neighbours] == want
        for neighbour in entry.neighbours:
            assert neighbour.bit == bits[neighbour.accumulator]
            if choices.arithmetic == "real":
                check_enclosure(
                    bn, thresholds, entry.row, entry.column, entry.channel, neighbour.accumulator, neighbour.z
                )
                assert isinstance(neighbour.z, tuple)
                ends = [end - boundary for end in neighbour.z]
            else:
                assert isinstance(neighbour.z, float)
                assert neighbour.z == np.float32(neighbour.z) or np.isinf(neighbour.z)
                distance = neighbour.z - float(boundary)
                ends = [Fraction(int(np.sign(distance)))] * 2  # z may be infinite
            if ends == [0, 0]:
                assert neighbour.bit == choices.sign_at_zero
            else:
                assert neighbour.bit == (1 if ends[0] >= 0 else -1)
                assert ends[0] * ends[1] >= 0


def check_enclosure(
    bn: BatchNorm, thresholds: Thresholds, row: int, column: int, c: int, a: int, z: float | tuple[Fraction, Fraction]
) -> None:
    """The exact z, between two rationals of its own, meets the enclosure; and the enclosure is narrow."""
    assert isinstance(z, tuple)
    choices, kernel = thresholds.conventions, thresholds.certificate.kernel
    part = c % kernel.shape[2] if choices.channel_map == "tile" else c // (bn.channels // kernel.shape[2])
    alpha = Fraction(1) if bn.alpha is None else Fraction(float(bn.alpha[c]))
    gamma = Fraction(float(bn.gamma[c]))
    scale = gamma if choices.threshold_scale == "gamma" else Fraction(1)
    p = gamma * (alpha * a - Fraction(float(bn.mean[c])))
    offset = Fraction(float(bn.beta[c])) - scale * Fraction(float(kernel.values[row, column, part]))
    roots = square_root(Fraction(float(bn.variance[c])) + Fraction(bn.epsilon), 900)
    low, high = sorted((p / roots[0] + offset, p / roots[1] + offset))
    assert z[0] <= high
    assert low <= z[1]
    assert z[1] - z[0] <= max(abs(z[0]), abs(z[1]), Fraction(1, 2**24)) / 2**60


def test_program_z_is_that_of_the_program() -> None:
    bn = BatchNorm(vector(1.1, -0.7), vector(0.3, 0.2), vector(0.5, 1.25), vector(2, 3), 1e-5)
    kernel = ThresholdKernel(vector(0.5, 1.0).reshape(1, 2))
    choices = RELEASED_TORCH
    certificate = fold(bn, kernel, fan_in=9, conventions=choices).certificate
    for entry in certificate.entries():
        for neighbour in entry.neighbours:
            a = np.full((1, 1, 2, 2), neighbour.accumulator, dtype=np.int32)
            assert dithered_batch_norm(a, bn, kernel, choices)[0, 0, entry.column, entry.channel] == neighbour.z


def test_agreement_names_the_channels_that_differ() -> None:
    """A boundary that torch's rounding moves over an attainable integer, beside one that it does not."""
    bn = BatchNorm(vector(1, 1 + 2.0**-23), vector(0, -(2.0**-80)), vector(0, 0), vector(1, 1), 0.0)
    kernel = ThresholdKernel(vector(3 + 2.0**-22).reshape(1, 1))
    # 3*(1 + 2**-23) - 2**-80 lies above the threshold, and rounds to it in torch.
    choices = Conventions(sign_at_zero=-1)
    for arithmetic, other in (("real", "torch"), ("torch", "real")):
        certificate = fold(bn, kernel, fan_in=9, conventions=choices.replace(arithmetic=arithmetic)).certificate
        assert certificate.compared_with == other
        assert certificate.agrees is not None
        assert certificate.agrees.ravel().tolist() == [True, False]
        assert [entry.agrees for entry in certificate.entries()] == [True, False]
        assert "1 of 2 agree" in certificate.text()


def test_where_the_other_arithmetic_refuses() -> None:
    bn = BatchNorm(vector(1), vector(0), vector(0), vector(1), 0.0)
    certificate = fold(bn, None, fan_in=2**24 + 1, conventions=PAPER).certificate
    assert certificate.agrees is None
    assert "2**24" in certificate.refusal
    assert certificate.entry(0, 0, 0).agrees is None
    assert certificate.table()[0]["torch"] == "refuses"
    assert "2**24" in certificate.text().splitlines()[0]


def test_keras_round_shows_the_z_beside_its_boundary() -> None:
    bn = BatchNorm(vector(2.0**-24), vector(0), vector(0), vector(1), 0.0, k=vector(2.0**-24))
    for arithmetic in ("real", "keras"):
        thresholds = fold(bn, None, fan_in=3, conventions=RELEASED_KERAS.replace(arithmetic=arithmetic))
        assert thresholds.threshold.item() == 2
        silent, firing = thresholds.certificate.entry(0, 0, 0).neighbours
        assert (silent.accumulator, silent.bit, silent.decimal) == (1, -1, 2.0**-24)
        assert (firing.accumulator, firing.bit, firing.decimal) == (2, 1, 2.0**-23)


def test_json_loses_nothing() -> None:
    bn = BatchNorm(vector(1.1, 0), vector(0.3, 3e38), vector(0.5, 0), vector(2, 1), 1e-5, alpha=vector(1, 1))
    for arithmetic in ("real", "torch"):
        certificate = fold(bn, None, fan_in=9, conventions=PAPER.replace(arithmetic=arithmetic)).certificate
        data = json.loads(json.dumps(certificate.to_dict(), allow_nan=False))
        assert data["shape"] == [1, 1, 2]
        assert data["agreeing"] == 2
        for entry, plain in zip(certificate.entries(), data["entries"], strict=True):
            for neighbour, shown in zip(entry.neighbours, plain["neighbours"], strict=True):
                if isinstance(neighbour.z, float):
                    assert float.fromhex(shown["z"]) == neighbour.z
                else:
                    assert tuple(Fraction(text) for text in shown["z"]) == neighbour.z


def test_unknown_entries_are_refused() -> None:
    certificate = fold(
        BatchNorm(vector(1), vector(0), vector(0), vector(1), 0.0), None, fan_in=3, conventions=PAPER
    ).certificate
    with pytest.raises(RefdesignError, match=r"found phase \(0, 1\) and channel 0"):
        certificate.entry(0, 1, 0)
    with pytest.raises(RefdesignError, match="channel -1"):
        certificate.entry(0, 0, -1)
