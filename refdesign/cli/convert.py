"""`refdesign convert`: a network from one file format into another, with a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from refdesign import api
from refdesign.cli import _common as common
from refdesign.cli import _importing as importing
from refdesign.cli import _kernel_files as kernel_files
from refdesign.design import published_names
from refdesign.errors import RefdesignError
from refdesign.formats import atomic, conversion, firmware, kernels
from refdesign.formats.onnx_places import as_toml


@click.command()
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--form", type=click.Choice(("folded", "float", "qonnx")), help="Of an ONNX file OUT; folded by default.")
@click.option("--inline", "inlined", is_flag=True, default=None, help="Spell out the functions of an ONNX file OUT.")
@click.option("--all-outputs", is_flag=True, help="Make every layer's outputs outputs of an ONNX file OUT.")
@click.option(
    "--word-bits",
    type=click.Choice([str(bits) for bits in firmware.WORD_BITS]),
    help="The width of words in .npz and C headers; 64 by default.",
)
@click.option("--save-map", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Write which tensors of an ONNX file IN hold layers' outputs, for 'verify --map'.")  # fmt: skip
@importing.import_options
@common.json_option
def convert(
    source: str,
    target: Path,
    form: str | None,
    inlined: bool | None,
    all_outputs: bool,
    word_bits: str | None,
    save_map: Path | None,
    as_json: bool,
    wanted: dict[str, Any],
) -> None:
    """Convert a network between file formats, and say what was recognised.

    IN is a network file (.safetensors, .onnx, .keras, .h5), a PyTorch state dict (.pt, .pth, .ckpt), or the name of a
    network that ships with refdesign. OUT's ending says what it becomes: .safetensors (refdesign's own), .onnx, .npz or
    .h (packed weights and integer thresholds).

    \b
    Examples:
      refdesign convert digits digits.onnx
      refdesign convert exported.onnx net.safetensors --save-map map.toml
      refdesign convert net.onnx net.h --word-bits 32
      refdesign convert larq.h5 net.safetensors --arithmetic keras
      refdesign convert recu.pth.tar net.safetensors --model resnet18 --pixels 1/255,0
      refdesign convert weights.pt net.safetensors --model binarynet --binarise sign --kernel threshold_2x2_v1

    A file of arrays alone (a state dict, weights of Keras, a foreign .safetensors) is mapped onto an architecture
    (--model) by the layers' names, or in the file's order; --map is a JSON file that says which array is which. A
    threshold kernel (.mat, .json, .npz, or a published name) becomes .mat, .json or .npz.

    ONNX files are folded to integer thresholds, which no optimiser can change; --form float writes batch norm and
    thresholds as float operators where they give the same bits. What an ONNX file IN has that is no part of a binary
    network is named, node by node, and nothing is guessed.
    """
    if save_map is not None and Path(source).suffix.lower() != ".onnx":
        raise RefdesignError(f"--save-map: found {source}, expected an ONNX file, whose tensors have names")
    if source in published_names() or Path(source).suffix.lower() in kernels.SUFFIXES:
        _kernel(source, target, wanted, as_json)
        return
    found = _network(source, wanted)
    written = conversion.write(
        found.network, target, form=form, inlined=inlined, outputs="all" if all_outputs else None,
        word_bits=None if word_bits is None else int(word_bits),
    )  # fmt: skip
    if save_map is not None:
        _save_map(found, save_map)
    report: dict[str, Any] = {
        "in": source, "in_format": found.format, "out": target, "out_format": written,
        "recognised": list(found.recognised), "assumed": list(found.assumed),
        "conventions": found.network.conventions.to_dict(),
    }  # fmt: skip
    if as_json:
        common.print_json(report)
        return
    click.echo(f"{source} ({found.format}) -> {target} ({written})")
    print_report(found)
    if save_map is not None:
        click.echo(f"map: {', '.join(found.places)} -> {save_map}")
    rules = ", ".join(f"{name} {value}" for name, value in report["conventions"].items())
    click.echo(f"conventions: {rules}")


def _save_map(found: conversion.Imported, path: Path) -> None:
    if not found.places:
        raise RefdesignError("--save-map: found no tensor that holds a layer's sums or bits as they are")
    shapes = found.network.shapes
    maps = frozenset(output for output in found.places if len(shapes[output.rpartition(".")[0]].output) == 3)
    atomic.write_bytes(path, as_toml(dict(found.places), maps).encode())


def _network(source: str, wanted: dict[str, Any]) -> conversion.Imported:
    """The network of a file, read with those options that are given, or one that ships with refdesign."""
    if source not in api.pretrained_names():
        return importing.read(source, wanted)
    if wanted:
        raise RefdesignError(f"{source}: found {min(wanted)!r} to read it with, but it ships with refdesign")
    return conversion.Imported(api.pretrained(source), "a network that ships with refdesign")


def _kernel(source: str, target: Path, wanted: dict[str, Any], as_json: bool) -> None:
    """A threshold kernel from one format into another."""
    if wanted:
        raise RefdesignError(f"{source}: found {min(wanted)!r} to read it with, but it is a threshold kernel")
    kernel = importing.kernel(source)
    kernels.write(kernel, target)
    report = {"in": source, "out": str(target), **kernel_files.described(source, kernel)}
    if as_json:
        common.print_json(report)
        return
    click.echo(f"{source} (a threshold kernel) -> {target}")
    click.echo(f"recognised: {kernel_files.in_words(report)}")


def print_report(found: conversion.Imported) -> None:
    """Print what was recognised and assumed in a foreign file."""
    for line in found.recognised:
        click.echo(f"recognised: {line}")
    for line in found.assumed:
        click.echo(f"assumed: {line}")
