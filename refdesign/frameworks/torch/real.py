"""Where real numbers remain, as modules: released batch norm, grid weights, several bases, averages, a last layer."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refdesign.errors import RefdesignError
from refdesign.frameworks.torch.binarisers import abc_bases
from refdesign.frameworks.torch.layers import BinaryConv2d
from refdesign.network import Pair

_INPUTS = 128
"""Inputs of a real last layer whose products are held at a time."""


class ReleasedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm of the authors' PyTorch code: in eval mode gamma*((x - mean)/sqrt(variance + epsilon)) + beta.

    Each operation is rounded on its own: the float program `"released_torch"` (docs/method.md, section 3). In training
    mode it is PyTorch's own batch norm.

    >>> module = ReleasedBatchNorm2d(2).eval()
    >>> bool((module(torch.ones(1, 2, 1, 1)) < 1).all())
    True
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        return super().forward(x) if self.training else _released(self, x)


class ReleasedBatchNorm1d(nn.BatchNorm1d):
    """`ReleasedBatchNorm2d` over (N, C).

    >>> ReleasedBatchNorm1d(2).eval()(torch.zeros(1, 2)).tolist()
    [[0.0, 0.0]]
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C) to the same."""
        return super().forward(x) if self.training else _released(self, x)


def _released(module: nn.BatchNorm1d | nn.BatchNorm2d, x: Tensor) -> Tensor:
    if module.running_mean is None or module.running_var is None:
        raise RefdesignError("ReleasedBatchNorm: found no running statistics, expected them in eval mode")
    shape = (-1,) + (1,) * (x.ndim - 2)
    # torch.sqrt of float32 is MKL's in some builds, and on some CPUs not correctly rounded there; this is everywhere.
    root = (module.running_var + module.eps).double().sqrt().float()
    standard = (x - module.running_mean.view(shape)) / root.view(shape)
    if not module.affine:
        return standard
    return module.weight.view(shape) * standard + module.bias.view(shape)


class _RoundStraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return torch.round(x)

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        return gradients[0]


class GridConv2d(BinaryConv2d):
    """A real first layer whose weights stay on a fixed-point grid, so that sums over integer pixels are exact.

    The latent weights lie in [-1, 1]; the integers nearest to limit*weight are used (with the identity's gradient).
    The grid's step, per output channel, is the scale alpha of the sums.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, padding_mode, dilation, groups: as in `BinaryConv2d`.
        step: the grid's step to start from; None for sums without a scale.
        limit: integers go from -limit to +limit; at most 2**21.

    Raises:
        RefdesignError: a value out of range, naming the field.

    >>> conv = GridConv2d(1, 2, 3, step=2.0**-7)
    >>> conv(torch.full((1, 1, 3, 4), 255.0)).shape
    torch.Size([1, 2, 1, 2])
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
        step: float | None = 2.0**-7,
        limit: int = 127,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride=stride, padding=padding, padding_mode=padding_mode,
            dilation=dilation, groups=groups,
        )  # fmt: skip
        if not 1 <= limit <= 2**21:
            raise RefdesignError(f"GridConv2d, limit: found {limit}, expected from 1 to 2**21")
        self.limit = limit
        self.alpha = None if step is None else nn.Parameter(torch.full((out_channels,), step))

    def binarised(self) -> tuple[Tensor, Tensor | None]:
        """The integers in use, as floats, and the scale (O,), or None."""
        round_through: Callable[[Tensor], Tensor] = _RoundStraightThrough.apply
        return round_through(self.weight.clamp(-1, 1) * self.limit), self.alpha

    def sums(self, x: Tensor, weight: Tensor) -> Tensor:
        """The sums, taken in float64, which holds every partial sum exactly; float32 holds them up to 2**24."""
        return super().sums(x.double(), weight.double()).float()


class CombinedConv2d(BinaryConv2d):
    """Several binary bases, each with a latent weight and real scales of its own: v = s0*a0 + s1*a1 + ..., in order.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, padding_mode, dilation, groups, estimator: as in
            `BinaryConv2d`.
        bases: M, at least 1.

    >>> CombinedConv2d(2, 4, 1, bases=3)(torch.ones(1, 2, 3, 5)).shape
    torch.Size([1, 4, 3, 5])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        *,
        bases: int,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        padding_mode: str = "zeros",
        dilation: int | Pair = 1,
        groups: int = 1,
        estimator: str = "clipped",
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride=stride, padding=padding, padding_mode=padding_mode,
            dilation=dilation, groups=groups, estimator=estimator,
        )  # fmt: skip
        if bases < 1:
            raise RefdesignError(f"CombinedConv2d, bases: found {bases}, expected at least 1")
        shape = tuple(self.weight.shape)
        self.weight = nn.Parameter(torch.stack([torch.empty_like(self.weight) for _ in range(bases)]))
        bound = 1 / self.weight[0, 0].numel() ** 0.5
        nn.init.uniform_(self.weight, -bound, bound)
        self.scales = nn.Parameter(torch.full((bases, shape[0]), bound))

    def planes(self) -> tuple[Tensor, Tensor]:
        """Bits (M, O, I/groups, rows, columns) and scales (M, O)."""
        bits, _ = self.binariser(self.weight)
        return bits, self.scales

    def forward(self, x: Tensor) -> Tensor:
        """v (N, O, H', W') of x (N, I, H, W); every product and sum rounded on its own."""
        bits, scales = self.planes()
        total = self.sums(x, bits[0]) * scales[0][:, None, None]
        for plane, scale in zip(bits[1:], scales[1:], strict=True):
            total = total + self.sums(x, plane) * scale[:, None, None]
        return total


class ABCConv2d(CombinedConv2d):
    """ABC-Net's convolution: one latent weight, whose bases and scales `binarisers.abc_bases` makes.

    >>> conv = ABCConv2d(2, 4, 3, bases=3)
    >>> conv.weight.shape, conv.planes()[0].shape
    (torch.Size([4, 2, 3, 3]), torch.Size([3, 4, 2, 3, 3]))
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int | Pair, **geometry: object) -> None:
        super().__init__(in_channels, out_channels, kernel_size, **geometry)  # type: ignore[arg-type]
        self.bases = int(self.weight.shape[0])
        self.weight = nn.Parameter(self.weight.detach()[0].clone())
        self.register_parameter("scales", None)

    def planes(self) -> tuple[Tensor, Tensor]:
        return abc_bases(self.weight, self.bases, self.binariser.estimator)


class AveragePool2d(nn.Module):
    """The mean over each window: sums row by row, then one division, every step rounded (a named order).

    Args:
        size: rows and columns of a window, and the distance between windows.

    >>> AveragePool2d((2, 1))(torch.tensor([[[[1.0], [4.0], [9.0]]]])).tolist()
    [[[[2.5]]]]
    """

    def __init__(self, size: Pair) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H // rows, W // columns)."""
        rows, columns = self.size
        height, width = int(x.shape[2]) // rows * rows, int(x.shape[3]) // columns * columns
        views = [x[:, :, i:height:rows, j:width:columns] for i in range(rows) for j in range(columns)]
        total = views[0]
        for view in views[1:]:
            total = total + view
        return total / len(views)


class RealLinear(nn.Linear):
    """A real last layer; in eval mode its products are summed in input order in float64 and rounded once.

    Args:
        in_features, out_features: I and O.
        bias: whether there is one.
        batch_norm: of the inputs, or None.

    >>> RealLinear(3, 2).eval()(torch.ones(5, 3)).shape
    torch.Size([5, 2])
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *, batch_norm: nn.BatchNorm1d | None = None
    ) -> None:
        super().__init__(in_features, out_features, bias)
        self.batch_norm = batch_norm

    def forward(self, x: Tensor) -> Tensor:
        """(N, I) to (N, O)."""
        if self.batch_norm is not None:
            x = self.batch_norm(x)
        if self.training:
            return F.linear(x, self.weight, self.bias)
        total = _in_order(x.double().T, self.weight.double().T)
        if self.bias is not None:
            total = total + self.bias.double()
        return total.to(x.dtype)


def _in_order(values: Tensor, columns: Tensor) -> Tensor:
    """The sums (N, O) of values (I, N) times columns (I, O), float64, rounded after each input, from the first on.

    A product of two float32 is exact in float64: the sum alone is rounded, fused or not.
    """
    total = values.new_zeros((1, values.shape[1], columns.shape[1]))
    if values.device.type != "cpu":
        for value, weights in zip(values, columns, strict=True):
            total = total + value[:, None] * weights
        return total[0]
    # On the CPU a cumulative sum is taken one after the other along its axis; elsewhere it is a tree.
    for start in range(0, columns.shape[0], _INPUTS):
        some = slice(start, start + _INPUTS)
        products = values[some, :, None] * columns[some, None]
        total = torch.cat([total, products]).cumsum(0)[-1:]
    return total[0]
