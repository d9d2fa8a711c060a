"""Plans: which of a file's tensors mean what, layer by layer.

They come from an architecture (`refdesign.formats.matching`), from a layer map that a user wrote
(`refdesign.formats.layer_map`) or from a Keras model's own description (`refdesign.formats.keras_layers`), and
`refdesign.formats.assembling` makes networks of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from refdesign.parameters import ThresholdKernel

LAYOUTS = {"OIHW": (0, 2, 3, 1), "HWIO": (3, 0, 1, 2), "OHWI": (0, 1, 2, 3), "OI": (0, 1), "IO": (1, 0)}
"""Orders of a weight's axes in files, with the way to OHWI or OI: PyTorch has OIHW and OI, Keras HWIO and IO."""


@dataclass(frozen=True, kw_only=True)
class Norm:
    """Where a batch norm's parameters are: names of tensors; gamma or beta None is 1 or 0."""

    mean: str
    variance: str
    gamma: str | None
    beta: str | None
    epsilon: float


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerPlan:
    """One layer of a plan.

    Attributes:
        name: the layer's.
        kind: one of `refdesign.network.LAYER_KINDS` but for several bases. A first layer of bits is `pixel_conv2d`,
            one of real weights `real_conv2d`; what the pixels are decides which of the two it becomes.
        weights: the name of the tensor.
        layout: the order of its axes, one of `LAYOUTS`.
        rule: how latent weights are binarised (`refdesign.formats.binarising.RULES`), None for weights of ±1.
        alpha, bias: the names of a scale and of a bias of the sums, per output channel.
        grid: real weights of a first layer are rounded to integers of at most this size, alpha being the grid's step.
        batch_norm: of the sums; of a real dense layer, of its inputs.
        kernel: the threshold kernel, or the name of a tensor (g, m, n) that holds it.
        channels_first: whether a dense layer reads a map as (channel, row, column), as PyTorch's does.
        pool_behind: whether the max pool stands behind the batch norm.
        settings: the further fields of the layer's class, such as `stride`, `pool`, `shortcut`.
    """

    name: str
    kind: str
    weights: str = ""
    layout: str = "OIHW"
    rule: str | None = None
    alpha: str | None = None
    bias: str | None = None
    grid: int | None = None
    batch_norm: Norm | None = None
    kernel: ThresholdKernel | str | None = None
    channels_first: bool = False
    pool_behind: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
