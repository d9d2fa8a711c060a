"""`refdesign experiment`: a grid of trainings, and what it shows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from refdesign.cli import _common as common
from refdesign.errors import missing_extra
from refdesign.formats.atomic import write_bytes

if TYPE_CHECKING:
    from refdesign.training.experiment import Results
    from refdesign.training.grid import Block, Grid

_grid_argument = click.argument("grid", type=click.Path(path_type=Path, dir_okay=False))
_blocks_option = click.option("--block", "names", multiple=True, help="Only this block; may be given several times.")
_runs_option = click.option(
    "--runs", type=click.Path(path_type=Path, file_okay=False), help="Folder of the runs (default: runs/NAME)."
)
_results_option = click.option(
    "--results", type=click.Path(path_type=Path, dir_okay=False),
    help="JSON lines of what came out (default: beside GRID).",
)  # fmt: skip


@click.group()
def experiment() -> None:
    """Run a grid of trainings, resumable, and report what it shows.

    GRID is a TOML file: common fields, then blocks, each a product of axes (activation, binariser, width, ...) and
    seeds, with the axis that is compared pair by pair. Runs that are in the results are not run again, and one that
    was interrupted goes on from its last epoch. Test images are looked at by 'test' only, when a block is done.

    \b
    Examples:
      refdesign experiment run docs/experiments/cifar10.toml --root data/cifar10
      refdesign experiment run docs/experiments/cifar10.toml --root data/cifar10 --block primary --jobs 2
      refdesign experiment run docs/experiments/cifar10.toml --root data/cifar10 --cluster tcp://host:8786
      refdesign experiment test docs/experiments/cifar10.toml --root data/cifar10 --block primary
      refdesign experiment report docs/experiments/cifar10.toml --markdown report.md --plot report.png
    """


@experiment.command("run")
@_grid_argument
@common.root_option
@_blocks_option
@_runs_option
@_results_option
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Processes side by side.")
@click.option("--cluster", metavar="ADDRESS", help="A Dask scheduler's address, or 'local'.")
@click.option("--most", type=click.IntRange(min=1), metavar="N", help="Stop after N runs.")
def run_grid(
    grid: Path,
    root: Path | None,
    names: tuple[str, ...],
    runs: Path | None,
    results: Path | None,
    jobs: int,
    cluster: str | None,
    most: int | None,
) -> None:
    """Carry out what is left of a grid."""
    from refdesign.training.experiment import run_all, tasks

    read, blocks, known = _read(grid, names, results)
    left = tasks(read, blocks, known, _runs(runs, read), root)
    planned = len({configuration.identity() for block in blocks for *_, configuration in block.runs()})
    click.echo(f"{planned - len(left)} of {planned} runs are done", err=True)
    left = left[:most]
    finished = 0
    with common.progress_bar("runs") as advance:
        advance(0, len(left))

        def done(row: dict[str, Any]) -> None:
            nonlocal finished
            finished += 1
            known.add(row)
            advance(finished, len(left))
            plain = row["configuration"]
            gave = row.get("failed") or f"validation accuracy {row['validation_accuracy']:.2%} ({row['seconds']:.0f} s)"
            click.echo(f"{finished}/{len(left)}: {plain['activation']}, seed {plain['seed']}: {gave}", err=True)

        run_all(left, jobs=jobs, cluster=cluster, done=done)


@experiment.command("test")
@_grid_argument
@common.root_option
@_blocks_option
@_runs_option
@_results_option
def test_grid(grid: Path, root: Path | None, names: tuple[str, ...], runs: Path | None, results: Path | None) -> None:
    """Measure finished blocks on the test images, once; without --block all but the exploratory ones."""
    from refdesign.training.experiment import look_at_test

    read, blocks, known = _read(grid, names, results)
    for block in blocks:
        if block.kind == "exploratory" and not names:
            continue
        total = len(block.arms) * len(block.seeds)
        with common.progress_bar(f"{block.name}, test images") as advance:
            for number, _ in enumerate(look_at_test(block, known, _runs(runs, read), root), start=1):
                advance(number, total)
        click.echo(f"block {block.name}: {total} networks measured on the test images", err=True)


@experiment.command("report")
@_grid_argument
@_results_option
@click.option("--markdown", "page", type=click.Path(path_type=Path, dir_okay=False), help="Write a page of Markdown.")
@click.option("--plot", "picture", type=click.Path(path_type=Path, dir_okay=False), help="Write a plot of all pairs.")
@common.json_option
def report_grid(grid: Path, results: Path | None, page: Path | None, picture: Path | None, as_json: bool) -> None:
    """Show arms and contrasts: means, spreads, paired differences, intervals, exact tests."""
    from refdesign.training import report as reports

    read, _, known = _read(grid, (), results)
    made = reports.report(read, known.rows)
    if page is not None:
        write_bytes(page, reports.markdown(read, made).encode())
    if picture is not None:
        reports.plot(made, picture)
    if as_json:
        common.print_json([_plain(part) for part in made])
        return
    console = common.console()
    for part in made:
        console.print(f"{part.block.name} ({part.block.kind}), {part.scored_on} images, accuracy in %")
        table = common.table(*reports.ARM_HEADINGS, left=("arm",))
        for arm in part.arms:
            table.add_row(*map(common.cell, reports.arm_cells(arm)))
        console.print(table)
        if part.compared:
            table = common.table(*reports.CONTRAST_HEADINGS, left=("contrast",))
            for each in part.compared:
                table.add_row(*map(common.cell, reports.contrast_cells(each)))
            console.print(table)
        console.print("" if part.complete else "not all runs are done: interim, nothing is concluded from it\n")


def _read(path: Path, names: tuple[str, ...], results: Path | None) -> tuple[Grid, list[Block], Results]:
    try:
        from refdesign.training.experiment import Results
        from refdesign.training.grid import read_grid
    except ImportError as error:
        raise missing_extra("train", error.name or "torch") from error
    grid = read_grid(path)
    blocks = [grid.block(name) for name in names] or list(grid.blocks)
    return grid, blocks, Results(results or path.with_suffix(".results.jsonl"))


def _runs(runs: Path | None, grid: Grid) -> Path:
    return runs or Path("runs") / grid.name


def _plain(part: Any) -> dict[str, Any]:
    return {
        "block": part.block.name,
        "kind": part.block.kind,
        "images": part.scored_on,
        "complete": part.complete,
        "arms": [
            {
                "arm": arm.name,
                "planned": arm.planned,
                "failed": arm.failed,
                "scores": {str(seed): score for seed, score in arm.scores.items()},
            }
            for arm in part.arms
        ],
        "contrasts": [
            {
                "variant": each.contrast.variant,
                "baseline": each.contrast.baseline,
                "holm": each.adjusted,
                "differences": {str(seed): points for seed, points in each.differences.items()},
                **{name: value if math.isfinite(value) else None for name, value in vars(each.result).items()},
            }
            for each in part.compared
        ],
    }
