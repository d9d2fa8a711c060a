"""`refdesign demo`: one command for a newcomer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape

from refdesign import api, datasets
from refdesign.cli import _agreement as agreement
from refdesign.cli import _art as art
from refdesign.cli import _common as common
from refdesign.cli import _explanation as explanation
from refdesign.errors import MissingExtra, RefdesignError
from refdesign.network import Stage
from refdesign.parameters import NO_DITHER

NETWORKS = (("digits-sign", "Sign"), ("digits-2d", "DeSign 2D"), ("digits", "DeSign 3D"))
"""The networks that are shown, plainest first; the last one is explained."""

DIGIT = 1
"""The test image that is shown and explained."""


@dataclass(frozen=True, eq=False)
class Shown:
    """One network on the test images: its logits, and how its paths agree."""

    name: str
    activation: str
    network: api.Network
    logits: NDArray[Any]
    seconds: float


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("refdesign-demo"),
    show_default=True,
    help="The folder for the pictures.",
)
@click.option(
    "--naive",
    "naive_images",
    type=click.IntRange(min=0),
    default=4,
    show_default=True,
    metavar="N",
    help="Images on the slow path, for each network.",
)
@click.option("--no-pictures", is_flag=True, help="Draw none; needs no matplotlib.")
@common.json_option
@click.pass_context
def demo(ctx: click.Context, out: Path, naive_images: int, no_pictures: bool, as_json: bool) -> None:
    """See a trained network classify handwritten digits on packed bits.

    Three networks that ship with refdesign (plain Sign, DeSign 2D, DeSign 3D) classify the test images of the
    bundled handwritten digits. Three paths, written apart, compute every value of every layer: packed (XNOR,
    popcount, integer thresholds), float (unfolded, in the named arithmetic) and naive (scalar loops); how many
    values were compared and how many differ is counted. Pictures go to --out.

    Exit status 1 if the paths differ anywhere.

    \b
    Examples:
      refdesign demo
      refdesign demo --naive 10 --out pictures
    """
    images, labels = datasets.load("digits", "test")
    shown = [_classify(name, activation, images) for name, activation in NETWORKS]
    found = {entry.name: _agreement(entry, images, naive_images) for entry in shown}
    differs = any(part.differences for parts in found.values() for part in parts.values())
    pictures: list[Path] = []
    skipped: RefdesignError | None = None
    if not no_pictures:
        try:
            pictures = _draw(shown, images[DIGIT], out)
        except MissingExtra as error:
            skipped = error
    report = {
        "networks": [_scores(entry, labels) for entry in shown],
        "agreement": [
            {"network": name, "paths": paths, "values": part.values, "differences": part.differences}
            for name, parts in found.items()
            for paths, part in parts.items()
        ],
        "pictures": pictures,
    }
    if as_json:
        common.print_json(report)
    else:
        console = common.console()
        _print_scores(console, shown, labels, images)
        _print_agreement(console, found, len(images), naive_images)
        _print_digit(console, shown[-1].network, images[DIGIT], int(labels[DIGIT]))
        _print_pictures(console, pictures, skipped)
        _print_why(console, shown[-1], images)
    if differs:
        ctx.exit(1)


def _classify(name: str, activation: str, images: NDArray[np.uint8]) -> Shown:
    network = api.pretrained(name)
    network.run(images[:1])  # folds, once
    start = time.perf_counter()
    logits = network.run(images)["logits"]
    return Shown(name, activation, network, logits, time.perf_counter() - start)


def _agreement(entry: Shown, images: NDArray[np.uint8], naive_images: int) -> dict[str, agreement.Agreement]:
    """The paths against `packed`, on every output of every layer."""
    packed = entry.network.run(images, outputs="all")
    found = {"float": agreement.compare(packed, entry.network.run(images, path="float", outputs="all"))}
    if naive_images:
        few = images[:naive_images]
        with common.progress_bar(f"{entry.name}, naive path, slow") as advance:
            slow = entry.network.run(few, path="naive", outputs="all", progress=advance)
        found["naive"] = agreement.compare({name: array[:naive_images] for name, array in packed.items()}, slow)
    return found


def _scores(entry: Shown, labels: NDArray[np.int64]) -> dict[str, Any]:
    correct = int((entry.logits.argmax(axis=1) == labels).sum())
    return {
        "name": entry.name,
        "activation": entry.activation,
        "images": len(labels),
        "correct": correct,
        "accuracy": correct / len(labels),
    }


def _print_scores(console: Console, shown: list[Shown], labels: NDArray[np.int64], images: NDArray[np.uint8]) -> None:
    console.print(
        f"[bold]{len(images)} handwritten digits[/bold] of the test set, classified on packed bits "
        "(64 activations to a word; XNOR, popcount, integer thresholds)\n"
    )
    made = common.table("network", "activation", "correct", "accuracy", "images/s", left=("network", "activation"))
    for entry in shown:
        scores = _scores(entry, labels)
        made.add_row(
            entry.name,
            entry.activation,
            f"{scores['correct']}/{scores['images']}",
            f"{scores['accuracy']:.2%}",
            f"{len(labels) / entry.seconds:,.0f}",
        )
    console.print(made)
    predictions = shown[-1].logits.argmax(axis=1)
    console.print(f"\nMistakes of {shown[-1].name}: {_mistakes(labels, predictions)}", soft_wrap=True)


def _mistakes(labels: NDArray[np.int64], predictions: NDArray[np.intp], most: int = 10) -> str:
    """Which digits are taken for which, the most frequent first.

    >>> _mistakes(np.array([6, 6, 3, 1]), np.array([8, 8, 5, 1]))
    'true 6, said 8 (2 times); true 3, said 5'
    """
    wrong = np.stack([labels, predictions], axis=1)[predictions != labels]
    pairs, counts = np.unique(wrong, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    mistakes = [
        f"true {pairs[i, 0]}, said {pairs[i, 1]}" + (f" ({counts[i]} times)" if counts[i] > 1 else "") for i in order
    ]
    if not mistakes:
        return "none"
    return "; ".join(mistakes[:most]) + (f"; and {len(mistakes) - most} more" if len(mistakes) > most else "")


def _print_agreement(
    console: Console, found: dict[str, dict[str, agreement.Agreement]], images: int, naive_images: int
) -> None:
    console.print("\n[bold]Three paths, bit for bit[/bold]: every accumulator, pooled value, bit and logit\n")
    made = common.table("network", "packed against", "images", "values", "differences", "", left=("network", ""))
    for name, parts in found.items():
        for path, part in parts.items():
            made.add_row(
                name,
                path,
                str(images if path == "float" else naive_images),
                f"{part.values:,}",
                f"{part.differences:,}",
                f"[red]first at {escape(part.first)}[/red]" if part.first else "[green]equal[/green]",
            )
    console.print(made)


def _print_digit(console: Console, network: api.Network, image: NDArray[np.uint8], label: int) -> None:
    """A digit beside the bits of the first layer's first channels."""
    layer = network.layers[0].name
    outputs = network.run(image[np.newaxis], outputs=(f"{layer}.bits", "logits"))
    bits = outputs[f"{layer}.bits"][0]
    blocks = art.can_draw()
    maps = [art.bit_map(bits[:, :, channel], blocks=blocks) for channel in range(12)]
    grid = [*art.side_by_side(maps[:6]), "", *art.side_by_side(maps[6:])]
    prediction = int(outputs["logits"][0].argmax())
    console.print(
        f"\n[bold]One of them[/bold], a {label}, taken for a {prediction}; beside it the bits of 12 of the "
        f"{bits.shape[2]} channels of {layer}\n"
    )
    picture = art.shades(image[:, :, 0], blocks=blocks)
    console.print("\n".join(art.side_by_side([picture, grid], "   ")), markup=False)


def _draw(shown: list[Shown], image: NDArray[np.uint8], out: Path) -> list[Path]:
    from refdesign.cli import _photograph as photograph
    from refdesign.cli import _pictures as pictures

    pictures.check_installed()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RefdesignError(f"{out}: cannot be made: {error.strerror}") from error
    kernels = [_kernel(entry.network) for entry in shown]
    pixels = photograph.halved(datasets.photograph())
    rows = []
    for name, weights in (
        ("x = 2·grey - 255", photograph.PLAIN),
        (f"binary 3×3 convolution of x\nweights {_signs(photograph.AUTHORS)}", photograph.AUTHORS),
    ):
        maps = [
            photograph.dither(pixels, weights, entry.activation, _levels(kernel))
            for entry, kernel in zip(shown, kernels, strict=True)
        ]
        rows.append((name, maps))
    pictures.photograph(rows, out / "photograph.png")
    maps_of = []
    for entry, kernel in zip(shown, kernels, strict=True):
        layer = entry.network.layers[0].name
        bits = entry.network.run(image[np.newaxis], outputs=(f"{layer}.bits",))[f"{layer}.bits"][0]
        maps_of.append((entry.activation, bits, kernel))
    pictures.feature_maps(image[:, :, 0], maps_of, out / "feature-maps.png")
    return [out / "photograph.png", out / "feature-maps.png"]


def _signs(weights: Sequence[Sequence[int]]) -> str:
    """Binary weights, row by row.

    >>> _signs([[1, -1], [-1, 1]])
    '+− / −+'
    """
    return " / ".join("".join("+" if weight > 0 else "−" for weight in row) for row in weights)


def _kernel(network: api.Network) -> NDArray[np.float32]:
    first = network.layers[0]
    return (first.kernel if isinstance(first, Stage) and first.kernel is not None else NO_DITHER).values


def _levels(kernel: NDArray[np.float32]) -> NDArray[np.int64]:
    """The rank of every cell's value among the kernel's values: its level, lowest 0."""
    return np.unique(kernel, return_inverse=True)[1].reshape(kernel.shape)


def _print_pictures(console: Console, pictures: list[Path], skipped: RefdesignError | None) -> None:
    if skipped is not None:
        console.print(f"\n[bold]No pictures[/bold]: {escape(str(skipped))}", soft_wrap=True)
    if pictures:
        console.print()
    for path in pictures:
        console.print(f"[bold]Picture[/bold] {escape(str(path))}", soft_wrap=True)


def _print_why(console: Console, entry: Shown, images: NDArray[np.uint8]) -> None:
    """The end: any pixel can be asked why its bit is what it is."""
    layer = entry.network.layers[1]
    height, width, channels = entry.network.shapes[layer.name].output
    index = (height // 2, width // 2, channels // 3)
    at = ",".join(str(i) for i in index)
    console.print("\n[bold]Ask of any pixel why[/bold]\n")
    console.print(f"$ refdesign explain {entry.name} digits:test --index {DIGIT} --layer {layer.name} --at {at}")
    console.print(explanation.in_short(explanation.of(entry.network, images[DIGIT], layer.name, index)), markup=False)
