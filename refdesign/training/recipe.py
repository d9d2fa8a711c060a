"""How a network is trained: a recipe, its losses, and what it makes of PyTorch's optimisers and schedules."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from refdesign.errors import RefdesignError, missing_extra
from refdesign.training.augment import random_affine, random_flip, random_shift

try:
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn
except ImportError as error:
    raise missing_extra("train", "torch") from error


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

OPTIMISERS = ("adam", "sgd")
SCHEDULES = ("cosine", "linear", "constant")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained; everything but the network, the images, the machine and the seed.

    Attributes:
        epochs: passes over the training images, each in a new order; what does not fill a batch is left out.
        batch_size: images in a step.
        learning_rate: the optimiser's, at its highest.
        loss: one of `LOSSES`.
        rotation, stretch: images are turned by up to this many degrees, and stretched and sheared by up to this
            share, at random (`augment.random_affine`); both 0 for none.
        shift: then they are moved by up to this many pixels (`augment.random_shift`).
        flip: then every second image, at random, is mirrored left to right.
        optimiser: `"adam"`, or `"sgd"` with `momentum`.
        momentum: stochastic gradient descent's; Adam does not use it.
        weight_decay: the optimiser's, on all parameters.
        schedule: over all steps after the warm-up the learning rate falls to `final_learning_rate` as a half cosine
            or on a line, or stays.
        warmup: epochs over which the learning rate climbs to its highest.
        final_learning_rate: where it ends.
        tau_start, tau_end: ReCU's quantile in the first epoch, and where it is after the last: it grows
            exponentially, as in the released code; other binarisers do not use it.
        patience: stop after so many epochs without a better validation accuracy; 0 never stops early.
        keep: `"last"` keeps the weights of the last epoch, `"best"` those of the best validation accuracy (the
            earliest of equals).

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
    flip: bool = False
    optimiser: str = "adam"
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "cosine"
    warmup: int = 0
    final_learning_rate: float = 0.0
    tau_start: float = 0.85
    tau_end: float = 0.99
    patience: int = 0
    keep: str = "last"

    def __post_init__(self) -> None:
        for name, least in (
            ("epochs", 1), ("batch_size", 2), ("rotation", 0), ("stretch", 0), ("shift", 0), ("momentum", 0),
            ("weight_decay", 0), ("warmup", 0), ("final_learning_rate", 0), ("patience", 0),
        ):  # fmt: skip
            if not least <= getattr(self, name) < math.inf:
                raise RefdesignError(f"recipe, {name}: found {getattr(self, name)}, expected at least {least}")
        if not 0 < self.learning_rate <= 1e6:  # far beyond use; what follows it stays within float32
            found = self.learning_rate
            raise RefdesignError(f"recipe, learning_rate: found {found}, expected above 0 and at most 1e6")
        if self.final_learning_rate > self.learning_rate:
            found = self.final_learning_rate
            raise RefdesignError(
                f"recipe, final_learning_rate: found {found}, expected at most learning_rate, {self.learning_rate}"
            )
        for name, choices in (
            ("loss", tuple(LOSSES)), ("optimiser", OPTIMISERS), ("schedule", SCHEDULES), ("keep", ("last", "best")),
        ):  # fmt: skip
            if getattr(self, name) not in choices:
                found = getattr(self, name)
                raise RefdesignError(f"recipe, {name}: found {found!r}, expected one of {', '.join(choices)}")
        if self.warmup >= self.epochs:
            raise RefdesignError(f"recipe, warmup: found {self.warmup} of {self.epochs} epochs, expected fewer")
        if not 0.5 <= self.tau_start <= self.tau_end < 1:
            raise RefdesignError(
                f"recipe, tau_start: found {self.tau_start} to {self.tau_end}, expected from 0.5 upwards to below 1"
            )

    def augmented(self, images: Tensor) -> Tensor:
        """The images (N, C, H, W), each changed at random as the recipe says.

        >>> Recipe(rotation=5, stretch=0.1, shift=2, flip=True).augmented(torch.zeros(2, 1, 3, 4)).shape
        torch.Size([2, 1, 3, 4])
        """
        moved = random_shift(random_affine(images, rotation=self.rotation, stretch=self.stretch), self.shift)
        return random_flip(moved) if self.flip else moved

    def tau(self, epoch: int) -> float:
        """ReCU's quantile in an epoch (from 0): A*e^(epoch/epochs) + B, from `tau_start` towards `tau_end`.

        >>> recipe = Recipe(epochs=2)
        >>> recipe.tau(0), round(recipe.tau(1), 4), round(recipe.tau(2), 4)
        (0.85, 0.9029, 0.99)
        """
        slope = (self.tau_end - self.tau_start) / (math.e - 1)
        return self.tau_start + slope * (math.exp(epoch / self.epochs) - 1)


def optimiser_of(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimiser of all parameters that are trained.

    >>> type(optimiser_of(Recipe(optimiser="sgd"), nn.Linear(3, 2))).__name__
    'SGD'
    """
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(
            model.parameters(), lr=recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay
        )
    return torch.optim.Adam(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)


def schedule_of(recipe: Recipe, optimiser: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """The recipe's schedule, to be advanced after every step.

    Args:
        recipe: says how the learning rate goes.
        optimiser: whose learning rate it is.
        steps: in an epoch.

    >>> optimiser = optimiser_of(Recipe(), nn.Linear(3, 2))
    >>> schedule = schedule_of(Recipe(epochs=2, learning_rate=0.25, schedule="linear"), optimiser, 1)
    >>> schedule.get_last_lr()
    [0.005]
    """
    schedules = torch.optim.lr_scheduler
    rest = (recipe.epochs - recipe.warmup) * steps
    final = recipe.final_learning_rate
    after: torch.optim.lr_scheduler.LRScheduler
    if recipe.schedule == "cosine":
        after = schedules.CosineAnnealingLR(optimiser, rest, eta_min=final)
    elif recipe.schedule == "linear":
        after = schedules.LinearLR(optimiser, 1.0, final / recipe.learning_rate, total_iters=rest)
    else:
        after = schedules.ConstantLR(optimiser, 1.0)
    if recipe.warmup == 0:
        return after
    warm = recipe.warmup * steps
    climb = schedules.LinearLR(optimiser, 1 / warm, 1.0, total_iters=warm)
    return schedules.SequentialLR(optimiser, [climb, after], milestones=[warm])
