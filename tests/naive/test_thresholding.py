"""The scalar batch norm, dither and sign against frameworks that really run, and against hand-made cases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from refdesign.bits import PackedBits, pack
from refdesign.conventions import RELEASED_TORCH, Conventions
from refdesign.errors import RefdesignError
from refdesign.naive.thresholding import (
    Thresholder,
    channel_constants,
    normalise,
    phases,
    sign_exactly,
    sign_of_float,
)
from refdesign.network import BinaryDense
from refdesign.parameters import BatchNorm, ThresholdKernel
from refdesign.verify import strategies

FAN_IN = 27


def scalar(bn: BatchNorm, arithmetic: str) -> NDArray[np.float32]:
    """y of every accumulator in every channel, (2*FAN_IN + 1, C)."""
    constants = [channel_constants(bn, c, arithmetic, "layer") for c in range(bn.channels)]
    rows = [[normalise(a, one, arithmetic) for one in constants] for a in range(-FAN_IN, FAN_IN + 1)]
    return np.array(rows, dtype=np.float32)


def scaled(bn: BatchNorm) -> NDArray[np.float32]:
    """fl(alpha*a) of every accumulator in every channel."""
    a = np.arange(-FAN_IN, FAN_IN + 1, dtype=np.float32)[:, np.newaxis]
    return np.broadcast_to(a if bn.alpha is None else a * bn.alpha, (len(a), bn.channels)).copy()


def ones(outputs: int) -> PackedBits:
    """Weights of a dense layer whose values do not matter."""
    return pack(np.ones((outputs, 1)))


def one_channel(gamma: float, beta: float, mean: float, variance: float, k: float | None = None) -> BatchNorm:
    """A batch norm of one channel with epsilon 0."""
    g, b, m, v = (np.array([value], dtype=np.float32) for value in (gamma, beta, mean, variance))
    return BatchNorm(g, b, m, v, 0.0, k=None if k is None else np.array([k], dtype=np.float32))


def plain(bn: BatchNorm) -> BatchNorm:
    """The same batch norm without k and c, which a framework computes itself."""
    return BatchNorm(bn.gamma, bn.beta, bn.mean, bn.variance, bn.epsilon, alpha=bn.alpha)


BATCH_NORMS = strategies.batch_norms(5, FAN_IN, conventions=Conventions(arithmetic="torch")).map(plain)


@given(BATCH_NORMS)
def test_torch_is_torch(bn: BatchNorm) -> None:
    torch = pytest.importorskip("torch")
    y = torch.nn.functional.batch_norm(
        *(torch.tensor(array) for array in (scaled(bn), bn.mean, bn.variance, bn.gamma, bn.beta)), eps=bn.epsilon
    )
    np.testing.assert_array_equal(scalar(bn, "torch"), y.numpy())


@given(BATCH_NORMS)
def test_released_torch_is_its_program_in_numpy(bn: BatchNorm) -> None:
    epsilon = np.float32(bn.epsilon)
    expected = bn.gamma * ((scaled(bn) - bn.mean) / np.sqrt(bn.variance + epsilon)) + bn.beta
    assert expected.dtype == np.float32
    np.testing.assert_array_equal(scalar(bn, "released_torch"), expected)


@given(BATCH_NORMS)
def test_onnxruntime_is_onnxruntime(bn: BatchNorm) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    helper: Any = pytest.importorskip("onnx.helper")
    numpy_helper: Any = pytest.importorskip("onnx.numpy_helper")
    kind = 1  # float32
    arrays = {"gamma": bn.gamma, "beta": bn.beta, "mean": bn.mean, "variance": bn.variance}
    node = helper.make_node("BatchNormalization", ["v", *arrays], ["y"], epsilon=bn.epsilon)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "batch_norm",
        [value("v", kind, [None, bn.channels])],
        [value("y", kind, [None, bn.channels])],
        initializer=[numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"v": scaled(bn)})
    np.testing.assert_array_equal(scalar(bn, "onnxruntime"), y)


def test_keras_takes_k_from_the_framework_and_refuses_to_guess_it() -> None:
    with pytest.raises(RefdesignError, match=r"layer 'conv2', batch_norm, k: found none"):
        channel_constants(one_channel(2, 0.5, 3, 1), 0, "keras", "conv2")
    given_k = one_channel(2, 0.5, 3, 1, k=4)
    assert normalise(5, channel_constants(given_k, 0, "keras", "conv2"), "keras") == 5 * 4 + (0.5 - 3 * 4)


def test_a_scale_beyond_float32_is_refused() -> None:
    bn = one_channel(3e38, 0, 0, 1e-12)
    with pytest.raises(RefdesignError, match=r"layer 'a', batch_norm, k: found inf in channel 0"):
        channel_constants(bn, 0, "torch", "a")


def test_accumulators_beyond_exact_float32_are_refused_in_float_programs_only() -> None:
    layer = BinaryDense(name="big", weights=ones(1))
    index, large = (0, 0, 0), 2**24 + 1
    assert Thresholder(layer, (1, 1, 1), Conventions()).sign(index, large) == 1
    with pytest.raises(RefdesignError, match="layer 'big': found the accumulator 16777217"):
        Thresholder(layer, (1, 1, 1), Conventions(arithmetic="torch")).sign(index, large)


def test_center_crop_is_a_crop_of_whole_tiles() -> None:
    for extent in range(1, 12):
        for period in range(1, 6):
            tiles = np.tile(np.arange(period), -(-extent // period))
            excess = len(tiles) - extent
            cropped = tiles[excess // 2 : excess // 2 + extent].tolist()
            assert phases(extent, period, "center_crop") == cropped
            assert phases(extent, period, "top_left") == tiles[:extent].tolist()


def test_a_whole_map_of_thresholds() -> None:
    """Kernel (2, 1, 2) on a 3x1 map of 4 channels: T by hand, through the signs of y = 0."""
    kernel = ThresholdKernel(np.array([[[-1, 1]], [[1, -1]]], dtype=np.float32))
    layer = BinaryDense(name="d", weights=ones(4), kernel=kernel)
    for channel_map, expected in (("tile", [1, -1, 1, -1]), ("repeat", [1, 1, -1, -1])):
        thresholder = Thresholder(layer, (3, 1, 4), Conventions(channel_map=channel_map))
        signs = [[thresholder.sign((row, 0, c), 0) for c in range(4)] for row in range(3)]
        assert signs == [expected, [-sign for sign in expected], expected]


def test_threshold_scaled_by_gamma() -> None:
    """y = -2*a, s*T = -2*0.75 = -1.5: z = 0 at a = 0.75, so a = 1 gives z = -0.5."""
    bn, kernel = one_channel(-2, 0, 0, 1), ThresholdKernel(np.full((1, 1), 0.75, np.float32))
    layer = BinaryDense(name="d", weights=ones(1), batch_norm=bn, kernel=kernel)
    for conventions in (RELEASED_TORCH, Conventions(threshold_scale="gamma")):
        thresholder = Thresholder(layer, (1, 1, 1), conventions)
        assert [thresholder.real((0, 0, 0), a) for a in (0, 1)] == [1.5, -0.5]
        assert [thresholder.sign((0, 0, 0), a) for a in (0, 1)] == [1, -1]


@given(st.floats(-2, 2, width=32) | st.floats(-(2.0**-22), 2.0**-22, width=32))
def test_keras_round_fires_above_its_boundary(z: float) -> None:
    """The activation as it is written is the comparison that the contract states."""
    conventions = Conventions(sign_at_zero=-1, sign_rule="keras_round")
    assert sign_of_float(z, conventions) == (1 if z > 2.0**-24 else -1)


@given(BATCH_NORMS, strategies.conventions(arithmetics=("real",)))
def test_exact_sign_and_rounded_value_agree_where_they_must(bn: BatchNorm, conventions: Conventions) -> None:
    """A correctly rounded z has the exact sign unless it is zero, or lies on the boundary of keras_round."""
    for channel in range(bn.channels):
        constants = channel_constants(bn, channel, "real", "layer")
        for a in range(-FAN_IN, FAN_IN + 1):
            y = normalise(a, constants, "real")
            if y not in (0, 2.0**-24):
                assert sign_exactly(a, constants, 0.0, conventions) == sign_of_float(y, conventions)


def test_exact_ties_and_what_is_just_not_one() -> None:
    """gamma*(a - mean)/sqrt(2) + beta can only be zero where both terms are."""
    ternary = Conventions(sign_at_zero=0)
    exact, beside = (channel_constants(one_channel(1, beta, 3, 2), 0, "real", "layer") for beta in (0, 2.0**-149))
    assert [sign_exactly(a, exact, 0.0, ternary) for a in (2, 3, 4)] == [-1, 0, 1]
    assert [sign_exactly(a, beside, 0.0, ternary) for a in (2, 3, 4)] == [-1, 1, 1]
