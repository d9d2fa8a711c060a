"""`refdesign fold`: the integer thresholds of a network, and why they are right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from refdesign.api import Network
from refdesign.certificate import Entry
from refdesign.cli import _common as common
from refdesign.cli import _files as files
from refdesign.errors import RefdesignError
from refdesign.fold import Thresholds


@click.command()
@common.model_argument
@click.option("--layer", metavar="NAME", help="One layer: its certificate, row by row.")
@click.option("--channel", type=click.IntRange(min=0), metavar="C", help="One channel of --layer.")
@click.option(
    "--save",
    type=click.Path(path_type=Path),
    help="An .npz for the thresholds (LAYER.threshold, .direction, .constant, ...), their domains (LAYER.domain_low, "
    ".domain_high, .domain_step) and the conventions (JSON), replaced atomically.",
)
@common.json_option
def fold(model: str, layer: str | None, channel: int | None, save: Path | None, as_json: bool) -> None:
    """Show a network's integer thresholds, with their certificate.

    Batch norm, dither and sign of a layer fold into one integer threshold and one direction per phase of the
    threshold kernel and channel: the bit fires at a >= threshold (direction +1) or a <= threshold (direction -1).
    The certificate names, for each, the two attainable sums across the boundary with their z, and says whether
    another arithmetic would have given the same threshold: 'as real' counts those that exact arithmetic gives too
    (for thresholds that are exact already, 'as torch' those that torch's float32 gives). 'can tie' counts those where
    an attainable sum gives z = 0 exactly while the conventions say sign(0) = 0: the bit is then 0, neither +1 nor -1.

    \b
    Examples:
      refdesign fold digits
      refdesign fold digits --layer conv2 --channel 5
      refdesign fold digits --json --save thresholds.npz

    The JSON has every threshold and certificate; it is long. --layer and --channel shorten it.
    """
    network = common.load_model(model)
    if channel is not None and layer is None:
        raise RefdesignError("--channel: found no --layer, expected the layer whose channel is meant")
    thresholds = _thresholds(network, layer)
    if channel is not None:
        for name, folded in thresholds.items():
            if channel >= folded.shape[2]:
                raise RefdesignError(f"--channel: found {channel}, expected below {folded.shape[2]} in layer {name!r}")
    if save is not None:
        with files.archive(save) as writer:
            for name, folded in thresholds.items():
                writer.append({f"{name}.{field}": array for field, array in _saved(folded).items()})
            writer.append({"conventions": np.array([json.dumps(network.conventions.to_dict())])})
    if as_json:
        layers = {name: _as_dict(folded, channel) for name, folded in thresholds.items()}
        common.print_json({"network": network.name, "saved": save, "layers": layers})
        return
    console = common.console()
    if layer is None:
        _print_summary(console, thresholds)
    else:
        _print_layer(console, layer, thresholds[layer], channel)
    if save is not None:
        console.print(common.cell(f"saved {', '.join(thresholds)} to {save}"))


_FIELDS = ("threshold", "direction", "constant", "zero_low", "zero_high")


def _saved(folded: Thresholds) -> dict[str, NDArray[Any]]:
    """What an archive has of a layer: the thresholds (m, n, C), and the sums (C,) that they were folded for."""
    domain = folded.certificate.domain
    return {
        **{field: getattr(folded, field) for field in _FIELDS},
        "domain_low": domain.low,
        "domain_high": domain.high,
        "domain_step": np.array([domain.step]),
    }


def _thresholds(network: Network, layer: str | None) -> dict[str, Thresholds]:
    thresholds = network.thresholds()
    if layer is None:
        return thresholds
    leaves = "logits" if network.layer(layer) is network.layers[-1] else "real numbers"
    if layer not in thresholds:
        others = f"one of {', '.join(thresholds)}" if thresholds else "another network: none of its layers does"
        raise RefdesignError(f"--layer: found {layer!r}, which leaves {leaves} and does not fold, expected {others}")
    return {layer: thresholds[layer]}


def _entries(folded: Thresholds, channel: int | None) -> list[Entry]:
    certificate = folded.certificate
    if channel is None:
        return list(certificate.entries())
    m, n, _ = folded.shape
    return [certificate.entry(row, column, channel) for row, column in np.ndindex(m, n)]


def _as_dict(folded: Thresholds, channel: int | None) -> dict[str, Any]:
    chosen = slice(None) if channel is None else slice(channel, channel + 1)
    certificate = folded.certificate
    return {
        "shape": list(folded.shape),
        **{field: getattr(folded, field)[:, :, chosen] for field in _FIELDS},
        "conventions": folded.conventions.to_dict(),
        "certificate": {
            "arithmetic": certificate.arithmetic,
            "compared_with": certificate.compared_with,
            "refusal": certificate.refusal,
            "entries": [entry.to_dict() for entry in _entries(folded, channel)],
        },
    }


def _print_summary(console: Console, thresholds: dict[str, Thresholds]) -> None:
    if not thresholds:
        console.print("No layer folds to integer thresholds: the last one leaves logits, all others real numbers.")
        return
    other = next(iter(thresholds.values())).certificate.compared_with
    made = common.table(
        "layer", "thresholds", "range", "a >= t", "a <= t", "constant", "can tie", f"as {other}", left=("layer",)
    )
    for name, folded in thresholds.items():
        moving = folded.threshold[folded.direction != 0]
        made.add_row(
            common.cell(name),
            common.shape_text(folded.shape),
            f"{moving.min()}..{moving.max()}" if moving.size else "",
            *(f"{int((folded.direction == direction).sum()):,}" for direction in (1, -1, 0)),
            f"{int(folded.ternary.sum()):,}",
            common.cell(_agreement(folded)),
        )
    arithmetics = sorted({folded.certificate.arithmetic for folded in thresholds.values()})
    console.print(f"Integer thresholds (phase rows × phase columns × channels), arithmetic {', '.join(arithmetics)}\n")
    console.print(made)
    console.print("\n--layer NAME shows a layer's certificate, --json everything.")


def _agreement(folded: Thresholds, channel: int | None = None) -> str:
    certificate = folded.certificate
    if certificate.agrees is None:
        return f"refused: {certificate.refusal}"
    agrees = certificate.agrees if channel is None else certificate.agrees[:, :, channel]
    return f"{int(agrees.sum()):,} of {agrees.size:,}"


def _print_layer(console: Console, name: str, folded: Thresholds, channel: int | None) -> None:
    other = folded.certificate.compared_with
    arithmetic = folded.certificate.arithmetic
    agreement = _agreement(folded, channel)
    console.print(common.cell(f"{name}: arithmetic {arithmetic}; thresholds that {other} gives too: {agreement}"))
    console.print()
    made = common.table(
        "phase", "channel", "domain", "fires", "neighbours across the boundary: a -> z (bit)", other,
        left=("fires", "neighbours across the boundary: a -> z (bit)", other),
    )  # fmt: skip
    words = {True: "agrees", False: "differs", None: "refuses"}
    for entry in _entries(folded, channel):
        low, high, step = entry.domain
        made.add_row(
            f"{entry.row},{entry.column}",
            str(entry.channel),
            f"{low}..{high} by {step}",
            folded.rule(entry.row, entry.column, entry.channel),
            ";  ".join(f"{near.accumulator} -> {near.decimal:.9g} ({near.bit:+d})" for near in entry.neighbours),
            words[entry.agrees] + (f": {entry.other}" if entry.other else ""),
        )
    console.print(made)
