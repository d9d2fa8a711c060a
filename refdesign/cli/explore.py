"""`refdesign explore`: which PE and SIMD every layer of a network should have, for every rate."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from refdesign.api import Network
from refdesign.cli import _common as common
from refdesign.cli.simulate import memory_table, own_simulator
from refdesign.errors import RefdesignError
from refdesign.formats.atomic import write_bytes

if TYPE_CHECKING:
    from simulator.config import Accelerator
    from simulator.explore import Point

_IMAGES = 4
"""Images on which the simulator checks a rate: one to fill the pipeline, and some behind it."""


@click.command()
@common.model_argument
@click.option("--clock", type=click.FloatRange(0, min_open=True), default=100, show_default=True, help="MHz.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), metavar="N", help="Images a second that are wanted.")
@click.option(
    "--block-rams", type=click.FloatRange(0), default=math.inf, metavar="N", help="Block RAMs for weights, at most."
)
@click.option(
    "--synthesize", is_flag=True, help="Count LUTs of every layer's unit for --rate, by Yosys (extra 'rtl'; slow)."
)
@click.option("--save-accelerator", type=click.Path(path_type=Path), help="Write the accelerator for --rate (JSON).")
@click.option("--csv", "csv_file", type=click.Path(path_type=Path), help="Write the table as CSV.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw rate against lanes, .png (extra 'plot').")
@common.json_option
def explore(
    model: str,
    clock: float,
    rate: float | None,
    block_rams: float,
    synthesize: bool,
    save_accelerator: Path | None,
    csv_file: Path | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Find the cheapest accelerators of a network: PE and SIMD of every layer for every rate.

    MODEL is as in `refdesign info`. Without --rate, the table has the fewest lanes for every rate that there is: lanes
    are the sum of PE times SIMD, XNORs a cycle; the slowest layer sets the rate. With --rate, it has the folding of
    every layer that reaches it with the fewest lanes, and the simulator says how fast it is with all its stalls; exit
    status 1 if they make it slower than asked (then ask for a little more, or give its file more line_buffer_rows). PE
    and SIMD divide the layer's channels. Block RAMs are those of 36 kbit, in halves, with all weights in them.

    --synthesize has Yosys make the MVTU of every layer, with its memories, for the 7 series; sliding windows and FIFOs
    are not in its figures.

    \b
    Examples:
      refdesign explore digits
      refdesign explore cifar10 --csv front.csv --plot front.png
      refdesign explore cifar10 --rate 500 --clock 200 --block-rams 40 --save-accelerator small.json
    """
    own_simulator()
    from simulator.explore import accelerator_for, front
    from simulator.reports import csv_text

    network = common.load_model(model)
    if rate is None:
        for option, given in (("--save-accelerator", save_accelerator is not None), ("--synthesize", synthesize)):
            if given:
                raise RefdesignError(f"{option}: found no --rate, expected one that says which accelerator")
        points = front(network, block_rams=block_rams)
        rows = [_point_row(network, point, clock) for point in points]
        facts: dict[str, Any] = {"network": network.name, "clock_mhz": clock, "accelerators": rows}
    else:
        if plot is not None:
            raise RefdesignError("--plot: found --rate beside it, expected one of them: the plot is of all rates")
        accelerator, point = accelerator_for(network, math.floor(clock * 1e6 / rate), block_rams=block_rams)
        facts = _checked(network, accelerator, point, clock, rate)
        if synthesize:
            facts = _synthesized(network, accelerator, facts)
        rows = facts["layers"]
        if save_accelerator is not None:
            accelerator.save(save_accelerator)
    if csv_file is not None:
        write_bytes(csv_file, csv_text(rows).encode())
    if plot is not None:
        from refdesign.cli._rate_picture import rate_picture

        rate_picture(network.name, clock, rows, plot)
    if as_json:
        common.print_json(facts)
    elif rate is None:
        _print_front(network, rows, clock)
    else:
        _print_folding(facts, clock)
    if rate is not None and not facts["reached"]:
        raise click.exceptions.Exit(1)


def _point_row(network: Network, point: Point, clock: float) -> dict[str, Any]:
    slowest = max(zip(network.layers, point.foldings, strict=True), key=lambda both: both[1].cycles)[0].name
    return {
        "images_per_second": clock * 1e6 / point.cycles,
        "cycles": point.cycles,
        "lanes": point.lanes,
        "weight_block_rams": point.block_rams,
        "slowest_layer": slowest,
        **{f"{layer.name}_{name}": getattr(one, name) for layer, one in zip(network.layers, point.foldings, strict=True)
           for name in ("pe", "simd")},
    }  # fmt: skip


def _checked(network: Network, accelerator: Accelerator, point: Point, clock: float, rate: float) -> dict[str, Any]:
    """The accelerator's layers, and what the simulator says of its rate."""
    from simulator.reports import STORED, report
    from simulator.run import Simulator

    simulator = Simulator(network, accelerator)
    times = simulator.times(_IMAGES)
    made = report(simulator, times)
    layers = [
        {
            **{name: row[name] for name in ("layer", "pe", "simd")},
            "cycles": one.cycles,
            "busy": one.cycles / times.interval,
            "lanes": one.lanes,
            **{name: row[name] for name in STORED},
        }
        for row, one in zip(made.rows, point.foldings, strict=True)
    ]
    return {
        "network": network.name,
        "clock_mhz": clock,
        "wanted_images_per_second": rate,
        "images_per_second": clock * 1e6 / times.interval,
        "reached": clock * 1e6 / times.interval >= rate,
        "interval_cycles": times.interval,
        "latency_cycles": times.latency,
        "lanes": point.lanes,
        **{name: made.total[name] for name in STORED},
        "layers": layers,
    }


def _synthesized(network: Network, accelerator: Accelerator, facts: dict[str, Any]) -> dict[str, Any]:
    """The facts with what Yosys makes of every layer."""
    from simulator.rtl.synthesis import synthesize_unit
    from simulator.run import Simulator

    simulator = Simulator(network, accelerator)
    made = []
    with common.progress_bar("Synthesis") as progress:
        for stage, memory in zip(simulator.stages, simulator.memories, strict=True):
            made.append(asdict(synthesize_unit(stage, memory)))
            progress(len(made), len(simulator.stages))
    total = {name: sum(unit[name] for unit in made) for name in made[0]}
    return {**facts, **total, "layers": [{**row, **unit} for row, unit in zip(facts["layers"], made, strict=True)]}


def _print_front(network: Network, rows: list[dict[str, Any]], clock: float) -> None:
    made = common.table("images/s", "cycles an image", "lanes", "block RAMs", "slowest", left=("slowest",))
    for row in rows:
        numbers = (f"{row['images_per_second']:,.1f}", *(f"{row[name]:,}" for name in ("cycles", "lanes")))
        made.add_row(*numbers, f"{row['weight_block_rams']:,}", common.cell(row["slowest_layer"]))
    console = common.console()
    console.print(common.cell(f"{network.name} at {clock:g} MHz: the fewest lanes for every rate"))
    console.print(made)
    console.print(common.cell(_thresholds(network)))


def _thresholds(network: Network) -> str:
    """How much of the thresholds is the dither's; no folding changes that."""
    from simulator.schedule import fit, schedule
    from simulator.storage import threshold_storage

    stages = schedule(network, fit(network))
    dithered = sum(threshold_storage(stage).bits for stage in stages)
    plain = sum(threshold_storage(stage).bits // math.prod(stage.period) for stage in stages)
    return f"Thresholds take {dithered:,} bits in each of them; one a channel, as under plain Sign, takes {plain:,}."


def _print_folding(facts: dict[str, Any], clock: float) -> None:
    made = common.table("layer", "pe", "simd", "cycles an image", "busy", "lanes", "block RAMs", left=("layer",))
    for row in facts["layers"]:
        made.add_row(
            common.cell(row["layer"]),
            *(f"{row[name]:,}" for name in ("pe", "simd", "cycles")),
            f"{row['busy']:.1%}",
            *(f"{row[name]:,}" for name in ("lanes", "weight_block_rams")),
        )
    console = common.console()
    total = f"{facts['lanes']:,} lanes, {facts['weight_block_rams']:,} block RAMs"
    console.print(
        common.cell(f"{facts['network']} at {clock:g} MHz, {facts['wanted_images_per_second']:g} images/s: {total}")
    )
    console.print(made)
    console.print("\nBits that the memories have room for")
    console.print(memory_table((*facts["layers"], {**facts, "layer": "total"})))
    if "luts" in facts:
        console.print("\nYosys makes of the units")
        console.print(_synthesis_table([*facts["layers"], {**facts, "layer": "total"}]))
    slow, latency = "" if facts["reached"] else ": too slow", facts["latency_cycles"]
    console.print(
        f"Simulated: an image every {facts['interval_cycles']:,.1f} cycles, {facts['images_per_second']:,.1f} a second"
        f"{slow}; the first one after {latency:,} cycles, {latency / clock:,.1f} µs."
    )


def _synthesis_table(rows: list[dict[str, Any]]) -> Table:
    made = common.table("layer", "LUT", "LUT RAM", "FF", "block RAM", left=("layer",))
    for row in rows:
        made.add_row(common.cell(row["layer"]), *(f"{row[name]:,}" for name in ("luts", "lut_ram", "ffs", "brams")))
    return made
