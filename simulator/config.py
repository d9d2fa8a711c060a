"""An accelerator as data: for every layer its parallelism, widths and memories. Checked when it is made.

Whether it fits a network (which divides what) is `simulator.schedule`'s business; here every field is checked by
itself. Files are JSON, and a field that is unknown or missing is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from os import PathLike
from pathlib import Path
from typing import Any

from refdesign.errors import RefdesignError

FORMAT = "refdesign accelerator"
VERSION = 1
POOLS = ("accumulators", "bits")
"""Where a max pool stands: on accumulators before the threshold, or on bits behind it (docs/method.md, section 1)."""
OVERFLOWS = ("error", "wrap", "saturate")
"""What a value does that its width cannot hold."""

_WIDTHS = ("popcount_width", "accumulator_width", "threshold_width")
_LEAST = {"pe": 1, "simd": 1, "line_buffer_rows": 1, "fifo_depth": 1, **dict.fromkeys(_WIDTHS, 1)}
_WIDEST = 64


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """The hardware of one layer; sizes and order as in `simulator.units`.

    Attributes:
        layer: the network's layer that runs on it.
        pe: output channels that are computed side by side.
        simd: input bits of one channel fold's cycle.
        ragged: whether the last folds may be partly empty; otherwise pe and simd must divide the channels.
        pool: one of `POOLS`; without effect where the layer has no pool.
        popcount_width: bits of the popcount tree's result, unsigned.
        accumulator_width: bits of an accumulator, two's complement.
        threshold_width: bits of a threshold's limit, two's complement.
        overflow: one of `OVERFLOWS`.
        line_buffer_rows: rows of the sliding window unit's line buffer.
        fifo_depth: words of the FIFO in front of the stage.

    Raises:
        RefdesignError: a value of another type, out of range or not among the choices; names layer and field.

    >>> stage = StageConfig(layer="conv1", pe=4, simd=3, popcount_width=2, accumulator_width=9, threshold_width=9,
    ...                     line_buffer_rows=4)
    >>> stage.fifo_depth, stage.overflow
    (2, 'error')
    >>> StageConfig(layer="conv1", pe=0, simd=3, popcount_width=2, accumulator_width=9, threshold_width=9,
    ...             line_buffer_rows=4)
    Traceback (most recent call last):
    refdesign.errors.RefdesignError: accelerator, stage 'conv1', pe: found 0, expected an integer of at least 1
    """

    layer: str
    pe: int
    simd: int
    ragged: bool = False
    pool: str = "accumulators"
    popcount_width: int
    accumulator_width: int
    threshold_width: int
    overflow: str = "error"
    line_buffer_rows: int
    fifo_depth: int = 2

    def __post_init__(self) -> None:
        where = f"accelerator, stage {self.layer!r}"
        if not isinstance(self.layer, str) or not self.layer:
            raise RefdesignError(f"accelerator, stage, layer: found {self.layer!r}, expected a layer's name")
        for name, least in _LEAST.items():
            _check_integer(where, name, getattr(self, name), least)
        for name in _WIDTHS:
            if getattr(self, name) > _WIDEST:
                raise RefdesignError(f"{where}, {name}: found {getattr(self, name)}, expected at most {_WIDEST} bits")
        if not isinstance(self.ragged, bool):
            raise RefdesignError(f"{where}, ragged: found {self.ragged!r}, expected true or false")
        for name, choices in (("pool", POOLS), ("overflow", OVERFLOWS)):
            if getattr(self, name) not in choices:
                raise RefdesignError(
                    f"{where}, {name}: found {getattr(self, name)!r}, expected one of {', '.join(choices)}"
                )


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """A chain of stages, one for each layer of a network, in its order.

    Attributes:
        name: what the accelerator is called.
        stages: one `StageConfig` for each layer.
        output_fifo_depth: words of the FIFO behind the last stage.

    >>> stage = StageConfig(layer="conv1", pe=4, simd=3, popcount_width=2, accumulator_width=9, threshold_width=9,
    ...                     line_buffer_rows=4)
    >>> accelerator = Accelerator(name="tiny", stages=(stage,))
    >>> Accelerator.from_dict(accelerator.to_dict()) == accelerator
    True
    """

    name: str
    stages: tuple[StageConfig, ...]
    output_fifo_depth: int = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))
        if not isinstance(self.name, str):
            raise RefdesignError(f"accelerator, name: found {self.name!r}, expected a text")
        if not self.stages:
            raise RefdesignError("accelerator, stages: found none, expected one for each layer")
        names = [stage.layer for stage in self.stages]
        for name in names:
            if names.count(name) > 1:
                raise RefdesignError(f"accelerator, stages: found layer {name!r} twice, expected once")
        _check_integer("accelerator", "output_fifo_depth", self.output_fifo_depth, 1)

    def __iter__(self) -> Iterator[StageConfig]:
        return iter(self.stages)

    def with_all(self, **changes: Any) -> Accelerator:
        """The accelerator with fields of every stage changed; None leaves a field as it is.

        `fifo_depth` is that of the FIFO behind the last stage, too.

        Raises:
            RefdesignError: a value that is out of range.

        >>> stage = StageConfig(layer="conv1", pe=4, simd=3, popcount_width=2, accumulator_width=9, threshold_width=9,
        ...                     line_buffer_rows=4)
        >>> changed = Accelerator(name="tiny", stages=(stage,)).with_all(overflow="wrap", fifo_depth=5, pool=None)
        >>> changed.stages[0].overflow, changed.stages[0].fifo_depth, changed.output_fifo_depth
        ('wrap', 5, 5)
        """
        given = {name: value for name, value in changes.items() if value is not None}
        stages = tuple(replace(stage, **given) for stage in self.stages)
        return replace(self, stages=stages, output_fifo_depth=given.get("fifo_depth", self.output_fifo_depth))

    def to_dict(self) -> dict[str, Any]:
        """The accelerator as plain data, for JSON."""
        return {"format": FORMAT, "version": VERSION, **asdict(self), "stages": [asdict(s) for s in self.stages]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], source: str = "accelerator") -> Accelerator:
        """The inverse of `to_dict`; every field must be there, none besides.

        Args:
            data: as `to_dict` gives it.
            source: the file's name, for errors.

        Raises:
            RefdesignError: an unknown or missing field, another format or version, or a wrong value.
        """
        expected = {"format", "version", *(field.name for field in fields(cls))}
        _check_fields(source, data, expected)
        if data["format"] != FORMAT or data["version"] != VERSION or isinstance(data["version"], bool):
            raise RefdesignError(
                f"{source}: found format {data['format']!r} version {data['version']!r}, "
                f"expected {FORMAT!r} version {VERSION}"
            )
        if not isinstance(data["stages"], list):
            raise RefdesignError(f"{source}, stages: found {type(data['stages']).__name__}, expected a list")
        stages = []
        for index, stage in enumerate(data["stages"]):
            _check_fields(f"{source}, stage {index}", stage, {field.name for field in fields(StageConfig)})
            stages.append(StageConfig(**stage))
        return cls(name=data["name"], stages=tuple(stages), output_fifo_depth=data["output_fifo_depth"])

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Accelerator:
        """Read an accelerator from a JSON file.

        Raises:
            RefdesignError: no such file, no JSON, or as in `from_dict`; names the file.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"), object_pairs_hook=_without_repeats)
        except OSError as error:
            raise RefdesignError(f"{path}: {error.strerror}") from None
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise RefdesignError(f"{path}: found no JSON ({error}), expected an accelerator file") from None
        except RefdesignError as error:
            raise RefdesignError(f"{path}: {error}") from None
        try:
            return cls.from_dict(data, str(path))
        except RefdesignError as error:
            text = str(error)
            raise RefdesignError(text if text.startswith(str(path)) else f"{path}: {text}") from None

    def save(self, path: str | PathLike[str]) -> None:
        """Write the accelerator to a JSON file.

        Raises:
            RefdesignError: the file cannot be written.
        """
        try:
            Path(path).write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise RefdesignError(f"{path}: {error.strerror}") from None


def _check_integer(where: str, name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise RefdesignError(f"{where}, {name}: found {value!r}, expected an integer of at least {least}")


def _check_fields(where: str, data: object, expected: set[str]) -> None:
    if not isinstance(data, Mapping):
        raise RefdesignError(f"{where}: found {type(data).__name__}, expected an object with fields")
    for name in data:
        if name not in expected:
            raise RefdesignError(f"{where}: unknown field {name!r}, expected {', '.join(sorted(expected))}")
    for name in sorted(expected):
        if name not in data:
            raise RefdesignError(f"{where}: field {name!r} is missing")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise RefdesignError(f"field {name!r} stands there twice")
        found[name] = value
    return found
