"""What users hand in wrongly: one clear line that names the field, what was found and what was expected.

Files have their own tests in `tests/formats` and `tests/datasets`; here are arrays and parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import refdesign
from refdesign import BatchNorm, Network, PackedBits, RefdesignError, ThresholdKernel, models, pack
from refdesign.network import BinaryConv2d, BinaryDense, MaxPool, NetworkData, PixelConv2d

ONE = np.ones(3, np.float32)
NAN = np.array([1, np.nan, 1], np.float32)
INFINITE = np.array([1, 1, -np.inf], np.float32)


def bits(*shape: int) -> PackedBits:
    return pack(np.ones(shape, np.int8))


def network(*layers: Any, shape: tuple[int, int, int] = (5, 7, 2)) -> NetworkData:
    return NetworkData(name="n", input_shape=shape, layers=layers)


def first(**more: Any) -> PixelConv2d:
    fields: dict[str, Any] = {"name": "first", "weights": bits(3, 2, 2, 2)} | more
    return PixelConv2d(**fields)


NORM = BatchNorm(ONE, ONE, ONE, ONE, 0.0)
PLAIN = refdesign.fold(NORM, None, fan_in=3, conventions=refdesign.PAPER)


def as_any(value: object) -> Any:
    """What a caller without a type checker passes."""
    return value


CASES: list[tuple[Callable[[], object], tuple[str, ...]]] = [
    # Values where ±1 is due.
    (lambda: pack([1, -1, 0]), ("found the value 0 at index (2,)", "expected +1 or -1")),
    (lambda: pack(np.array([[1.0, 0.5]])), ("found the value 0.5 at index (0, 1)", "expected +1 or -1")),
    (lambda: pack([1.0, np.nan]), ("found the value nan at index (1,)",)),
    (lambda: pack([1, 3]), ("found the value 3 at index (1,)",)),
    (lambda: pack(np.array([0, 255], np.uint8)), ("found the value 0 at index (0,)",)),
    (lambda: pack(["a"]), ("found dtype <U1", "expected ±1")),
    (lambda: pack(np.array([1, -1], complex)), ("found dtype complex128",)),
    (lambda: pack(1), ("found shape ()",)),
    (lambda: pack([1, -1], axis=1), ("found shape (2,), expected an axis 1",)),
    (lambda: pack(np.ones((2, 0))), ("length: found 0, expected at least 1",)),
    # Packed bits.
    (lambda: PackedBits(np.zeros(1, np.int64), 3), ("words: found int64, expected uint64",)),
    (lambda: PackedBits(np.zeros(1, np.uint64), 65), ("found shape (1,), expected 2 words",)),
    (lambda: PackedBits(np.full(1, 8, np.uint64), 3), ("bits are set after the last of 3 elements",)),
    (
        lambda: PackedBits(np.full(1, 1, np.uint64), 3, np.zeros(1, np.uint64)),
        ("words: a bit is set where the element is zero",),
    ),
    (lambda: refdesign.xnor_popcount(bits(2, 3), bits(2, 4)), ("found lengths 3 and 4, expected equal ones",)),
    # Batch norm.
    (lambda: BatchNorm(NAN, ONE, ONE, ONE, 1e-5), ("batch norm, gamma: found nan in channel 1, expected finite",)),
    (lambda: BatchNorm(ONE, NAN, ONE, ONE, 1e-5), ("batch norm, beta: found nan in channel 1",)),
    (lambda: BatchNorm(ONE, ONE, INFINITE, ONE, 1e-5), ("batch norm, mean: found -inf in channel 2",)),
    (lambda: BatchNorm(ONE, ONE, ONE, -INFINITE, 1e-5), ("batch norm, variance: found inf in channel 2",)),
    (lambda: BatchNorm(ONE, ONE, ONE, ONE, 1e-5, alpha=NAN), ("batch norm, alpha: found nan in channel 1",)),
    (lambda: BatchNorm(ONE, ONE, ONE, ONE, 1e-5, k=NAN), ("batch norm, k: found nan in channel 1",)),
    (lambda: BatchNorm(ONE, ONE, ONE, ONE, 1e-5, c=ONE), ("batch norm, c: found c without k",)),
    (lambda: BatchNorm(ONE, ONE, ONE, ONE, float("nan")), ("batch norm, epsilon: found nan, expected a finite",)),
    (lambda: BatchNorm(ONE, ONE, ONE, ONE, 1e300), ("batch norm, epsilon: found 1e+300, expected a finite number",)),
    (lambda: BatchNorm(ONE, ONE, ONE, 0 * ONE, 0.0), ("batch norm, variance: found 0.0 + epsilon 0.0 in channel 0",)),
    (lambda: BatchNorm(ONE, ONE, ONE, -2 * ONE, 1.0), ("batch norm, variance: found -2.0 + epsilon 1.0",)),
    (lambda: BatchNorm(ONE, ONE, ONE[:2], ONE, 1e-5), ("batch norm, mean: found 2 channels, expected 3 as in gamma",)),
    (lambda: BatchNorm(ONE[None], ONE, ONE, ONE, 1e-5), ("batch norm, gamma: found float32 of shape (1, 3)",)),
    (
        lambda: BatchNorm(np.full(3, 0.1), ONE, ONE, ONE, 1e-5),
        ("batch norm, gamma: found", "in channel 0", "float32 holds exactly"),
    ),
    # Threshold kernels.
    (lambda: ThresholdKernel(np.zeros(3, np.float32)), ("found shape (3,), expected (m, n) or (m, n, g)",)),
    (lambda: ThresholdKernel(np.zeros((2, 0), np.float32)), ("found shape (2, 0, 1)",)),
    (lambda: ThresholdKernel(NAN[None]), ("threshold kernel, values: found a non-finite value",)),
    (lambda: ThresholdKernel.from_levels([[0, 3]], (0.0, 1.0)), ("an index lies outside the level set",)),
    (
        lambda: refdesign.threshold_map(ThresholdKernel(np.zeros((2, 2, 4), np.float32)), 5, 7, 6, refdesign.PAPER),
        ("found g = 4 slices, expected a divisor of 6 channels",),
    ),
    # Plain misuse of the functions.
    (lambda: refdesign.fold(NORM, None, fan_in=3, conventions=as_any("torch")), ("fold, conventions: found 'torch'",)),
    (
        lambda: refdesign.fold(NORM, as_any([[1.0, 2.0]]), fan_in=3, conventions=refdesign.PAPER),
        ("fold, kernel: found a list, expected a ThresholdKernel",),
    ),
    (
        lambda: refdesign.fold(as_any(ONE), None, fan_in=3, conventions=refdesign.PAPER),
        ("fold, batch_norm: found a ndarray, expected a BatchNorm",),
    ),
    (
        lambda: refdesign.threshold_map(ThresholdKernel([[1]]), 2, 3, 1, as_any("PAPER")),
        ("threshold_map, conventions: found 'PAPER'",),
    ),
    (
        lambda: refdesign.dithered_sign(ONE[None], as_any([[0.5]]), refdesign.PAPER),
        ("dithered_sign, kernel: found a list",),
    ),
    (
        lambda: refdesign.dithered_batch_norm(ONE[None], NORM, None, as_any({})),
        ("dithered_batch_norm, conventions: found {}",),
    ),
    (lambda: refdesign.PAPER.replace(aritmetic="torch"), ("unknown field 'aritmetic' (did you mean 'arithmetic'?)",)),
    (lambda: PLAIN.rule(5, 0, 0), ("found phase (5, 0) and channel 0, expected from 0 to below (1, 1, 3)",)),
    (lambda: PLAIN.rule(0, 0, -1), ("found phase (0, 0) and channel -1",)),
    # Layers of a network: layer and field.
    (
        lambda: network(first(kernel=ThresholdKernel(np.zeros((2, 2, 2), np.float32)))),
        ("layer 'first', kernel: found g = 2 slices, expected a divisor of 3 channels",),
    ),
    (
        lambda: network(first(batch_norm=BatchNorm(ONE[:2], ONE[:2], ONE[:2], ONE[:2], 0.0))),
        ("layer 'first', batch_norm: found 2 channels, expected 3",),
    ),
    (lambda: network(first(weights=bits(3, 2, 2, 1))), ("layer 'first', weights", "expected 2 input channels")),
    (lambda: network(first(weights=bits(3, 2, 2))), ("layer 'first', weights: found shape (3, 2, 2)",)),
    (
        lambda: network(first(weights=np.ones((3, 2, 2, 2), np.float32))),
        ("layer 'first', weights: found float32, expected int32 or packed bits",),
    ),
    (
        lambda: network(first(weights=np.full((3, 2, 2, 2), 2**22, np.int32))),
        ("layer 'first', weights: sums reach", "expected less than 2**31 (int32)"),
    ),
    (
        lambda: network(first(weights=np.full((3, 2, 2, 2), -(2**31), np.int32), multiplier=2**30)),
        ("layer 'first', weights: sums could reach 2**62",),
    ),
    (lambda: network(first(padding=(1, -1))), ("layer 'first', padding: found (1, -1)",)),
    (lambda: network(first(stride=(0, 1))), ("layer 'first', stride: found (0, 1)",)),
    (lambda: network(first(padding_mode="mirror")), ("layer 'first', padding_mode: found 'mirror', expected one of",)),
    (lambda: network(first(pool=MaxPool(size=(5, 2)))), ("layer 'first', pool: found size 5 and stride 2 for 4",)),
    (lambda: network(first(weights=bits(3, 6, 2, 2))), ("layer 'first', weights: the window spans 6 pixels",)),
    (lambda: network(first(name="a.b")), ("layer 'a.b', name: expected",)),
    (lambda: network(first(), first()), ("layer 'first', name: expected a name of its own",)),
    (
        lambda: network(first(), BinaryConv2d(name="second", weights=bits(4, 1, 1, 5))),
        ("layer 'second', weights: found 4 outputs of 5 channels", "expected 3 input channels"),
    ),
    (
        lambda: network(first(), BinaryDense(name="last", weights=bits(4, 71))),
        ("layer 'last', weights: found shape (4, 71), expected (O, 72)",),
    ),
    (lambda: network(), ("layers: found none, expected at least one",)),
    (lambda: network(first(), shape=(5, 0, 2)), ("input_shape: found (5, 0, 2)",)),
    # Operators.
    (
        lambda: refdesign.binary_conv2d(bits(1, 5, 7, 3), bits(2, 3, 3, 4)),
        ("binary_conv2d, inputs: found shape (1, 5, 7, 3), expected (N, H, W, 4)",),
    ),
    (lambda: refdesign.binary_dense(bits(2, 5), bits(3, 6)), ("binary_dense, inputs: found shape (2, 5), expected",)),
    # Values of another type.
    (lambda: pack([[1, -1], [1]]), ("pack: found a list that is no array",)),
    (lambda: refdesign.unpack(as_any(ONE)), ("unpack: found a ndarray, expected PackedBits",)),
    (lambda: refdesign.xnor_popcount(bits(3), as_any([1, 1, 1])), ("xnor_popcount, b: found a list",)),
    (lambda: refdesign.binary_conv2d(as_any(ONE), bits(2, 3, 3, 4)), ("binary_conv2d, inputs: found a ndarray",)),
    (lambda: refdesign.binary_conv2d(bits(1, 5, 7, 4), as_any(ONE)), ("binary_conv2d, weights: found a ndarray",)),
    (
        lambda: refdesign.binary_conv2d(bits(1, 5, 7, 4), bits(2, 3, 3, 4), stride=as_any(1.5)),
        ("stride: found 1.5, expected an integer of at least 1, or two",),
    ),
    (
        lambda: refdesign.binary_conv2d(bits(1, 5, 7, 4), bits(2, 3, 3, 4), padding_mode=as_any(["ones"])),
        ("padding_mode: found ['ones'], expected one of zeros, ones",),
    ),
    (lambda: refdesign.binary_dense(as_any(ONE), bits(3, 6)), ("binary_dense, inputs: found a ndarray",)),
    (lambda: refdesign.max_pool2d(as_any([[1]]), 1), ("max_pool2d: found a list, expected a NumPy array",)),
    (lambda: refdesign.max_pool2d(np.ones((1, 3, 5, 2)), as_any(None)), ("max_pool2d, size: found None",)),
    (lambda: BatchNorm([], [], [], [], 1.0), ("batch norm, gamma: found float64 of shape (0,)",)),
    (lambda: BatchNorm(ONE, ONE, ONE, as_any(None), 1.0), ("batch norm, variance: found object of shape ()",)),
    (lambda: BatchNorm(ONE, ONE, ONE, ONE, as_any("small")), ("batch norm, epsilon: found small, expected a finite",)),
    (lambda: BatchNorm(ONE, ONE, ONE, ONE, 0.0, affine=as_any(1)), ("affine: found a int, expected a RationalAffine",)),
    (lambda: ThresholdKernel([["a"]]), ("threshold kernel, values: found <U1, expected numbers",)),
    (lambda: ThresholdKernel([[0.5]], [[0]], as_any(0.5)), ("level_set: found float64 of shape (), expected numbers",)),
    (
        lambda: refdesign.threshold_map(ThresholdKernel([[1]]), as_any(2.0), 3, 1, refdesign.PAPER),
        ("dither: found a map of 2.0 pixels",),
    ),
    (lambda: refdesign.dithered_sign(as_any([[1.0]]), None, refdesign.PAPER), ("dithered_sign, y: found a list",)),
    (
        lambda: refdesign.fold(NORM, None, fan_in=3, conventions=refdesign.PAPER, domain=as_any(3)),
        ("fold, domain: found 3, expected (low, high, step)",),
    ),
    (lambda: PLAIN.rule(as_any(0.5), 0, 0), ("found phase (0.5, 0) and channel 0",)),
    (lambda: refdesign.Conventions.from_dict(as_any(None)), ("conventions: found None, expected the choices by name",)),
    (lambda: refdesign.load(as_any(None)), ("load: found None, expected the path of a file",)),
    # Architectures.
    (lambda: models.resnet20(input_shape=as_any(32)), ("resnet20, input_shape: found 32, expected (H, W, C)",)),
    (lambda: models.binarynet(width=as_any("half")), ("width: found 'half', expected a positive multiplier",)),
    (lambda: models.binarynet(widths=(0, 1), width=1 / 64), ("widths: found 0, expected integers of at least 1",)),
    (lambda: models.vgg_small(classes=0, width=1 / 64), ("layer 'fc': found 0 outputs, expected an integer",)),
    (lambda: models.vgg_small(seed=-1), ("vgg_small, seed: found -1, expected an integer from 0 on",)),
    (lambda: models.vgg_small(kernel=as_any([[1]]), width=1 / 64), ("vgg_small, kernel: found a list",)),
    (lambda: models.vgg_small(parameters=as_any([1])), ("vgg_small, parameters: found [1], expected",)),
    # The design of threshold kernels.
    (
        lambda: refdesign.design.optimal_kernel(as_any(np.ones((2, 2))), (2, 2)),
        ("joint: found array([[1., 1.], [1., 1.]]), expected a JointDistribution",),
    ),
    (lambda: refdesign.design.joint_distribution([[[1, 1], [1]]]), ("maps: found a list that is no array",)),
    (lambda: refdesign.design.published(as_any(["v1"])), ("kernel: found the name ['v1'], expected one of",)),
]  # fmt: skip


@pytest.mark.parametrize(("make", "parts"), CASES)
def test_arrays_and_parameters(make: Callable[[], object], parts: tuple[str, ...]) -> None:
    with pytest.raises(RefdesignError) as caught:
        make()
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("images", "part"),
    [
        (np.zeros((2, 9, 10, 3), np.float32), "images: found float32, expected a uint8 array"),
        (np.zeros((2, 9, 10, 3), np.int64), "images: found int64, expected a uint8 array"),
        ([[0]], "images: found list, expected a uint8 array"),
        (np.zeros((9, 10, 3), np.uint8), "images: found shape (9, 10, 3), expected (N, 9, 10, 3)"),
        (np.zeros((2, 10, 9, 3), np.uint8), "images: found shape (2, 10, 9, 3), expected (N, 9, 10, 3)"),
        (np.zeros((2, 3, 9, 10), np.uint8), "images: found shape (2, 3, 9, 10)"),
    ],
)
@pytest.mark.parametrize("path", ["packed", "float", "naive"])
def test_images(path: str, images: Any, part: str) -> None:
    small = models.binarynet(input_shape=(9, 10, 3), width=1 / 64)
    with pytest.raises(RefdesignError) as caught:
        small.run(images, path=path)
    assert part in str(caught.value)


def test_paths_and_outputs() -> None:
    small = models.binarynet(input_shape=(9, 10, 3), width=1 / 64)
    images = np.zeros((1, 9, 10, 3), np.uint8)
    with pytest.raises(RefdesignError, match="found 'quick'"):
        small.run(images, path="quick")
    with pytest.raises(RefdesignError, match=r"outputs: found 'conv9.bits', expected 'all' or some of conv1"):
        small.run(images, outputs=["conv9.bits"])
    with pytest.raises(RefdesignError, match="outputs: found a int, expected 'all', a name or names"):
        small.run(images, outputs=as_any(3))
    with pytest.raises(RefdesignError, match=r"batch_size, workers: found 1.5 and 1, expected integers of at least 1"):
        small.run(images, batch_size=as_any(1.5))
    with pytest.raises(RefdesignError, match="pretrained: found 'imagenet', expected one of"):
        refdesign.pretrained("imagenet")


@pytest.mark.parametrize("path", ["packed", "float", "naive"])
@pytest.mark.parametrize("model", [models.binarynet, models.resnet20])
def test_no_images(model: Callable[..., Network], path: str) -> None:
    """No images are ordinary input: every output is there, empty, of the shape and dtype that others have."""
    network = model(input_shape=(8, 12, 3), width=1 / 16)
    one = network.run(np.zeros((1, 8, 12, 3), np.uint8), outputs="all")
    none = network.run(np.zeros((0, 8, 12, 3), np.uint8), path=path, outputs="all")
    assert {name: (0, *value.shape[1:]) for name, value in one.items()} == {n: v.shape for n, v in none.items()}
    assert [value.dtype for value in one.values()] == [value.dtype for value in none.values()]
