"""One run in a folder: configuration, metrics as they come, checkpoint, and the golden network at the end.

| file | holds |
| --- | --- |
| `config.json` | the configuration, from which the run can be repeated |
| `metrics.jsonl` | a line an epoch; TensorBoard's `events.out...` beside it holds the same figures |
| `checkpoint.pt` | the state after the last whole epoch |
| `network.safetensors` | the exported golden network, once the run is done |
| `result.json` | what came out, once the run is done |
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from refdesign.api import Network
from refdesign.errors import RefdesignError, missing_extra
from refdesign.formats.atomic import write_bytes
from refdesign.training.architectures import build
from refdesign.training.configuration import Configuration, configuration_from, structure
from refdesign.training.data import CLASSES, INPUT_SHAPES, training_data
from refdesign.training.determinism import Execution
from refdesign.training.kernels import activation_kernel
from refdesign.training.loop import Epoch, Trained, train

try:
    import torch
    from tensorboardX import SummaryWriter
except ImportError as error:
    raise missing_extra("train", error.name or "torch") from error

from refdesign.frameworks.torch import to_network

CONFIGURATION, METRICS, CHECKPOINT, NETWORK, RESULT = (
    "config.json", "metrics.jsonl", "checkpoint.pt", "network.safetensors", "result.json"
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """What a run gave, on the validation images; accuracies are shares, `seconds` this process's wall time."""

    identity: str
    validation_images: int
    validation_accuracy: float
    validation_loss: float
    training_loss: float
    epochs: int
    kept: int
    seconds: float
    trained_with: str


def run(
    configuration: Configuration,
    folder: Path,
    *,
    root: Path | None = None,
    execution: Execution | None = None,
    progress: Callable[[list[Epoch]], None] | None = None,
) -> Result:
    """Train what the configuration says, or go on where an earlier call was stopped, and export the golden network.

    Args:
        configuration: the run.
        folder: where its files are; made where it does not exist.
        root: the folder of the dataset's official files.
        execution: where and how steps are computed; None is one thread of the CPU.
        progress: called after every epoch with what all epochs so far gave.

    Returns:
        The result; that of a finished run is read, not trained again.

    Raises:
        RefdesignError: data that is missing or damaged, a folder of another run, a loss that is no number (the last
            good epoch stays in the checkpoint), or a file that cannot be written (what was written before stays).

    >>> import tempfile
    >>> from refdesign.training.recipe import Recipe
    >>> tiny = Configuration(width=0.05, limit=64, recipe=Recipe(epochs=1, batch_size=32))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = run(tiny, Path(folder))
    ...     sorted(path.name for path in Path(folder).iterdir() if not path.name.startswith("events"))
    ['checkpoint.pt', 'config.json', 'metrics.jsonl', 'network.safetensors', 'result.json']
    """
    execution = execution or Execution()
    _claim(folder, configuration)
    if (folder / RESULT).exists() and (folder / NETWORK).exists():
        return _read_result(folder / RESULT)
    started = time.monotonic()
    training, validation = training_data(configuration, root)
    input_shape, classes = INPUT_SHAPES[configuration.dataset], CLASSES[configuration.dataset]
    # A kernel file may change between two calls: its thresholds, not its name, are what a checkpoint is of.
    kernel = activation_kernel(configuration.activation, seed=configuration.seed)
    thresholds = "none" if kernel is None else kernel.values.tobytes().hex()
    with _Metrics(folder) as metrics:

        def after_epoch(history: list[Epoch]) -> None:
            metrics.write(history)
            if progress is not None:
                progress(history)

        trained = train(
            partial(build, configuration, input_shape, classes),
            training,
            validation,
            configuration.recipe,
            seed=configuration.seed,
            checkpoint=folder / CHECKPOINT,
            progress=after_epoch,
            execution=execution,
            identity={"configuration": configuration.identity(), "kernel": thresholds},
        )
        metrics.write(trained.history)
    kept = trained.history[trained.kept - 1]
    result = Result(
        identity=configuration.identity(),
        validation_images=len(validation.labels),
        validation_accuracy=kept.validation_accuracy,
        validation_loss=kept.validation_loss,
        training_loss=kept.loss,
        epochs=len(trained.history),
        kept=trained.kept,
        seconds=round(time.monotonic() - started, 1),
        trained_with=_trained_with(execution),
    )
    export(trained, configuration, input_shape, result).save(folder / NETWORK)
    write_bytes(folder / RESULT, _json(asdict(result)))
    return result


def export(
    trained: Trained, configuration: Configuration, input_shape: tuple[int, int, int], result: Result
) -> Network:
    """The golden network of a trained model, which says in its metadata how it came to be."""
    kernel = configuration.activation
    network = to_network(trained.model, name=f"{configuration.dataset}-{configuration.model}", input_shape=input_shape)
    return replace(
        network,
        metadata={
            "description": f"{configuration.model} on {configuration.dataset}, activation {kernel}",
            "configuration": json.dumps(configuration.plain(), sort_keys=True),
            "seed": str(configuration.seed),
            "validation_accuracy": f"{result.validation_accuracy:.4f}",
            "trained_with": result.trained_with,
        },
    )


def read_configuration(folder: Path) -> Configuration:
    """The configuration of a run's folder.

    Raises:
        RefdesignError: the folder holds no run, or its configuration is damaged.
    """
    return configuration_from(_read_json(folder / CONFIGURATION), str(folder / CONFIGURATION))


def trained_module(folder: Path) -> torch.nn.Module:
    """The trained module of a finished run, in eval mode, from its checkpoint.

    Raises:
        RefdesignError: the folder holds no run, or no checkpoint that can be read.
    """
    configuration = read_configuration(folder)
    module = build(configuration, INPUT_SHAPES[configuration.dataset], CLASSES[configuration.dataset])
    path = folder / CHECKPOINT
    try:
        parts = torch.load(path, weights_only=True, map_location="cpu")["parts"]
        weights = parts["best"]["weights"] if configuration.recipe.keep == "best" else parts["model"]
        module.load_state_dict(weights)
    except Exception as error:  # Damaged archives and foreign ones raise almost anything.
        raise RefdesignError(f"{path}: no checkpoint of this run that can be read ({_reason(error)})") from error
    return module.eval()


class _Metrics:
    """The figures of every epoch, as JSON lines and for TensorBoard."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / METRICS
        self.written = 0
        self.board: Any = None

    def __enter__(self) -> _Metrics:
        return self

    def __exit__(self, *_: object) -> None:
        if self.board is not None:
            with suppress(OSError):  # A full disk was said already, and the figures stand in the JSON lines.
                self.board.close()

    def write(self, history: list[Epoch]) -> None:
        """Bring the files to a history: all lines at once, so that they never disagree with the checkpoint."""
        if len(history) == self.written:
            return
        lines = [json.dumps({"epoch": number, **asdict(epoch)}) for number, epoch in enumerate(history, start=1)]
        write_bytes(self.path, "".join(f"{line}\n" for line in lines).encode())
        try:
            if self.board is None:
                # Steps from here on replace what an interrupted run may have left.
                self.board = SummaryWriter(str(self.path.parent), purge_step=len(history))
            for name, value in asdict(history[-1]).items():
                self.board.add_scalar(name, value, len(history))
            self.board.flush()
        except OSError as error:
            raise RefdesignError(f"{self.path.parent}: TensorBoard's file cannot be written: {error}") from error
        self.written = len(history)


def _claim(folder: Path, configuration: Configuration) -> None:
    """Make the folder this run's, or see that it is; one in which nothing was trained yet is anybody's."""
    path = folder / CONFIGURATION
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RefdesignError(f"{folder}: the folder cannot be made: {error.strerror or error}") from error
    if not path.exists():
        if (folder / CHECKPOINT).exists():
            raise RefdesignError(f"{folder}: found {CHECKPOINT} without {CONFIGURATION}, expected both or none")
        write_bytes(path, _json(configuration.plain()))
        return
    found = _flat(read_configuration(folder).plain())
    if not any((folder / name).exists() for name in (CHECKPOINT, NETWORK, RESULT)):
        write_bytes(path, _json(configuration.plain()))
        return
    for name, value in _flat(configuration.plain()).items():
        if found[name] != value:
            raise RefdesignError(
                f"{path}, {name}: found a run with {found[name]!r}, expected {value!r}; choose another folder"
            )


def _flat(plain: dict[str, Any]) -> dict[str, Any]:
    recipe = plain.pop("recipe")
    return {**plain, **{f"recipe.{name}": value for name, value in recipe.items()}}


def _read_result(path: Path) -> Result:
    return structure(Result, _read_json(path), str(path))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RefdesignError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise RefdesignError(f"{path}: found no JSON ({error})") from error
    if not isinstance(found, dict):
        raise RefdesignError(f"{path}: found {type(found).__name__}, expected an object")
    return found


def _json(plain: dict[str, Any]) -> bytes:
    return json.dumps(plain, indent=1).encode() + b"\n"


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _trained_with(execution: Execution) -> str:
    where = f"CPU, {torch.backends.cpu.get_cpu_capability()}, {execution.threads} thread(s)"
    if execution.device != "cpu":
        where = f"{torch.cuda.get_device_name(execution.device)}, {execution.precision}"
    return f"PyTorch {torch.__version__}, {where}{', compiled' if execution.compiled else ''}"
