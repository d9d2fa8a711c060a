"""`refdesign activations`: what activations make of a trained layer."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from refdesign.cli import _common as common
from refdesign.cli import _pictures as pictures
from refdesign.errors import RefdesignError
from refdesign.parameters import Float32Array
from refdesign.training.feature_maps import ACTIVATIONS, RELU, convolutions, feature_maps, influence, kept


@click.command()
@common.model_argument
@click.argument("images", nargs=-1, required=True)
@click.option("--layer", help="Of the picture (default: the first convolution).")
@click.option(
    "--activation", "named", multiple=True,
    help="Beside relu and sign: 2d, 3d, random, a published kernel or a file (default: 2d and 3d).",
)  # fmt: skip
@click.option("--first", type=click.IntRange(min=1), default=64, show_default=True, metavar="N", help="Images.")
@click.option("--image", "shown", type=click.IntRange(min=0), default=0, show_default=True, help="Of the picture.")
@click.option("--channels", type=click.IntRange(1, 16), default=6, show_default=True, help="Of the picture.")
@click.option("--picture", type=click.Path(path_type=Path, dir_okay=False), help="Write the maps as a PNG.")
@common.root_option
@common.json_option
def activations(
    model: str,
    images: tuple[str, ...],
    layer: str | None,
    named: tuple[str, ...],
    first: int,
    shown: int,
    channels: int,
    picture: Path | None,
    root: Path | None,
    as_json: bool,
) -> None:
    """See what activations make of a trained layer: maps, total variation, entropy.

    The same sums of the same trained layers go through ReLU, the plain sign and dithered signs. Total variation and
    entropy say how much of a map's structure is left; the likeness says how much of ReLU's shades a window of 2x2
    bits still holds. The second table says how many bits and predictions change where a layer's gamma or beta is
    taken away. Nothing is trained again: what training makes of an activation is shown by 'refdesign experiment'.

    \b
    Examples:
      refdesign activations digits digits:test
      refdesign activations digits digits:test --layer conv2 --picture maps.png
      refdesign activations net.safetensors cifar10:test --root data --activation 2x2_v1 --activation my.mat
    """
    if picture is not None:
        pictures.check_installed()
    network = common.load_model(model)
    layers = convolutions(network)
    if not layers:
        raise RefdesignError(f"{model}: found no convolution with a batch norm and bits, expected at least one")
    if layer is not None and layer not in layers:
        raise RefdesignError(f"--layer: found {layer!r}, expected one of {', '.join(layers)}")
    pixels, _, _ = common.load_images(images, root, network.input_shape)
    pixels = pixels[:first]
    if picture is not None and shown >= len(pixels):
        raise RefdesignError(f"--image: found {shown}, expected less than {len(pixels)}, the images looked at")
    compared = ACTIVATIONS if not named else (RELU, "sign", *named)
    rows, influences = kept(network, pixels, activations=compared), influence(network, pixels)
    if picture is not None:
        chosen = layer or layers[0]
        maps = feature_maps(network, pixels[shown : shown + 1], chosen, compared)
        _draw(picture, pixels[shown], chosen, maps, channels)
    if as_json:
        common.print_json({"kept": list(map(vars, rows)), "influence": list(map(vars, influences))})
        return
    console = common.console()
    console.print(common.cell(f"{network.name}, {len(pixels)} images: what is left of each layer's map"))
    made = common.table("layer", "activation", "total variation", "entropy", "likeness", left=("layer", "activation"))
    for row in rows:
        made.add_row(
            common.cell(row.layer), common.cell(row.activation), f"{row.total_variation:.3f}", f"{row.entropy:.3f}",
            f"{row.likeness:.3f}",
        )  # fmt: skip
    console.print(made)
    console.print("\nthe influence of the batch norm's real parameters")
    made = common.table("layer", "without", "bits changed", "predictions changed", left=("layer", "without"))
    for each in influences:
        made.add_row(common.cell(each.layer), each.without, f"{each.bits:.2%}", f"{each.predictions:.2%}")
    console.print(made)
    if picture is not None:
        console.print(common.cell(f"\nmaps: {picture}"), soft_wrap=True)


def _draw(path: Path, image: NDArray[np.uint8], layer: str, maps: dict[str, Float32Array], channels: int) -> None:
    """Channels in rows, activations in columns; channels with the most total variation under ReLU first."""
    relu = maps[RELU][0]
    variation = np.abs(np.diff(relu, axis=0)).mean(axis=(0, 1)) + np.abs(np.diff(relu, axis=1)).mean(axis=(0, 1))
    chosen = np.argsort(-variation, kind="stable")[:channels]
    pictures.draw_maps(
        path,
        image,
        f"{layer}: the same sums under {len(maps)} activations",
        {name: [array[0, :, :, channel] for channel in chosen] for name, array in maps.items()},
        [f"channel {channel}" for channel in chosen],
    )
