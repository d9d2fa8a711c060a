"""Hypothesis strategies for the design of threshold kernels."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refdesign.design.joint import JointDistribution, accumulator_values

__all__ = ["accumulator_maps", "joint_distributions"]


def joint_distributions(*, k: int | None = None, largest: int = 5) -> st.SearchStrategy[JointDistribution]:
    """Joint distributions from small integer counts, many of them zero, so that ties and certain bits occur.

    Args:
        k: with it, over the values of a k x k binary convolution; without, over 2 to `largest` ascending integers,
            one of them at least positive.

    >>> joint_distributions(k=2).example().values.size  # doctest: +SKIP
    5
    """

    def with_counts(values: list[int]) -> st.SearchStrategy[JointDistribution]:
        shape = (len(values),) * 3
        counts = hnp.arrays(np.int64, shape, elements=st.integers(0, 9), fill=st.integers(0, 3))
        return counts.filter(lambda array: bool(array.any())).map(
            lambda array: JointDistribution.from_counts(values, array)
        )

    if k is not None:
        return with_counts(accumulator_values(k).tolist())
    values = st.lists(st.integers(-4, 9), min_size=2, max_size=largest, unique=True).map(sorted)
    return values.filter(lambda drawn: drawn[-1] > 0).flatmap(with_counts)


def accumulator_maps(k: int) -> st.SearchStrategy[np.ndarray]:
    """Integer maps (N, H, W) over the values of a k x k binary convolution, with pairwise different extents.

    >>> accumulator_maps(3).example().ndim  # doctest: +SKIP
    3
    """
    shapes = st.sampled_from([(1, 3, 2), (1, 2, 5), (2, 3, 7), (3, 5, 4), (2, 5, 3)])
    indices = shapes.flatmap(lambda shape: hnp.arrays(np.int64, shape, elements=st.integers(0, k * k)))
    return indices.map(lambda drawn: 2 * drawn - k * k)
