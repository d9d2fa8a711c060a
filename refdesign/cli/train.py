"""`refdesign train`: a network from images, and its golden form."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from refdesign.cli import _common as common
from refdesign.errors import RefdesignError, missing_extra

_RECIPE = {
    "epochs", "batch_size", "learning_rate", "loss", "shift", "flip", "rotation", "stretch", "optimiser", "momentum",
    "weight_decay", "schedule", "warmup", "final_learning_rate", "tau_start", "tau_end", "patience", "keep",
}  # fmt: skip
_EXECUTION = {"device", "threads", "channels_last", "compiled", "precision"}


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), required=False)
@click.option("--preset", help="A recipe by name; see --presets.")
@click.option("--presets", "listing", is_flag=True, help="List the presets.")
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="A TOML file of fields.")
@click.option("--dataset", help="digits, cifar10, cifar100 or stl10.")
@common.root_option
@click.option("--validation", type=int, metavar="N", help="Training images held out (default: a tenth).")
@click.option("--limit", type=int, metavar="N", help="Train on the first N images only.")
@click.option("--model", help="binarynet, vgg_small, resnet18 or resnet20.")
@click.option("--width", type=float, help="Multiplies all widths.")
@click.option("--activation", help="sign, 2d, 3d, random, a published kernel, or a file (.mat, .json, .npz).")
@click.option("--kernel-scale", type=float, help="Multiplies the thresholds.")
@click.option("--kernel-centred/--kernel-as-is", default=None, help="Take the thresholds' mean away.")
@click.option("--dithered", type=int, metavar="N", help="Dither the first N binary convolutions only.")
@click.option("--binariser", help="Of weights: sign, recu, xnor, dorefa or abc.")
@click.option("--bases", type=int, metavar="M", help="ABC-Net's.")
@click.option("--estimator", help="Gradient of the signs: clipped, identity or polynomial.")
@click.option("--batch-norm-centre/--no-batch-norm-centre", default=None, help="Whether beta is trained.")
@click.option("--batch-norm-scale/--no-batch-norm-scale", default=None, help="Whether gamma is trained.")
@click.option("--epochs", type=int, metavar="N")
@click.option("--batch-size", type=int, metavar="N")
@click.option("--learning-rate", type=float)
@click.option("--optimiser", help="adam or sgd.")
@click.option("--momentum", type=float)
@click.option("--weight-decay", type=float)
@click.option("--schedule", help="cosine, linear or constant.")
@click.option("--final-learning-rate", type=float, help="Where the schedule ends.")
@click.option("--warmup", type=int, metavar="N", help="Epochs in which the learning rate climbs.")
@click.option("--loss", help="cross_entropy or squared_hinge.")
@click.option("--shift", type=int, metavar="PIXELS", help="Move images at random.")
@click.option("--flip/--no-flip", default=None, help="Mirror images at random.")
@click.option("--rotation", type=float, metavar="DEGREES")
@click.option("--stretch", type=float, metavar="SHARE")
@click.option("--tau-start", type=float, help="ReCU's quantile at the start.")
@click.option("--tau-end", type=float, help="ReCU's quantile at the end.")
@click.option("--patience", type=int, metavar="N", help="Stop after N epochs without a better validation accuracy.")
@click.option("--keep", help="Which epoch's weights: last or best (on validation).")
@click.option("--seed", type=int)
@click.option("--device", help="cpu (default) or cuda.")
@click.option("--threads", type=int, metavar="N", help="Of the CPU (default: 1; another number, other bits).")
@click.option("--channels-last/--channels-first", default=None, help="How maps lie in memory.")
@click.option("--compiled/--eager", default=None, help="Send steps through torch.compile.")
@click.option("--precision", help="float32 (default) or tf32 (CUDA).")
@common.json_option
def train(
    folder: Path | None,
    preset: str | None,
    listing: bool,
    config: Path | None,
    root: Path | None,
    as_json: bool,
    **fields: Any,
) -> None:
    """Train a network, and export it as a golden network.

    FOLDER gets everything: config.json, metrics.jsonl and TensorBoard's events, checkpoint.pt after every epoch, and
    at the end network.safetensors and result.json. The same command goes on where an interrupted one stopped, to the
    same bits. A preset comes first, then --config, then single options. The first layer is fed with 2p - 255 of the
    pixels p and all scale is left to the batch norm, so that the exported network is the trained one bit for bit.

    \b
    Examples:
      refdesign train runs/digits --preset digits --activation 3d
      refdesign train runs/narrow --preset cifar10-narrow --root data/cifar10 --activation 2d
      refdesign train runs/recu --preset released-recu --root data/cifar10 --activation 3d --device cuda
      refdesign train runs/r20 --dataset cifar10 --root data --model resnet20 --binariser xnor --epochs 5

    Images of the test split are never read here; see 'refdesign evaluate'.
    """
    from refdesign.training.presets import presets

    if listing:
        _list(presets(), as_json)
        return
    if folder is None:
        raise RefdesignError("train: found no FOLDER, expected one for the run's files")
    given = {name: value for name, value in fields.items() if value is not None}
    plain = _merged(preset, config, given)
    try:
        from refdesign.training.configuration import configuration_from, structure
        from refdesign.training.determinism import Execution
        from refdesign.training.run import NETWORK, run
    except ImportError as error:
        raise missing_extra("train", error.name or "torch") from error
    configuration = configuration_from(plain, "train" if config is None else f"train, {config}")
    execution = structure(Execution, {name: given[name] for name in _EXECUTION & given.keys()}, "train")
    with _epochs(configuration.recipe.epochs) as after_epoch:
        result = run(configuration, folder, root=root, execution=execution, progress=after_epoch)
    if as_json:
        common.print_json({"folder": folder, "configuration": configuration.plain(), "result": vars(result)})
        return
    console = common.console()
    console.print(
        f"validation accuracy {result.validation_accuracy:.2%}, loss {result.validation_loss:.4f} after epoch "
        f"{result.kept} of {result.epochs} ({result.seconds:.0f} s)"
    )
    console.print(common.cell(f"golden network: {folder / NETWORK}"), soft_wrap=True)


def _merged(preset: str | None, config: Path | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """A preset's fields, then a file's, then single options."""
    from refdesign.training.presets import preset as preset_named

    plain: dict[str, Any] = {"recipe": {}} if preset is None else preset_named(preset)
    layers = [] if config is None else [_read(config)]
    options: dict[str, Any] = {name: value for name, value in given.items() if name not in _RECIPE | _EXECUTION}
    layers.append({**options, "recipe": {name: given[name] for name in _RECIPE & given.keys()}})
    for layer in layers:
        recipe = layer.pop("recipe", {})
        if not isinstance(recipe, Mapping):
            raise RefdesignError(f"{config}, recipe: found {recipe!r}, expected a table")
        plain = {**plain, **layer, "recipe": {**plain["recipe"], **recipe}}
    return plain


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RefdesignError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # also what is no UTF-8, and integers of thousands of digits
        raise RefdesignError(f"{path}: found no TOML ({error})") from error


@contextmanager
def _epochs(total: int) -> Iterator[Any]:
    """A progress bar on stderr where that is a terminal; elsewhere a line an epoch."""
    columns = (
        TextColumn("epoch"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"),
        TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    terminal = sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), disable=not terminal) as progress:
        task = progress.add_task("", total=total)

        def after_epoch(history: list[Any]) -> None:
            last = history[-1]
            line = f"loss {last.loss:.4f}, validation accuracy {last.validation_accuracy:.2%}"
            progress.update(task, completed=len(history), description=line)
            if not terminal:
                click.echo(f"epoch {len(history)} of {total}: {line}", err=True)

        yield after_epoch


def _list(presets: Mapping[str, Mapping[str, Any]], as_json: bool) -> None:
    if as_json:
        common.print_json(presets)
        return
    made = common.table("preset", "what it is", left=("preset", "what it is"))
    for name, fields in presets.items():
        made.add_row(common.cell(name), common.cell(fields["description"]))
    common.console().print(made)
