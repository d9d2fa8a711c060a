"""The joint distribution of three neighbouring accumulators: all that a threshold kernel's score depends on.

The total variation at a pixel is a function of the accumulators of that pixel, of its right and of its lower
neighbour, and of the three thresholds that stand there. So one table of V x V x V probabilities replaces the
images: every kernel of every shape is scored from it (`refdesign.design.total_variation`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refdesign.checks import as_array, is_whole, shown
from refdesign.errors import RefdesignError

__all__ = ["JointDistribution", "accumulator_values", "joint_distribution", "random_joint_distribution"]

LARGEST_CLOSED_FORM = 5
"""The largest convolution whose closed form is counted in 64-bit integers (2**60 for 5x5)."""


@dataclass(frozen=True, eq=False)
class JointDistribution:
    """Probabilities of (accumulator, right neighbour, lower neighbour).

    Attributes:
        values: float64 (V,), ascending: the values an accumulator can take (signed, before any ReLU).
        probability: float64 (V, V, V), axes (pixel, right, lower), summing to 1.
        observations: the number of triples counted; None for a closed form.

    Raises:
        RefdesignError: values not ascending, probabilities negative or not summing to 1, shapes that differ.

    Source: paper, section on the design of the threshold kernel; the three-pixel reduction is this project's.

    >>> joint = random_joint_distribution(1)
    >>> joint.values, joint.probability[0, 1, 0]
    (array([-1.,  1.]), np.float64(0.125))
    """

    values: NDArray[np.float64]
    probability: NDArray[np.float64]
    observations: int | None = None

    def __post_init__(self) -> None:
        values = np.array(self.values, dtype=np.float64)
        probability = np.array(self.probability, dtype=np.float64)
        if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all() or (np.diff(values) <= 0).any():
            raise RefdesignError("joint distribution, values: expected one or more ascending finite numbers")
        if probability.shape != (values.size,) * 3:
            raise RefdesignError(
                f"joint distribution, probability: found shape {probability.shape}, "
                f"expected {(values.size,) * 3} for {values.size} values"
            )
        if not np.isfinite(probability).all() or (probability < 0).any() or abs(probability.sum() - 1) > 1e-9:
            raise RefdesignError(
                f"joint distribution, probability: found sum {probability.sum()} and minimum {probability.min()}, "
                "expected non-negative numbers that sum to 1"
            )
        values.flags.writeable = False
        probability.flags.writeable = False
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "probability", probability)

    @classmethod
    def from_counts(
        cls, values: ArrayLike, counts: NDArray[np.int64], *, closed_form: bool = False
    ) -> JointDistribution:
        """From integer counts (V, V, V), so that sums over many images come out the same in any order.

        >>> JointDistribution.from_counts([0.0], np.array([[[7]]])).observations
        7
        """
        total = int(counts.sum())
        if total <= 0:
            raise RefdesignError("joint distribution, counts: found no triple of neighbours, expected one or more")
        return cls(np.asarray(values), counts / total, None if closed_form else total)

    @property
    def levels(self) -> NDArray[np.float64]:
        """The range of a ReLU over the values: the paper's set of threshold levels, float64 ascending.

        >>> random_joint_distribution(3).levels
        array([0., 1., 3., 5., 7., 9.])
        """
        return np.unique(np.maximum(self.values, 0.0))

    def marginal(self) -> NDArray[np.float64]:
        """The distribution of one accumulator, float64 (V,).

        >>> random_joint_distribution(1).marginal()
        array([0.5, 0.5])
        """
        return np.asarray(self.probability.sum(axis=(1, 2)))

    def transposed(self) -> JointDistribution:
        """The distribution for transposed maps: right and lower neighbour change places.

        >>> joint = random_joint_distribution(3, weights=[[1, 1, 1], [-1, 1, 1], [1, -1, 1]])
        >>> bool((joint.transposed().probability == joint.probability.swapaxes(1, 2)).all())
        True
        """
        return JointDistribution(self.values, self.probability.swapaxes(1, 2), self.observations)

    def batch_normalised(self) -> JointDistribution:
        """The same maps after a batch norm with gamma = 1, beta = 0 and epsilon = 0.

        The values become (value - mean) / standard deviation, so thresholds are then in the units of the
        re-scaled levels (`half_wave_levels`, the released level sets).

        Raises:
            RefdesignError: the accumulator is constant.

        >>> random_joint_distribution(3).batch_normalised().values[[4, 9]]
        array([-0.33333333,  3.        ])
        """
        marginal = self.marginal()
        mean = float(marginal @ self.values)
        deviation = float(np.sqrt(marginal @ (self.values - mean) ** 2))
        if deviation == 0:
            raise RefdesignError("joint distribution: found a constant accumulator, expected one that varies")
        return JointDistribution((self.values - mean) / deviation, self.probability, self.observations)


def accumulator_values(k: int) -> NDArray[np.int64]:
    """The values of a k x k one-channel binary convolution: -k*k, -k*k + 2, ..., k*k, int64.

    >>> accumulator_values(2)
    array([-4, -2,  0,  2,  4])
    """
    if not is_whole(k, 1):
        raise RefdesignError(f"convolution, k: found {shown(k)}, expected a whole number of 1 or more")
    return np.arange(-(int(k) ** 2), int(k) ** 2 + 1, 2)


def count_triples(maps: NDArray[Any], k: int) -> NDArray[np.int64]:
    """Counts (V, V, V) of (pixel, right, lower) over integer maps (N, H, W) of a k x k binary convolution."""
    index = (maps.astype(np.int64) + k * k) >> 1
    size = k * k + 1
    code = (index[:, :-1, :-1] * size + index[:, :-1, 1:]) * size + index[:, 1:, :-1]
    return np.bincount(code.ravel(), minlength=size**3).astype(np.int64).reshape(size, size, size)


def joint_distribution(maps: ArrayLike, *, k: int = 3) -> JointDistribution:
    """The joint distribution of neighbouring accumulators in integer maps.

    Args:
        maps: integers (N, H, W): accumulators of a k x k one-channel binary convolution, H and W at least 2.
        k: the convolution's size; it fixes the values, -k*k to k*k in steps of 2.

    Raises:
        RefdesignError: maps of another shape or dtype, or a value that such a convolution cannot give.

    Source: paper, design of the threshold kernel; only pixels with both neighbours count, as in the released
    code.

    >>> joint = joint_distribution([[[1, 3, -1], [9, 1, 3]]])
    >>> joint.observations, float(joint.probability[5, 6, 9])
    (2, 0.5)
    """
    array = as_array("maps", maps)
    size = accumulator_values(k).size
    if array.dtype.kind not in "iu" or array.ndim != 3:
        raise RefdesignError(f"maps: found {array.dtype} of shape {array.shape}, expected integers (N, H, W)")
    if array.shape[0] < 1 or min(array.shape[1:]) < 2:
        raise RefdesignError(f"maps: found shape {array.shape}, expected at least one map of 2 x 2 pixels")
    wide = array.astype(np.int64)
    wrong = (np.abs(wide) > k * k) | ((wide + k * k) & 1 == 1)
    if wrong.any():
        raise RefdesignError(
            f"maps: found the value {array[wrong][0]}, expected one of the {size} values of a {k} x {k} binary "
            f"convolution: {-k * k} to {k * k} in steps of 2"
        )
    return JointDistribution.from_counts(accumulator_values(k), count_triples(wide, k))


def check_weights(weights: ArrayLike, k: int | None = None) -> NDArray[np.int64]:
    """Weights as int64 (O, k, k) in {-1, +1}; (k, k) is taken as O = 1."""
    array = as_array("weights", weights)
    if array.ndim == 2:
        array = array[np.newaxis]
    expected = "(k, k) or (O, k, k)" if k is None else f"({k}, {k}) or (O, {k}, {k})"
    if array.ndim != 3 or array.shape[0] < 1 or array.shape[1] != array.shape[2] or k not in (None, array.shape[1]):
        raise RefdesignError(f"weights: found shape {array.shape}, expected {expected}")
    if array.dtype.kind not in "iuf" or not np.isin(array, (-1, 1)).all():
        raise RefdesignError("weights: found values other than -1 and +1, expected a binary convolution's weights")
    return array.astype(np.int64)


def _add_two_point(counts: NDArray[np.int64], vector: tuple[int, int, int]) -> NDArray[np.int64]:
    """Convolve counts of a sum with one pixel of +1 or -1 that enters the three accumulators with `vector`."""
    return _shift(counts, vector) + _shift(counts, (-vector[0], -vector[1], -vector[2]))


def _shift(counts: NDArray[np.int64], vector: tuple[int, int, int]) -> NDArray[np.int64]:
    source = tuple(slice(max(0, -v), counts.shape[a] - max(0, v)) for a, v in enumerate(vector))
    target = tuple(slice(max(0, v), counts.shape[a] - max(0, -v)) for a, v in enumerate(vector))
    shifted = np.zeros_like(counts)
    shifted[target] = counts[source]
    return shifted


def _point_mass(k: int) -> NDArray[np.int64]:
    counts = np.zeros((2 * k * k + 1,) * 3, dtype=np.int64)
    counts[k * k, k * k, k * k] = 1
    return counts


def _counts_for(weights: NDArray[np.int64]) -> NDArray[np.int64]:
    """Closed form for one convolution: pixel by pixel, each with its class of overlap.

    A pixel at (i, j) of the union of the three windows enters the accumulator with w[i, j], the right one's
    with w[i, j-1] and the lower one's with w[i-1, j]; the distribution is the convolution of all these.
    """
    k = weights.shape[0]
    padded = np.zeros((k + 2, k + 2), dtype=np.int64)
    padded[1:-1, 1:-1] = weights
    counts = _point_mass(k)
    for i in range(k + 1):
        for j in range(k + 1):
            vector = (int(padded[i + 1, j + 1]), int(padded[i + 1, j]), int(padded[i, j + 1]))
            if any(vector):
                counts = _add_two_point(counts, vector)
    return counts


def _counts_over_all_weights(k: int) -> NDArray[np.int64]:
    """Closed form summed over all 2**(k*k) weights, without listing them.

    Weights are laid down in raster order; of those already laid only the last k matter for a new pixel (its
    left and upper neighbour), so they are the state, 2**k of them, and each state carries its counts.
    """
    state: dict[tuple[int, ...], NDArray[np.int64]] = {(): _point_mass(k)}
    for i in range(k):
        for j in range(k):
            following: dict[tuple[int, ...], NDArray[np.int64]] = {}
            for row, counts in state.items():
                for weight in (-1, 1):
                    vector = (weight, row[j - 1] if j else 0, row[j] if i else 0)
                    grown = _add_two_point(counts, vector)
                    key = (*row[:j], weight, *row[j + 1 :])
                    following[key] = following[key] + grown if key in following else grown
            state = following
    # The last column and row of the union belong to the right, respectively the lower, window alone: each
    # weight is laid already, and a pixel of +1 or -1 times a weight is again one of +1 or -1.
    counts = sum(state.values(), start=np.zeros_like(_point_mass(k)))
    for _ in range(k):
        counts = _add_two_point(_add_two_point(counts, (0, 1, 0)), (0, 0, 1))
    return counts


def random_joint_distribution(k: int = 3, *, weights: ArrayLike | None = None) -> JointDistribution:
    """The closed form for independent random pixels of -1 and +1.

    Args:
        k: the convolution's size, 1 to 5.
        weights: int (k, k) or (O, k, k) in {-1, +1}, averaged over O; None averages over all 2**(k*k)
            weights.

    Counted exactly in 64-bit integers, by convolving the pixels' classes of overlap; nothing is sampled and
    no window is listed.

    Raises:
        RefdesignError: k out of range, weights of another shape or with other values.

    Source: paper, design of the threshold kernel (random binary convolutions).

    >>> random_joint_distribution(3).probability.shape
    (10, 10, 10)
    """
    values = accumulator_values(k)
    if k > LARGEST_CLOSED_FORM:
        raise RefdesignError(f"convolution, k: found {k}, expected 1 to {LARGEST_CLOSED_FORM} for the closed form")
    if weights is None:
        counts = _counts_over_all_weights(k)
    else:
        checked = check_weights(weights, k)
        # Divided before the sum: the counts of one 5x5 convolution are 2**35, those of any number may not
        # fit.
        probability = np.zeros((values.size,) * 3)
        for weight in checked:
            part = _counts_for(weight)[::2, ::2, ::2]
            probability += part / float(part.sum())
        return JointDistribution(values.astype(np.float64), probability / len(checked))
    return JointDistribution.from_counts(values, counts[::2, ::2, ::2], closed_form=True)
