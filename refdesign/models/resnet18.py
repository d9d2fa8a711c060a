"""ResNet-18 with DeSign, the authors' PyTorch model."""

from __future__ import annotations

from collections.abc import Mapping

from refdesign.api import Network
from refdesign.conventions import Conventions
from refdesign.models.builder import GAMMA_SCALED, Builder, LayerParameters, Seed, scaled
from refdesign.models.shortcuts import shortcut_to
from refdesign.parameters import ThresholdKernel


def resnet18(
    *,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    classes: int = 10,
    width: float = 1.0,
    kernel: ThresholdKernel | None = None,
    conventions: Conventions = GAMMA_SCALED,
    parameters: Mapping[str, LayerParameters] | None = None,
    seed: Seed = 0,
    name: str = "resnet18",
    metadata: Mapping[str, str] | None = None,
) -> Network:
    """ResNet-18 for small images: one residual addition per block of two binary convolutions.

    A real first convolution of 64 channels with batch norm, without hardtanh and dither; four groups of two blocks
    of widths 64, 128, 256, 512, the first block of the last three with stride 2; a block is convolution, batch norm,
    dither, hardtanh, convolution, batch norm, dither, plus the block's input, hardtanh. Where the stride is 2 the
    input comes through a 2x2 average pool and zero channels on both sides. Then an average pool of 4x4 (of the whole
    map where it is smaller), a batch norm and a real dense layer. All batch norms have epsilon 1e-5; in the released
    code those of the convolutions have gamma 1 and beta 0 (`ReCU/cifar/models_cifar/resnet2.py`).

    Args:
        input_shape: (H, W, C) of the uint8 images; H and W even where a group halves them.
        classes: the number of logits.
        width: multiplies all widths but the classes.
        kernel: the threshold kernel, 2D or 3D; None is the plain sign.
        conventions: the network's; by default `PAPER` with `threshold_scale="gamma"`. `RELEASED_TORCH` is what the
            released code computes, zeros at exact ties included.
        parameters: by layer name (`conv1`, `layer1_0_conv1`, ..., `layer4_1_conv2`, `linear`); None draws random ones
            from `seed`.
        seed: an integer or a NumPy generator.
        name, metadata: the network's.

    Raises:
        RefdesignError: a map of odd size where it is halved, a kernel that does not divide the channels, parameters
            that are missing, unknown or of another shape.

    >>> network = resnet18(input_shape=(16, 24, 3), width=1 / 16)
    >>> network.shapes["layer4_1_conv2"].output, network.layer("layer2_0_conv2").shortcut.channel_padding
    ((2, 3, 32), (2, 2))
    """
    builder = Builder(
        name=name,
        input_shape=input_shape,
        conventions=conventions,
        parameters=parameters,
        seed=seed,
        epsilon=1e-5,
        padding_mode="zeros",
        pixels=(2, -255),
        metadata=metadata,
    )
    builder.first_conv("conv1", scaled(64, width), binary=False)
    source = "conv1"
    for group, base in enumerate((64, 128, 256, 512), start=1):
        channels = scaled(base, width)
        for block in range(2):
            stride = 2 if group > 1 and block == 0 else 1
            first, second = (f"layer{group}_{block}_conv{number}" for number in (1, 2))
            shortcut = shortcut_to(builder.shape, source, second, channels, stride)
            builder.conv(first, channels, kernel=kernel, stride=stride, scaled_weights=True, hardtanh=True)
            builder.conv(second, channels, kernel=kernel, scaled_weights=True, shortcut=shortcut, hardtanh=True)
            source = second
    builder.average_pool("pool", (min(4, builder.shape[0]), min(4, builder.shape[1])))
    builder.real_dense("linear", classes, normalised=True)
    return builder.network()
