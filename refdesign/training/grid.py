"""An experiment as a file: blocks of runs, each a product of axes and seeds, and what is compared in them.

    name = "sign-against-designed"

    [common]                       # fields of every run
    dataset = "cifar10"
    [common.recipe]
    epochs = 4

    [[block]]
    name = "primary"
    kind = "primary"               # or "secondary", or "exploratory"
    seeds = { first = 100, count = 10 }
    compare = "activation"         # its first value is what the others are compared with
    [block.axes]
    activation = ["sign", "2d"]
    width = [0.125, 0.25]

Each combination of the axes is an arm; fields of the recipe are written `recipe.epochs`. Runs of the same
configuration in several blocks are one run.
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refdesign.errors import RefdesignError
from refdesign.training.configuration import Configuration, configuration_from, structure
from refdesign.training.determinism import Execution

KINDS = ("primary", "secondary", "exploratory")
"""The primary contrast is one; secondary ones are corrected together; exploratory ones prove nothing."""


@dataclass(frozen=True)
class Contrast:
    """Two arms that are compared seed by seed.

    Attributes:
        block, kind: of the block that it belongs to.
        baseline, variant: the arms' names.
    """

    block: str
    kind: str
    baseline: str
    variant: str


@dataclass(frozen=True)
class Block:
    """A product of axes and seeds.

    Attributes:
        name, kind: as in the file.
        note: what it is for.
        seeds: the same for every arm.
        arms: by name, in the order of the axes, the fields of their configurations but the seed.
        contrasts: between the first value of the compared axis and each other one.
    """

    name: str
    kind: str
    note: str
    seeds: tuple[int, ...]
    arms: Mapping[str, Mapping[str, Any]]
    contrasts: tuple[Contrast, ...]

    def runs(self) -> list[tuple[str, int, Configuration]]:
        """Every (arm, seed, configuration), seed by seed, so that pairs are complete as early as can be."""
        return [
            (arm, seed, configuration_from({**plain, "seed": seed}, f"block {self.name}, {arm}"))
            for seed in self.seeds
            for arm, plain in self.arms.items()
        ]


@dataclass(frozen=True)
class Grid:
    """An experiment: its name, its blocks, and where steps are computed."""

    name: str
    blocks: tuple[Block, ...]
    execution: Execution

    def block(self, name: str) -> Block:
        """The block of a name.

        Raises:
            RefdesignError: there is none.
        """
        for block in self.blocks:
            if block.name == name:
                return block
        names = ", ".join(block.name for block in self.blocks)
        raise RefdesignError(f"block: found {name!r}, expected one of {names}")


def read_grid(path: Path) -> Grid:
    """A grid from its file, the fields of all its runs checked.

    Raises:
        RefdesignError: the file cannot be read, a field in it is unknown or wrong, naming it, or there is more than
            one primary contrast.

    >>> import tempfile
    >>> text = 'name = "tiny"\\n[[block]]\\nname = "a"\\nseeds = {first = 5, count = 2}\\ncompare = "activation"\\n'
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "tiny.toml")
    ...     _ = file.write_text(text + '[block.axes]\\nactivation = ["sign", "2d"]\\n')
    ...     grid = read_grid(file)
    >>> [(arm, seed) for arm, seed, _ in grid.blocks[0].runs()]
    [('sign', 5), ('2d', 5), ('sign', 6), ('2d', 6)]
    """
    try:
        plain = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RefdesignError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # also what is no UTF-8, and integers of thousands of digits
        raise RefdesignError(f"{path}: found no TOML ({error})") from error
    known = {"name": str, "common": dict, "execution": dict, "block": list}
    values = _fields(plain, known, str(path))
    blocks = [_block(entry, values.get("common", {}), f"{path}, block") for entry in values.get("block", [])]
    names = [block.name for block in blocks]
    if not blocks or len(set(names)) < len(names):
        raise RefdesignError(f"{path}, block: found {names or 'none'}, expected at least one, with different names")
    for block in blocks:
        try:
            block.runs()
        except RefdesignError as error:
            raise RefdesignError(f"{path}, {error}") from error
    primary = sum(len(block.contrasts) for block in blocks if block.kind == "primary")
    if primary > 1:
        raise RefdesignError(f"{path}: found {primary} primary contrasts, expected one; others are secondary")
    execution = structure(Execution, values.get("execution", {}), f"{path}, execution")
    return Grid(values.get("name", path.stem), tuple(blocks), execution)


def _block(plain: Any, common: Mapping[str, Any], where: str) -> Block:
    if not isinstance(plain, dict):
        raise RefdesignError(f"{where}: found {plain!r}, expected a table")
    kinds = {"name": str, "kind": str, "note": str, "seeds": dict, "compare": str, "axes": dict, "fields": dict}
    values = _fields(plain, kinds, where)
    if "name" not in values:
        raise RefdesignError(f"{where}: found no name, expected one")
    name, where = values["name"], f"{where} {values['name']!r}"
    kind = values.get("kind", "exploratory")
    if kind not in KINDS:
        raise RefdesignError(f"{where}, kind: found {kind!r}, expected one of {', '.join(KINDS)}")
    seeds = _fields(values.get("seeds", {"first": 0, "count": 1}), {"first": int, "count": int}, f"{where}, seeds")
    count, first = seeds.get("count", 1), seeds.get("first", 0)
    if count < 1 or first < 0:
        raise RefdesignError(f"{where}, seeds: found {count} from {first} on, expected at least 1 from at least 0 on")
    axes = values.get("axes", {})
    for axis, choices in axes.items():
        if not isinstance(choices, list) or not choices:
            raise RefdesignError(f"{where}, axes, {axis}: found {choices!r}, expected a list of values")
    compare = values.get("compare", "")
    if compare and compare not in axes:
        raise RefdesignError(f"{where}, compare: found {compare!r}, expected an axis: {', '.join(axes)}")
    base = _merged(common, values.get("fields", {}), where)
    if "seed" in {**base, **axes}:
        raise RefdesignError(f"{where}: found the field 'seed', expected seeds = {{ first = ..., count = ... }}")
    if "recipe" in axes:
        raise RefdesignError(f"{where}, axes: found 'recipe', expected one of its fields, such as recipe.epochs")
    arms: dict[str, Mapping[str, Any]] = {}
    contrasts = []
    for point in itertools.product(*axes.values()):
        chosen = dict(zip(axes, point, strict=True))
        arm = _arm(chosen)
        if arm in arms:
            raise RefdesignError(f"{where}, axes: found the arm {arm!r} twice, expected different ones")
        arms[arm] = _with(base, chosen)
        if compare and chosen[compare] != axes[compare][0]:
            contrasts.append(Contrast(name, kind, _arm({**chosen, compare: axes[compare][0]}), arm))
    seeds_used = tuple(range(first, first + count))
    return Block(name, kind, values.get("note", ""), seeds_used, arms, tuple(contrasts))


def _arm(chosen: Mapping[str, Any]) -> str:
    """An arm's name: its activation as it is, all else as field=value."""
    parts = [str(value) if axis == "activation" else f"{axis}={value}" for axis, value in chosen.items()]
    return ", ".join(parts) or "all"


def _merged(first: Mapping[str, Any], second: Mapping[str, Any], where: str) -> dict[str, Any]:
    recipe: dict[str, Any] = {}
    for fields in (first, second):
        own = fields.get("recipe", {})
        if not isinstance(own, dict):
            raise RefdesignError(f"{where}, recipe: found {own!r}, expected a table")
        recipe |= own
    return {**first, **second, "recipe": recipe}


def _with(base: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    made = {**base, "recipe": dict(base["recipe"])}
    for axis, value in chosen.items():
        if axis.startswith("recipe."):
            made["recipe"][axis.removeprefix("recipe.")] = value
        else:
            made[axis] = value
    return made


def _fields(plain: Mapping[str, Any], kinds: Mapping[str, type], where: str) -> dict[str, Any]:
    for name, value in plain.items():
        if name not in kinds:
            raise RefdesignError(f"{where}: found the field {name!r}, expected some of {', '.join(kinds)}")
        if not isinstance(value, kinds[name]) or isinstance(value, bool):
            raise RefdesignError(f"{where}, {name}: found {value!r}, expected {kinds[name].__name__}")
    return dict(plain)
