"""VGG-small as the ReCU code has it."""

from __future__ import annotations

from collections.abc import Mapping

from refdesign.api import Network
from refdesign.conventions import Conventions
from refdesign.models.builder import GAMMA_SCALED, Builder, LayerParameters, Seed, scaled
from refdesign.parameters import ThresholdKernel


def vgg_small(
    *,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    classes: int = 10,
    width: float = 1.0,
    kernel: ThresholdKernel | None = None,
    conventions: Conventions = GAMMA_SCALED,
    parameters: Mapping[str, LayerParameters] | None = None,
    seed: Seed = 0,
    name: str = "vgg_small",
    metadata: Mapping[str, str] | None = None,
) -> Network:
    """VGG-small: a real convolution, five binary ones, a real dense layer on the clamped real stream.

    3x3, zero padding; widths 128, 128 + pool, 256, 256 + pool, 512, 512 + pool; batch norm (epsilon 1e-5) and
    hardtanh everywhere; binary weights with a scale alpha per channel. The first layer's weights are integers on a
    grid whose step is its alpha, and it reads 2p - 255 of the pixels p. Where a given alpha is negative before a
    pool, it and the channel's weights are negated, which changes no value. The dither stands after the batch norms
    of the binary convolutions (the paper's code has no VGG with dither; its ResNet has none in the first layer
    either), scaled by gamma (ReCU, `models_cifar/vgg.py`; docs/method.md, section 6).

    Args:
        input_shape: (H, W, C) of the uint8 images.
        classes: the number of logits.
        width: multiplies all widths but the classes.
        kernel: the threshold kernel, 2D or 3D; None is the plain sign.
        conventions: the network's; by default `PAPER` with `threshold_scale="gamma"`. `RELEASED_TORCH` is what the
            released code computes, zeros at exact ties included.
        parameters: by layer name (`conv0` to `conv5`, `fc`); None draws random ones from `seed`.
        seed: an integer or a NumPy generator.
        name, metadata: the network's.

    Raises:
        RefdesignError: a map too small for its pools, a kernel that does not divide the channels, parameters that
            are missing, unknown or of another shape.

    >>> network = vgg_small(input_shape=(8, 9, 3), width=1 / 32)
    >>> network.shapes["conv5"].output, network.shapes["fc"].output
    ((1, 1, 16), (10,))
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
    builder.first_conv("conv0", scaled(128, width), binary=False, hardtanh=True)
    for number, channels in enumerate((128, 256, 256, 512, 512), start=1):
        builder.conv(
            f"conv{number}",
            scaled(channels, width),
            kernel=kernel,
            pool=number % 2 == 1,
            scaled_weights=True,
            hardtanh=True,
        )
    builder.real_dense("fc", classes, normalised=False)
    return builder.network()
