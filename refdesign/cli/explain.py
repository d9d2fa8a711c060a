"""`refdesign explain`: one output bit, step by step."""

from __future__ import annotations

from pathlib import Path

import click
from rich.markup import escape

from refdesign.cli import _common as common
from refdesign.cli import _explanation as explanation
from refdesign.errors import RefdesignError
from refdesign.verify.fresh import made_images


@click.command()
@common.model_argument
@click.argument("image", required=False)
@click.option("--layer", required=True, metavar="NAME", help="The layer, as in 'refdesign info'.")
@click.option(
    "--at",
    required=True,
    metavar="ROW,COLUMN,CHANNEL",
    help="The bit in the layer's output, after its pool; CHANNEL alone in a dense layer.",
)
@click.option(
    "--index", type=click.IntRange(min=0), default=0, show_default=True, metavar="N", help="Which image of IMAGE."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the images, where no IMAGE is given.")
@click.option("--all", "everything", is_flag=True, help="Print every row of a large window.")
@common.resize_option
@common.root_option
@common.json_option
@click.pass_context
def explain(
    ctx: click.Context,
    model: str,
    image: str | None,
    layer: str,
    at: str,
    index: int,
    seed: int,
    everything: bool,
    resize: bool,
    root: Path | None,
    as_json: bool,
) -> None:
    """Explain one output bit, step by step.

    The window's bits and the weights', their XNOR, popcount and sum; the max pool; batch norm and dither in the
    network's arithmetic, with the exact z; the margin, the folded integer threshold, and the bit.

    MODEL and IMAGE are as in 'refdesign run'; of several images --index takes one. Without IMAGE, it is one of the
    images that 'refdesign verify' makes with this --seed.

    \b
    Examples:
      refdesign explain digits digits:test --layer conv2 --at 3,1,7
      refdesign explain digits digits:test --index 5 --layer conv1 --at 0,0,0 --json
      refdesign explain net.safetensors cat.png --layer dense1 --at 12

    The layer's input comes from the packed path, the explanation from the naive one. Exit status 1 if its bit is
    not the one that the packed path gives.
    """
    network = common.load_model(model)
    where = _index(at)
    if image is None:
        pixels = made_images(network, index + 1, seed)
        names = [f"image {number} of those that 'refdesign verify' makes" for number in range(len(pixels))]
    else:
        pixels, _, names = common.load_images((image,), root, network.input_shape, resize=resize)
    if index >= len(pixels):
        raise RefdesignError(f"--index: found {index}, expected below {len(pixels)}, the images of {image}")
    why = explanation.of(network, pixels[index], layer, where)
    packed = int(network.run(pixels[index : index + 1], outputs=f"{layer}.bits")[f"{layer}.bits"][(0, *where)])
    if as_json:
        common.print_json(
            {"network": network.name, "image": names[index], **explanation.to_dict(network, why), "packed_bit": packed}
        )
    else:
        console = common.console()
        place = ", ".join(str(i) for i in where)
        asked = escape(f"Why bit ({place}) of {layer} is {why.bit:+d}")
        console.print(f"[bold]{asked}[/bold], in {escape(network.name)} on {escape(names[index])}\n", soft_wrap=True)
        explanation.show(console, network, why, everything=everything)
        agrees = "the same" if packed == why.bit else f"[red]{packed:+d}: they differ[/red]"
        console.print(f"   the packed path gives {agrees}")
    if packed != why.bit:
        ctx.exit(1)


def _index(text: str) -> tuple[int, ...]:
    try:
        where = tuple(int(part) for part in text.split(","))
    except ValueError:
        where = ()
    if len(where) not in (1, 3) or min(where) < 0:
        raise RefdesignError(f"--at: found {text!r}, expected ROW,COLUMN,CHANNEL or, in a dense layer, CHANNEL")
    return where
