"""From a trained module to a golden network: parameters are copied, nothing is folded or rounded."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from refdesign.api import Network
from refdesign.errors import RefdesignError
from refdesign.frameworks.exporting import shared_conventions
from refdesign.frameworks.torch.flow import Parts, split
from refdesign.frameworks.torch.layers import BinaryConv2d, PixelInput
from refdesign.frameworks.torch.parameters import batch_norm_of, bits_of, computed_arithmetic, pool_of
from refdesign.frameworks.torch.residual import BinaryNetwork
from refdesign.frameworks.torch.translate import module_network
from refdesign.network import BinaryConv2d as BinaryConv2dData
from refdesign.network import BinaryDense, Layer, NetworkData, PixelConv2d
from refdesign.normalisation import positive_scale
from refdesign.parameters import ThresholdKernel


def to_network(
    module: nn.Module,
    *,
    name: str,
    input_shape: tuple[int, int, int],
    arithmetic: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Network:
    """The golden network of a sequential binary model, or of a `BinaryNetwork`.

    Under the module's own arithmetic its bits and logits are those of the module in eval mode, eager, in float32, on a
    CPU with fused multiply-add (docs/method.md, section 3), without forward hooks. Weights are those of the binarisers;
    a dense layer's inputs are re-ordered from PyTorch's (channel, row, column) to (row, column, channel).

    Args:
        module: a `BinaryNetwork`, or what `flow.split` accepts: PixelInput, then layers in an `nn.Sequential`. Its
            layers are named after their products' places in it ("conv1", or "3").
        name: the network's name.
        input_shape: (H, W, C) of the uint8 images.
        arithmetic: the arithmetic that the network is meant under; None is the module's own, `"torch"` or
            `"released_torch"`, as its batch norms compute.
        metadata: free text by key.

    Raises:
        RefdesignError: a module, order, dtype or parameter that the reference has no counterpart for, a class that
            computes something else than the one that it is derived from, layers with different conventions, batch norms
            of another arithmetic than named, shapes that do not fit, or another device than the CPU without an
            arithmetic, naming the module.

    >>> from refdesign.frameworks.torch import BinaryLinear, Sign
    >>> model = nn.Sequential(PixelInput(), BinaryConv2d(1, 2, 3), nn.BatchNorm2d(2), Sign(),
    ...                       nn.Flatten(), BinaryLinear(12, 4))
    >>> to_network(model, name="tiny", input_shape=(4, 5, 1)).output_names
    ('1.accumulator', '1.bits', '5.accumulator', 'logits')
    """
    elsewhere = {tensor.device.type for tensor in module.parameters()} - {"cpu"}
    if elsewhere and arithmetic is None:
        raise RefdesignError(
            f"to_network: found a module on {elsewhere.pop()!r}, whose batch norm is no arithmetic that has a name, "
            "expected it on 'cpu', or an arithmetic that the network is meant under"
        )
    if isinstance(module, BinaryNetwork):
        return module_network(module, name=name, input_shape=input_shape, arithmetic=arithmetic, metadata=metadata)
    pixels, parts = split(module)
    for part in parts[:-1]:
        if part.activation is None:
            raise RefdesignError(
                f"to_network, layer {part.name!r}: found no DeSign or Sign, expected one (not the last)"
            )
    if parts[-1].activation is not None:
        raise RefdesignError(f"to_network, layer {parts[-1].name!r}: found a sign in the last layer, expected none")
    signs = [(part.name, part.activation.conventions, kernel_of(part) is not None) for part in parts if part.activation]
    computed = arithmetic or computed_arithmetic((part.name, part.batch_norm) for part in parts)
    conventions = shared_conventions(signs).replace(arithmetic=computed)
    layers: list[Layer] = []
    shape: tuple[int, ...] = input_shape
    for index, part in enumerate(parts):
        layers.append(_layer(part, pixels if index == 0 else None, shape))
        shape = NetworkData(name=name, input_shape=input_shape, layers=tuple(layers)).shapes[part.name].output
    return Network(
        name=name, input_shape=input_shape, layers=tuple(layers), conventions=conventions, metadata=dict(metadata or {})
    )


def kernel_of(part: Parts) -> ThresholdKernel | None:
    """The layer's threshold kernel; None where it is the plain sign."""
    if part.activation is None or not part.activation.kernel.values.any():
        return None
    return part.activation.kernel


def _layer(part: Parts, pixels: PixelInput | None, shape: tuple[int, ...]) -> Layer:
    product = part.product
    kernel = kernel_of(part)
    latent, scale = product.binarised()
    batch_norm = None if part.batch_norm is None else batch_norm_of(part.name, part.batch_norm, scale)
    if batch_norm is None and scale is not None:
        raise RefdesignError(f"to_network, layer {part.name!r}: found a scale of the weights without a batch norm")
    if isinstance(product, BinaryConv2d):
        # Spelled out twice, so that types are checked field by field.
        weights = bits_of(part.name, latent.permute(0, 2, 3, 1))
        pool = None if part.pool is None else pool_of(part.name, part.pool)
        if pool is not None and batch_norm is not None:
            weights, batch_norm = positive_scale(weights, batch_norm)
        if pixels is not None:
            return PixelConv2d(
                name=part.name, weights=weights, multiplier=pixels.multiplier, offset=pixels.offset,
                stride=product.stride, padding=product.padding, padding_mode=product.padding_mode,
                dilation=product.dilation, groups=product.groups, pool=pool, batch_norm=batch_norm, kernel=kernel,
            )  # fmt: skip
        return BinaryConv2dData(
            name=part.name, weights=weights, stride=product.stride, padding=product.padding,
            padding_mode=product.padding_mode, dilation=product.dilation, groups=product.groups,
            pool=pool, batch_norm=batch_norm, kernel=kernel,
        )  # fmt: skip
    if pixels is not None:
        raise RefdesignError(f"to_network, layer {part.name!r}: found BinaryLinear first, expected BinaryConv2d")
    if part.pool is not None:
        raise RefdesignError(f"to_network, layer {part.name!r}: found MaxPool2d after BinaryLinear, expected none")
    bits = bits_of(part.name, _flattened(part, latent, shape))
    return BinaryDense(name=part.name, weights=bits, batch_norm=batch_norm, kernel=kernel)


def _flattened(part: Parts, weight: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A dense layer's weights with inputs ordered (row, column, channel)."""
    if len(shape) == 1:
        return weight
    height, width, channels = shape
    if not part.flattened or weight.shape[1] != height * width * channels:
        raise RefdesignError(
            f"to_network, layer {part.name!r}: found weights {tuple(weight.shape)} on a map {shape}, "
            f"expected Flatten and {height * width * channels} inputs"
        )
    return weight.reshape(-1, channels, height, width).permute(0, 2, 3, 1).reshape(weight.shape)
