"""What `design.md` shows, as JSON: its tables, and the numbers behind its figures.

    python -m docs.design_study --cifar FOLDER --released FILE

FOLDER holds CIFAR-10 in its official binary format, FILE is the authors' `threshold_metrics.mat`. Takes a few minutes;
`docs.generator.measured` keeps what it prints, `docs.design_plots` draws the figures.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from docs.design_released import LEVELS, released_scores, scores_as_released
from refdesign import datasets, design
from refdesign.design import images as image_counts
from refdesign.design.classes import canonical, ranked_classes, translations
from refdesign.design.joint import accumulator_values

OBJECTIVES = ("total_variation", "information")
Joint = design.JointDistribution
Table = dict[str, list[Any]]
"""Headings, and rows of text and numbers."""


def kernel_text(kernel: NDArray[np.float64]) -> str:
    """Rows with slashes between."""
    return " / ".join(" ".join(f"{level:.3g}" for level in row) for row in kernel)


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table of the page."""
    return {"headings": list(headings), "rows": [list(row) for row in rows]}


def reproduction(
    train: NDArray[np.uint8], test: NDArray[np.uint8], released: NDArray[np.float64]
) -> tuple[Table, Joint]:
    """Our scores beside the released ones, and the statistics of the training images."""
    rows = []
    sources = {"50,000 training images": train, "10,000 test images": test, "first 100 training images": train[:100]}
    joints = {}
    for name, images in sources.items():
        for orientation, weights in (
            ("as given", design.AUTHORS_WEIGHTS),
            ("flipped", design.AUTHORS_WEIGHTS[::-1, ::-1]),
        ):
            joints[name, orientation] = joint = design.image_joint_distribution(images, weights=weights)
            scores = design.all_scores(design.objective_table(joint), (2, 2))
            best = design.optimum(joint, (2, 2))
            rows.append(
                (name, orientation, spearmanr(scores, released).statistic, kernel_text(best.kernel_levels), best.score)
            )
    hundreds = [
        design.all_scores(
            design.objective_table(design.image_joint_distribution(part, weights=design.AUTHORS_WEIGHTS)), (2, 2)
        )
        for part in np.split(train[:10_000], 100)
    ]
    found = np.array([spearmanr(scores, released).statistic for scores in hundreds])
    rows.append(
        (
            "100 sets of 100 training images",
            "as given",
            f"{found.min():.5f} to {found.max():.5f}",
            "median",
            float(np.median(found)),
        )
    )
    maps = design.binary_maps(design.binarise_images(train[:100]), design.AUTHORS_WEIGHTS)
    exact = scores_as_released(maps)
    kernel = np.array([LEVELS[i] for i in np.unravel_index(int(exact.argmax()), (6,) * 4)]).reshape(2, 2)
    rows.append(
        (
            "first 100 training images, `tv.m` to the letter",
            "as given",
            spearmanr(exact, released).statistic,
            kernel_text(np.array(canonical(kernel)).reshape(2, 2)),
            float(exact.max()),
        )
    )
    headings = ("images", "weights", "rank correlation", "best kernel", "its score")
    return table(headings, rows), joints["50,000 training images", "as given"]


def sizes(sources: dict[str, Joint]) -> tuple[Table, list[list[Any]]]:
    """Optimum and score of every shape from 1x1 to 5x5: the table of the square ones, and the scores of all."""
    rows, scores = [], []
    for (name, joint), objective in itertools.product(sources.items(), OBJECTIVES):
        best = {(m, n): design.optimum(joint, (m, n), objective=objective) for m in range(1, 6) for n in range(1, 6)}
        scores.append([name, objective, [[best[m, n].score for n in range(1, 6)] for m in range(1, 6)]])
        cells = []
        for extent in range(1, 6):
            square = best[extent, extent]
            part = period(square.kernel_levels)
            shown = f"{kernel_text(part)}: " if part.size <= 9 else ""
            cells.append(f"{shown}{square.score:.5f}{'' if square.bound - square.score > 1e-9 else ' *'}")
        rows.append((name, objective.replace("_", " "), *cells))
    headings = ("statistics", "objective", *(f"{extent} × {extent}" for extent in range(1, 6)))
    return table(headings, rows), scores


def searches(images: Joint, random: Joint) -> Table:
    """How much of the search the bound leaves, and how long it takes."""
    rows = []
    for name, joint, extents in (
        ("CIFAR-10, authors' weights", images, (4, 6, 8)),
        ("random pixels, weights of ones", random, (5,)),
    ):
        for extent in extents:
            start = time.process_time()
            best = design.optimum(joint, (extent, extent))
            seconds = f"{time.process_time() - start:.1f}"
            exponent = f"6^{extent * extent}"
            rows.append((name, f"{extent} × {extent}", exponent, f"{best.rows:,}", f"{best.rows_tried:,}", seconds))
    return table(("statistics", "kernels", "how many", "rows", "rows tried", "processor seconds"), rows)


def period(kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """The smallest part that gives the kernel when it is repeated."""
    m, n = kernel.shape
    for p, q in sorted(itertools.product(range(1, m + 1), range(1, n + 1)), key=lambda shape: shape[0] * shape[1]):
        part = kernel[:p, :q]
        if m % p == 0 and n % q == 0 and (np.tile(part, (m // p, n // q)) == kernel).all():
            return part
    return kernel


def options(sources: dict[str, Joint]) -> Table:
    """Weight and norm."""
    rows = []
    for name, joint in sources.items():
        for weight, norm in itertools.product(("threshold", "binary"), ("isotropic", "anisotropic")):
            best = design.optimum(joint, (2, 2), weight=weight, norm=norm)
            carried = design.expected_information(best.kernel_levels, joint)
            rows.append((name, weight, norm, kernel_text(best.kernel_levels), best.score, carried))
    return table(("statistics", "weight", "norm", "best 2 × 2", "score", "information, bits"), rows)


def convolutions(images: NDArray[np.uint8]) -> Table:
    """The best 2x2 kernel for each of the 512 convolutions."""
    windows = image_counts.count_windows(design.binarise_images(images), 3)
    counts: dict[str, Counter[str]] = {objective: Counter() for objective in OBJECTIVES}
    for weights in image_counts.all_weights(3):
        joint = Joint.from_counts(accumulator_values(3), image_counts.joint_counts(windows, weights[np.newaxis]))
        for objective in OBJECTIVES:
            counts[objective][kernel_text(design.optimum(joint, (2, 2), objective=objective).kernel_levels)] += 1
    rows = []
    for objective, found in counts.items():
        for kernel, count in found.most_common(5):
            rows.append((objective.replace("_", " "), kernel, count))
        rest = found.most_common()[5:]
        rows.append((objective.replace("_", " "), f"{len(rest)} others", sum(count for _, count in rest)))
    return table(("objective", "best 2 × 2", "convolutions of 512"), rows)


def level_sets(joint: Joint, images: NDArray[np.uint8]) -> Table:
    """Other level sets, the batch-normalised units, and other sizes of convolution."""
    rows = []
    normal = joint.batch_normalised()
    cases: list[tuple[str, Joint, Sequence[float] | None]] = [
        ("range of the ReLU: 0, 1, 3, 5, 7, 9", joint, None),
        ("without 0", joint, (1, 3, 5, 7, 9)),
        ("1 and 3", joint, (1, 3)),
        ("3 and 5", joint, (3, 5)),
        ("batch-normalised, converged half-wave levels", normal, design.half_wave_levels(6).tolist()),
        ("batch-normalised, released set A", normal, design.LEVEL_SETS["A"]),
        ("batch-normalised, released set B", normal, design.LEVEL_SETS["B"]),
    ]
    for k, weights in ((1, None), (5, design.random_weights(5, 32, seed=0))):
        cases.append(
            (f"k = {k}, range of its ReLU", design.image_joint_distribution(images, k=k, weights=weights), None)
        )
    for name, statistics, levels in cases:
        for objective in OBJECTIVES:
            best = design.optimum(statistics, (2, 2), levels=levels, objective=objective)
            rows.append((name, objective.replace("_", " "), kernel_text(best.kernel_levels), best.score))
    return table(("levels", "objective", "best 2 × 2", "score"), rows)


def entropy_with_more_context(maps: NDArray[np.int32], kernel: NDArray[np.float64]) -> float:
    """H(bit | six causal neighbours) per pixel, measured phase by phase."""
    m, n = kernel.shape
    height, width = maps.shape[1:]
    bits = np.maximum(maps, 0) >= np.tile(kernel, (-(-height // m), -(-width // n)))[:height, :width]
    neighbours = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0))
    code = np.zeros((len(maps), height - 2, width - 3), dtype=np.int64)
    for place, (down, right) in enumerate(((0, 0), *neighbours)):
        code |= bits[:, down : height - 2 + down, 1 + right : width - 2 + right].astype(np.int64) << place
    total = 0.0
    for i, j in np.ndindex(m, n):
        joint = np.bincount(code[:, i::m, j::n].ravel(), minlength=128).reshape(64, 2).astype(float)
        joint /= joint.sum()
        given = joint.sum(axis=1, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            total -= np.nansum(joint * np.log2(joint / given))
    return total / (m * n)


def position(kernel: NDArray[np.float64]) -> int:
    """Where a 2x2 kernel stands in `all_scores`."""
    return int(np.ravel_multi_index(tuple(LEVELS.index(int(level)) for level in kernel.ravel()), (6,) * 4))


def rank_of(kernel: NDArray[np.float64], scores: NDArray[np.float64]) -> int:
    """How many classes of shifts do better, and one; measured scores differ a little between shifts: their means."""
    classes = ranked_classes(scores, (2, 2), 6)
    means = {}
    for at in classes:
        levels = np.array([LEVELS[i] for i in np.unravel_index(at, (6,) * 4)]).reshape(2, 2)
        means[canonical(levels)] = np.mean([scores[position(shift)] for shift in translations(levels)])
    own = means[canonical(kernel.astype(np.int64))]
    return 1 + sum(mean > own + 1e-11 for mean in means.values())


def with_more_context(images: NDArray[np.uint8]) -> Table:
    """Every class of 2x2 kernels under six neighbours, measured."""
    maps = design.binary_maps(design.binarise_images(images), design.AUTHORS_WEIGHTS)
    found = {}
    for at in ranked_classes(np.zeros(6**4), (2, 2), 6):
        kernel = np.array([LEVELS[i] for i in np.unravel_index(at, (6,) * 4)], dtype=float).reshape(2, 2)
        found[kernel_text(kernel)] = entropy_with_more_context(maps, kernel)
    ordered = sorted(found.items(), key=lambda entry: -entry[1])
    places = {name: place for place, (name, _) in enumerate(ordered, 1)}
    chosen = [*(name for name, _ in ordered[:5]), "1 3 / 3 1", "1 1 / 1 1", "1 1 / 3 3", "3 3 / 3 3"]
    rows = [(places[name], name, found[name]) for name in dict.fromkeys(chosen)]
    return table((f"rank of {len(found)}", "2 × 2", "bits given six neighbours"), sorted(rows))


def compared(
    joint: Joint, held_out: NDArray[np.uint8], ours: dict[str, NDArray[np.float64]], released: NDArray[np.float64]
) -> tuple[Table, dict[str, list[float]]]:
    """Kernels under both objectives, and under more context on other images; and the points that a figure names."""
    maps = design.binary_maps(design.binarise_images(held_out), design.AUTHORS_WEIGHTS)
    best = {objective: design.optimum(joint, (2, 2), objective=objective).kernel_levels for objective in OBJECTIVES}
    plain = {objective: design.optimum(joint, (1, 1), objective=objective).kernel_levels for objective in OBJECTIVES}
    kernels: dict[str, NDArray[np.float64]] = {
        "best 2 × 2, both objectives"
        if (best["information"] == best["total_variation"]).all()
        else "best 2 × 2, TV": best["total_variation"],
        "best 2 × 2, information": best["information"],
        "no dither, best for information": plain["information"],
        "no dither, best for total variation": plain["total_variation"],
        "bare bits' best": np.array([[0.0, 9.0], [9.0, 0.0]]),
    }
    if (best["information"] == best["total_variation"]).all():
        del kernels["best 2 × 2, information"]
    for name in (
        "threshold_2x2_v1",
        "threshold_2x2_v2",
        "threshold_3x3_symmetric_v1",
        "threshold_3x3_symmetric_v2",
        "threshold_3x3_symmetric_v3",
    ):
        published = design.published(name)
        kernels[f"`{name}`"] = np.array(LEVELS, dtype=float)[np.asarray(published.levels)[:, :, 0]]
    rows, points = [], {}
    for name, kernel in kernels.items():
        variation, carried = design.expected_total_variation(kernel, joint), design.expected_information(kernel, joint)
        rank: object = ""
        if kernel.shape == (2, 2):
            rank = f"{rank_of(kernel, ours['total_variation'])} ({rank_of(kernel, released)})"
        rows.append((name, kernel_text(kernel), variation, rank, carried, entropy_with_more_context(maps, kernel)))
        if kernel.size <= 4:
            points[name] = [variation, carried]
    headings = (
        "kernel",
        "levels",
        "total variation",
        "rank of its class of 351 (released)",
        "information, bits",
        "with six neighbours, test images",
    )
    return table(headings, rows), points


def scaling() -> Table:
    """The levels behind a batch norm: converged, and as released."""
    sets = {
        "converged half-wave": design.half_wave_levels(6).tolist(),
        "set A": design.LEVEL_SETS["A"],
        "set B": design.LEVEL_SETS["B"],
    }
    return table(("levels for", *map(str, LEVELS)), [(name, *levels) for name, levels in sets.items()])


def study(cifar: Path, released: NDArray[np.float64]) -> dict[str, Any]:
    """Everything: the tables by name, and the figures' numbers."""
    train, test = (datasets.load("cifar10", split, cifar)[0] for split in ("train", "test"))
    reproduced, authors = reproduction(train, test, released)
    ones = design.random_joint_distribution(3, weights=np.ones((3, 3)))
    sources = {
        "CIFAR-10, authors' weights": authors,
        "CIFAR-10, all weights": design.image_joint_distribution(train),
        "photograph, all weights": design.image_joint_distribution(datasets.photograph()[np.newaxis]),
        "random pixels, all weights": design.random_joint_distribution(3),
        "random pixels, weights of ones": ones,
    }
    tables = {objective: design.objective_table(authors, objective=objective) for objective in OBJECTIVES}
    ours = {objective: design.all_scores(scores, (2, 2)) for objective, scores in tables.items()}
    order = np.argsort(-ours["total_variation"], kind="stable")
    square, scores = sizes(sources)
    named, points = compared(authors, test, ours, released)
    return {
        "tables": {
            "searches": searches(authors, ones),
            "reproduction": reproduced,
            "sizes": square,
            "options": options(sources),
            "convolutions": convolutions(train[:5000]),
            "levels": level_sets(authors, train[:2000]),
            "compared": named,
            "context": with_more_context(train[:1000]),
            "scaling": scaling(),
        },
        "figures": {
            "scores": {name: np.round(values, 6).tolist() for name, values in (ours | {"released": released}).items()},
            "points": points,
            "sizes": scores,
            "kernels": {
                name: np.array(LEVELS)[list(np.unravel_index(order[at], (6,) * 4))].tolist()
                for name, at in (("best", 0), ("middling", len(order) // 2), ("worst", -1))
            },
        },
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m docs.design_study", description=__doc__.splitlines()[0])
    parser.add_argument("--cifar", type=Path, required=True, help="CIFAR-10 in the official binary format")
    parser.add_argument("--released", type=Path, required=True, help="the authors' threshold_metrics.mat")
    arguments = parser.parse_args()
    found = study(arguments.cifar, released_scores(arguments.released))
    print(json.dumps(found, indent=1, ensure_ascii=False, default=float))


if __name__ == "__main__":
    main()
