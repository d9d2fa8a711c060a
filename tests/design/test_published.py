from __future__ import annotations

import numpy as np
import pytest
import scipy.io
from scipy.stats import spearmanr

from refdesign import datasets
from refdesign.design import (
    AUTHORS_WEIGHTS,
    LEVEL_SETS,
    all_scores,
    complement,
    image_joint_distribution,
    objective_table,
    optimum,
    published,
    published_names,
    read_mat,
    rescaled,
    shift,
)
from refdesign.design.classes import canonical
from refdesign.errors import RefdesignError
from tests.shared_data import require

LEVELS = (0, 1, 3, 5, 7, 9)
RELEASED_ORDER = (1, 3, 5, 7, 9, 0)


@pytest.mark.parametrize("name", published_names())
def test_published_kernel_equals_the_released_file(name: str) -> None:
    folder = require("data/released/kernels")
    released = scipy.io.loadmat(folder / f"{name}.mat")["kernel"]
    released = released if released.ndim == 3 else released[:, :, np.newaxis]
    kernel = published(name)
    assert kernel.level_set is not None
    assert kernel.levels is not None
    values = np.array(kernel.level_set)[kernel.levels]
    assert values.shape == released.shape
    assert np.abs(values - released).max() <= 1e-12
    assert (kernel.values == released.astype(np.float32)).all()
    assert np.abs(read_mat(folder / f"{name}.mat") - released).max() == 0


def test_every_released_file_is_published() -> None:
    files = {path.stem for path in require("data/released/kernels").glob("*.mat")}
    assert files == set(published_names())


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(RefdesignError, match="expected one of 2x2_threshold_proposed_Hprof, baseline2x2"):
        published("threshold_9x9")


def values_of(name: str) -> np.ndarray:
    kernel = published(name)
    return np.array(kernel.level_set)[kernel.levels]


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("threshold_2x2x4_shifting_n1_right_v1", [[1, 1], [0, 3]]),
        ("threshold_2x2x4_shifting_n1_right_v2", [[1, 1], [3, 3]]),
        ("threshold_3x3x4_shifted_1_right_v1", [[1, 3, 1], [3, 1, 3], [1, 3, 1]]),
        # By its name a complement, in truth the shift.
        ("threshold_2x2x4_complement_v1", [[1, 1], [0, 3]]),
    ],
)
def test_released_3d_kernels_are_shifts(name: str, base: list[list[int]]) -> None:
    assert (rescaled(shift(base, 4), LEVELS, LEVEL_SETS["A"]) == values_of(name)).all()


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("threshold_2x2_complement_v1", [[1, 1], [0, 3]]),
        ("threshold_2x2_complement_v2", [[1, 1], [3, 3]]),
        ("threshold_3x3x2_complement_v1", [[1, 3, 1], [3, 1, 3], [1, 3, 1]]),
    ],
)
def test_released_3d_kernels_are_complements(name: str, base: list[list[int]]) -> None:
    assert (rescaled(complement(base), LEVELS, LEVEL_SETS["A"]) == values_of(name)).all()


def released_scores() -> np.ndarray:
    """The authors' total variation of every kernel, in the order of `all_scores`."""
    metrics = scipy.io.loadmat(require("data/released/threshold_metrics.mat"))["metric_means"]
    scores = np.empty(6**4)
    for position, cells in enumerate(np.ndindex(6, 6, 6, 6)):
        kernel = np.array([RELEASED_ORDER[c] for c in cells]).reshape(2, 2, order="F")
        index = np.ravel_multi_index(tuple(LEVELS.index(v) for v in kernel.ravel()), (6,) * 4)
        scores[index] = metrics[3, position]
    return scores


def test_scores_rank_as_the_released_ones(cifar10_root) -> None:  # type: ignore[no-untyped-def]
    released = released_scores()
    images, _ = datasets.load("cifar10", "test", cifar10_root)
    joint = image_joint_distribution(images, weights=AUTHORS_WEIGHTS)
    scores = all_scores(objective_table(joint), (2, 2))
    assert spearmanr(scores, released).statistic >= 0.998
    # A hundred images, as many as the authors took: it depends on which, the median of a hundred such sets is 0.9976.
    hundred, _ = datasets.load("cifar10", "train", cifar10_root)
    some = image_joint_distribution(hundred[100:200], weights=AUTHORS_WEIGHTS)
    assert spearmanr(all_scores(objective_table(some), (2, 2)), released).statistic >= 0.995
    # The same best class.
    best_released = np.array([LEVELS[i] for i in np.unravel_index(int(released.argmax()), (6,) * 4)]).reshape(2, 2)
    best = optimum(joint, (2, 2))
    assert [entry.members for entry in best.classes] == [2]
    assert canonical(best_released) == tuple(best.kernel_levels.ravel().tolist()) == (1, 3, 3, 1)
    # The bare bits of the paper's formula: no correlation, and the degenerate chequerboard.
    bare = all_scores(objective_table(joint, weight="binary"), (2, 2))
    assert abs(spearmanr(bare, released).statistic) < 0.1
    assert optimum(joint, (2, 2), weight="binary").kernel_levels.tolist() == [[0, 9], [9, 0]]
    # Larger kernels find nothing better than 2x2 repeated, and the bound says so for every even height.
    larger = optimum(joint, (4, 4))
    assert larger.kernel_levels.tolist() == np.tile([[1, 3], [3, 1]], (2, 2)).tolist()
    assert larger.score == best.score
    assert larger.bound - larger.score < 1e-9
