"""What one training run is, as data: read from and written to TOML, JSON and the command line's options."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from refdesign.checks import meant
from refdesign.datasets import DATASETS
from refdesign.errors import RefdesignError
from refdesign.frameworks.estimators import ESTIMATORS
from refdesign.training.recipe import Recipe

MODELS = ("binarynet", "vgg_small", "resnet18", "resnet20")
BINARISERS = ("sign", "recu", "xnor", "dorefa", "abc")

Made = TypeVar("Made")


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """A run: the data, the network, its activation and binariser, the recipe, and the seed.

    Attributes:
        dataset: one of `refdesign.datasets.DATASETS`.
        validation: the last so many training images are held out, on which every choice is made; 0 stands for a
            tenth (5,000 of CIFAR's 50,000). The digits have a validation split of their own.
        limit: only the first so many training images are trained on; 0 for all.
        model: one of `MODELS`.
        width: multiplies all widths of the model but the classes.
        activation: as `kernels.activation_kernel` names it.
        kernel_scale, kernel_centred: change the kernel's thresholds; ablations.
        dithered: how many of the binary convolutions, from the first, are dithered; -1 for all. The others have the
            plain sign.
        binariser: of the binary convolutions' weights, one of `BINARISERS`; `""` is the model's own (`"sign"` for
            BinaryNet, `"recu"` for the others). Pixel, real and dense layers keep the model's own.
        bases: of ABC-Net.
        estimator: the gradient of the activations' signs; `""` is the model's own (`"clipped"` for BinaryNet,
            `"polynomial"` for the others).
        batch_norm_centre, batch_norm_scale: whether beta and gamma are trained; if not they stay 0 and 1.
        recipe: how it is trained.
        seed: of weights, order and augmentation, and of a random kernel.

    Raises:
        RefdesignError: a value out of range, naming the field.

    >>> Configuration(model="lenet")
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: model: found 'lenet', expected one of binarynet, vgg_small, resnet18, resnet20
    """

    dataset: str = "digits"
    validation: int = 0
    limit: int = 0
    model: str = "binarynet"
    width: float = 1.0
    activation: str = "sign"
    kernel_scale: float = 1.0
    kernel_centred: bool = False
    dithered: int = -1
    binariser: str = ""
    bases: int = 2
    estimator: str = ""
    batch_norm_centre: bool = True
    batch_norm_scale: bool = True
    recipe: Recipe = field(default_factory=Recipe)
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in (
            ("dataset", tuple(DATASETS)), ("model", MODELS), ("binariser", ("", *BINARISERS)),
            ("estimator", ("", *ESTIMATORS)),
        ):  # fmt: skip
            if getattr(self, name) not in choices:
                listed = ", ".join(choice for choice in choices if choice)
                raise RefdesignError(f"{name}: found {getattr(self, name)!r}, expected one of {listed}")
        for name, least in (("validation", 0), ("limit", 0), ("dithered", -1), ("bases", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise RefdesignError(f"{name}: found {getattr(self, name)}, expected at least {least}")
        if not math.isfinite(self.kernel_scale):
            raise RefdesignError(f"kernel_scale: found {self.kernel_scale}, expected a finite number")
        if self.seed >= 2**63:
            raise RefdesignError(f"seed: found {self.seed}, expected less than 2**63")

    @property
    def used_binariser(self) -> str:
        """The binariser, the model's own where none is named.

        >>> Configuration(model="resnet20").used_binariser, Configuration().used_binariser
        ('recu', 'sign')
        """
        return self.binariser or ("sign" if self.model == "binarynet" else "recu")

    @property
    def used_estimator(self) -> str:
        """The gradient of the activations' signs, the model's own where none is named."""
        return self.estimator or ("clipped" if self.model == "binarynet" else "polynomial")

    def plain(self) -> dict[str, Any]:
        """As plain data, the inverse of `configuration_from`."""
        return dataclasses.asdict(self)

    def identity(self) -> str:
        """Sixteen hexadecimal digits that differ for different runs.

        Fields at their defaults do not enter: a field that is new tomorrow leaves today's runs what they are. A model's
        own binariser is the same run, named or not.

        >>> Configuration(seed=1).identity() == Configuration(seed=1, binariser="sign").identity()
        True
        >>> Configuration(seed=1).identity() == Configuration().identity()
        False
        """
        named = dataclasses.replace(self, binariser=self.used_binariser, estimator=self.used_estimator)
        defaults = Configuration(model=self.model)
        own = dataclasses.replace(defaults, binariser=defaults.used_binariser, estimator=defaults.used_estimator)
        chosen = {"model": self.model, **_beside(named.plain(), own.plain())}
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:16]


def configuration_from(plain: Mapping[str, Any], where: str) -> Configuration:
    """A configuration from plain data, as TOML and JSON files hold it; missing fields have their defaults.

    Args:
        plain: fields of `Configuration`, and under `recipe` those of `Recipe`.
        where: what to call the source in errors.

    Raises:
        RefdesignError: an unknown field, or a value of another type or out of range.

    >>> configuration_from({"seed": 3, "recipe": {"epochs": 2}}, "run.toml").recipe.epochs
    2
    >>> configuration_from({"sead": 3}, "run.toml")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: run.toml: found the field 'sead' (did you mean 'seed'?), expected some of ...
    """
    values = dict(plain)
    recipe = values.pop("recipe", {})
    if not isinstance(recipe, Mapping):
        raise RefdesignError(f"{where}, recipe: found {recipe!r}, expected a table")
    return structure(Configuration, {**values, "recipe": structure(Recipe, recipe, f"{where}, recipe")}, where)


def _beside(plain: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that differ from the defaults, tables within tables."""
    kept: dict[str, Any] = {}
    for name, value in plain.items():
        if isinstance(value, Mapping):
            kept[name] = _beside(value, defaults[name])
        elif value != defaults[name]:
            kept[name] = value
    return kept


def structure(made: type[Made], values: Mapping[str, Any], where: str) -> Made:
    """A dataclass of numbers, texts and truth values from plain data, its types checked.

    Raises:
        RefdesignError: an unknown field, or a value of another type or out of range.

    >>> structure(Recipe, {"epochs": "3"}, "here")
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: here, epochs: found '3', expected int
    """
    hints = typing.get_type_hints(made)
    checked: dict[str, Any] = {}
    for name, value in values.items():
        if name not in hints:
            found = f"found the field {name!r}{meant(name, hints)}"
            raise RefdesignError(f"{where}: {found}, expected some of {', '.join(hints)}")
        kind = hints[name]
        wanted = (kind,) if isinstance(kind, type) else kind.__args__ if isinstance(kind, types.UnionType) else ()
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
            raise RefdesignError(f"{where}, {name}: found {value!r}, expected {getattr(kind, '__name__', kind)}")
        checked[name] = value
    try:
        return made(**checked)
    except RefdesignError as error:
        raise RefdesignError(f"{where}: {error}") from error
