"""`refdesign design`: the best threshold kernel of a shape, proven."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from refdesign import datasets
from refdesign import design as design_library
from refdesign.cli import _art as art
from refdesign.cli import _common as common
from refdesign.cli import _kernel_files as kernel_files
from refdesign.cli._importing import kernel as kernel_by_name
from refdesign.design.total_variation import (
    LARGEST_ENUMERATION,
    NORMS,
    OBJECTIVES,
    WEIGHTS,
    check_levels,
    check_shape,
)
from refdesign.errors import RefdesignError
from refdesign.parameters import ThresholdKernel

NAMED_WEIGHTS = ("all", "authors", "ones")
SCALES = ("half-wave", *design_library.LEVEL_SETS, "none")


@click.command()
@click.argument("source", default="photograph")
@click.option("--shape", default="2x2", show_default=True, metavar="MxN", help="Rows and columns of the kernel.")
@click.option("--levels", metavar="A,B,...", help="Threshold levels, ascending (default: the range of the ReLU).")
@click.option("--objective", type=click.Choice(OBJECTIVES), default="total_variation", show_default=True)
@click.option(
    "--weight", type=click.Choice(WEIGHTS), default="threshold", show_default=True, help="What a 1 bit weighs."
)
@click.option("--norm", type=click.Choice(NORMS), default="isotropic", show_default=True)
@click.option("--k", type=click.IntRange(1, 15), default=3, show_default=True, help="The convolution's size.")
@click.option(
    "--weights",
    "weights_name",
    default=None,
    metavar="NAME",
    help="Binary convolutions: authors, ones, all (k up to 3), or random:N (default: all; random:64 from k = 4).",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="For random weights.")
@click.option("--first", type=click.IntRange(min=1), metavar="N", help="Take the first N images only.")
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, metavar="N", help="Classes to list.")
@click.option(
    "--compare", "others", multiple=True, metavar="KERNEL", help="Score a published kernel, or a file's, beside it."
)
@click.option(
    "--scale", type=click.Choice(SCALES), default="half-wave", show_default=True, help="Levels of the kernels written."
)
@click.option("--slices", type=click.IntRange(min=1), metavar="G", help="Write a 3D kernel of G shifted slices.")
@click.option("--complement", is_flag=True, help="Write a 3D kernel of two slices, levels swapped in the second.")
@click.option(
    "--save", multiple=True, type=click.Path(path_type=Path), metavar="FILE", help="Write the best: .mat, .json, .npz."
)
@click.option("--plots", type=click.Path(path_type=Path), metavar="FOLDER", help="Write plots there (extra 'plot').")
@click.option("--jobs", type=int, default=1, show_default=True, metavar="N", help="Processes; 0 leaves it to joblib.")
@click.option(
    "--checkpoint", type=click.Path(path_type=Path), metavar="FILE", help="Keep what is done; resume from it."
)
@click.option("--max-seconds", type=click.FloatRange(min=0, min_open=True), default=3600.0, show_default=True)
@common.root_option
@common.json_option
def design(
    source: str,
    shape: str,
    levels: str | None,
    objective: str,
    weight: str,
    norm: str,
    k: int,
    weights_name: str | None,
    seed: int,
    first: int | None,
    top: int,
    others: tuple[str, ...],
    scale: str,
    slices: int | None,
    complement: bool,
    save: tuple[Path, ...],
    plots: Path | None,
    jobs: int,
    checkpoint: Path | None,
    max_seconds: float,
    root: Path | None,
    as_json: bool,
) -> None:
    """Find the best threshold kernel of a shape, proven, for the statistics of SOURCE.

    SOURCE is `random` (independent random pixels, in closed form), `photograph` (one that ships with refdesign), a
    data set as NAME or NAME:SPLIT (cifar10:train with --root), or a folder of images.

    \b
    Examples:
      refdesign design
      refdesign design random --shape 4x4 --weights ones
      refdesign design cifar10:train --root data --weights authors --top 10
      refdesign design photos/ --compare threshold_2x2_v2 --compare threshold_3x3_symmetric_v1
      refdesign design photos/ --shape 3x3 --save kernel.mat --plots plots/
      refdesign design photos/ --objective information --slices 4 --save kernel.json

    The objective is the expected total variation of the binarised output (the method's own), or the information
    that a bit adds to its neighbours' bits. Shifts of a kernel, and reflections and transposes that tie, are one
    class, shown by its smallest member; MEMBERS counts its kernels, CLOSED UNDER says which of these operations map
    the class onto itself. The bound for any height holds for every kernel of so many columns, however many rows
    it has: where the optimum reaches it, taller kernels gain nothing.
    """
    wanted = _shape(shape)
    for path in save:
        kernel_files.check_suffix(path)
    if slices is not None and complement:
        raise RefdesignError("--slices: found --complement too, expected one of them")
    given = {name: kernel_by_name(name) for name in others}
    processes = None if jobs == 0 else jobs
    counting = None if checkpoint is None else checkpoint.with_name(checkpoint.name + ".statistics")
    with common.progress_bar("Counting") as progress:
        joint = _statistics(source, k, weights_name, seed, first, root, processes, counting, progress)
    level_set = check_levels(_levels(levels), joint)
    options: dict[str, Any] = {"objective": objective, "weight": weight, "norm": norm}
    with common.progress_bar("Searching") as progress:
        best = design_library.optimum(
            joint,
            wanted,
            levels=level_set,
            jobs=processes,
            checkpoint=checkpoint,
            progress=progress,
            max_seconds=max_seconds,
            **options,
        )
    compared = [kernel_files.compared(name, other, best, joint, level_set, options) for name, other in given.items()]
    table = design_library.objective_table(joint, level_set, **options)
    classes = _ranked(table, wanted, level_set, top) or best.classes[:top]
    kernel = kernel_files.scaled_kernel(best.kernel_levels, level_set, scale, slices, complement)
    flat = kernel_files.scaled_kernel(best.kernel_levels, level_set, scale, None, False)
    for path in save:
        kernel_files.write(path, kernel, best, joint, {"source": source, "k": k, **options})
    written = list(save)
    if plots is not None:
        from refdesign.cli import _design_pictures as pictures

        written += pictures.all_plots(
            plots,
            table,
            wanted,
            level_set,
            best,
            objective,
            _one_convolution(weights_name, k, seed),
            flat.values[:, :, 0],
        )
    if as_json:
        common.print_json(_plain(source, joint, best, classes, level_set, options, compared, written))
        return
    _print(source, joint, best, classes, wanted, objective)
    for row in compared:
        common.console().print(f"{row['kernel']}: {row['score']:.6f}, {row['of_best']:.1%} of the best", markup=False)
    if save:
        _print_kernel(kernel, scale)
    for path in written:
        common.console().print(f"wrote {path}", markup=False)


def _shape(text: str) -> tuple[int, int]:
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) != 2 or not all(part.strip().isdecimal() for part in parts):
        raise RefdesignError(f"--shape: found {text!r}, expected rows and columns as in 2x3")
    return check_shape((int(parts[0]), int(parts[1])))


def _levels(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise RefdesignError(f"--levels: found {text!r}, expected numbers with commas between") from None


def _weights(name: str | None, k: int, seed: int) -> NDArray[np.int64] | None:
    """The convolutions by name; None for all."""
    name = name or ("all" if k <= 3 else "random:64")
    kind, _, count = name.partition(":")
    if kind == "random" and count.isdecimal():
        return design_library.random_weights(k, int(count), seed)
    if name == "authors":
        if k != 3:
            raise RefdesignError(f"--weights: found authors with --k {k}, expected --k 3")
        return design_library.AUTHORS_WEIGHTS[np.newaxis]
    if name == "ones":
        return np.ones((1, k, k), dtype=np.int64)
    if name != "all":
        raise RefdesignError(f"--weights: found {name!r}, expected one of {', '.join(NAMED_WEIGHTS)} or random:N")
    return None


def _one_convolution(name: str | None, k: int, seed: int) -> NDArray[np.int64]:
    """The convolution that the plot of the photograph goes through: the first of those asked for."""
    weights = _weights(name, k, seed)
    if weights is not None:
        return np.asarray(weights[0])
    return design_library.AUTHORS_WEIGHTS if k == 3 else design_library.random_weights(k, 1, seed)[0]


def _statistics(
    source: str,
    k: int,
    weights_name: str | None,
    seed: int,
    first: int | None,
    root: Path | None,
    jobs: int | None,
    checkpoint: Path | None,
    progress: Any,
) -> design_library.JointDistribution:
    name, _, split = source.partition(":")
    if source == "random":
        weights = None if weights_name is None else _weights(weights_name, k, seed)
        return design_library.random_joint_distribution(k, weights=weights)
    weights = _weights(weights_name, k, seed)
    images: Any
    if source == "photograph":
        images = datasets.photograph()[np.newaxis]
    elif name in datasets.DATASETS:
        images = datasets.load(name, split or "train", root)[0][:first]
    elif Path(source).is_dir():
        images = design_library.read_image_folder(source, limit=first)
    else:
        names = ", ".join(datasets.DATASETS)
        raise RefdesignError(
            f"{source}: found no folder of this name, expected one with images, or random, photograph, {names}"
        )
    try:
        return design_library.image_joint_distribution(
            images, k=k, weights=weights, jobs=jobs, checkpoint=checkpoint, progress=progress
        )
    except RefdesignError as error:
        raise RefdesignError(f"{source}: {error}") from error


def _ranked(
    table: NDArray[np.float64], shape: tuple[int, int], levels: NDArray[np.float64], top: int
) -> tuple[design_library.KernelClass, ...]:
    """The first classes of the full ranking, where that is small enough."""
    if len(levels) ** (shape[0] * shape[1]) > LARGEST_ENUMERATION:
        return ()
    scores = design_library.all_scores(table, shape)
    order = design_library.ranked_classes(scores, shape, len(levels))
    return design_library.ranking(design_library.fixed_point(table), shape, levels, order, count=top)


def _plain(
    source: str,
    joint: design_library.JointDistribution,
    best: design_library.Optimum,
    classes: tuple[design_library.KernelClass, ...],
    levels: NDArray[np.float64],
    options: dict[str, Any],
    compared: list[dict[str, Any]],
    written: list[Path],
) -> dict[str, Any]:
    return {
        "source": source,
        "observations": joint.observations,
        **options,
        "levels": levels,
        "kernel_levels": best.kernel_levels,
        "score": best.score,
        "candidates": best.candidates,
        "bound_for_any_height": best.bound,
        "ties": [entry.kernel_levels for entry in best.classes],
        "all_ties_listed": best.complete,
        "classes": [
            {
                "kernel_levels": entry.kernel_levels,
                "score": entry.score,
                "members": entry.members,
                "symmetries": entry.symmetries,
            }
            for entry in classes
        ],
        "compared": compared,
        "files": written,
    }


def _print(
    source: str,
    joint: design_library.JointDistribution,
    best: design_library.Optimum,
    classes: tuple[design_library.KernelClass, ...],
    shape: tuple[int, int],
    objective: str,
) -> None:
    console = common.console()
    counted = "closed form" if joint.observations is None else f"{joint.observations:,} triples of neighbours"
    unit = "bits a pixel" if objective == "information" else "a pixel"
    console.print(f"[bold]Statistics[/bold]  {common.cell(source)}: {counted}")
    console.print(
        f"[bold]Optimum[/bold]     {shape[0]}×{shape[1]}: {best.score:.6f} {unit}, proven best of "
        f"{best.candidates:,} kernels"
    )
    narrow = min(shape)
    extent, along = ("columns", "tall") if shape[1] == narrow else ("rows", "long")
    console.print(f"            no kernel of {narrow} {extent}, however {along}, exceeds {best.bound:.6f}")
    if len(best.classes) > 1 or not best.complete:
        more = "" if best.complete else "at least "
        console.print(f"            {more}{len(best.classes)} classes tie within {best.resolution:.1e}")
    console.print()
    listed = common.table("rank", "score", "members", "kernel", "closed under", left=("kernel", "closed under"))
    for rank, entry in enumerate(classes, 1):
        rows = " / ".join(" ".join(f"{level:g}" for level in row) for row in entry.kernel_levels)
        listed.add_row(str(rank), f"{entry.score:.6f}", str(entry.members), rows, ", ".join(entry.symmetries))
    console.print(listed)
    console.print("members: kernels in the class; closed under: the operations that map it onto itself (see --help)")
    console.print()
    for line in _drawings(classes, float(check_levels(None, joint)[-1])):
        console.print(line, markup=False)


def _print_kernel(kernel: ThresholdKernel, scale: str) -> None:
    """What the files hold: not the levels but what they are re-scaled to."""
    what = {
        "half-wave": "its levels re-scaled to the boundaries of the half-wave Gaussian's quantiser",
        "none": "its levels as they are",
    }.get(scale, f"its levels re-scaled to the released set {scale}")
    console = common.console()
    console.print(f"The files hold the kernel with {what} (--scale {scale}):", markup=False)
    for q in range(kernel.shape[2]):
        rows = " / ".join(" ".join(f"{value:.6g}" for value in row) for row in kernel.values[:, :, q].tolist())
        console.print(f"   {rows}" + (f"   (slice {q})" if kernel.shape[2] > 1 else ""), markup=False)


def _drawings(classes: tuple[design_library.KernelClass, ...], largest: float) -> list[str]:
    """Each class as two periods of its kernel in shades, low thresholds dark, as many as fit side by side."""
    pictures = []
    for rank, entry in enumerate(classes, 1):
        grey = np.clip(entry.kernel_levels / max(largest, float(entry.kernel_levels.max())) * 255, 0, 255)
        tiled = np.tile(grey.astype(np.uint8), (2, 2))
        lines = art.shades(tiled, blocks=art.can_draw())
        width = max(4, len(lines[0]))
        pictures.append([f"{rank}".ljust(width), *(line.ljust(width) for line in lines)])
    across = max(1, 96 // (len(pictures[0][0]) + 3))
    drawn = []
    for start in range(0, len(pictures), across):
        drawn += [*art.side_by_side(pictures[start : start + across], gap="   "), ""]
    return drawn
