"""What an experiment shows: arms with mean and spread, contrasts with intervals and exact tests; tables and plots."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refdesign.errors import RefdesignError, missing_extra
from refdesign.formats.atomic import replacing
from refdesign.training.grid import Block, Contrast, Grid
from refdesign.training.statistics import Paired, holm, paired

Rows = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Arm:
    """One arm: accuracies in per cent, by seed, of the runs that are done.

    Attributes:
        name: the arm's.
        planned: how many runs it has.
        scores: by seed.
        correct: images, by seed; differences of these are exact.
        failed: runs that diverged; they have no score.
    """

    name: str
    planned: int
    scores: Mapping[int, float]
    correct: Mapping[int, int]
    failed: int = 0

    @property
    def mean(self) -> float:
        """Of the scores; not a number where there are none."""
        return statistics.fmean(self.scores.values()) if self.scores else float("nan")

    @property
    def deviation(self) -> float:
        """The scores' sample standard deviation; not a number below two of them."""
        return statistics.stdev(self.scores.values()) if len(self.scores) > 1 else float("nan")


@dataclass(frozen=True)
class Compared:
    """A contrast and what its pairs give; `adjusted` is Holm's p, among the secondary contrasts only."""

    contrast: Contrast
    result: Paired
    differences: Mapping[int, float]
    adjusted: float | None


@dataclass(frozen=True)
class BlockReport:
    """A block's arms and contrasts; `scored_on` says which images, `complete` whether all of its runs are in."""

    block: Block
    scored_on: str
    complete: bool
    arms: Sequence[Arm]
    compared: Sequence[Compared]


def report(grid: Grid, rows: Rows) -> list[BlockReport]:
    """Every block's report, on the test images where all its runs have been measured on them, else on validation.

    Args:
        grid: the experiment.
        rows: results by identity, as `experiment.Results` holds them.

    Raises:
        RefdesignError: arms to compare that were scored on different numbers of images.
    """
    made = [_block_report(block, rows) for block in grid.blocks]
    secondary = [each for part in made for each in part.compared if each.contrast.kind == "secondary"]
    planned = sum(contrast.kind == "secondary" for block in grid.blocks for contrast in block.contrasts)
    # A contrast without a pair yet counts, too: what is corrected for does not grow as results come in.
    p_values = [each.result.p for each in secondary] + [1.0] * (planned - len(secondary))
    adjusted = dict(zip(map(id, secondary), holm(p_values), strict=False))
    return [
        BlockReport(
            part.block, part.scored_on, part.complete, part.arms,
            [Compared(e.contrast, e.result, e.differences, adjusted.get(id(e))) for e in part.compared],
        )
        for part in made
    ]  # fmt: skip


def _block_report(block: Block, rows: Rows) -> BlockReport:
    found: dict[str, dict[int, Mapping[str, Any]]] = {arm: {} for arm in block.arms}
    for arm, seed, configuration in block.runs():
        if configuration.identity() in rows:
            found[arm][seed] = rows[configuration.identity()]
    everything = [row for by_seed in found.values() for row in by_seed.values()]
    complete = len(everything) == len(block.arms) * len(block.seeds)
    scored = [row for row in everything if "failed" not in row]
    tested = complete and bool(scored) and all("test_correct" in row for row in scored)
    arms = {arm: _arm(arm, len(block.seeds), by_seed, tested) for arm, by_seed in found.items()}
    compared = []
    for contrast in block.contrasts:
        baseline, variant = arms[contrast.baseline], arms[contrast.variant]
        seeds = [seed for seed in block.seeds if seed in baseline.correct and seed in variant.correct]
        if not seeds:
            continue
        counts = {_images(found[arm][seed], tested) for arm in (contrast.baseline, contrast.variant) for seed in seeds}
        if len(counts) > 1:
            raise RefdesignError(
                f"block {block.name}, {contrast.variant} − {contrast.baseline}: found scores on {min(counts)} and on "
                f"{max(counts)} images, expected the same images for a comparison"
            )
        unit = 100 / counts.pop()
        images = {seed: variant.correct[seed] - baseline.correct[seed] for seed in seeds}
        points = {seed: unit * difference for seed, difference in images.items()}
        compared.append(Compared(contrast, paired(list(images.values()), unit), points, None))
    return BlockReport(block, "test" if tested else "validation", complete, list(arms.values()), compared)


def _images(row: Mapping[str, Any], tested: bool) -> int:
    return int(row["test_images"] if tested else row["validation_images"])


def _arm(name: str, planned: int, by_seed: Mapping[int, Mapping[str, Any]], tested: bool) -> Arm:
    correct = {}
    for seed, row in by_seed.items():
        if "failed" in row:
            continue
        images = _images(row, tested)
        correct[seed] = int(row["test_correct"]) if tested else round(row["validation_accuracy"] * images)
    scores = {seed: 100 * right / _images(by_seed[seed], tested) for seed, right in correct.items()}
    return Arm(name, planned, scores, correct, len(by_seed) - len(correct))


ARM_HEADINGS = ("arm", "runs", "mean", "sd", "min", "max")
CONTRAST_HEADINGS = ("contrast", "pairs", "difference", "95 % interval", "sd", "p", "least p", "Holm p")


def arm_cells(arm: Arm) -> tuple[str, ...]:
    """A row of the arms' table.

    >>> arm_cells(Arm("sign", 3, {1: 50.0, 2: 52.0}, {1: 5000, 2: 5200}))
    ('sign', '2/3', '51.00', '1.41', '50.00', '52.00')
    """
    scores = arm.scores.values()
    runs = f"{len(scores)}/{arm.planned}" + (f", {arm.failed} diverged" if arm.failed else "")
    if not scores:
        return arm.name, runs, "-", "-", "-", "-"
    spread = f"{arm.deviation:.2f}" if len(scores) > 1 else "-"
    lowest, highest = f"{min(scores):.2f}", f"{max(scores):.2f}"
    return arm.name, runs, f"{arm.mean:.2f}", spread, lowest, highest


def contrast_cells(each: Compared) -> tuple[str, ...]:
    """A row of the contrasts' table; differences in points of per cent."""
    result = each.result
    interval = f"{result.low:+.2f} to {result.high:+.2f}" if result.pairs > 1 else "-"
    adjusted = "-" if each.adjusted is None else f"{each.adjusted:.4f}"
    return (
        f"{each.contrast.variant} − {each.contrast.baseline}", str(result.pairs), f"{result.mean:+.2f}", interval,
        f"{result.deviation:.2f}", f"{result.p:.4f}", f"{result.least:.4f}", adjusted,
    )  # fmt: skip


def markdown(grid: Grid, reports: Sequence[BlockReport]) -> str:
    """The whole report as a page of Markdown."""
    lines = [f"# {grid.name}", ""]
    lines += ["Made by `refdesign experiment report`; accuracies in per cent, differences in points."]
    for part in reports:
        done = sum(len(arm.scores) + arm.failed for arm in part.arms)
        planned = sum(arm.planned for arm in part.arms)
        state = "complete" if part.complete else f"{done} of {planned} runs done: interim, nothing is concluded from it"
        lines += ["", f"## {part.block.name} ({part.block.kind})", ""]
        lines += [part.block.note, ""] if part.block.note else []
        lines += [f"Scored on the {part.scored_on} images; {state}.", ""]
        if done:
            lines += _table(ARM_HEADINGS, [arm_cells(arm) for arm in part.arms])
        if part.compared:
            lines += ["", *_table(CONTRAST_HEADINGS, [contrast_cells(each) for each in part.compared])]
    return "\n".join(lines) + "\n"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---", *("---:" for _ in headings[1:])]
    return [f"| {' | '.join(cells)} |" for cells in (headings, rule, *rows)]


def plot(reports: Sequence[BlockReport], path: Path) -> None:
    """Paired differences, seed by seed, with their means and 95 % intervals; a picture in the format of the suffix.

    Raises:
        RefdesignError: nothing to compare yet, or a file that cannot be written.
        MissingExtra: Matplotlib is not installed (extra `plot`).
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("plot", "matplotlib") from error
    compared = [(part, each) for part in reports for each in part.compared]
    if not compared:
        raise RefdesignError("plot: found no pair of runs, expected at least one")
    figure = Figure(figsize=(8, 1.2 + 0.55 * len(compared)), layout="constrained")
    axes = figure.subplots()
    labels = []
    for row, (part, each) in enumerate(compared):
        points = list(each.differences.values())
        axes.plot(points, [row] * len(points), "o", color="C0", alpha=0.45, markersize=5)
        if each.result.pairs > 1:
            axes.plot([each.result.low, each.result.high], [row + 0.22] * 2, color="C1", linewidth=2)
        axes.plot([each.result.mean], [row + 0.22], "D", color="C1", markersize=5)
        labels.append(f"{each.contrast.variant} − {each.contrast.baseline}\n{part.block.name}, {part.scored_on}")
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("difference in accuracy, points (dots: seeds; line: mean and its 95 % interval)")
    suffix = path.suffix.removeprefix(".").lower() or "png"
    if suffix not in figure.canvas.get_supported_filetypes():
        raise RefdesignError(f"{path}: found the suffix {path.suffix!r}, expected a picture such as .png or .svg")
    with replacing(path) as stream:
        figure.savefig(stream, format=suffix, dpi=120)
