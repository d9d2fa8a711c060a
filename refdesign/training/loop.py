"""The training loop: straight through the signs, with Adam, latent weights kept in [-1, 1]."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError, missing_extra
from refdesign.training.augment import random_affine, random_shift
from refdesign.training.checkpoint import Stateful, read_checkpoint, write_checkpoint
from refdesign.training.determinism import deterministic

try:
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn
except ImportError as error:
    raise missing_extra("train", "torch") from error

from refdesign.frameworks.torch import clamp_latent


def squared_hinge(outputs: Tensor, labels: Tensor) -> Tensor:
    """Mean over all outputs of max(0, 1 - t*output)^2, t = +1 for the label's output, -1 else (released Keras code).

    Args:
        outputs: (N, classes); labels: int64 (N,).

    >>> squared_hinge(torch.tensor([[2.0, 0.0]]), torch.tensor([0])).item()
    0.5
    """
    targets = 2 * F.one_hot(labels, outputs.shape[1]).to(outputs.dtype) - 1
    return F.relu(1 - targets * outputs).square().mean()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": F.cross_entropy,
    "squared_hinge": squared_hinge,
}
"""The losses that a recipe may name."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained; everything but the network, the images and the seed.

    Attributes:
        epochs: passes over the training images, each in a new order; what does not fill a batch is left out.
        batch_size: images in a step.
        learning_rate: Adam's, falling to 0 over all steps as a half cosine.
        loss: one of `LOSSES`.
        rotation, stretch: images are turned by up to this many degrees, and stretched and sheared by up to this
            share, at random (`augment.random_affine`); both 0 for none.
        shift: then they are moved by up to this many pixels (`augment.random_shift`).

    Raises:
        RefdesignError: a value out of range, naming the field.

    >>> Recipe(epochs=0)
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: recipe, epochs: found 0, expected at least 1
    """

    epochs: int = 60
    batch_size: int = 64
    learning_rate: float = 0.005
    loss: str = "cross_entropy"
    rotation: float = 0.0
    stretch: float = 0.0
    shift: int = 0

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 2), ("rotation", 0), ("stretch", 0), ("shift", 0)):
            if getattr(self, name) < least:
                raise RefdesignError(f"recipe, {name}: found {getattr(self, name)}, expected at least {least}")
        if not 0 < self.learning_rate < math.inf:
            raise RefdesignError(f"recipe, learning_rate: found {self.learning_rate}, expected a positive number")
        if self.loss not in LOSSES:
            raise RefdesignError(f"recipe, loss: found {self.loss!r}, expected one of {', '.join(LOSSES)}")

    def augmented(self, images: Tensor) -> Tensor:
        """The images (N, C, H, W), each changed at random as the recipe says.

        >>> Recipe(rotation=5, stretch=0.1, shift=2).augmented(torch.zeros(2, 1, 3, 4)).shape
        torch.Size([2, 1, 3, 4])
        """
        return random_shift(random_affine(images, rotation=self.rotation, stretch=self.stretch), self.shift)


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

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Images (N, C, H, W), uint8, and labels."""
        return torch.tensor(self.images).permute(0, 3, 1, 2).contiguous(), torch.tensor(self.labels)


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training images gave: the mean loss, and the accuracy on the validation images."""

    loss: float
    validation_accuracy: float


@dataclass
class Trained:
    """A trained model, in eval mode, and the course of its training."""

    model: nn.Module
    history: list[Epoch] = field(default_factory=list)


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


def accuracy(model: nn.Module, data: Labelled) -> float:
    """The share of images whose largest output is their label's, in eval mode.

    >>> model = nn.Flatten()
    >>> accuracy(model, Labelled(np.array([[[[3], [9]]], [[[8], [2]]]], np.uint8), np.array([1, 1])))
    0.5
    """
    images, labels = data.tensors()
    return float((outputs(model, images).argmax(dim=1) == labels).double().mean())


def mean_loss(model: nn.Module, data: Labelled, loss: str) -> float:
    """The mean over all images of one of `LOSSES`, in eval mode.

    >>> class Zeros(nn.Module):
    ...     def forward(self, x):
    ...         return torch.zeros(len(x), 2)
    >>> mean_loss(Zeros(), Labelled(np.zeros((3, 1, 2, 1), np.uint8), np.array([0, 1, 1])), "squared_hinge")
    1.0
    """
    images, labels = data.tensors()
    return float(LOSSES[loss](outputs(model, images), labels))


def train(
    build: Callable[[], nn.Module],
    data: Labelled,
    validation: Labelled,
    recipe: Recipe,
    *,
    seed: int,
    checkpoint: Path | None = None,
    progress: Callable[[int, Epoch], None] | None = None,
) -> Trained:
    """Train a model; the same arguments give the same weights, bit for bit, on the same machine and PyTorch.

    Args:
        build: makes the untrained model; called with the seed set.
        data, validation: the images trained on, and those on which each epoch is measured.
        recipe: how.
        seed: of weights, order and augmentation.
        checkpoint: a file that is written after every epoch (atomically) and resumed from where it exists; a
            resumed run ends in the same weights as an undisturbed one.
        progress: called after every epoch with the number of epochs done and what the last one gave.

    Returns:
        The model in eval mode after the last epoch, and every epoch's figures.

    Raises:
        RefdesignError: fewer images than a batch, a checkpoint that is damaged or of another recipe or seed, or a
            loss that is no finite number (the checkpoint keeps the last good epoch).
    """
    if len(data.labels) < recipe.batch_size:
        raise RefdesignError(
            f"training images: found {len(data.labels)}, expected at least {recipe.batch_size} (a batch)"
        )
    images, labels = data.tensors()
    steps = len(labels) // recipe.batch_size
    settings = {**asdict(recipe), "seed": seed, "images": len(labels)}
    history: list[Epoch] = []
    with deterministic(seed):
        model = build()
        optimiser = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, recipe.epochs * steps)
        parts: dict[str, Stateful] = {"model": model, "optimiser": optimiser, "schedule": schedule}
        if checkpoint is not None and checkpoint.exists():
            history = [Epoch(*figures) for figures in read_checkpoint(checkpoint, parts, settings)]
        for epoch in range(len(history), recipe.epochs):
            model.train()
            order = torch.randperm(len(labels))[: steps * recipe.batch_size]
            total = 0.0
            for batch in torch.split(order, recipe.batch_size):
                loss = LOSSES[recipe.loss](model(recipe.augmented(images[batch])), labels[batch])
                if not torch.isfinite(loss):
                    raise RefdesignError(
                        f"training: the loss is {loss.item()} in epoch {epoch + 1}, expected a finite one"
                    )
                optimiser.zero_grad()
                torch.autograd.backward(loss)
                optimiser.step()
                schedule.step()
                clamp_latent(model)
                total += loss.item()
            history.append(Epoch(total / steps, accuracy(model, validation)))
            if checkpoint is not None:
                write_checkpoint(checkpoint, parts, settings, [(e.loss, e.validation_accuracy) for e in history])
            if progress is not None:
                progress(len(history), history[-1])
    return Trained(model.eval(), history)
