"""Every figure and table of `design.md`, by one command from the repository's root:

    python -m docs.design_study --cifar FOLDER --released FILE

FOLDER holds CIFAR-10 in its official binary format, FILE is the authors' `threshold_metrics.mat`. Tables are written
between the markers in `docs/design.md`, pictures to `docs/figures/design_*.png`. Takes about two minutes.
"""

from __future__ import annotations

import argparse
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.io
from numpy.typing import NDArray
from scipy.stats import spearmanr

from docs import design_plots as plots
from refdesign import datasets, design
from refdesign.design import images as image_counts
from refdesign.design.classes import canonical, ranked_classes, translations
from refdesign.design.joint import accumulator_values

PAGE = Path(__file__).with_name("design.md")
LEVELS = (0, 1, 3, 5, 7, 9)
OBJECTIVES = ("total_variation", "information")
ONES = np.ones((3, 3))
Joint = design.JointDistribution


def kernel_text(kernel: NDArray[np.float64]) -> str:
    """Rows with slashes between."""
    return " / ".join(" ".join(f"{level:.3g}" for level in row) for row in kernel)


def markdown(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table; numbers with five decimals."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(
        "| " + " | ".join(f"{cell:.5f}" if isinstance(cell, float) else str(cell) for cell in line) + " |"
        for line in lines
    )


def insert(name: str, text: str) -> None:
    """Replace what stands between a table's markers in the page."""
    page = PAGE.read_text(encoding="utf-8")
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not pattern.search(page):
        raise SystemExit(f"{PAGE}: found no place for the table {name}")
    PAGE.write_text(pattern.sub(lambda found: f"{found[1]}{text}\n{found[2]}", page), encoding="utf-8")
    print(f"{name}\n{text}\n", flush=True)


def released_scores(file: Path) -> NDArray[np.float64]:
    """The authors' total variation of all 2x2 kernels, in the order of `all_scores`."""
    metrics = scipy.io.loadmat(file)["metric_means"][3]
    scores = np.empty(6**4)
    for score, cells in zip(metrics, itertools.product((1, 3, 5, 7, 9, 0), repeat=4), strict=True):
        kernel = np.array(cells).reshape(2, 2, order="F")
        scores[np.ravel_multi_index(tuple(LEVELS.index(level) for level in kernel.ravel()), (6,) * 4)] = score
    return scores


def scores_as_released(maps: NDArray[np.int32]) -> NDArray[np.float64]:
    """The released `tv.m` to the letter: horizontal and vertical differences are flattened, column by column, from
    arrays of different shapes, so that each pair of them comes from two different pixels.
    """
    scores = []
    for cells in itertools.product(LEVELS, repeat=4):
        thresholds = np.tile(np.array(cells).reshape(2, 2), (maps.shape[1] // 2, maps.shape[2] // 2))
        output = (np.maximum(maps, 0) >= thresholds) * thresholds / 9
        dx, dy = np.diff(output, axis=2), np.diff(output, axis=1)
        flat = [d.transpose(0, 2, 1).reshape(len(maps), -1) for d in (dx, dy)]
        scores.append(np.sqrt(flat[0] ** 2 + flat[1] ** 2).mean())
    return np.array(scores)


def reproduction(cifar: Path, released: NDArray[np.float64]) -> Joint:
    """Our scores beside the released ones; returns the statistics of the training images."""
    train, test = (datasets.load("cifar10", split, cifar)[0] for split in ("train", "test"))
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
    insert("reproduction", markdown(("images", "weights", "rank correlation", "best kernel", "its score"), rows))
    whole = joints["50,000 training images", "as given"]
    plots.released(design.all_scores(design.objective_table(whole), (2, 2)), released)
    return whole


def sizes(sources: dict[str, Joint]) -> None:
    """Optimum and score of every shape from 1x1 to 5x5."""
    found = {}
    for (name, joint), objective in itertools.product(sources.items(), OBJECTIVES):
        scores = np.empty((5, 5))
        for m, n in np.ndindex(5, 5):
            scores[m, n] = design.optimum(joint, (m + 1, n + 1), objective=objective).score
        found[name, objective] = scores
    plots.sizes(found)
    rows = []
    for (name, joint), objective in itertools.product(sources.items(), OBJECTIVES):
        cells = []
        for extent in (1, 2, 3, 4, 5):
            best = design.optimum(joint, (extent, extent), objective=objective)
            part = period(best.kernel_levels)
            shown = f"{kernel_text(part)}: " if part.size <= 9 else ""
            cells.append(f"{shown}{best.score:.5f}{'' if best.bound - best.score > 1e-9 else ' *'}")
        rows.append((name, objective.replace("_", " "), *cells))
    headings = ("statistics", "objective", *(f"{extent} × {extent}" for extent in (1, 2, 3, 4, 5)))
    insert("sizes", markdown(headings, rows))


def period(kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """The smallest part that gives the kernel when it is repeated."""
    m, n = kernel.shape
    for p, q in sorted(itertools.product(range(1, m + 1), range(1, n + 1)), key=lambda shape: shape[0] * shape[1]):
        part = kernel[:p, :q]
        if m % p == 0 and n % q == 0 and (np.tile(part, (m // p, n // q)) == kernel).all():
            return part
    return kernel


def options(sources: dict[str, Joint]) -> None:
    """Weight and norm."""
    rows = []
    for name, joint in sources.items():
        for weight, norm in itertools.product(("threshold", "binary"), ("isotropic", "anisotropic")):
            best = design.optimum(joint, (2, 2), weight=weight, norm=norm)
            carried = design.expected_information(best.kernel_levels, joint)
            rows.append((name, weight, norm, kernel_text(best.kernel_levels), best.score, carried))
    insert("options", markdown(("statistics", "weight", "norm", "best 2 × 2", "score", "information, bits"), rows))


def convolutions(images: NDArray[np.uint8]) -> None:
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
    insert("convolutions", markdown(("objective", "best 2 × 2", "convolutions of 512"), rows))


def level_sets(joint: Joint, images: NDArray[np.uint8]) -> None:
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
    insert("levels", markdown(("levels", "objective", "best 2 × 2", "score"), rows))


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


def with_more_context(images: NDArray[np.uint8]) -> None:
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
    insert("context", markdown((f"rank of {len(found)}", "2 × 2", "bits given six neighbours"), sorted(rows)))


def compared(joint: Joint, held_out: NDArray[np.uint8], released: NDArray[np.float64]) -> None:
    """Kernels under both objectives, and under more context on other images."""
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
    tables = {objective: design.objective_table(joint, objective=objective) for objective in OBJECTIVES}
    ours = {objective: design.all_scores(table, (2, 2)) for objective, table in tables.items()}
    rows = []
    for name, kernel in kernels.items():
        variation, carried = design.expected_total_variation(kernel, joint), design.expected_information(kernel, joint)
        rank: object = ""
        if kernel.shape == (2, 2):
            rank = f"{rank_of(kernel, ours['total_variation'])} ({rank_of(kernel, released)})"
        rows.append((name, kernel_text(kernel), variation, rank, carried, entropy_with_more_context(maps, kernel)))
    headings = (
        "kernel",
        "levels",
        "total variation",
        "rank of its class of 351 (released)",
        "information, bits",
        "with six neighbours, test images",
    )
    insert("compared", markdown(headings, rows))
    shown = {name: rows[index][2:5:2] for index, name in enumerate(kernels) if kernels[name].size <= 4}
    plots.objectives(ours, {name: (float(point[0]), float(point[1])) for name, point in shown.items()})


def main() -> None:
    """Make everything."""
    parser = argparse.ArgumentParser(prog="python -m docs.design_study", description=__doc__.splitlines()[0])
    parser.add_argument("--cifar", type=Path, required=True, help="CIFAR-10 in the official binary format")
    parser.add_argument("--released", type=Path, required=True, help="the authors' threshold_metrics.mat")
    arguments = parser.parse_args()
    released = released_scores(arguments.released)
    train, _ = datasets.load("cifar10", "train", arguments.cifar)
    test, _ = datasets.load("cifar10", "test", arguments.cifar)
    authors = reproduction(arguments.cifar, released)
    photograph = datasets.photograph()[np.newaxis]
    sources = {
        "CIFAR-10, authors' weights": authors,
        "CIFAR-10, all weights": design.image_joint_distribution(train),
        "photograph, all weights": design.image_joint_distribution(photograph),
        "random pixels, all weights": design.random_joint_distribution(3),
        "random pixels, weights of ones": design.random_joint_distribution(3, weights=ONES),
    }
    sizes(sources)
    options(sources)
    convolutions(train[:5000])
    level_sets(authors, train[:2000])
    compared(authors, test, released)
    with_more_context(train[:1000])
    table = design.objective_table(authors)
    order = np.argsort(-design.all_scores(table, (2, 2)), kind="stable")
    plots.photograph(
        [
            np.array([LEVELS[i] for i in np.unravel_index(order[at], (6,) * 4)], dtype=float).reshape(2, 2)
            for at in (0, len(order) // 2, -1)
        ]
    )
    rows = []
    for name, levels in (
        ("converged half-wave", design.half_wave_levels(6)),
        ("set A", np.array(design.LEVEL_SETS["A"])),
        ("set B", np.array(design.LEVEL_SETS["B"])),
    ):
        rows.append((name, *(float(level) for level in levels)))
    insert("scaling", markdown(("levels for", *(str(level) for level in LEVELS)), rows))
    plots.levels()


if __name__ == "__main__":
    main()
