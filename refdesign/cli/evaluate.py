"""`refdesign evaluate`: a network on a whole test set."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from refdesign import api
from refdesign.cli import _common as common
from refdesign.cli import _on_engine as engines
from refdesign.errors import RefdesignError, missing_extra
from refdesign.frameworks import ENGINES
from refdesign.run import class_logits


@click.command()
@common.model_argument
@click.argument("data")
@click.option("--engine", type=click.Choice(ENGINES), default="packed", show_default=True, help="What runs it.")
@click.option("--first", type=click.IntRange(min=1), metavar="N", help="The first N images only.")
@click.option("--batch-size", type=click.IntRange(min=1), metavar="N", help="Images at a time (default: by memory).")
@click.option(
    "--module", "folder", type=click.Path(path_type=Path, file_okay=False),
    help="A run's folder: compare with its trained module too, every layer, every bit.",
)  # fmt: skip
@common.root_option
@common.json_option
@click.pass_context
def evaluate(
    ctx: click.Context,
    model: str,
    data: str,
    engine: str,
    first: int | None,
    batch_size: int | None,
    folder: Path | None,
    root: Path | None,
    as_json: bool,
) -> None:
    """Evaluate a network on a whole test set, with any engine.

    MODEL is a network file or a name; DATA a data set, NAME or NAME:SPLIT (default: its test split). The network runs
    on packed bits, folded to integer thresholds; all engines give the same predictions. Of equal largest logits the
    first counts.

    \b
    Examples:
      refdesign evaluate digits digits
      refdesign evaluate runs/narrow/network.safetensors cifar10 --root data/cifar10 --engine numba
      refdesign evaluate runs/narrow/network.safetensors cifar10 --root data/cifar10 --module runs/narrow

    Exit status 1: --module was given, and the module gives another bit somewhere.
    """
    network = common.load_model(model)
    images, labels, _ = common.load_images((data,), root, network.input_shape)
    if labels is None:
        raise RefdesignError(f"{data}: found images without labels, expected a data set: digits, cifar10, ...")
    images, labels = images[:first], labels[:first]
    started = time.perf_counter()
    logits = _logits(network, images, engine, batch_size)
    seconds = time.perf_counter() - started
    report = _report(logits, labels)
    report = {"network": network.name, "data": common.source_text(data), "engine": engine, **report}
    report["images_per_second"] = len(images) / seconds
    agreement = None if folder is None else _agreement(network, folder, images)
    if agreement is not None:
        report["module"] = {"folder": folder, "differing": agreement.differing, **vars(agreement)}
    if as_json:
        common.print_json(report)
    else:
        _print(report)
        if agreement is not None:
            common.console().print(common.cell(f"trained module against golden network: {agreement}"))
    if agreement is not None and (agreement.differing or agreement.predictions):
        ctx.exit(1)


def _logits(network: api.Network, images: NDArray[np.uint8], engine: str, batch_size: int | None) -> NDArray[Any]:
    with common.progress_bar(f"{network.name}, {engine}") as advance:
        batches = engines.batches(network, images, engine, ("logits",), batch_size, advance)
        return np.concatenate([class_logits(batch["logits"]) for batch in batches])


def _report(logits: NDArray[Any], labels: NDArray[np.int64]) -> dict[str, Any]:
    classes = logits.shape[1]
    if labels.size and int(labels.max()) >= classes:
        raise RefdesignError(f"labels: found class {labels.max()}, expected the network's classes, 0 to {classes - 1}")
    predictions = logits.argmax(axis=1)
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (labels, predictions), 1)
    correct = int(np.trace(confusion))
    return {
        "images": len(labels),
        "correct": correct,
        "accuracy": correct / max(len(labels), 1),
        "confusion": confusion,
    }


def _agreement(network: api.Network, folder: Path, images: NDArray[np.uint8]) -> Any:
    try:
        from refdesign.training.data import INPUT_SHAPES
        from refdesign.training.exactness import compare
        from refdesign.training.run import read_configuration, trained_module
    except ImportError as error:
        raise missing_extra("train", error.name or "torch") from error
    shape = INPUT_SHAPES[read_configuration(folder).dataset]
    if shape != network.input_shape:
        found, expected = common.shape_text(shape), common.shape_text(network.input_shape)
        raise RefdesignError(f"{folder}: found a module for images of {found}, expected {expected}")
    module = trained_module(folder)
    with common.progress_bar("against its module") as advance:
        return compare(module, network, images, progress=advance)


def _print(report: dict[str, Any]) -> None:
    console = common.console()
    console.print(common.cell(f"{report['network']} on {report['data']}, engine {report['engine']}\n"))
    confusion = report["confusion"]
    made = common.table("class", "images", "right", "accuracy", "most often taken for", left=("most often taken for",))
    for label, row in enumerate(confusion if len(confusion) <= 20 else ()):
        wrong = np.where(np.arange(len(row)) == label, -1, row)
        other = int(wrong.argmax())
        taken = f"{other} ({wrong[other]})" if wrong[other] > 0 else ""
        right, total = int(row[label]), int(row.sum())
        made.add_row(str(label), str(total), str(right), f"{right / max(total, 1):.1%}", taken)
    if made.row_count:
        console.print(made)
    console.print(
        f"{report['correct']:,} of {report['images']:,} correct: {report['accuracy']:.2%} "
        f"({report['images_per_second']:,.0f} images/s)"
    )
