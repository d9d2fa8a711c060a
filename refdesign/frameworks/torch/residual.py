"""Networks with a real stream: the residual ReCU models and their relatives, as one trainable module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from refdesign.conventions import Conventions
from refdesign.errors import RefdesignError
from refdesign.frameworks.torch.design import DeSign
from refdesign.frameworks.torch.layers import BinaryConv2d, BinaryLinear, PixelInput
from refdesign.frameworks.torch.modes import evaluating
from refdesign.frameworks.torch.real import AveragePool2d, CombinedConv2d, RealLinear
from refdesign.network import Shortcut


class Stage(nn.Module):
    """One layer from its input to its real output: product, pool, batch norm, dither, shortcut, hardtanh.

    The order is that of `refdesign.network.Stage`. The sign is the network's business: it needs the real stream too.

    Args:
        product: a convolution or dense layer; its scale is applied behind the pool, where the sums are still integers.
        pool: a max pool over the sums.
        batch_norm: PyTorch's, or the released one.
        activation: gives the dither, and the sign with its estimator.
        shortcut: a residual addition.
        hardtanh: whether the real output is clamped to [-1, 1].
    """

    def __init__(
        self,
        product: BinaryConv2d | BinaryLinear,
        activation: DeSign,
        *,
        pool: nn.MaxPool2d | None = None,
        batch_norm: nn.BatchNorm1d | nn.BatchNorm2d | None = None,
        shortcut: Shortcut | None = None,
        hardtanh: bool = False,
    ) -> None:
        super().__init__()
        self.product = product
        self.activation = activation
        self.pool = pool
        self.batch_norm = batch_norm
        self.shortcut = shortcut
        self.hardtanh = hardtanh
        self.average = AveragePool2d((shortcut.average_pool,) * 2) if shortcut else None

    def normalised(self, x: Tensor, kept: dict[str, Tensor]) -> Tensor:
        """y, the batch norm's output; `kept` gets `accumulator` and `pooled`."""
        if isinstance(self.product, CombinedConv2d):
            y: Tensor = self.product(x)
            y = y if self.pool is None else self.pool(y)
        else:
            bits, scale = self.product.binarised()
            y = self.product.sums(x, bits)
            kept["accumulator"] = y
            if self.pool is not None:
                y = self.pool(y)
                kept["pooled"] = y
            if scale is not None:
                y = y * scale.view(-1, *(1,) * (y.ndim - 2))
        return y if self.batch_norm is None else self.batch_norm(y)

    def forward(self, x: Tensor, real: Mapping[str, Tensor], kept: dict[str, Tensor]) -> Tensor:
        """The real output.

        Args:
            x: pixels or bits, (N, I, H, W), or (N, I).
            real: the real outputs of earlier layers, by name.
            kept: gets `accumulator` and `pooled`.
        """
        y = self.normalised(x, kept)
        gamma = y.new_ones(y.shape[1])
        if self.batch_norm is not None and self.batch_norm.affine:
            gamma = self.batch_norm.weight
        z = self.activation.dithered(y, gamma)
        if self.shortcut is not None and self.average is not None:
            arriving = real[self.shortcut.source]
            if self.shortcut.average_pool > 1:
                arriving = self.average(arriving)
            z = z + F.pad(arriving, (0, 0, 0, 0, *self.shortcut.channel_padding))
        return F.hardtanh(z) if self.hardtanh else z


class BinaryNetwork(nn.Module):
    """A network of stages, averages and a real last layer; each stage reads the sign of the one before.

    `to_network` and `from_network` translate it. Maps are NCHW; a dense layer reads them in the reference's order,
    (row, column, channel).

    Args:
        pixels: what the first layer reads of the images.
        layers: by name, in order of execution: `Stage`, `AveragePool2d` or `RealLinear`.
        conventions: the choices that all stages follow, and the arithmetic that the batch norms compute.

    >>> from refdesign.frameworks.torch.models import resnet20
    >>> resnet20(input_shape=(8, 12, 3), classes=10, width=0.25)(torch.zeros(2, 3, 8, 12)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        pixels: PixelInput,
        layers: Mapping[str, Stage | AveragePool2d | RealLinear],
        conventions: Conventions,
    ) -> None:
        super().__init__()
        self.pixels = pixels
        self.layers = nn.ModuleDict(dict(layers))
        self.conventions = conventions

    def forward(self, images: Tensor) -> Tensor:
        """The logits of images (N, C, H, W), uint8 or floats holding integers."""
        return self.trace(images)["logits"]

    def trace(self, images: Tensor) -> dict[str, Tensor]:
        """Every layer's outputs by the reference's names, NCHW, and `logits`; real outputs of all layers."""
        outputs: dict[str, Tensor] = {}
        real: dict[str, Tensor] = {}
        x = self.pixels(images)
        before = ""
        names = list(self.layers)
        for name, module in self.layers.items():
            last = name == names[-1]
            if isinstance(module, Stage):
                kept: dict[str, Tensor] = {}
                x = _flat(x) if isinstance(module.product, BinaryLinear) else x
                # The last layer's output has neither dither nor sign.
                value = module.normalised(x, kept) if last else module(x, real, kept)
                outputs.update({f"{name}.{kind}": tensor for kind, tensor in kept.items()})
            else:
                value = module(_flat(real[before]) if isinstance(module, RealLinear) else real[before])
            real[name] = value
            outputs["logits" if last else f"{name}.real"] = value
            if isinstance(module, Stage) and not last:
                x = module.activation.sign(value)
                outputs[f"{name}.bits"] = x
            before = name
        return outputs


def _flat(x: Tensor) -> Tensor:
    """A map's pixels in the reference's order: (row, column, channel)."""
    return x.permute(0, 2, 3, 1).flatten(1) if x.ndim == 4 else x


def network_outputs(
    module: BinaryNetwork, names: tuple[str, ...], images: NDArray[np.uint8]
) -> dict[str, NDArray[Any]]:
    """What a `BinaryNetwork` computes in eval mode, as `Network.run` gives it: NHWC, by name.

    Args:
        module: its mode is restored afterwards.
        names: the outputs asked for.
        images: uint8, (N, H, W, C).

    Raises:
        RefdesignError: images of another dtype or number of axes, a name that it has not.

    >>> from refdesign.frameworks.torch.models import vgg_small
    >>> model = vgg_small(input_shape=(8, 9, 3), classes=5, width=1 / 32)
    >>> network_outputs(model, ("conv1.bits",), np.zeros((2, 8, 9, 3), np.uint8))["conv1.bits"].shape
    (2, 4, 4, 4)
    """
    if images.dtype != np.uint8 or images.ndim != 4:
        raise RefdesignError(f"images: found {images.dtype} of shape {images.shape}, expected uint8 (N, H, W, C)")
    with evaluating(module):
        device = next(module.parameters()).device
        traced = module.trace(torch.tensor(images, device=device).permute(0, 3, 1, 2))
    missing = [name for name in names if name not in traced]
    if missing:
        raise RefdesignError(f"outputs: found {missing[0]!r}, expected some of {', '.join(traced)}")
    integers = _gives_integers(list(module.layers.values())[-1])
    return {name: as_output(name, traced[name], integers and name == "logits") for name in names}


_INTEGERS = {"accumulator": np.int32, "pooled": np.int32, "bits": np.int8}


def as_output(name: str, value: Tensor, integers: bool = False) -> NDArray[Any]:
    """An output in the reference's type and layout, on the host.

    Args:
        name: as in `Network.run`; its last part says whether the values are integers.
        value: NCHW or (N, C).
        integers: whether they are integers (int32) whatever the name says.

    Raises:
        RefdesignError: values that are no integers where there must be some.

    >>> as_output("conv1.bits", torch.tensor([[-1.0, 1.0]]))
    array([[-1,  1]], dtype=int8)
    """
    array: NDArray[Any] = (value.permute(0, 2, 3, 1) if value.ndim == 4 else value).cpu().contiguous().numpy()
    kind = np.int32 if integers else _INTEGERS.get(name.rpartition(".")[2])
    if kind is None:
        return array
    found = array.astype(kind)
    if np.any(found != array):
        raise RefdesignError(f"output {name!r}: found values that are no integers; the input must be PixelInput's")
    return found


def _gives_integers(last: nn.Module) -> bool:
    return isinstance(last, Stage) and last.batch_norm is None and not isinstance(last.product, CombinedConv2d)
