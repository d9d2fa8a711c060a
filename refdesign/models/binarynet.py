"""BinaryNet, the authors' Keras model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from refdesign.api import Network
from refdesign.conventions import PAPER, Conventions
from refdesign.models.builder import Builder, LayerParameters, Seed, scaled
from refdesign.parameters import ThresholdKernel


def binarynet(
    *,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    classes: int = 10,
    width: float = 1.0,
    widths: Sequence[int] = (128, 128, 256, 256, 512, 512),
    dense: Sequence[int] = (1024, 1024),
    kernel: ThresholdKernel | None = None,
    conventions: Conventions = PAPER,
    parameters: Mapping[str, LayerParameters] | None = None,
    seed: Seed = 0,
    name: str = "binarynet",
    metadata: Mapping[str, str] | None = None,
) -> Network:
    """BinaryNet: six 3x3 convolutions with symmetric padding, a 2x2 max pool after every second, three dense layers.

    Every layer, the last one too, has binary weights and a batch norm (epsilon 1e-4); the dither stands after the
    batch norms of the convolutions only; the first layer reads 2p - 255 of the pixels p (released Keras code,
    `BNN/binarynet/main.py`; a dense layer's bias is part of its batch norm's mean).

    Args:
        input_shape: (H, W, C) of the uint8 images.
        classes: the number of logits.
        width: multiplies all widths but the classes.
        widths: output channels of the convolutions `conv1`, `conv2`, ...
        dense: outputs of the hidden dense layers `dense1`, `dense2`, ...; the last one follows them.
        kernel: the threshold kernel, 2D or 3D; None is the plain sign.
        conventions: the network's conventions.
        parameters: by layer name; None draws random ones from `seed`.
        seed: an integer or a NumPy generator.
        name, metadata: the network's.

    Raises:
        RefdesignError: a map too small for its pools, a kernel that does not divide the channels, parameters that
            are missing, unknown or of another shape.

    >>> network = binarynet(input_shape=(8, 8, 1), width=1 / 32, kernel=ThresholdKernel([[0.3, 0.9], [1.3, 0.6]]))
    >>> [layer.name for layer in network.layers]
    ['conv1', 'conv2', 'conv3', 'conv4', 'conv5', 'conv6', 'dense1', 'dense2', 'dense3']
    >>> network.shapes["conv6"].output, network.shapes["dense3"].output
    ((1, 1, 16), (10,))
    """
    builder = Builder(
        name=name,
        input_shape=input_shape,
        conventions=conventions,
        parameters=parameters,
        seed=seed,
        epsilon=1e-4,
        padding_mode="symmetric",
        pixels=(2, -255),
        metadata=metadata,
    )
    for number, channels in enumerate(widths, start=1):
        if number == 1:
            builder.first_conv("conv1", scaled(channels, width), binary=True, kernel=kernel)
        else:
            builder.conv(f"conv{number}", scaled(channels, width), kernel=kernel, pool=number % 2 == 0)
    for number, outputs in enumerate(dense, start=1):
        builder.dense(f"dense{number}", scaled(outputs, width))
    builder.dense(f"dense{len(dense) + 1}", classes)
    return builder.network()
