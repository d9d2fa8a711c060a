"""What a user says about a file that does not say it itself: the options of `convert` and `info`."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from refdesign import api, models
from refdesign.checks import meant
from refdesign.conventions import ARITHMETICS, PRESETS
from refdesign.design import published, published_names
from refdesign.errors import RefdesignError
from refdesign.formats import conversion, foreign, kernels
from refdesign.formats.binarising import RULES
from refdesign.network import NetworkData
from refdesign.parameters import ThresholdKernel

ARCHITECTURES: dict[str, Callable[..., api.Network]] = {
    "binarynet": models.binarynet,
    "vgg_small": models.vgg_small,
    "resnet18": models.resnet18,
    "resnet20": models.resnet20,
}
"""The architectures that a file's tensors can be mapped onto, by name."""

Command = TypeVar("Command", bound=Callable[..., Any])

_NAMES = (
    "architecture", "width", "classes", "input_shape", "kernel", "layer_map", "binarise", "pixels", "conventions",
    "arithmetic",
)  # fmt: skip
_OPTIONS = (
    click.option(
        "--model", "architecture", metavar="NAME|FILE",
        help=f"The architecture that IN's arrays are of: {', '.join(ARCHITECTURES)}, or a network file.",
    ),
    click.option("--width", type=float, metavar="X", help="Multiplies the architecture's widths; 1 by default."),
    click.option("--classes", type=click.IntRange(min=1), metavar="N", help="Its logits; 10 by default."),
    click.option("--input-shape", metavar="HxWxC", help="Its images; 32x32x3 by default."),
    click.option("--kernel", metavar="NAME|FILE", help="Its threshold kernel: a published one, or a file."),
    click.option("--map", "layer_map", type=click.Path(path_type=Path), metavar="FILE",
                 help="A JSON file that says which arrays the layers are."),
    click.option("--binarise", type=click.Choice(tuple(RULES)), help="How latent weights become bits."),
    click.option("--pixels", metavar="SCALE,OFFSET", help="Pixels p enter as SCALE*p + OFFSET; or a pair per channel."),
    click.option("--conventions", type=click.Choice(tuple(PRESETS)), help="How signs and sums are meant."),
    click.option("--arithmetic", type=click.Choice(ARITHMETICS), help="The arithmetic that it is meant under."),
)  # fmt: skip


def import_options(command: Command) -> Command:
    """The options, gathered into the command's argument `wanted`, a dict of those that `conversion.read` takes."""

    @functools.wraps(command)
    def gathered(**arguments: Any) -> Any:
        said = {name: arguments.pop(name) for name in _NAMES}
        return command(**arguments, wanted=_wanted(said))

    decorated: Any = gathered
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]


def _wanted(said: dict[str, Any]) -> dict[str, Any]:
    wanted = {name: said[name] for name in ("layer_map", "binarise", "arithmetic") if said[name] is not None}
    architecture = _architecture(said)
    if architecture is not None:
        wanted["architecture"] = architecture
    if said["pixels"] is not None:
        wanted["pixels"] = _pixels(said["pixels"])
    if said["conventions"] is not None:
        wanted["conventions"] = PRESETS[said["conventions"]]
    return wanted


def read(source: str, wanted: dict[str, Any]) -> conversion.Imported:
    """The network in a file, read as the options say; TensorFlow is asked for what only it can compute.

    Raises:
        RefdesignError: as `refdesign.formats.conversion.read`.
    """
    arithmetic = wanted.get("arithmetic") or getattr(wanted.get("conventions"), "arithmetic", None)
    foreign_file = Path(source).suffix.lower() in (*foreign.KERAS_ENDINGS, *foreign.TORCH_ENDINGS)
    if arithmetic == "keras" and foreign_file and Path(source).exists():
        from refdesign.frameworks.keras.roots import reciprocal_root

        wanted = {**wanted, "root": reciprocal_root}
    return conversion.read(source, **wanted)


def _architecture(said: dict[str, Any]) -> NetworkData | None:
    name = said["architecture"]
    sizes = {key: said[key] for key in ("width", "classes", "input_shape", "kernel") if said[key] is not None}
    if name not in ARCHITECTURES:
        if sizes:
            option = f"--{min(sizes).replace('_', '-')}"
            raise RefdesignError(
                f"{option}: found it without --model {' or '.join(ARCHITECTURES)}, expected one of them"
            )
        return None if name is None else api.load(name)
    if "input_shape" in sizes:
        sizes["input_shape"] = _shape(sizes["input_shape"])
    if "kernel" in sizes:
        sizes["kernel"] = kernel(sizes["kernel"])
    return ARCHITECTURES[name](**sizes)


def _shape(text: str) -> tuple[int, int, int]:
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) != 3 or not all(part.isdecimal() and 0 < int(part) < 65_536 for part in parts):
        raise RefdesignError(f"--input-shape: found {text!r}, expected rows, columns and channels, such as 32x32x3")
    return int(parts[0]), int(parts[1]), int(parts[2])


def _pixels(text: str) -> list[tuple[float, float]]:
    try:
        values = [_number(part) for part in text.split(",")]
    except (ValueError, ZeroDivisionError):
        values = []
    if not values or len(values) % 2 or not all(map(math.isfinite, values)):
        raise RefdesignError(f"--pixels: found {text!r}, expected SCALE,OFFSET, such as 2,-255 or 1/127.5,-1")
    return list(zip(values[::2], values[1::2], strict=True))


def _number(text: str) -> float:
    over, _, under = text.partition("/")
    return float(over) / float(under) if under else float(over)


def kernel(text: str) -> ThresholdKernel:
    """A threshold kernel by its published name, or from a file.

    Raises:
        RefdesignError: neither a name nor a readable file.

    >>> kernel("threshold_2x2_v1").shape
    (2, 2, 1)
    """
    names = published_names()
    if text not in names and not Path(text).exists():
        raise RefdesignError(
            f"{text}: found no such file, expected a kernel file or one of {', '.join(names)}{meant(text, names)}"
        )
    return published(text) if text in names else kernels.read(text)
