"""ResNet-20 as the ReCU code has it."""

from __future__ import annotations

from collections.abc import Mapping

from refdesign.api import Network
from refdesign.conventions import Conventions
from refdesign.models.builder import GAMMA_SCALED, Builder, LayerParameters, Seed, scaled
from refdesign.models.shortcuts import shortcut_to
from refdesign.parameters import ThresholdKernel


def resnet20(
    *,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    classes: int = 10,
    width: float = 1.0,
    kernel: ThresholdKernel | None = None,
    conventions: Conventions = GAMMA_SCALED,
    parameters: Mapping[str, LayerParameters] | None = None,
    seed: Seed = 0,
    name: str = "resnet20",
    metadata: Mapping[str, str] | None = None,
) -> Network:
    """ResNet-20 for small images: a residual addition after every binary convolution.

    A real first convolution of 16 channels, batch norm, hardtanh; three groups of three blocks of widths 16, 32, 64,
    the first block of the last two with stride 2; every convolution is followed by batch norm, dither, the addition
    of its own input and hardtanh. Where the stride is 2 the input comes through a 2x2 average pool and zero channels
    on both sides. Then the average of the whole map, a batch norm and a real dense layer. All batch norms have
    epsilon 1e-5 (`ReCU/cifar/models_cifar/resnet.py`; the released file has no dither in it, here it stands where
    `resnet2.py` has it, between batch norm and addition).

    Args:
        input_shape: (H, W, C) of the uint8 images; H and W multiples of 4.
        classes: the number of logits.
        width: multiplies all widths but the classes.
        kernel: the threshold kernel, 2D or 3D; None is the plain sign.
        conventions: the network's; by default `PAPER` with `threshold_scale="gamma"`. `RELEASED_TORCH` is what the
            released code computes, zeros at exact ties included.
        parameters: by layer name (`conv1`, `layer1_0_conv1`, ..., `layer3_2_conv2`, `linear`); None draws random ones
            from `seed`.
        seed: an integer or a NumPy generator.
        name, metadata: the network's.

    Raises:
        RefdesignError: a map of odd size where it is halved, a kernel that does not divide the channels, parameters
            that are missing, unknown or of another shape.

    >>> network = resnet20(input_shape=(8, 12, 3), width=0.25)
    >>> network.shapes["layer3_2_conv2"].output, len(network.layers)
    ((2, 3, 16), 21)
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
    builder.first_conv("conv1", scaled(16, width), binary=False, hardtanh=True)
    source = "conv1"
    for group, base in enumerate((16, 32, 64), start=1):
        channels = scaled(base, width)
        for block in range(3):
            for number in (1, 2):
                stride = 2 if group > 1 and block == 0 and number == 1 else 1
                layer = f"layer{group}_{block}_conv{number}"
                shortcut = shortcut_to(builder.shape, source, layer, channels, stride)
                builder.conv(
                    layer,
                    channels,
                    kernel=kernel,
                    stride=stride,
                    scaled_weights=True,
                    shortcut=shortcut,
                    hardtanh=True,
                )
                source = layer
    builder.average_pool("pool", (builder.shape[0], builder.shape[1]))
    builder.real_dense("linear", classes, normalised=True)
    return builder.network()
