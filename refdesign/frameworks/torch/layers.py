"""Binary convolutions and dense layers on latent real weights."""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refdesign.errors import RefdesignError
from refdesign.frameworks.torch.binarisers import Binariser
from refdesign.frameworks.torch.design import DeSign
from refdesign.frameworks.torch.padding import pad
from refdesign.network import PADDING_MODES, Pair
from refdesign.ops.padding import as_pair

EXACT_FLOAT32 = 2**24
"""Sums of integers up to here are exact in float32, in any order."""


class PixelInput(nn.Module):
    """x = multiplier*p + offset: 8-bit pixels as integers in float32; all scale is left to the batch norm.

    Feeding integers keeps every sum of the first layer exact, in any order and on any device.

    Attributes:
        multiplier, offset: (2, -255) centres the pixels around zero.

    >>> PixelInput()(torch.tensor([[[[0, 255]]]], dtype=torch.uint8)).tolist()
    [[[[-255.0, 255.0]]]]
    """

    def __init__(self, multiplier: int = 2, offset: int = -255) -> None:
        super().__init__()
        self.multiplier = multiplier
        self.offset = offset

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (uint8, or floats that hold integers; any shape) to float32 of the same shape."""
        return pixels.to(torch.float32) * self.multiplier + self.offset


class LatentWeights(nn.Module):
    """What binary layers share: real latent weights, used by their sign, trained straight through.

    Attributes:
        weight: the latent weights; a weight of exactly 0 counts as +1.
        binariser: from latent weights to bits, and a scale where it has one.
        accumulator: passes the integer sums through, before any scale; a place for hooks.
    """

    def __init__(self, shape: tuple[int, ...], estimator: str, binariser: Binariser | None) -> None:
        super().__init__()
        fan_in = math.prod(shape[1:])
        if min(shape) < 1 or fan_in > EXACT_FLOAT32:
            raise RefdesignError(
                f"{type(self).__name__}, weight: found shape {shape}, expected at least 1 on every axis "
                f"and at most {EXACT_FLOAT32} inputs (sums beyond are not exact in float32)"
            )
        self.binariser = Binariser(estimator) if binariser is None else binariser
        self.accumulator = nn.Identity()
        self.weight = nn.Parameter(torch.empty(shape))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the latent weights uniformly between ±1/sqrt(fan_in), as PyTorch's own layers do."""
        bound = 1 / math.sqrt(self.weight[0].numel())
        nn.init.uniform_(self.weight, -bound, bound)

    def binary_weight(self) -> Tensor:
        """The weights in use: +1 and -1, in the shape of `weight`, with the estimator's gradient."""
        bits, _ = self.binarised()
        return bits

    def binarised(self) -> tuple[Tensor, Tensor | None]:
        """The bits in use, and the scale (O,) of their sums, or None."""
        found: tuple[Tensor, Tensor | None] = self.binariser(self.weight)
        return found


class BinaryConv2d(LatentWeights):
    """A convolution with weights of ±1 over NCHW maps; on ±1 or integer inputs its sums are exact integers on the CPU.

    On CUDA they are as long as cuDNN chooses no transform of its inputs (Winograd's fractions round), which has not
    been measured; `FoldedNetwork` multiplies matrices, whose sums are exact everywhere.

    Args:
        in_channels, out_channels: I and O; both divisible by `groups`.
        kernel_size, stride, padding, dilation: an integer or (rows, columns).
        padding_mode: one of `refdesign.network.PADDING_MODES` (docs/method.md, section 2).
        groups: independent groups of channels.
        estimator: the gradient of the weights' sign.
        binariser: ReCU, XNOR-Net, ... (`refdesign.frameworks.torch.binarisers`); None is the plain sign.

    Raises:
        RefdesignError: a value out of range, naming the field.

    >>> conv = BinaryConv2d(3, 4, 3, padding=1, padding_mode="symmetric")
    >>> conv.weight.shape, conv(torch.ones(2, 3, 5, 7)).shape
    (torch.Size([4, 3, 3, 3]), torch.Size([2, 4, 5, 7]))
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        *,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        padding_mode: str = "zeros",
        dilation: int | Pair = 1,
        groups: int = 1,
        estimator: str = "clipped",
        binariser: Binariser | None = None,
    ) -> None:
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise RefdesignError(
                f"BinaryConv2d, groups: found {groups}, expected a divisor of {in_channels} and {out_channels} channels"
            )
        if padding_mode not in PADDING_MODES:
            raise RefdesignError(
                f"BinaryConv2d, padding_mode: found {padding_mode!r}, expected one of {', '.join(PADDING_MODES)}"
            )
        size = as_pair("BinaryConv2d, kernel_size", kernel_size, 1)
        super().__init__((out_channels, in_channels // groups, *size), estimator, binariser)
        self.stride = as_pair("BinaryConv2d, stride", stride, 1)
        self.padding = as_pair("BinaryConv2d, padding", padding, 0)
        self.padding_mode = padding_mode
        self.dilation = as_pair("BinaryConv2d, dilation", dilation, 1)
        self.groups = groups

    def extra_repr(self) -> str:
        """The shape and the geometry, for `print(module)`."""
        return (
            f"weight={tuple(self.weight.shape)}, stride={self.stride}, padding={self.padding}, "
            f"padding_mode={self.padding_mode!r}, dilation={self.dilation}, groups={self.groups}"
        )

    def forward(self, x: Tensor) -> Tensor:
        """Accumulators (N, O, H', W') of x (N, I, H, W), times the binariser's scale where it has one."""
        bits, scale = self.binarised()
        sums = self.sums(x, bits)
        return sums if scale is None else sums * scale[:, None, None]

    def sums(self, x: Tensor, weight: Tensor) -> Tensor:
        """The convolution's sums with given weights (O, I/groups, rows, columns), unscaled."""
        padded = pad(x, self.padding, self.padding_mode)
        sums: Tensor = self.accumulator(F.conv2d(padded, weight, None, self.stride, 0, self.dilation, self.groups))
        return sums


class BinaryLinear(LatentWeights):
    """A dense layer with weights of ±1 and no bias; on inputs of ±1 its sums are exact integers.

    Args:
        in_features, out_features: I and O.
        estimator: the gradient of the weights' sign.
        binariser: as in `BinaryConv2d`.

    >>> BinaryLinear(5, 3)(torch.ones(2, 5)).shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        estimator: str = "clipped",
        binariser: Binariser | None = None,
    ) -> None:
        super().__init__((out_features, in_features), estimator, binariser)

    def extra_repr(self) -> str:
        """The shape, for `print(module)`."""
        return f"weight={tuple(self.weight.shape)}"

    def forward(self, x: Tensor) -> Tensor:
        """Accumulators (N, O) of x (N, I), times the binariser's scale where it has one."""
        bits, scale = self.binarised()
        sums = self.sums(x, bits)
        return sums if scale is None else sums * scale

    def sums(self, x: Tensor, weight: Tensor) -> Tensor:
        """The sums with given weights (O, I), unscaled."""
        sums: Tensor = self.accumulator(F.linear(x, weight))
        return sums


class BinaryLayer(nn.Module):
    """One layer of the reference: product, optional max pool, batch norm, optional (dithered) sign.

    The same modules in an `nn.Sequential` do the same, except that here DeSign gets the batch norm's gamma (1 where
    there is none).

    Attributes:
        product: `BinaryConv2d` or `BinaryLinear`.
        pool: `nn.MaxPool2d`, or None.
        batch_norm: `nn.BatchNorm2d` or `nn.BatchNorm1d`, or None.
        activation: `DeSign` or `Sign`; None leaves y, as in a last layer.

    >>> layer = BinaryLayer(BinaryLinear(5, 4), batch_norm=nn.BatchNorm1d(4))
    >>> layer(torch.ones(2, 5)).shape
    torch.Size([2, 4])
    """

    def __init__(
        self,
        product: BinaryConv2d | BinaryLinear,
        *,
        pool: nn.MaxPool2d | None = None,
        batch_norm: nn.BatchNorm1d | nn.BatchNorm2d | None = None,
        activation: DeSign | None = None,
    ) -> None:
        super().__init__()
        self.product = product
        self.pool = pool
        self.batch_norm = batch_norm
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """The layer's bits, or y in a layer without activation."""
        y = cast(Tensor, self.product(x))
        if self.pool is not None:
            y = self.pool(y)
        gamma = y.new_ones(y.shape[1])
        if self.batch_norm is not None:
            y = self.batch_norm(y)
            gamma = self.batch_norm.weight if self.batch_norm.affine else gamma
        return y if self.activation is None else self.activation(y, gamma)


def clamp_latent(module: nn.Module) -> None:
    """Clamp all latent weights below `module` to [-1, 1], in place; BinaryNet does so after every step.

    A latent weight beyond ±1 has no influence on its sign and, under the clipped estimator, no gradient to return.

    >>> layer = BinaryLinear(2, 1)
    >>> with torch.no_grad():
    ...     _ = layer.weight.fill_(3.0)
    >>> clamp_latent(layer)
    >>> layer.weight.tolist()
    [[1.0, 1.0]]
    """
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, LatentWeights):
                part.weight.clamp_(-1, 1)
