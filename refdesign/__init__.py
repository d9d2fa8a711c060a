"""An exact reference for binary networks with dithered sign activations (DeSign).

The same layer, three times: naive (scalar loops, obviously right), packed (folded to integer thresholds, fast) and,
in the package `simulator`, as hardware would do it; every other implementation is judged against the first.
"""

from __future__ import annotations

from refdesign import datasets, design, models
from refdesign.api import Network, load, pretrained, pretrained_names
from refdesign.bits import PackedBits, pack, unpack, xnor_popcount
from refdesign.conventions import FINN, LARQ, PAPER, PRESETS, RELEASED_KERAS, RELEASED_TORCH, Conventions
from refdesign.errors import MissingExtra, RefdesignError
from refdesign.fold import Thresholds, fold
from refdesign.normalisation import normalise_pixels
from refdesign.ops.batch_norm import dithered_batch_norm
from refdesign.ops.conv import binary_conv2d
from refdesign.ops.dense import binary_dense
from refdesign.ops.dither import threshold_map
from refdesign.ops.pool import max_pool2d
from refdesign.ops.sign import dithered_sign
from refdesign.parameters import NO_DITHER, BatchNorm, ThresholdKernel

__version__ = "0.1.0"

__all__ = [
    "FINN",
    "LARQ",
    "NO_DITHER",
    "PAPER",
    "PRESETS",
    "RELEASED_KERAS",
    "RELEASED_TORCH",
    "BatchNorm",
    "Conventions",
    "MissingExtra",
    "Network",
    "PackedBits",
    "RefdesignError",
    "ThresholdKernel",
    "Thresholds",
    "binary_conv2d",
    "binary_dense",
    "datasets",
    "design",
    "dithered_batch_norm",
    "dithered_sign",
    "fold",
    "load",
    "max_pool2d",
    "models",
    "normalise_pixels",
    "pack",
    "pretrained",
    "pretrained_names",
    "threshold_map",
    "unpack",
    "xnor_popcount",
]


def __dir__() -> list[str]:
    """The names above, and no module that happened to be imported."""
    return sorted([*__all__, "__version__"])
