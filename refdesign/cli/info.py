"""`refdesign info`: what a network is made of."""

from __future__ import annotations

from typing import Any

import click
from rich.markup import escape

from refdesign.cli import _common as common
from refdesign.cli import _importing as importing
from refdesign.cli import _plain_files as _plain
from refdesign.summary import summarise


@click.command()
@common.model_argument
@importing.import_options
@common.json_option
def info(model: str, as_json: bool, wanted: dict[str, Any]) -> None:
    """Show a network's layers, shapes, fan-ins, bits and operations.

    MODEL is a network file (.safetensors, .onnx, .keras, .h5), a PyTorch state dict (.pt, .pth, .ckpt), or the name
    of a network that ships with refdesign (digits, digits-2d, digits-sign, cifar10). Of a file of arrays alone,
    without --model or --map, the arrays are listed, and how far weights are from ±1; those for firmware (.npz) too; of
    a threshold kernel (.mat, .json, .npz) its levels.

    \b
    Examples:
      refdesign info digits
      refdesign info net.safetensors --json | jq .total
      refdesign info weights.pt
      refdesign info weights.pt --model binarynet --binarise sign

    Counted per image: products of a weight and an activation; word operations, which are XNORs of 64-bit words
    with a popcount each (ANDs with bit planes in a pixel layer). Thresholds are what batch norm and dither fold
    into: one integer and one direction per phase of the dither and channel. Bytes are those of the packed weights in
    memory: each pixel of a filter starts a new 64-bit word, so 1 to 64 channels take 8 bytes.
    """
    if _plain.shown(model, wanted, as_json):
        return
    network, report = common.load_with_report(model, wanted)
    summary = summarise(network) | report
    if as_json:
        common.print_json(summary)
        return
    console = common.console()
    name = escape(summary["name"])
    console.print(f"[bold]{name}[/bold], images {common.shape_text(summary['input_shape'])}, 8 bits")
    console.print()
    console.print(_shapes(summary))
    console.print()
    console.print(_counts(summary))
    total = summary["total"]
    console.print(
        f"\nThe {total['weight_bits']:,} bits of the weights take {total['weight_bytes']:,} bytes: where weights are "
        "bits, each pixel of a filter starts a new 64-bit word."
    )
    console.print(f"The largest map of sums takes {total['largest_accumulator_map_bytes']:,} bytes.\n")
    console.print(_pairs("Conventions", summary["conventions"]))
    if summary["metadata"]:
        console.print()
        console.print(_pairs("Metadata", summary["metadata"]))
    for title in report:
        console.print()
        for line in report[title]:
            console.print(escape(f"{title}: {line}"))


def _shapes(summary: dict[str, Any]) -> Any:
    made = common.table(
        "layer", "kind", "input", "sums", "output", "dither", "notes", left=("layer", "kind", "dither", "notes")
    )
    for layer in summary["layers"]:
        kernel = layer["kernel"]
        made.add_row(
            common.cell(layer["name"]),
            layer["kind"],
            *(common.shape_text(layer[key]) for key in ("input", "accumulator", "output")),
            common.shape_text(kernel["shape"]) if kernel else "",
            common.cell(_notes(layer)),
        )
    return made


_COUNTS = ("weight_bits", "weight_bytes", "products", "word_operations", "thresholds")


def _counts(summary: dict[str, Any]) -> Any:
    made = common.table(
        "layer", "fan-in", "sum range", "weight bits", "bytes", "products", "word ops", "thresholds", left=("layer",)
    )
    for layer in summary["layers"]:
        made.add_row(
            common.cell(layer["name"]),
            _number(layer["fan_in"]),
            _range(layer["domain"]),
            *(_number(layer[key]) for key in _COUNTS),
        )
    made.add_section()
    made.add_row("total", "", "", *(_number(summary["total"][key]) for key in _COUNTS))
    return made


def _number(value: int) -> str:
    return f"{value:,}" if value else ""


def _range(domain: dict[str, int] | None) -> str:
    if domain is None:
        return "real"
    return f"{domain['low']}..{domain['high']} by {domain['step']}"


_MODES = {"symmetric": "symmetric (mirrored)"}


def _notes(layer: dict[str, Any]) -> str:
    """The geometry in words: of padding, dilation and groups only what is not the plainest."""
    notes = []
    if layer.get("multiplier") is not None:
        notes.append(f"x = {layer['multiplier']}*p{layer['offset']:+d}" if layer["offset"] else "")
    if layer["window"]:
        notes.append(common.shape_text(layer["window"]))
    for key, plain in (("stride", None), ("padding", (0, 0)), ("dilation", (1, 1)), ("groups", 1)):
        value = layer.get(key, plain)
        if value != plain:
            mode = f" {_MODES.get(layer['padding_mode'], layer['padding_mode'])}" if key == "padding" else ""
            notes.append(f"{key} {_pair(value)}{mode}")
    if "pool" in layer:
        notes.append(f"max pool {_pair(layer['pool']['size'])}")
    if "size" in layer:
        notes.append(f"average pool {_pair(layer['size'])}")
    if "shortcut" in layer:
        notes.append(f"+ {layer['shortcut']['source']}")
    if layer.get("hardtanh"):
        notes.append("hardtanh")
    return ", ".join(note for note in notes if note)


def _pair(value: Any) -> str:
    if isinstance(value, int):
        return str(value)
    return str(value[0]) if value[0] == value[1] else "×".join(map(str, value))


def _pairs(title: str, pairs: dict[str, Any]) -> Any:
    made = common.table("", "", title=title, left=("",))
    made.show_header = False
    for key, value in pairs.items():
        made.add_row(common.cell(key), common.cell(value))
    return made
