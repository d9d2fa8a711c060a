"""The training loop: straight through the signs, one checkpoint an epoch, the same bits again."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError, missing_extra
from refdesign.training.checkpoint import Settings, Stateful, read_checkpoint, write_checkpoint
from refdesign.training.determinism import Execution, deterministic
from refdesign.training.recipe import LOSSES, Recipe, optimiser_of, schedule_of

try:
    import torch
    from torch import Tensor, nn
except ImportError as error:
    raise missing_extra("train", "torch") from error

from refdesign.frameworks.torch.binarisers import ReCU
from refdesign.frameworks.torch.layers import LatentWeights


class Diverged(RefdesignError):
    """The loss is no finite number any more."""


@dataclass(frozen=True)
class Labelled:
    """Images with their classes.

    Attributes:
        images: uint8, (N, H, W, C).
        labels: int64, (N,).

    >>> Labelled(np.zeros((2, 3, 4, 1), np.uint8), np.array([0, 1])).tensors()[0].shape
    torch.Size([2, 1, 3, 4])
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or self.labels.shape != self.images.shape[:1]:
            raise RefdesignError(
                f"training images: found {self.images.dtype} of shape {self.images.shape} with labels of shape "
                f"{self.labels.shape}, expected uint8 (N, H, W, C) and (N,)"
            )

    def tensors(self, device: str = "cpu") -> tuple[Tensor, Tensor]:
        """Images (N, C, H, W), uint8, and labels."""
        images = torch.tensor(self.images, device=device).permute(0, 3, 1, 2).contiguous()
        return images, torch.tensor(self.labels, device=device)


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training images gave: its mean loss, and accuracy and loss on the validation images."""

    loss: float
    validation_accuracy: float
    validation_loss: float


@dataclass
class Trained:
    """A trained model, in eval mode and on the CPU, the course of its training, and the epoch that was kept."""

    model: nn.Module
    history: list[Epoch] = field(default_factory=list)
    kept: int = 0


def outputs(model: nn.Module, images: Tensor) -> Tensor:
    """The model's outputs (N, classes) for images (N, C, H, W), in eval mode; the model's mode is kept.

    >>> outputs(nn.Flatten(), torch.zeros(3, 1, 2, 2)).shape
    torch.Size([3, 4])
    """
    mode = model.training
    model.eval()
    with torch.no_grad():
        batches = [model(batch) for batch in torch.split(images, 512)]
    model.train(mode)
    return torch.cat(batches)


def measure(model: nn.Module, images: Tensor, labels: Tensor, loss: str) -> tuple[float, float]:
    """The share of images whose largest output is their label's, and the mean of one of `LOSSES`, in eval mode.

    >>> measure(nn.Flatten(), torch.tensor([[[[3.0, 9.0]]], [[[1.0, 0.0]]]]), torch.tensor([1, 1]), "squared_hinge")
    (0.5, 5.25)
    """
    found = outputs(model, images)
    return float((found.argmax(dim=1) == labels).double().mean()), float(LOSSES[loss](found, labels))


class _Best:
    """The weights of the best epoch so far; a state of its own in the checkpoint."""

    def __init__(self) -> None:
        self.epoch = 0
        self.weights: dict[str, Any] = {}

    def offer(self, epoch: int, history: list[Epoch], model: nn.Module) -> None:
        accuracies = [each.validation_accuracy for each in history]
        if accuracies[-1] > max(accuracies[:-1], default=-1.0):
            self.epoch, self.weights = epoch, copy.deepcopy(model.state_dict())

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        self.epoch, self.weights = state["epoch"], state["weights"]


def train(
    build: Callable[[], nn.Module],
    data: Labelled,
    validation: Labelled,
    recipe: Recipe,
    *,
    seed: int,
    checkpoint: Path | None = None,
    progress: Callable[[list[Epoch]], None] | None = None,
    execution: Execution | None = None,
    identity: Mapping[str, int | float | str] | None = None,
) -> Trained:
    """Train a model; the same arguments give the same weights, bit for bit, on the same machine and PyTorch.

    Args:
        build: makes the untrained model; called with the seed set.
        data, validation: the images trained on, and those on which each epoch is measured.
        recipe: how.
        seed: of weights, order and augmentation.
        checkpoint: a file that is written after every epoch (atomically) and resumed from where it exists; a
            resumed run ends in the same weights as an undisturbed one.
        progress: called after every epoch with what all epochs so far gave.
        execution: where and how steps are computed; None is one thread of the CPU.
        identity: what else the run is; a checkpoint of another is refused.

    Returns:
        The model in eval mode, on the CPU, as the recipe keeps it, and every epoch's figures.

    Raises:
        RefdesignError: a device that there is not, fewer images than a batch, or a checkpoint that is damaged or of
            another run.
        Diverged: a loss that is no finite number (the checkpoint keeps the last good epoch).
    """
    if len(data.labels) < recipe.batch_size:
        raise RefdesignError(
            f"training images: found {len(data.labels)}, expected at least {recipe.batch_size} (a batch)"
        )
    execution = execution or Execution()
    execution.check_available()
    settings: Settings = {
        **asdict(recipe), **asdict(execution), "seed": seed, "images": len(data.labels), **(identity or {})
    }  # fmt: skip
    steps = len(data.labels) // recipe.batch_size
    history: list[Epoch] = []
    with deterministic(seed, execution):
        model = build().to(execution.device)
        if execution.channels_last:
            _lay_out(model, torch.channels_last)
        optimiser = optimiser_of(recipe, model)
        schedule = schedule_of(recipe, optimiser, steps)
        best = _Best()
        parts: dict[str, Stateful] = {"model": model, "optimiser": optimiser, "schedule": schedule}
        if recipe.keep == "best":
            parts["best"] = best
        if checkpoint is not None and checkpoint.exists():
            history = [Epoch(*figures) for figures in read_checkpoint(checkpoint, parts, settings)]
        step = _compiled(model) if execution.compiled else model
        training, held_out = data.tensors(execution.device), validation.tensors(execution.device)
        while len(history) < recipe.epochs and not _patience_is_over(history, recipe.patience):
            _set_tau(model, recipe.tau(len(history)))
            loss = _epoch(step, model, training, recipe, optimiser, schedule, len(history) + 1)
            epoch = Epoch(loss, *measure(model, *held_out, recipe.loss))
            _check_finite(model, epoch, len(history) + 1)
            history.append(epoch)
            best.offer(len(history), history, model)
            if checkpoint is not None:
                figures = [(e.loss, e.validation_accuracy, e.validation_loss) for e in history]
                write_checkpoint(checkpoint, parts, settings, figures)
            if progress is not None:
                progress(list(history))
        kept = len(history)
        if recipe.keep == "best":
            model.load_state_dict(best.weights)
            kept = best.epoch
    _lay_out(model.to("cpu"), torch.contiguous_format)
    return Trained(model.eval(), history, kept)


def _lay_out(model: Any, memory_format: torch.memory_format) -> None:
    """Bring the weights into a memory format, in place (PyTorch's types do not know this use of `to`)."""
    model.to(memory_format=memory_format)


def _compiled(model: nn.Module) -> Callable[[Tensor], Tensor]:
    # Else the tenth model of a process is silently not compiled any more, and rounds otherwise.
    torch.compiler.reset()
    compiled: Callable[[Tensor], Tensor] = torch.compile(model, dynamic=False)
    return compiled


def _epoch(
    step: Callable[[Tensor], Tensor],
    model: nn.Module,
    data: tuple[Tensor, Tensor],
    recipe: Recipe,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    number: int,
) -> float:
    """One pass over the training images; its mean loss."""
    images, labels = data
    model.train()
    steps = len(labels) // recipe.batch_size
    order = torch.randperm(len(labels))[: steps * recipe.batch_size]
    total = 0.0
    for indices in torch.split(order, recipe.batch_size):
        batch = indices.to(images.device)
        loss = LOSSES[recipe.loss](step(recipe.augmented(images[batch])), labels[batch])
        value = loss.item()
        if not np.isfinite(value):
            raise Diverged(f"training: the loss is {value} in epoch {number}, expected a finite one")
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
        _keep_in_range(model)
        total += value
    return total / steps


def _check_finite(model: nn.Module, epoch: Epoch, number: int) -> None:
    """Refuse an epoch whose last step broke the model: signs hide a NaN, so the losses alone do not tell."""
    broken = [name for name, value in model.state_dict().items() if not torch.isfinite(value).all()]
    if broken:
        raise Diverged(f"training: {broken[0]} holds a value that is not finite after epoch {number}")
    if not np.isfinite(epoch.validation_loss):
        raise Diverged(
            f"training: the validation loss is {epoch.validation_loss} in epoch {number}, expected a finite one"
        )


def _patience_is_over(history: list[Epoch], patience: int) -> bool:
    """Whether the best validation accuracy is `patience` epochs or more ago."""
    if patience == 0 or not history:
        return False
    accuracies = [epoch.validation_accuracy for epoch in history]
    return len(accuracies) - 1 - accuracies.index(max(accuracies)) >= patience


def _set_tau(model: nn.Module, tau: float) -> None:
    for part in model.modules():
        if isinstance(part, ReCU):
            part.set_tau(tau)


def _keep_in_range(model: nn.Module) -> None:
    """Latent weights stay in [-1, 1], as in BinaryNet; ReCU standardises and clamps its own."""
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, LatentWeights) and not isinstance(part.binariser, ReCU):
                part.weight.clamp_(-1, 1)
