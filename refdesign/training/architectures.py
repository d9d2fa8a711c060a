"""The module that a configuration describes, ready to be trained and exported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from refdesign.errors import RefdesignError, missing_extra
from refdesign.models.builder import scaled
from refdesign.parameters import NO_DITHER, ThresholdKernel
from refdesign.training.configuration import Configuration

try:
    from torch import nn
except ImportError as error:
    raise missing_extra("train", "torch") from error

from refdesign import models
from refdesign.conventions import PAPER
from refdesign.frameworks.torch.binarisers import Binariser, DoReFa, ReCU, XNORNet
from refdesign.frameworks.torch.design import DeSign
from refdesign.frameworks.torch.layers import BinaryConv2d, BinaryLayer, BinaryLinear
from refdesign.frameworks.torch.models import binarynet, resnet18, resnet20, vgg_small
from refdesign.frameworks.torch.real import ABCConv2d, GridConv2d
from refdesign.frameworks.torch.residual import BinaryNetwork, Stage
from refdesign.frameworks.torch.restore import network_module
from refdesign.training.kernels import activation_kernel

WIDTHS, DENSE = (128, 128, 256, 256, 512, 512), (1024, 1024)
"""BinaryNet's, before the width multiplier."""

_RECU_MODELS: dict[str, Callable[..., BinaryNetwork]] = {
    "vgg_small": vgg_small, "resnet18": resnet18, "resnet20": resnet20
}  # fmt: skip
_BINARISERS: dict[str, Callable[[int], Binariser]] = {
    "sign": lambda channels: Binariser(),
    "recu": ReCU,
    "xnor": lambda channels: XNORNet(),
    "dorefa": lambda channels: DoReFa(),
}


def build(configuration: Configuration, input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """The untrained module; its parameters come from PyTorch's global generator.

    Args:
        configuration: which network.
        input_shape: (H, W, C) of the images.
        classes: the number of outputs.

    Returns:
        A sequential BinaryNet, or a `BinaryNetwork`: what `to_network` exports.

    Raises:
        RefdesignError: a kernel whose slices do not divide a layer's channels, or images too small.

    >>> type(build(Configuration(width=0.1), (8, 8, 3), 10)).__name__
    'Sequential'
    """
    kernel = activation_kernel(
        configuration.activation,
        seed=configuration.seed,
        scale=configuration.kernel_scale,
        centred=configuration.kernel_centred,
    )
    _check_slices(configuration, kernel)
    if configuration.model != "binarynet":
        make = _RECU_MODELS[configuration.model]
        module: nn.Module = make(input_shape=input_shape, classes=classes, width=configuration.width, kernel=kernel)
    elif configuration.used_binariser != "sign":
        module = _binarynet_of_stages(configuration, input_shape, classes, kernel)
    else:
        module = binarynet(
            input_shape,
            classes,
            widths=[scaled(width, configuration.width) for width in _widths(input_shape)],
            dense=[scaled(width, configuration.width) for width in DENSE],
            kernel=kernel,
        )
    _choose_activations(module, configuration)
    _choose_binarisers(module, configuration)
    _choose_batch_norms(module, configuration)
    return module


def _widths(input_shape: tuple[int, int, int]) -> tuple[int, ...]:
    """Two convolutions for each pool that the map can stand: four on 8x8 digits, all six from 32x32 on."""
    pools = min(3, max(1, min(input_shape[:2]).bit_length() - 2))
    return WIDTHS[: 2 * pools]


def _binarynet_of_stages(
    configuration: Configuration, input_shape: tuple[int, int, int], classes: int, kernel: ThresholdKernel | None
) -> BinaryNetwork:
    """BinaryNet as a `BinaryNetwork`, which scales behind the pools and can hold layers of several bases."""
    blank = models.binarynet(
        input_shape=input_shape,
        classes=classes,
        widths=[scaled(width, configuration.width) for width in _widths(input_shape)],
        dense=[scaled(width, configuration.width) for width in DENSE],
        kernel=kernel,
        conventions=PAPER.replace(arithmetic="torch"),
    )
    module = network_module(blank)
    for part in module.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d, BinaryConv2d, BinaryLinear)):
            part.reset_parameters()
    return module.train()


def _layers(module: nn.Module) -> list[BinaryLayer | Stage]:
    return [part for part in module.modules() if isinstance(part, (BinaryLayer, Stage))]


def _choose_activations(module: nn.Module, configuration: Configuration) -> None:
    """Each activation with the estimator that is asked for, dithered or not."""
    left = configuration.dithered
    for layer in _layers(module):
        old = layer.activation
        if old is None:
            continue
        kernel = old.kernel
        if kernel.values.any() and configuration.dithered >= 0:
            kernel = kernel if left > 0 else NO_DITHER
            left -= 1
        layer.activation = DeSign(kernel, old.conventions, estimator=configuration.used_estimator)


def _choose_binarisers(module: nn.Module, configuration: Configuration) -> None:
    """The binariser of all binary convolutions behind the first layer."""
    name = configuration.used_binariser
    if name == ("sign" if configuration.model == "binarynet" else "recu"):
        return
    for layer in _layers(module)[1:]:
        old = layer.product
        if not isinstance(old, BinaryConv2d) or isinstance(old, GridConv2d):
            continue
        if name != "abc":
            old.binariser = _BINARISERS[name](old.weight.shape[0])
            continue
        geometry: dict[str, Any] = {
            "stride": old.stride, "padding": old.padding, "padding_mode": old.padding_mode,
            "dilation": old.dilation, "groups": old.groups,
        }  # fmt: skip
        out, inputs, rows, columns = old.weight.shape
        layer.product = ABCConv2d(
            inputs * old.groups, out, (rows, columns), bases=configuration.bases, estimator="identity", **geometry
        )


def _choose_batch_norms(module: nn.Module, configuration: Configuration) -> None:
    """Without centre or scale beta and gamma stay where they start, at 0 and 1."""
    for part in module.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            part.weight.requires_grad_(configuration.batch_norm_scale)
            part.bias.requires_grad_(configuration.batch_norm_centre)


def _check_slices(configuration: Configuration, kernel: ThresholdKernel | None) -> None:
    narrowest = {"binarynet": 128, "vgg_small": 128, "resnet18": 64, "resnet20": 16}[configuration.model]
    channels = scaled(narrowest, configuration.width)
    if kernel is not None and channels % kernel.shape[2]:
        raise RefdesignError(
            f"activation: found a kernel of {kernel.shape[2]} slices for layers of {channels} channels "
            f"(width {configuration.width}), expected a divisor"
        )
