"""Train the small BinaryNets on handwritten digits that ship with the project, and measure them.

    python -m refdesign.training.digits --out runs/digits

trains plain Sign, DeSign 2D and DeSign 3D with five seeds each (two processes side by side), exports every network,
checks that the exported one gives the trained module's bits in every layer on all test images, and prints a table.
Of each activation the seed with the best validation accuracy (the lower validation loss where several have it) is
copied to `<out>`, as `digits-sign.safetensors`, `digits-2d` and `digits`: the files in `refdesign/models/pretrained`.
An interrupted command goes on where it stopped.

All choices (network, recipe, seed) were made on the validation images; the test images, the last 20 % in file
order, are of other writers than the training images.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from refdesign import datasets
from refdesign.api import load
from refdesign.design import published
from refdesign.errors import RefdesignError, missing_extra
from refdesign.formats.atomic import write_bytes
from refdesign.training.exactness import compare
from refdesign.training.loop import Epoch, Labelled, measure, train
from refdesign.training.recipe import Recipe

try:
    import torch
except ImportError as error:
    raise missing_extra("train", "torch") from error

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from torch import nn

from refdesign.frameworks.torch import to_network
from refdesign.frameworks.torch.models import binarynet

RECIPE = Recipe(epochs=60, batch_size=64, learning_rate=0.005, loss="cross_entropy", rotation=10, stretch=0.1, shift=1)
"""How all three are trained."""

RECIPE_FIELDS = ("batch_size", "epochs", "learning_rate", "loss", "rotation", "shift", "stretch")
"""What a network's file says of its recipe; the rest are the defaults."""

INPUT_SHAPE = (8, 8, 1)


@dataclass(frozen=True)
class Activation:
    """One of the three: the name of its shipped network, its threshold kernel's published name, and its title."""

    network: str
    kernel: str | None
    title: str


ACTIVATIONS = {
    "sign": Activation("digits-sign", None, "Sign"),
    "2d": Activation("digits-2d", "threshold_2x2_v1", "DeSign 2D"),
    "3d": Activation("digits", "threshold_2x2x4_shifting_n1_right_v1", "DeSign 3D"),
}
"""What is compared, by the command's name for it."""


@dataclass(frozen=True)
class Result:
    """What one training gave; accuracies are shares of all images, `differing` counts module against golden bits."""

    activation: str
    seed: int
    validation_accuracy: float
    validation_loss: float
    test_accuracy: float
    compared: int
    differing: int


def build(activation: str) -> nn.Module:
    """The untrained module of one of `ACTIVATIONS`.

    >>> sum(weight.numel() for name, weight in build("3d").named_parameters() if "product" in name)
    392256
    """
    name = ACTIVATIONS[activation].kernel
    kernel = None if name is None else published(name)
    return binarynet(INPUT_SHAPE, 10, widths=(64, 64, 128, 128), dense=(256,), kernel=kernel)


def split(name: str) -> Labelled:
    """The bundled digits' `"train"`, `"validation"` or `"test"` images.

    >>> len(split("validation").labels)
    287
    """
    return Labelled(*datasets.load("digits", name))


def run_one(activation: str, seed: int, recipe: Recipe, folder: Path, done: Any = None) -> Result:
    """Train one network, export it, compare it with its module and measure it on the test images.

    Args:
        activation: one of `ACTIVATIONS`.
        seed: of weights, order and shifts.
        recipe: how it is trained.
        folder: gets `network.safetensors`, `history.json`, `result.json`, and the checkpoint to resume from.
        done: an optional mapping that is told, under (activation, seed), how many epochs are done.

    Raises:
        RefdesignError: the training failed, a file cannot be written, or an exported bit differs from the module's.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RefdesignError(f"{folder}: the folder cannot be made ({error.strerror})") from error
    validation, test = split("validation"), split("test")

    def progress(history: list[Epoch]) -> None:
        if done is not None:
            done[activation, seed] = len(history)

    checkpoint = folder / "checkpoint.pt"
    trained = train(
        partial(build, activation),
        split("train"),
        validation,
        recipe,
        seed=seed,
        checkpoint=checkpoint,
        progress=progress,
    )
    if done is not None:  # nothing was left to report in a run that was complete already
        done[activation, seed] = recipe.epochs
    network = to_network(trained.model, name=ACTIVATIONS[activation].network, input_shape=INPUT_SHAPE)
    agreement = compare(trained.model, network, test.images)
    if agreement.differing:
        raise RefdesignError(f"{folder}: module and exported network differ: {agreement}")
    predictions = np.argmax(network.run(test.images)["logits"], axis=1)
    validation_accuracy, validation_loss = measure(trained.model, *validation.tensors(), recipe.loss)
    result = Result(
        activation=activation,
        seed=seed,
        validation_accuracy=validation_accuracy,
        validation_loss=validation_loss,
        test_accuracy=float(np.mean(predictions == test.labels)),
        compared=agreement.compared,
        differing=agreement.differing,
    )
    replace(network, metadata=metadata(result, recipe)).save(folder / "network.safetensors")
    for file, data in (("history", [asdict(epoch) for epoch in trained.history]), ("result", asdict(result))):
        write_bytes(folder / f"{file}.json", json.dumps(data, indent=1).encode() + b"\n")
    return result


def metadata(result: Result, recipe: Recipe) -> dict[str, str]:
    """What a network's file says about how it came to be."""
    activation = ACTIVATIONS[result.activation]
    return {
        "description": f"BinaryNet on 8x8 handwritten digits, {activation.title}",
        "kernel": activation.kernel or "none",
        "recipe": json.dumps({field: getattr(recipe, field) for field in RECIPE_FIELDS}, sort_keys=True),
        "seed": str(result.seed),
        "validation_accuracy": f"{result.validation_accuracy:.4f}",
        "test_accuracy": f"{result.test_accuracy:.4f}",
        "choices": "network, recipe and seed were chosen on the validation images",
        "data": "refdesign.datasets.load('digits', ...): 1150 training, 287 validation, 360 test images in file order",
        "data_licence": "Optical Recognition of Handwritten Digits (E. Alpaydin, C. Kaynak), UCI, CC BY 4.0",
        "licence": "MIT",
        "command": f"python -m refdesign.training.digits --activation {result.activation} --seeds {result.seed}",
        "trained_with": f"PyTorch {torch.__version__}, CPU, {torch.backends.cpu.get_cpu_capability()}, one thread",
    }


def choose(results: Sequence[Result]) -> Result:
    """The result that is best on the validation images: accuracy first, then loss, then the smallest seed.

    >>> choose([Result("3d", 0, 0.98, 0.2, 0.99, 1, 0), Result("3d", 1, 0.98, 0.1, 0.97, 1, 0)]).seed
    1
    """
    return min(results, key=lambda result: (-result.validation_accuracy, result.validation_loss, result.seed))


def table(results: Mapping[str, Sequence[Result]]) -> Table:
    """Accuracies per activation: mean, spread and range over the seeds on the test images, and the chosen seed's."""
    view = Table(
        title=f"Handwritten digits, accuracy in % on {len(split('test').labels)} test images",
        caption="mean, sd, min, max: over the seeds; best: the seed that validation chose, and its accuracies",
    )
    headings = ("activation", "seeds", "mean", "sd", "min", "max", "best", "valid.", "test")
    for heading in headings:
        view.add_column(heading, justify="left" if heading == "activation" else "right")
    for activation, runs in results.items():
        shares = [100 * run.test_accuracy for run in runs]
        chosen = choose(runs)
        view.add_row(
            ACTIVATIONS[activation].title,
            str(len(runs)),
            f"{statistics.mean(shares):.2f}",
            f"{statistics.stdev(shares):.2f}" if len(shares) > 1 else "-",
            f"{min(shares):.2f}",
            f"{max(shares):.2f}",
            str(chosen.seed),
            f"{100 * chosen.validation_accuracy:.2f}",
            f"{100 * chosen.test_accuracy:.2f}",
        )
    return view


def run_all(runs: Sequence[tuple[str, int]], recipe: Recipe, out: Path, jobs: int, console: Console) -> list[Result]:
    """Train every (activation, seed) of `runs`, `jobs` processes side by side, with a progress bar.

    Raises:
        RefdesignError: from `run_one`; what is done stays done.
    """
    # Started afresh, not forked: a fork of a process with threads can hang.
    context = multiprocessing.get_context("spawn")
    columns = (TextColumn("epochs"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        context.Manager() as manager,
        ProcessPoolExecutor(jobs, mp_context=context) as pool,
        Progress(*columns, console=console) as bar,
    ):
        done = manager.dict()
        task = bar.add_task("training", total=len(runs) * recipe.epochs)
        futures = [pool.submit(run_one, *run, recipe, out / run[0] / f"seed-{run[1]}", done) for run in runs]
        try:
            pending = set(futures)
            while pending and not any(future.exception() for future in set(futures) - pending):
                pending = wait(pending, timeout=0.25, return_when=FIRST_EXCEPTION).not_done
                bar.update(task, completed=sum(done.values()))
            return [future.result() for future in futures]
        finally:
            pool.shutdown(cancel_futures=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status (2 where what was asked for cannot be done)."""
    parser = argparse.ArgumentParser(prog="python -m refdesign.training.digits", description=__doc__.split("\n")[0])
    parser.add_argument("--activation", choices=[*ACTIVATIONS, "all"], default="all", help="default: all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="default: 0 1 2 3 4")
    parser.add_argument("--out", type=Path, default=Path("runs/digits"), help="a folder; default: runs/digits")
    parser.add_argument("--epochs", type=int, default=RECIPE.epochs, help=f"default: {RECIPE.epochs}")
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side; default: 2")
    options = parser.parse_args(arguments)
    activations = list(ACTIVATIONS) if options.activation == "all" else [options.activation]
    console = Console()
    try:
        if options.jobs < 1:
            raise RefdesignError(f"--jobs: found {options.jobs}, expected at least 1")
        if min(options.seeds) < 0 or len(set(options.seeds)) < len(options.seeds):
            raise RefdesignError(f"--seeds: found {options.seeds}, expected different ones, none negative")
        runs = [(activation, seed) for activation in activations for seed in options.seeds]
        results = run_all(runs, replace(RECIPE, epochs=options.epochs), options.out, options.jobs, console)
        grouped = {name: [result for result in results if result.activation == name] for name in activations}
        for name, group in grouped.items():
            trained = options.out / name / f"seed-{choose(group).seed}" / "network.safetensors"
            load(trained).save(options.out / f"{ACTIVATIONS[name].network}.safetensors")
    except RefdesignError as error:
        print(error, file=sys.stderr)
        return 2
    console.print(table(grouped))
    compared = sum(result.compared for result in results)
    console.print(
        f"{compared:,} accumulators, bits and logits compared between module and golden network: none differs"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
