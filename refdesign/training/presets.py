"""Recipes by name: the released ones, and those of the project's own networks and experiments."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

from refdesign.errors import RefdesignError


@cache
def presets() -> dict[str, dict[str, Any]]:
    """All presets as plain data, by name; `description` says what each is.

    >>> sorted(presets())
    ['cifar10', 'cifar10-narrow', 'digits', 'released-binarynet', 'released-recu']
    """
    return tomllib.loads(files("refdesign.training").joinpath("presets.toml").read_text(encoding="utf-8"))


def preset(name: str) -> dict[str, Any]:
    """The fields of one preset, without its description.

    Raises:
        RefdesignError: an unknown name.

    >>> preset("released-recu")["recipe"]["epochs"]
    600
    """
    if name not in presets():
        raise RefdesignError(f"preset: found {name!r}, expected one of {', '.join(presets())}")
    fields = {key: value for key, value in presets()[name].items() if key != "description"}
    return {**fields, "recipe": dict(fields.get("recipe", {}))}
