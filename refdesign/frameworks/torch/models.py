"""The spec's architectures as PyTorch modules (docs/method.md, section 6), ready to be trained and exported."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from refdesign import models
from refdesign.api import Network
from refdesign.conventions import PAPER, Conventions
from refdesign.errors import RefdesignError
from refdesign.frameworks.torch.binarisers import ReCU
from refdesign.frameworks.torch.design import DeSign, Sign
from refdesign.frameworks.torch.layers import BinaryConv2d, BinaryLayer, BinaryLinear, LatentWeights, PixelInput
from refdesign.frameworks.torch.real import RealLinear
from refdesign.frameworks.torch.residual import BinaryNetwork
from refdesign.frameworks.torch.restore import network_module
from refdesign.parameters import ThresholdKernel


def binarynet(
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    widths: Sequence[int] = (128, 128, 256, 256, 512, 512),
    dense: Sequence[int] = (1024, 1024),
    kernel: ThresholdKernel | None = None,
    conventions: Conventions = PAPER,
    estimator: str = "clipped",
    epsilon: float = 1e-4,
) -> nn.Sequential:
    """BinaryNet as the authors' Keras code has it: 3x3 convolutions, symmetric padding, a 2x2 max pool every second.

    Each layer is product, (pool,) batch norm, sign; the dither stands after the batch norms of the convolutions
    only; the last dense layer ends with its batch norm. Weights are binary from the first layer on, which reads
    2p - 255 of the pixels p.

    Args:
        input_shape: (H, W, C) of the images.
        classes: the number of outputs.
        widths: output channels of the convolutions, called conv1, conv2, ...; a pool stands in every second.
        dense: outputs of the hidden dense layers, called dense1, dense2, ...
        kernel: the threshold kernel of the convolutions; None is the plain sign.
        conventions: how signs and thresholds are meant.
        estimator: the gradient of the signs, of activations and weights.
        epsilon: the batch norms'.

    Returns:
        Images (N, C, H, W), uint8 or floats holding integers, to (N, classes).

    Raises:
        RefdesignError: a map too small for its pools.

    >>> model = binarynet((8, 8, 1), 10, widths=(4, 8), dense=(16,))
    >>> [name for name, _ in model.named_children()]
    ['pixels', 'conv1', 'conv2', 'flatten', 'dense1', 'dense2']
    """
    height, width, channels = input_shape
    layers: OrderedDict[str, nn.Module] = OrderedDict(pixels=PixelInput())
    for index, out in enumerate(widths):
        pooled = index % 2 == 1
        if pooled and min(height, width) < 2:
            raise RefdesignError(f"binarynet, widths: found a pool in conv{index + 1} on a map {(height, width)}")
        layers[f"conv{index + 1}"] = BinaryLayer(
            BinaryConv2d(channels, out, 3, padding=1, padding_mode="symmetric", estimator=estimator),
            pool=nn.MaxPool2d(2) if pooled else None,
            batch_norm=nn.BatchNorm2d(out, eps=epsilon),
            activation=Sign(conventions, estimator=estimator)
            if kernel is None
            else DeSign(kernel, conventions, estimator=estimator),
        )
        channels = out
        if pooled:
            height, width = height // 2, width // 2
    layers["flatten"] = nn.Flatten()
    features = height * width * channels
    outputs = (*dense, classes)
    for index, out in enumerate(outputs):
        layers[f"dense{index + 1}"] = BinaryLayer(
            BinaryLinear(features, out, estimator=estimator),
            batch_norm=nn.BatchNorm1d(out, eps=epsilon),
            activation=Sign(conventions, estimator=estimator) if index + 1 < len(outputs) else None,
        )
        features = out
    return nn.Sequential(layers)


def vgg_small(**architecture: Any) -> BinaryNetwork:
    """The ReCU code's VGG-small, to be trained; the arguments are those of `refdesign.models.vgg_small`.

    Weights are binarised by ReCU, signs have its polynomial gradient. Under `conventions=RELEASED_TORCH` batch norms
    are the released code's; by default they are PyTorch's.

    Args:
        architecture: `input_shape`, `classes`, `width`, `kernel`, `conventions`.

    Raises:
        RefdesignError: as the reference's, and an arithmetic that PyTorch's modules do not compute.

    >>> type(vgg_small(width=1 / 32).layers["conv1"].product.binariser).__name__
    'ReCU'
    """
    return _recu(models.vgg_small, architecture)


def resnet18(**architecture: Any) -> BinaryNetwork:
    """The ReCU code's ResNet-18, to be trained; as `vgg_small`.

    >>> len(resnet18(width=1 / 16).layers)
    19
    """
    return _recu(models.resnet18, architecture)


def resnet20(**architecture: Any) -> BinaryNetwork:
    """The ReCU code's ResNet-20, to be trained; as `vgg_small`.

    >>> len(resnet20(width=1 / 4).layers)
    21
    """
    return _recu(models.resnet20, architecture)


def _recu(make: Callable[..., Network], architecture: dict[str, Any]) -> BinaryNetwork:
    """The reference's architecture with new parameters of PyTorch's own."""
    conventions = architecture.pop("conventions", PAPER.replace(threshold_scale="gamma", arithmetic="torch"))
    blank = make(conventions=conventions, **architecture)
    module = network_module(blank, estimator="polynomial", binariser=ReCU)
    for part in module.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d, RealLinear, LatentWeights)):
            part.reset_parameters()
    return module.train()
