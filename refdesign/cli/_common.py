"""What the subcommands share: arguments, tables, JSON, progress bars."""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from refdesign import api, datasets
from refdesign.checks import meant
from refdesign.errors import RefdesignError, in_print
from refdesign.formats import conversion

_STDOUT, _STDERR = 1, 2  # as the system knows them
_PIPE_WIDTH = 1 << 20
"""Columns where no terminal limits them: nothing wraps."""

model_argument = click.argument("model")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
root_option = click.option(
    "--root", type=click.Path(path_type=Path), help="The folder of a data set that does not ship with refdesign."
)


resize_option = click.option(
    "--resize", is_flag=True, help="Convert pictures of another size, with colours or transparency; stderr says how."
)
_ANNOUNCED = 5
"""Lines about converted pictures before the rest is only counted."""


def load_model(model: str) -> api.Network:
    """The network behind a command line's MODEL: a pretrained network's name, or a file.

    A name that ships with the project comes first; write `./digits` for a file that is called the same.

    Raises:
        RefdesignError: neither a name nor a readable network file.
    """
    if model in api.pretrained_names():
        return api.pretrained(model)
    if not Path(model).exists():
        names = api.pretrained_names()
        raise RefdesignError(
            f"{model}: found no such file, expected a network file or one of {', '.join(names)}" + meant(model, names)
        )
    return api.load(model)


def load_with_report(model: str, wanted: Mapping[str, Any] | None = None) -> tuple[api.Network, dict[str, list[str]]]:
    """As `load_model`, and what was `recognised` and `assumed` in a foreign file; nothing for the project's own.

    Args:
        model: a name or a file.
        wanted: options of `refdesign.formats.conversion.read`, for files that do not say all themselves.
    """
    if model in api.pretrained_names() or not Path(model).exists():
        if wanted:
            raise RefdesignError(f"{model}: found {min(wanted)!r} to read it with, expected a file")
        return load_model(model), {}
    found = conversion.read(model, **wanted or {})
    report = {"recognised": list(found.recognised), "assumed": list(found.assumed)}
    return api.Network.from_data(found.network), report if found.recognised else {}


def console() -> Console:
    """Where tables and text go: stdout, wrapped at the terminal's width; in a pipe, nothing is wrapped."""
    if sys.stdout.isatty():
        return _Uncropped(highlight=False)
    return _Uncropped(highlight=False, width=_PIPE_WIDTH, color_system=None)


class _Uncropped(Console):
    """A console that leaves it to a narrow terminal to wrap what cannot be narrower."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*objects, **{"crop": False, **options})


class _WholeWords(Table):
    """A table whose cells wrap between words, never within one."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide = options.update(max_width=_PIPE_WIDTH)
        for column in self.columns:
            cells = (column.header, *column.cells)
            column.min_width = max(Measurement.get(console, wide, content).minimum for content in cells)
        least = self.__rich_measure__(console, wide).minimum
        yield from super().__rich_console__(console, options.update(max_width=max(options.max_width, least)))


@contextmanager
def foreign_code(*, quiet: bool) -> Iterator[None]:
    """Let code under test run; where stdout is to hold JSON alone, what it prints goes to stderr, even natively."""
    if not quiet:
        yield
        return
    with redirect_stdout(sys.stderr), ExitStack() as stack:
        with suppress(OSError):  # closed
            kept = os.dup(_STDOUT)
            stack.callback(os.close, kept)
            os.dup2(_STDERR, _STDOUT)
            stack.callback(os.dup2, kept, _STDOUT)
            if os.name == "posix":
                stack.callback(ctypes.CDLL(None).fflush, None)  # what C still holds back
        yield


def print_json(data: object) -> None:
    """Print plain data and NumPy arrays as JSON, exact and without NaN."""
    click.echo(json.dumps(data, indent=2, default=_plain, allow_nan=False))


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def table(*columns: str, title: str | None = None, left: tuple[str, ...] = ()) -> Table:
    """A plain table: columns to the right, those named in `left` to the left."""
    made = _WholeWords(
        box=None, header_style="bold", title=title, title_justify="left", title_style="bold", pad_edge=False
    )
    for column in columns:
        made.add_column(column, justify="left" if column in left else "right", overflow="fold")
    return made


def shape_text(shape: tuple[int, ...]) -> str:
    """A shape as people write it.

    >>> shape_text((8, 8, 1))
    '8×8×1'
    """
    return "×".join(str(extent) for extent in shape)


def cell(value: object) -> Text:
    """A table's cell without markup or control characters: names in brackets, or from elsewhere, stay text."""
    return Text("\n".join(map(in_print, str(value).split("\n"))))


class _Count(ProgressColumn):
    """How many are done of how many; nothing while that is not known."""

    def render(self, task: Task) -> Text:
        return Text("" if task.total is None else f"{task.completed:.0f}/{task.total:.0f}")


def progress_on(console: Console) -> Progress:
    """A bar with how many are done and the time, which goes when it ends."""
    time = TimeElapsedColumn(Column(min_width=7, no_wrap=True))
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), _Count(Column(no_wrap=True)), time)
    return Progress(*columns, console=console, transient=True)


def fitting(what: str, width: int) -> str:
    """What a bar is of, cut so that bar, count and time fit beside it.

    >>> fitting("digits, some/port.py:forward", 60), fitting("digits, some/port.py:forward", 100)
    ('digits, some/port.p…', 'digits, some/port.py:forward')
    """
    room = max(width - 40, 8)
    return what if len(what) <= room else f"{what[: room - 1]}…"


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, only where that is a terminal; yields a function of (done, total)."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    console = Console(stderr=True)
    with progress_on(console) as progress:
        task = progress.add_task(fitting(what, console.width), total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def load_images(
    sources: tuple[str, ...], root: Path | None, shape: tuple[int, int, int], *, resize: bool = False
) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None, list[str]]:
    """The images behind a command line's IMAGES: data sets by name, image files, folders, arrays.

    A data set is `NAME` (its test split) or `NAME:SPLIT`; write `./digits` for a file of the same name. What is
    done to a picture's pixels is said on stderr.

    Args:
        sources: at least one.
        root: where data sets that do not ship with the project lie.
        shape: (H, W, C) that the network expects.
        resize: whether pictures may be converted to fit; without it those that do not are refused.

    Returns:
        uint8 images (N, H, W, C); their labels, or None unless every source has them; a name for every image: of
        its file, with the path where there are several sources.

    Raises:
        RefdesignError: a source that is nothing of these, cannot be read, or has another shape.
    """
    images: list[NDArray[np.uint8]] = []
    labels: list[NDArray[np.int64] | None] = []
    names: list[str] = []
    announced: list[str] = []
    for source in map(source_text, sources):
        name, _, split = source.partition(":")
        if name in datasets.DATASETS:
            found, its_labels = datasets.load(name, split, root)
            its_names = [f"{source}[{index}]" for index in range(len(found))]
        else:
            if not Path(source).exists():
                raise RefdesignError(
                    f"{source}: found no such file, expected an image (.png, .jpg, ...), an .npy or .npz array, "
                    f"a folder of them, or a data set: {', '.join(datasets.DATASETS)}{meant(name, datasets.DATASETS)}"
                )
            found, its_names = datasets.images(source, shape, resize=resize, announce=announced.append)
            _say_what_was_taken(Path(source), its_names)
            if len(sources) > 1:
                folder = Path(source) if Path(source).is_dir() else Path(source).parent
                its_names = [str(folder / its_name) for its_name in its_names]
            its_labels = None
        if found.shape[1:] != shape:
            raise RefdesignError(
                f"{source}: found images of {shape_text(found.shape[1:])}, expected {shape_text(shape)} pixels"
            )
        images.append(found)
        labels.append(its_labels)
        names += its_names
    for line in announced[:_ANNOUNCED]:
        click.echo(line, err=True)
    if len(announced) > _ANNOUNCED:
        click.echo(f"… and {len(announced) - _ANNOUNCED:,} more pictures converted", err=True)
    known = [part for part in labels if part is not None]
    return np.concatenate(images), np.concatenate(known) if len(known) == len(labels) else None, names


def _say_what_was_taken(folder: Path, names: list[str]) -> None:
    """On stderr, where a folder has more in it than the images that were read."""
    taken = list(dict.fromkeys(name.partition("[")[0] for name in names))
    left = len(list(folder.iterdir())) - len(taken) if folder.is_dir() else 0
    if left:
        files = taken[0] if len(taken) == 1 else f"{len(taken):,} files"
        click.echo(f"{folder}: read {files}, left {left:,} other {'entry' if left == 1 else 'entries'} alone", err=True)


def source_text(source: str) -> str:
    """A source as it is read: a data set without a split is its test split.

    >>> source_text("digits"), source_text("digits:train"), source_text("scans/")
    ('digits:test', 'digits:train', 'scans/')
    """
    name, _, split = source.partition(":")
    return f"{name}:{split or 'test'}" if name in datasets.DATASETS else source
