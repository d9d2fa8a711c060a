"""Hypothesis strategies for what the project computes with, for its own tests and for yours.

They draw what goes wrong elsewhere: extents that are pairwise different and no multiple of the dither's period,
channels that fill no word, negative, zero, tiny and subnormal gamma, boundaries planted exactly on attainable
integers, ternary ties, every padding, stride, dilation and group. Needs the extra `verify`.

>>> from hypothesis import given
>>> @given(packed((2, 70)))
... def test_two_words_each(x):
...     assert x.words.shape == (2, 2)
>>> test_two_words_each()
"""

from __future__ import annotations

from refdesign.verify.design_strategies import accumulator_maps, joint_distributions
from refdesign.verify.network_strategies import geometries, networks, pools
from refdesign.verify.parameter_strategies import (
    batch_norms,
    bits,
    conventions,
    images,
    packed,
    real_arrays,
    threshold_kernels,
)

__all__ = [
    "accumulator_maps",
    "batch_norms",
    "bits",
    "conventions",
    "geometries",
    "images",
    "joint_distributions",
    "networks",
    "packed",
    "pools",
    "real_arrays",
    "threshold_kernels",
]
