"""The four architectures: structure, sizes, random and given parameters, errors."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refdesign.api import Network
from refdesign.conventions import LARQ, PAPER, PRESETS
from refdesign.errors import RefdesignError
from refdesign.formats import native
from refdesign.models import LayerParameters, binarynet, resnet18, resnet20, vgg_small
from refdesign.network import (
    BinaryConv2d,
    BinaryDense,
    Convolution,
    PixelConv2d,
    RealConv2d,
    RealDense,
    Stage,
)
from refdesign.parameters import ThresholdKernel
from tests.formats.same import differences

KERNEL_2D = ThresholdKernel(np.array([[0.3118, 0.9671, 2.0], [1.3352, 0.6310, 0.0]], np.float32))
KERNEL_3D = ThresholdKernel((np.arange(24) / 12).astype(np.float32).reshape(2, 3, 4))
MAKERS: list[Any] = [binarynet, vgg_small, resnet18, resnet20]
SMALL: dict[str, Any] = {
    "binarynet": {"input_shape": (9, 10, 3), "width": 1 / 32},
    "vgg_small": {"input_shape": (9, 10, 3), "width": 1 / 32},
    "resnet18": {"input_shape": (8, 16, 3), "width": 1 / 16},
    "resnet20": {"input_shape": (8, 12, 3), "width": 1 / 4},
}


def small(make: Any, **more: Any) -> Network:
    network: Network = make(classes=7, **SMALL[make.__name__], **more)
    return network


def weight_count(network: Network) -> int:
    return sum(math.prod(layer.weights.shape) for layer in network.layers if hasattr(layer, "weights"))


@pytest.mark.parametrize(
    ("make", "weights", "layers"),
    [
        # Counted by hand: 9*(3*128 + 128*128 + 128*256 + 256*256 + 256*512 + 512*512) + 8192*1024 + 1024*1024 + 10240.
        (binarynet, 14_022_016, 9),
        # The same convolutions, and 8192*10.
        (vgg_small, 4_656_512, 7),
        # 9*(3*64 + 4*64*64 + 64*128 + 3*128*128 + 128*256 + 3*256*256 + 256*512 + 3*512*512) + 5120.
        (resnet18, 10_992_320, 19),
        # 9*(3*16 + 6*16*16 + 16*32 + 5*32*32 + 32*64 + 5*64*64) + 640: the 0.27 million of the paper's ResNet-20.
        (resnet20, 268_336, 21),
    ],
)
def test_full_size(make: Any, weights: int, layers: int) -> None:
    network = make()
    assert (weight_count(network), len(network.layers)) == (weights, layers)
    assert network.shapes[network.layers[-1].name].output == (10,)
    assert network.input_shape == (32, 32, 3)


def test_a_full_binarynet_takes_less_than_2_2_megabytes(tmp_path: Path) -> None:
    network = binarynet(kernel=ThresholdKernel(np.arange(16, dtype=np.float32).reshape(2, 2, 4)))
    network.save(tmp_path / "net")
    size = (tmp_path / "net").stat().st_size
    # One bit a weight, four float32 a channel, and the description.
    assert size <= 14_022_016 // 8 + 4 * 4 * 3850 + 16_000
    assert size < 2_200_000
    assert list(differences(native.read(tmp_path / "net").layers, network.layers)) == []


def test_binarynet_as_released() -> None:
    network = binarynet(kernel=KERNEL_2D)
    for layer in network.layers:
        assert isinstance(layer, (PixelConv2d, BinaryConv2d, BinaryDense))
        assert layer.batch_norm is not None
        assert layer.batch_norm.epsilon == np.float32(1e-4)
        assert layer.batch_norm.alpha is None
        assert (layer.kernel is KERNEL_2D) == layer.name.startswith("conv")
        assert (layer.pool is not None) == (layer.name in ("conv2", "conv4", "conv6"))
        if isinstance(layer, Convolution):
            assert (layer.padding_mode, layer.padding, layer.stride) == ("symmetric", (1, 1), (1, 1))
    first = network.layers[0]
    assert isinstance(first, PixelConv2d)
    assert (first.multiplier, first.offset) == (2, -255)
    assert [network.shapes[f"conv{n}"].output for n in range(1, 7)] == [
        (32, 32, 128), (16, 16, 128), (16, 16, 256), (8, 8, 256), (8, 8, 512), (4, 4, 512),
    ]  # fmt: skip


@pytest.mark.parametrize("make", MAKERS[1:])
def test_the_recu_models_pad_with_zeros_and_scale_per_channel(make: Any) -> None:
    network = make(kernel=KERNEL_2D)
    assert network.conventions == PAPER.replace(threshold_scale="gamma")
    first, *middle = (layer for layer in network.layers if isinstance(layer, Stage))
    assert isinstance(first, PixelConv2d)
    assert isinstance(first.weights, np.ndarray)
    assert first.kernel is None
    for layer in middle:
        assert isinstance(layer, BinaryConv2d)
        assert (layer.padding_mode, layer.padding) == ("zeros", (1, 1))
        assert layer.kernel is KERNEL_2D
        assert layer.batch_norm is not None
        assert layer.batch_norm.alpha is not None
        assert layer.batch_norm.epsilon == np.float32(1e-5)


def test_grid_weights_give_sums_that_float32_holds() -> None:
    for make in MAKERS[1:]:
        first = make().layers[0]
        assert 255 * int(np.abs(first.weights).astype(np.int64).sum(axis=(1, 2, 3)).max()) < 2**24


@pytest.mark.parametrize("kernel", [None, KERNEL_2D, KERNEL_3D], ids=["sign", "2d", "3d"])
@pytest.mark.parametrize("make", MAKERS)
def test_random_bits_are_alive(make: Any, kernel: ThresholdKernel | None) -> None:
    """In every layer about half of the bits are +1, and few of a convolution's channels are constant."""
    network = make(width=0.25, kernel=kernel, seed=2)
    images = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    outputs = network.run(images, outputs="all")
    for name, bits in outputs.items():
        if name.endswith(".bits"):
            assert 0.3 < (bits > 0).mean() < 0.7, name
        if name.endswith(".bits") and bits.ndim == 4:
            flat = bits.reshape(-1, bits.shape[-1])
            assert (flat == flat[0]).all(axis=0).mean() < 0.05, name
    assert len(np.unique(outputs["logits"])) > 3


@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize("make", MAKERS)
def test_the_three_paths_agree_under_every_preset(make: Any, preset: str) -> None:
    kernel = KERNEL_3D if make is not resnet20 else KERNEL_2D
    network = small(make, kernel=kernel, conventions=PRESETS[preset], seed=3)
    images = np.random.default_rng(4).integers(0, 256, (2, *network.input_shape), dtype=np.uint8)
    packed = network.run(images, outputs="all")
    others = [network.run(images, outputs="all", path=path) for path in ("float", "naive")]
    for name, array in packed.items():
        for other in others:
            assert array.dtype == other[name].dtype
            assert array.tobytes() == other[name].tobytes(), name


def test_seeds() -> None:
    a, again, b = (native.to_bytes(binarynet(width=1 / 32, seed=seed)) for seed in (1, 1, 2))
    assert a == again != b
    generator = np.random.default_rng(1)
    assert native.to_bytes(binarynet(width=1 / 32, seed=generator)) == a
    assert native.to_bytes(binarynet(width=1 / 32, seed=generator)) != a


def parameters_of(network: Network) -> dict[str, LayerParameters]:
    found: dict[str, LayerParameters] = {}
    for layer in network.layers:
        if isinstance(layer, RealDense):
            found[layer.name] = LayerParameters(
                weights=layer.weights, bias=layer.bias, batch_norm=layer.input_batch_norm
            )
        elif isinstance(layer, (PixelConv2d, BinaryConv2d, BinaryDense)):
            found[layer.name] = LayerParameters(weights=layer.weights, batch_norm=layer.batch_norm)
    return found


@pytest.mark.parametrize("make", MAKERS)
def test_given_parameters_are_taken_as_they_are(make: Any) -> None:
    network = small(make, seed=5)
    again = small(make, parameters=parameters_of(network), seed=6)
    assert list(differences(again.layers, network.layers)) == []


def test_given_float32_weights_make_a_real_first_layer() -> None:
    given = parameters_of(small(vgg_small))
    weights = np.random.default_rng(0).standard_normal(given["conv0"].weights.shape).astype(np.float32)  # type: ignore[union-attr]
    scale = np.full(3, 1 / 255, np.float32)
    given["conv0"] = LayerParameters(weights=weights, batch_norm=given["conv0"].batch_norm, scale=scale, shift=-scale)
    first = small(vgg_small, parameters=given).layers[0]
    assert isinstance(first, RealConv2d)
    assert first.weights.tobytes() == weights.tobytes()
    assert first.hardtanh
    given["conv0"] = LayerParameters(weights=weights, batch_norm=given["conv0"].batch_norm)
    with pytest.raises(RefdesignError, match="layer 'conv0', weights: found float32 without scale and shift"):
        small(vgg_small, parameters=given)


def test_wrong_parameters_are_refused() -> None:
    given = parameters_of(small(binarynet))
    with pytest.raises(RefdesignError, match="parameters: layer 'dense2' is missing"):
        small(binarynet, parameters={name: value for name, value in given.items() if name != "dense2"})
    with pytest.raises(RefdesignError, match="parameters: found layer 'conv7', expected only conv1"):
        small(binarynet, parameters=given | {"conv7": given["conv6"]})
    with pytest.raises(
        RefdesignError, match=r"layer 'conv2', weights: found shape \(4, 3, 3, 3\), expected \(4, 3, 3, 4"
    ):
        small(binarynet, parameters=given | {"conv2": given["conv1"]})
    half = LayerParameters(weights=np.full((4, 3, 3, 4), 0.5), batch_norm=given["conv2"].batch_norm)
    with pytest.raises(
        RefdesignError, match=r"layer 'conv2', weights: pack: found the value 0.5 at index \(0, 0, 0, 0\)"
    ):
        small(binarynet, parameters=given | {"conv2": half})
    wrong = LayerParameters(weights=given["conv2"].weights, batch_norm=given["conv3"].batch_norm)
    with pytest.raises(RefdesignError, match="layer 'conv2', batch_norm: found 8 channels, expected 4"):
        small(binarynet, parameters=given | {"conv2": wrong})
    grid = parameters_of(small(vgg_small))
    floats = LayerParameters(weights=np.zeros((4, 3, 3, 3)), batch_norm=grid["conv0"].batch_norm)
    with pytest.raises(RefdesignError, match="layer 'conv0', weights: found float64, expected int32 on a grid"):
        small(vgg_small, parameters=grid | {"conv0": floats})
    residual = parameters_of(small(resnet20))
    bare = LayerParameters(weights=residual["linear"].weights, bias=residual["linear"].bias)
    with pytest.raises(RefdesignError, match="layer 'linear', batch_norm: found None, expected one"):
        small(resnet20, parameters=residual | {"linear": bare})


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (binarynet, {"width": 0}, "width: found 0, expected a positive multiplier"),
        (binarynet, {"width": float("nan")}, "width: found nan"),
        (binarynet, {"input_shape": (7, 8, 3)}, "layer 'conv6', pool: found size 2 and stride 2 for 1 pixels"),
        (binarynet, {"kernel": ThresholdKernel(np.zeros((2, 2, 3), np.float32))}, "layer 'conv1', kernel: found g = 3"),
        (resnet18, {"input_shape": (10, 12, 3)}, "layer 'layer3_0_conv2', shortcut: found a map (5, 6) to halve"),
        (resnet20, {"input_shape": (8, 9, 3)}, "layer 'layer2_0_conv1', shortcut: found a map (8, 9) to halve"),
    ],
)
def test_what_does_not_fit_is_refused(make: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RefdesignError) as caught:
        make(**{"width": 1 / 16} | arguments)
    assert message in str(caught.value)


def test_conventions_and_metadata_are_kept() -> None:
    network = small(binarynet, conventions=LARQ, name="mine", metadata={"licence": "CC0"})
    assert (network.conventions, network.name, dict(network.metadata)) == (LARQ, "mine", {"licence": "CC0"})
    batch_norm = network.layers[0].batch_norm  # type: ignore[attr-defined]
    assert batch_norm.k is not None
    assert batch_norm.c is not None
