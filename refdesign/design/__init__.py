"""Threshold kernels: their statistics, scores, proven optima, levels and files.

>>> import refdesign.design as design
>>> joint = design.random_joint_distribution(3)
>>> kernel, score = design.optimal_kernel(joint, (2, 2))
>>> kernel.tolist(), round(score, 5)
([[3.0, 3.0], [3.0, 3.0]], 0.21559)
"""

from refdesign.design.classes import KernelClass, ranked_classes, ranking
from refdesign.design.images import (
    AUTHORS_WEIGHTS,
    binarise_images,
    binary_maps,
    image_joint_distribution,
    random_weights,
    read_image_folder,
)
from refdesign.design.joint import (
    JointDistribution,
    accumulator_values,
    joint_distribution,
    random_joint_distribution,
)
from refdesign.design.levels import (
    Quantiser,
    empirical_levels,
    half_wave_levels,
    half_wave_quantiser,
    lloyd_max,
    rescaled,
)
from refdesign.design.mat import read_mat, read_variables, write_mat
from refdesign.design.optimal import Optimum, optimal_kernel, optimum
from refdesign.design.published import LEVEL_SETS, published, published_names
from refdesign.design.three_d import complement, shift
from refdesign.design.total_variation import (
    all_scores,
    expected_information,
    expected_total_variation,
    fixed_point,
    information_table,
    objective_table,
    total_variation_table,
)

__all__ = [
    "AUTHORS_WEIGHTS",
    "LEVEL_SETS",
    "JointDistribution",
    "KernelClass",
    "Optimum",
    "Quantiser",
    "accumulator_values",
    "all_scores",
    "binarise_images",
    "binary_maps",
    "complement",
    "empirical_levels",
    "expected_information",
    "expected_total_variation",
    "fixed_point",
    "half_wave_levels",
    "half_wave_quantiser",
    "image_joint_distribution",
    "information_table",
    "joint_distribution",
    "lloyd_max",
    "objective_table",
    "optimal_kernel",
    "optimum",
    "published",
    "published_names",
    "random_joint_distribution",
    "random_weights",
    "ranked_classes",
    "ranking",
    "read_image_folder",
    "read_mat",
    "read_variables",
    "rescaled",
    "shift",
    "total_variation_table",
    "write_mat",
]
