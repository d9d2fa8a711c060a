"""The folded layers as PyTorch modules: integers from pixels to bits, so that every device and compilation agrees.

Sums of products are taken in a float type that holds every partial sum exactly, as one matrix product over gathered
windows: no order of summation, no fused multiply-add and no reduced precision of ±1 can change them (a library's own
convolution may transform its inputs, which rounds). Everything behind them is integer comparison.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from refdesign.bits import PackedBits, unpack
from refdesign.errors import RefdesignError
from refdesign.fold import Thresholds
from refdesign.frameworks.torch.layers import EXACT_FLOAT32
from refdesign.frameworks.torch.padding import pad
from refdesign.network import BinaryConv2d as BinaryConv2dData
from refdesign.network import BinaryDense, Convolution, NetworkData, Pair, PixelConv2d, accumulator_domain
from refdesign.ops.batch_norm import batch_norm
from refdesign.ops.dither import phases
from refdesign.paths import thresholds_of

TABLE_ENTRIES = 2**22
"""A last batch norm is a table over its attainable accumulators, up to this many entries."""

_EXACT_FLOAT64 = 2**53


class FoldedConv2d(nn.Module):
    """Integer accumulators of a convolution: bits or pixels (N, H, W, I) to int32 (N, H', W', O).

    Args:
        layer: gives the geometry, and for pixels the multiplier and offset.
        weights: (O, rows, columns, I/groups), integers.

    Raises:
        RefdesignError: sums that float64 cannot hold exactly.

    >>> from refdesign.bits import pack
    >>> layer = BinaryConv2dData(name="c", weights=pack([[[[1, -1]], [[1, 1]]]]))
    >>> FoldedConv2d(layer, unpack(layer.weights))(torch.ones(1, 3, 2, 2, dtype=torch.int8)).flatten().tolist()
    [2, 2, 2, 2]
    """

    weights: Tensor

    def __init__(self, layer: Convolution, weights: NDArray[np.int8] | NDArray[np.int32]) -> None:
        super().__init__()
        out, rows, columns, depth = weights.shape
        self.out, self.kernel = out, (rows, columns)
        self.stride, self.padding, self.dilation = layer.stride, layer.padding, layer.dilation
        self.padding_mode, self.groups = layer.padding_mode, layer.groups
        self.affine = (layer.multiplier, layer.offset) if isinstance(layer, PixelConv2d) else None
        largest = 1
        if isinstance(layer, PixelConv2d):
            largest = max(abs(layer.offset), abs(255 * layer.multiplier + layer.offset), 1)
        heaviest = int(np.abs(weights.astype(np.int64)).sum(axis=(1, 2, 3)).max())
        if largest * heaviest >= _EXACT_FLOAT64:
            raise RefdesignError(
                f"layer {layer.name!r}, weights: magnitudes sum to {largest * heaviest}, expected less than 2**53"
            )
        # float32 only for ±1, which every reduced precision holds too.
        exact = torch.float32 if self.affine is None and heaviest <= EXACT_FLOAT32 else torch.float64
        grouped = weights.reshape(self.groups, out // self.groups, rows, columns, depth).transpose(0, 1, 4, 2, 3)
        matrix = np.ascontiguousarray(grouped.reshape(self.groups, out // self.groups, -1))
        self.register_buffer("weights", torch.from_numpy(matrix).to(exact))

    def forward(self, x: Tensor) -> Tensor:
        """Accumulators, int32 (N, H', W', O)."""
        values = x.permute(0, 3, 1, 2).to(self.weights.dtype)
        if self.affine is not None:
            values = values * self.affine[0] + self.affine[1]
        padded = pad(values, self.padding, self.padding_mode)
        samples, _, *extents = padded.shape
        height, width = (
            (extent - dilation * (kernel - 1) - 1) // stride + 1
            for extent, dilation, kernel, stride in zip(extents, self.dilation, self.kernel, self.stride, strict=True)
        )
        windows = F.unfold(padded, self.kernel, dilation=self.dilation, stride=self.stride)
        windows = windows.reshape(samples, self.groups, self.weights.shape[2], height * width)
        sums = torch.matmul(self.weights, windows).reshape(samples, self.out, height, width)
        return sums.permute(0, 2, 3, 1).to(torch.int32)


class FoldedLinear(nn.Module):
    """Integer accumulators of a dense layer: bits (N, ...) in the order (row, column, channel) to int32 (N, O).

    >>> from refdesign.bits import pack
    >>> FoldedLinear(pack([[1, -1, 1]]))(torch.ones(2, 1, 3, 1, dtype=torch.int8)).tolist()
    [[1], [1]]
    """

    weights: Tensor

    def __init__(self, weights: PackedBits) -> None:
        super().__init__()
        exact = torch.float32 if weights.length <= EXACT_FLOAT32 else torch.float64
        self.register_buffer("weights", torch.from_numpy(unpack(weights).T.copy()).to(exact))

    def forward(self, x: Tensor) -> Tensor:
        """Accumulators, int32 (N, O)."""
        return torch.matmul(x.flatten(1).to(self.weights.dtype), self.weights).to(torch.int32)


class FoldedSign(nn.Module):
    """Integer thresholds over a map: accumulators int32 (N, H, W, C) or (N, C) to bits, int8.

    A channel fires at direction*a >= limit, with limit = direction*threshold; direction 0 with limit 0 is always +1,
    with limit 1 always -1.

    Args:
        thresholds: the fold.
        shape: (H, W, C) of the map behind the pool, or (C,).

    >>> from refdesign.conventions import PAPER
    >>> from refdesign.fold import fold
    >>> from refdesign.parameters import BatchNorm
    >>> thresholds = fold(BatchNorm([-1.0], [0.0], [0.5], [1.0], 0.0), None, fan_in=3, conventions=PAPER)
    >>> FoldedSign(thresholds, (1,))(torch.tensor([[-1], [0], [1]], dtype=torch.int32)).flatten().tolist()
    [1, 1, -1]
    """

    direction: Tensor
    limit: Tensor
    zero_low: Tensor
    zero_high: Tensor

    def __init__(self, thresholds: Thresholds, shape: tuple[int, ...]) -> None:
        super().__init__()
        period_rows, period_columns, _ = thresholds.shape
        height, width = shape[:2] if len(shape) == 3 else (1, 1)
        origin = thresholds.conventions.kernel_origin
        rows = phases(height, period_rows, origin)[:, np.newaxis]
        columns = phases(width, period_columns, origin)
        direction = thresholds.direction.astype(np.int32)
        limit = np.where(direction != 0, direction * thresholds.threshold, thresholds.constant <= 0)
        self.ternary = bool(thresholds.ternary.any())
        for name, values in (
            ("direction", direction), ("limit", limit.astype(np.int32)),
            ("zero_low", thresholds.zero_low), ("zero_high", thresholds.zero_high),
        ):  # fmt: skip
            over_map = values[rows, columns].reshape(shape)
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(over_map)))

    def forward(self, a: Tensor) -> Tensor:
        """Bits: +1 and -1, and 0 at exact ties where the convention has them."""
        bits = (self.direction * a >= self.limit).to(torch.int8) * 2 - 1
        if not self.ternary:
            return bits
        return bits.masked_fill((a >= self.zero_low) & (a <= self.zero_high), 0)


class Table(nn.Module):
    """A last batch norm as a table: the reference's own y of every attainable accumulator.

    Args:
        values: float32 (C, entries).
        low: int64 (C,), the accumulator of the first entry.
        step: between the entries.

    >>> Table(np.float32([[0.5, 1.5]]), np.int64([-1]), 2)(torch.tensor([[1], [-1]], dtype=torch.int32)).tolist()
    [[1.5], [0.5]]
    """

    values: Tensor
    first: Tensor

    def __init__(self, values: NDArray[np.float32], low: NDArray[np.int64], step: int) -> None:
        super().__init__()
        self.step = step
        self.register_buffer("values", torch.from_numpy(values).reshape(-1))
        # Entry (c, i) of the flat table is c*entries + i.
        starts = np.arange(len(values)) * values.shape[1]
        self.register_buffer("first", torch.from_numpy(starts - low // step))

    def forward(self, a: Tensor) -> Tensor:
        """y, float32, in the shape of the accumulators (..., C)."""
        # low and a are both multiples of the step apart, and floor division keeps that distance.
        return self.values[torch.div(a.to(torch.int64), self.step, rounding_mode="floor") + self.first]


class FoldedNetwork(nn.Module):
    """A whole folded network as one module: uint8 images (N, H, W, C) to all its outputs.

    It can be moved to a device, compiled with `torch.compile` and exported with `torch.export`; all give the same.

    Attributes:
        output_names: of the tensors that `forward` gives, as in `NetworkData.output_names`.

    Raises:
        RefdesignError: a layer that does not fold to integers (`compile` runs those on its other route), by name.

    >>> from refdesign.api import pretrained
    >>> digits = FoldedNetwork(pretrained("digits"))
    >>> dict(zip(digits.output_names, digits(torch.zeros(2, 8, 8, 1, dtype=torch.uint8))))["logits"].shape
    torch.Size([2, 10])
    """

    def __init__(self, network: NetworkData) -> None:
        super().__init__()
        check_integers_only(network)
        thresholds = thresholds_of(network)
        self.output_names = network.output_names
        self.products = nn.ModuleList()
        self.pools: list[tuple[Pair, Pair] | None] = []
        self.signs = nn.ModuleList()
        ternary = False
        for layer in network.layers:
            self.products.append(folded_products(layer)[0])
            pool = layer.pool  # type: ignore[attr-defined]
            self.pools.append(None if pool is None else (pool.size, pool.stride))
            if layer is not network.layers[-1]:
                folded = thresholds[layer.name]
                self.signs.append(FoldedSign(folded, network.shapes[layer.name].output))
                ternary = bool(folded.ternary.any())
        self.logits = _last_batch_norm(network, ternary)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Every output, NHWC, in the order of `output_names`."""
        outputs: list[Tensor] = []
        x = images
        for index, product in enumerate(self.products):
            x = product(x)
            outputs.append(x)
            if (pool := self.pools[index]) is not None:
                x = max_pool(x, *pool)
                outputs.append(x)
            if index < len(self.signs):
                x = self.signs[index](x)
                outputs.append(x)
        return (*outputs, x if self.logits is None else self.logits(x))


def max_pool(a: Tensor, size: Pair, stride: Pair) -> Tensor:
    """The maximum over each window of integers (N, H, W, C), without padding.

    PyTorch's own pool takes no int32 on every device; maxima of slices do.

    >>> max_pool(torch.arange(6, dtype=torch.int32).reshape(1, 2, 3, 1), (2, 1), (1, 1)).flatten().tolist()
    [3, 4, 5]
    """
    for axis in (1, 2):
        windows = (int(a.shape[axis]) - size[axis - 1]) // stride[axis - 1] + 1
        views = [
            a.narrow(axis, place, (windows - 1) * stride[axis - 1] + 1).unfold(axis, 1, stride[axis - 1]).squeeze(-1)
            for place in range(size[axis - 1])
        ]
        a = views[0]
        for view in views[1:]:
            a = torch.maximum(a, view)
    return a


def check_integers_only(network: NetworkData) -> None:
    """Refuse a network with a layer that `FoldedNetwork` cannot hold: a real stream, real weights, several bases.

    >>> from refdesign.api import pretrained
    >>> check_integers_only(pretrained("digits"))
    """
    for layer in network.layers:
        plain = isinstance(layer, (PixelConv2d, BinaryConv2dData, BinaryDense)) and layer.folds
        if not plain or layer.name in network.real_sources:
            raise RefdesignError(
                f"FoldedNetwork, layer {layer.name!r}: found {layer.kind} with a real-valued stream, "
                "expected layers that fold to integers"
            )
    entries = _table_entries(network)
    if entries > TABLE_ENTRIES:
        raise RefdesignError(
            f"FoldedNetwork, layer {network.layers[-1].name!r}: found {entries} entries in the table of its batch "
            f"norm, expected at most {TABLE_ENTRIES}"
        )


def folded_products(layer: object) -> list[nn.Module]:
    """What computes a layer's accumulators: one module, one for each basis, or none for a real layer.

    >>> folded_products(None)
    []
    """
    if isinstance(layer, BinaryDense):
        return [FoldedLinear(layer.weights)]
    if isinstance(layer, (PixelConv2d, BinaryConv2dData)):
        weights = layer.weights
        return [FoldedConv2d(layer, unpack(weights) if isinstance(weights, PackedBits) else weights)]
    if isinstance(layer, Convolution) and isinstance(getattr(layer, "weights", None), tuple):
        bases: tuple[PackedBits, ...] = layer.weights  # type: ignore[attr-defined]
        return [FoldedConv2d(layer, unpack(basis)) for basis in bases]
    return []


def _table_entries(network: NetworkData) -> int:
    last = network.layers[-1]
    if not isinstance(last, (PixelConv2d, BinaryConv2dData, BinaryDense)) or last.batch_norm is None:
        return 0
    low, high, step = accumulator_domain(last, ternary_input=True)
    return int((high - low).max() // step + 1) * low.size


def _last_batch_norm(network: NetworkData, ternary: bool) -> Table | None:
    last = network.layers[-1]
    assert isinstance(last, (PixelConv2d, BinaryConv2dData, BinaryDense))
    if last.batch_norm is None:
        return None
    low, high, step = accumulator_domain(last, ternary_input=ternary)
    places = np.arange(int((high - low).max()) // step + 1)
    # Shorter domains repeat their last accumulator: nothing reaches those entries.
    accumulators = np.minimum(low + step * places[:, np.newaxis], high).astype(np.int32)
    values = batch_norm(accumulators, last.batch_norm, network.conventions.arithmetic)
    return Table(np.ascontiguousarray(values.T), low, step)
