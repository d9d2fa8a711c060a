"""The threshold kernel behind an activation's name: published, random, or a user's own file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from refdesign.design import published, published_names
from refdesign.errors import RefdesignError
from refdesign.formats import kernels
from refdesign.parameters import ThresholdKernel

NAMED: Mapping[str, str] = {"2d": "threshold_2x2_v1", "3d": "threshold_2x2x4_shifting_n1_right_v1"}
"""DeSign 2D and 3D: the released kernels that stand for them."""

RANDOM_SHAPE, RANDOM_DEVIATION = (2, 2), 0.05
"""The random kernel of the released Keras code: independent normal thresholds."""


def activation_kernel(name: str, *, seed: int, scale: float = 1.0, centred: bool = False) -> ThresholdKernel | None:
    """The kernel of an activation; None is the plain sign.

    Args:
        name: `"sign"`, `"2d"`, `"3d"`, `"random"`, a published kernel's name (with or without `threshold_`), the
            thresholds themselves as JSON (`"[[0.6, 0.9], [0.9, 0.6]]"`), or a file: `.mat` (variable `kernel`),
            `.json` or `.npz` (`values`), as `refdesign design --save` writes them.
        seed: of a random kernel.
        scale: multiplies all thresholds, an ablation.
        centred: whether their mean is then taken away from each of them, an ablation.

    Raises:
        RefdesignError: an unknown name, or a file that cannot be read as a kernel.

    >>> activation_kernel("sign", seed=0) is None
    True
    >>> activation_kernel("2x2_v1", seed=0).shape, activation_kernel("3d", seed=0).shape
    ((2, 2, 1), (2, 2, 4))
    """
    if name == "sign":
        return None
    if name == "random":
        drawn = np.random.default_rng(seed).normal(0.0, RANDOM_DEVIATION, RANDOM_SHAPE)
        kernel = ThresholdKernel(drawn)
    elif name in NAMED:
        kernel = published(NAMED[name])
    elif name in published_names() or f"threshold_{name}" in published_names():
        kernel = published(name if name in published_names() else f"threshold_{name}")
    elif name.startswith("["):
        kernel = _inline(name)
    elif Path(name).suffix.lower() in (".mat", ".json", ".npz"):
        kernel = kernels.read(name)
    else:
        raise RefdesignError(
            f"activation: found {name!r}, expected sign, 2d, 3d, random, a published kernel "
            f"({', '.join(published_names())}), thresholds such as [[0.6, 0.9], [0.9, 0.6]], or a file "
            ".mat, .json or .npz"
        )
    if scale == 1.0 and not centred:
        return kernel
    values = kernel.values.astype(np.float64) * scale
    return ThresholdKernel(values - values.mean() if centred else values)


def _inline(text: str) -> ThresholdKernel:
    try:
        return ThresholdKernel(np.array(json.loads(text), dtype=np.float64))
    except (ValueError, TypeError) as error:
        raise RefdesignError(f"activation: found {text!r}, expected rows of numbers ({error})") from error
