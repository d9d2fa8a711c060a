"""The fold under a float program against the framework itself, run, for every accumulator of 10,000 channels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from refdesign.bits import unpack
from refdesign.conventions import Conventions
from refdesign.fold import fold
from refdesign.ops.batch_norm import batch_norm, dithered_batch_norm, scale_and_shift
from refdesign.ops.dither import threshold_map
from refdesign.ops.sign import dithered_sign, sign
from refdesign.parameters import BatchNorm, Float32Array
from tests.channels import EPSILON, KERNEL, every_accumulator, random_channels

CHANNELS = 10_002
FAN_IN = 18
HEIGHT, WIDTH = 3, 4  # the kernel's period is 2x3: every phase is there, and no extent is a multiple of it

needs_fma = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"),
    reason="the program 'torch' is that of a CPU with fused multiply-add",
)


def in_torch(bn: BatchNorm, a: NDArray[np.int32], *, channels_last: bool = False) -> Float32Array:
    """y of torch.nn.BatchNorm2d in eval mode, NHWC."""
    module = torch.nn.BatchNorm2d(bn.channels, eps=bn.epsilon).eval()
    module.load_state_dict(
        {
            "weight": torch.tensor(bn.gamma),
            "bias": torch.tensor(bn.beta),
            "running_mean": torch.tensor(bn.mean),
            "running_var": torch.tensor(bn.variance),
            "num_batches_tracked": torch.tensor(1),
        }
    )
    v = torch.from_numpy(a).to(torch.float32)
    if bn.alpha is not None:
        v = v * torch.tensor(bn.alpha)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    with torch.no_grad():
        y: Float32Array = module(v.permute(0, 3, 1, 2).contiguous(memory_format=layout)).permute(0, 2, 3, 1).numpy()
    return y


def in_released_torch(bn: BatchNorm, a: NDArray[np.int32]) -> Float32Array:
    """y of the authors' released code, its operations one after the other in torch."""
    gamma, beta, mean, variance = (torch.tensor(v) for v in (bn.gamma, bn.beta, bn.mean, bn.variance))
    v = torch.from_numpy(a).to(torch.float32)
    if bn.alpha is not None:
        v = v * torch.tensor(bn.alpha)
    y: Float32Array = (gamma * ((v - mean) / torch.sqrt(variance + bn.epsilon)) + beta).numpy()
    return y


def in_onnxruntime(bn: BatchNorm, a: NDArray[np.int32]) -> Float32Array:
    """y of ONNX Runtime's BatchNormalization, NHWC."""
    names = ("x", "gamma", "beta", "mean", "variance")
    node = onnx.helper.make_node("BatchNormalization", names, ["y"], epsilon=bn.epsilon)
    floats = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [node],
        "batch_norm",
        [onnx.helper.make_tensor_value_info("x", floats, ["N", bn.channels, "H", "W"])],
        [onnx.helper.make_tensor_value_info("y", floats, None)],
        [onnx.numpy_helper.from_array(getattr(bn, name), name) for name in names[1:]],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 15)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    v = a.astype(np.float32)
    if bn.alpha is not None:
        v = v * bn.alpha
    y: Float32Array = session.run(["y"], {"x": np.ascontiguousarray(v.transpose(0, 3, 1, 2))})[0]
    return y.transpose(0, 2, 3, 1)


PROGRAMS: dict[str, Callable[[BatchNorm, NDArray[np.int32]], Float32Array]] = {
    "torch": in_torch,
    "released_torch": in_released_torch,
    "onnxruntime": in_onnxruntime,
}

SIGNS: dict[str, Conventions] = {
    "+1 at zero": Conventions(sign_at_zero=1),
    "-1 at zero": Conventions(sign_at_zero=-1),
    "0 at zero": Conventions(sign_at_zero=0),
    "keras_round": Conventions(sign_at_zero=-1, sign_rule="keras_round"),
}


def dithered_sign_in_torch(y: Float32Array, bn: BatchNorm, conventions: Conventions) -> NDArray[np.int8]:
    """The dithered sign of y by torch's operations."""
    cells = torch.tensor(threshold_map(KERNEL, HEIGHT, WIDTH, bn.channels, conventions))
    if conventions.threshold_scale == "gamma":
        cells = torch.tensor(bn.gamma) * cells
    z = torch.from_numpy(np.ascontiguousarray(y)) - cells
    if conventions.sign_rule == "keras_round":
        bits = 2 * torch.round(torch.clip((z + 1) / 2, 0, 1)) - 1
    elif conventions.sign_at_zero == 0:
        bits = torch.sign(z)
    else:
        fires = z >= 0 if conventions.sign_at_zero == 1 else z > 0
        bits = torch.where(fires, 1, -1)
    return bits.to(torch.int8).numpy()


@pytest.mark.parametrize("threshold_scale", ["unit", "gamma"])
@pytest.mark.parametrize("rule", SIGNS)
@pytest.mark.parametrize("arithmetic", [pytest.param("torch", marks=needs_fma), "released_torch", "onnxruntime"])
def test_fold_is_the_program_and_planted_mistakes_are_caught(arithmetic: str, rule: str, threshold_scale: str) -> None:
    conventions = SIGNS[rule].replace(arithmetic=arithmetic, threshold_scale=threshold_scale, channel_map="repeat")
    bn = random_channels(17, CHANNELS, FAN_IN, gamma_scaled=threshold_scale == "gamma")
    a = every_accumulator(FAN_IN, HEIGHT, WIDTH, CHANNELS)
    want = dithered_sign_in_torch(PROGRAMS[arithmetic](bn, a), bn, conventions)

    thresholds = fold(bn, KERNEL, fan_in=FAN_IN, conventions=conventions)
    assert np.array_equal(unpack(thresholds.apply(a)), want)
    assert np.array_equal(sign(dithered_batch_norm(a, bn, KERNEL, conventions), conventions), want)

    # The data distinguishes the program from what is mistaken for it.
    for mistake in (float_rounding_fold, alpha_folded_into_k):
        assert np.any(mistake(bn, a, conventions) != want), mistake.__name__
    if arithmetic == "torch":
        assert np.any(double_rounded(bn, a, conventions) != want)


@needs_fma
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("samples", "height", "width"), [(1, 1, 1), (1, 5, 7), (3, 2, 9), (2, 17, 5), (37, 1, 3)])
def test_torch_program_does_not_depend_on_layout_or_batch(
    samples: int, height: int, width: int, channels_last: bool
) -> None:
    channels = 401
    bn = random_channels(5, channels, FAN_IN, with_alpha=samples != 3)
    a = np.random.default_rng(3).integers(-FAN_IN, FAN_IN + 1, (samples, height, width, channels), dtype=np.int32)
    conventions = Conventions(arithmetic="torch")
    y = in_torch(bn, a, channels_last=channels_last)
    assert np.array_equal(y, dithered_batch_norm(a, bn, None, conventions))


def float_rounding_fold(bn: BatchNorm, a: NDArray[np.int32], conventions: Conventions) -> NDArray[np.int8]:
    """The fold as it is often written: comparison with a float32 quotient. Right about ties, gamma = 0 and signs."""
    scale = bn.gamma if conventions.threshold_scale == "gamma" else np.float32(1)
    offset = bn.beta - scale * threshold_map(KERNEL, HEIGHT, WIDTH, bn.channels, conventions)
    if conventions.sign_rule == "keras_round":
        offset = offset - np.float32(2.0**-24)
    assert bn.alpha is not None
    slope = np.sign(bn.gamma) * np.sign(bn.alpha)
    with np.errstate(all="ignore"):
        boundary = (bn.mean - offset * np.sqrt(bn.variance + np.float32(EPSILON)) / bn.gamma) / bn.alpha
        z = np.where(slope == 0, offset, (a.astype(np.float32) - boundary) * slope)
    right = conventions if conventions.sign_rule == "compare" else conventions.replace(sign_rule="compare")
    return sign(z.astype(np.float32), right)


def alpha_folded_into_k(bn: BatchNorm, a: NDArray[np.int32], conventions: Conventions) -> NDArray[np.int8]:
    """The scale alpha multiplied into k (without a k: into gamma and mean), instead of into the accumulator."""
    assert bn.alpha is not None
    if conventions.arithmetic == "released_torch":
        folded = BatchNorm(bn.gamma * bn.alpha, bn.beta, bn.mean / bn.alpha, bn.variance, EPSILON)
    else:
        k, c = scale_and_shift(bn, conventions.arithmetic)
        folded = BatchNorm(bn.gamma, bn.beta, bn.mean, bn.variance, EPSILON, k=k * bn.alpha, c=c)
    y = batch_norm(a, folded, conventions.arithmetic)
    return dithered_sign(y, KERNEL, conventions, bn.gamma)


def double_rounded(bn: BatchNorm, a: NDArray[np.int32], conventions: Conventions) -> NDArray[np.int8]:
    """The fused multiply-add through float64, which rounds twice."""
    assert bn.alpha is not None
    k, c = scale_and_shift(bn, "torch")
    y = ((a * bn.alpha).astype(np.float32).astype(np.float64) * k + c).astype(np.float32)
    return dithered_sign(y, KERNEL, conventions, bn.gamma)
