"""`refdesign simulate`: a network on an accelerator, bit by bit and cycle by cycle."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.table import Table

import refdesign
from refdesign.api import Network
from refdesign.cli import _common as common
from refdesign.errors import RefdesignError
from refdesign.formats.atomic import write_bytes
from refdesign.run import class_logits
from refdesign.verify.fresh import fresh_images

if TYPE_CHECKING:
    from simulator.config import Accelerator
    from simulator.run import Simulation, Simulator
    from simulator.stalls import Stalls


accelerator_option = click.option(
    "--accelerator", "file", type=click.Path(path_type=Path), help="An accelerator file (JSON)."
)
pe_option = click.option(
    "--pe", type=click.IntRange(min=1), help="Most output channels at once (default: 16, or the file's)."
)
simd_option = click.option(
    "--simd", type=click.IntRange(min=1), help="Most input bits a cycle (default: 64, or the file's)."
)


@click.command()
@common.model_argument
@click.argument("images", nargs=-1)
@accelerator_option
@pe_option
@simd_option
@click.option(
    "--pool", type=click.Choice(("accumulators", "bits")),
    help="Pool before the threshold, or bits behind it (default: accumulators, or the file's).",
)  # fmt: skip
@click.option("--fifo-depth", type=click.IntRange(min=1), help="Words of every FIFO (default: 2, or the file's).")
@click.option(
    "--accumulator-width", type=click.IntRange(1, 64), metavar="BITS",
    help="Of every accumulator (default: what holds every sum, or the file's).",
)  # fmt: skip
@click.option(
    "--overflow", type=click.Choice(("error", "wrap", "saturate")),
    help="What a sum does that its width cannot hold (default: error, or the file's).",
)  # fmt: skip
@click.option("--save-accelerator", type=click.Path(path_type=Path), help="Write the accelerator that was used.")
@click.option("--first", type=click.IntRange(min=1), default=4, show_default=True, metavar="N", help="Images to run.")
@click.option("--stalls", type=click.FloatRange(0, 0.99), help="Share of cycles in which source and sink stall.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of stalls, and of images that are made.")
@click.option("--csv", "csv_file", type=click.Path(path_type=Path), help="Write the report as CSV.")
@click.option("--wave", type=click.Path(path_type=Path), help="Write a waveform, .vcd or .fst (see --cycles, --layer).")
@click.option("--show", is_flag=True, help="Draw waveforms here (see --cycles, --layer).")
@click.option("--cycles", metavar="A:B", help="The window of a waveform (default: 200 cycles, or 16 with --show).")
@click.option("--layer", "layers", multiple=True, help="Layers in a waveform (default: all, or the first with --show).")
@click.option("--read-memories", type=click.Path(path_type=Path), help="Run from the memory images in this folder.")
@click.option("--memories", type=click.Path(path_type=Path), help="Write the memory images into this folder.")
@click.option(
    "--memory-format", type=click.Choice(("readmemh", "readmemb", "coe", "mif", "npy")), default="readmemh",
    show_default=True, help="The images' format.",
)  # fmt: skip
@click.option("--rtl", type=click.Path(path_type=Path), help="Write SystemVerilog and a test bench into this folder.")
@common.resize_option
@common.root_option
@common.json_option
def simulate(
    model: str,
    images: tuple[str, ...],
    file: Path | None,
    pe: int | None,
    simd: int | None,
    pool: str | None,
    fifo_depth: int | None,
    accumulator_width: int | None,
    overflow: str | None,
    save_accelerator: Path | None,
    first: int,
    stalls: float | None,
    seed: int,
    csv_file: Path | None,
    wave: Path | None,
    show: bool,
    cycles: str | None,
    layers: tuple[str, ...],
    read_memories: Path | None,
    memories: Path | None,
    memory_format: str,
    rtl: Path | None,
    resize: bool,
    root: Path | None,
    as_json: bool,
) -> None:
    """Run a network on an accelerator: cycles by cause, bits moved, waveforms, memory images.

    MODEL and IMAGES are as in `refdesign run`; without IMAGES, some are made (cycles are those of any image). Without
    --accelerator, every layer gets the most PE and SIMD up to --pe and --simd that divide its channels. The outputs
    are compared with the packed path, bit for bit; exit status 1 if they differ (as they may where widths wrap or
    saturate).

    \b
    Examples:
      refdesign simulate digits digits:test
      refdesign simulate digits digits:test --pe 8 --save-accelerator small.json
      refdesign simulate digits digits:test --accelerator small.json --stalls 0.3 --csv report.csv
      refdesign simulate digits digits:test --first 360 --accumulator-width 11 --overflow saturate
      refdesign simulate digits digits:test --show --layer conv2 --cycles 1200:1216
      refdesign simulate digits digits:test --wave run.vcd --cycles 0:5000
      refdesign simulate digits digits:test --memories images --memory-format coe
      refdesign simulate digits digits:test --first 1 --rtl accelerator
    """
    own_simulator()
    from simulator.memory_files import export, load
    from simulator.reports import report
    from simulator.rtl.export import export_rtl
    from simulator.run import Simulator
    from simulator.stalls import NO_STALLS, Stalls

    network = common.load_model(model)
    if images:
        pixels, labels, _ = common.load_images(images, root, network.input_shape, resize=resize)
        pixels, labels = pixels[:first], None if labels is None else labels[:first]
    else:
        pixels, labels = fresh_images(network, np.random.default_rng(seed), first), None
    accelerator = chosen_accelerator(network, file, pe, simd).with_all(
        pool=pool, fifo_depth=fifo_depth, accumulator_width=accumulator_width, overflow=overflow
    )
    simulator = Simulator(network, accelerator)
    if read_memories is not None:
        read = load(read_memories, simulator.stages, memory_format)
        simulator = Simulator(network, accelerator, read)
    pattern = NO_STALLS if stalls is None else Stalls.random(seed, stalls)
    simulation = simulator.run(pixels, stalls=pattern)
    made = report(simulator, simulation.times)
    if save_accelerator is not None:
        accelerator.save(save_accelerator)
    if csv_file is not None:
        write_bytes(csv_file, made.to_csv().encode())
    if memories is not None:
        export(memories, simulator.stages, simulator.memories, memory_format)
    if rtl is not None:
        export_rtl(rtl, simulator, pixels)
    drawn = _waves(simulator, pixels, pattern, wave, show, cycles, layers)
    different = _different(network, pixels, simulation)
    if as_json:
        facts = {**made.to_dict(), "differing_outputs": different, "drawn": drawn, **_predictions(simulation, labels)}
        common.print_json(facts)
    else:
        _print(made.rows, made.total, accelerator, len(pixels), _predictions(simulation, labels), drawn)
        for check in made.failed:
            click.echo(f"{check.layer}: {check.what}: counted {check.counted}, expected {check.expected}")
        click.echo(_verdict(different))
    if different or made.failed:
        raise click.exceptions.Exit(1)


def chosen_accelerator(network: Network, file: Path | None, pe: int | None, simd: int | None) -> Accelerator:
    """The file's accelerator, or one that fits the network; `pe` and `simd` are `pe_option`'s and `simd_option`'s.

    Raises:
        RefdesignError: the file cannot be read, or PE or SIMD are given beside it.
    """
    from simulator.config import Accelerator
    from simulator.schedule import fit

    if file is None:
        return fit(network, pe=pe or 16, simd=simd or 64)
    for option, value in (("--pe", pe), ("--simd", simd)):
        if value is not None:
            raise RefdesignError(f"{option}: found --accelerator beside it, whose file says that of every layer")
    return Accelerator.load(file)


def own_simulator() -> None:
    """Refuse a package of the same name from elsewhere, as hardware repositories have them."""
    spec = importlib.util.find_spec("simulator")
    expected = Path(str(refdesign.__file__)).resolve().parents[1] / "simulator" / "__init__.py"
    found = None if spec is None or spec.origin is None else Path(spec.origin).resolve()
    if found != expected:
        raise RefdesignError(
            f"simulator: found {'no such package' if found is None else found}, expected refdesign's own, {expected}; "
            "another package of that name on the path shadows it"
        )


def memory_table(rows: Iterable[Mapping[str, Any]]) -> Table:
    """What the memories of every layer have room for: rows with the columns of `simulator.reports.STORED`."""
    from simulator.reports import STORED

    columns = [name.removesuffix("_memory_bits").replace("_", " ") for name in STORED[:-1]]
    made = common.table("layer", *columns, "block RAMs of weights", left=("layer",))
    for row in rows:
        made.add_row(common.cell(row["layer"]), *(f"{row[name]:,}" for name in STORED))
    return made


def _waves(
    simulator: Simulator,
    images: NDArray[np.uint8],
    stalls: Stalls,
    file: Path | None,
    show: bool,
    cycles: str | None,
    layers: tuple[str, ...],
) -> str | None:
    if file is None and not show:
        return None
    from simulator.trace import Tracer
    from simulator.waves import terminal, waves, write

    tracer = Tracer(simulator, images, stalls)
    names = [stage.name for stage in simulator.stages]
    start, stop = _window(cycles, 200 if file is not None else 16, tracer.times.cycles)
    if file is not None:
        write(file, waves(tracer, layers or names, start, stop), start)
    if not show:
        return None
    return terminal(waves(tracer, layers or names[:1], start, stop), start)


def _window(text: str | None, length: int, total: int) -> tuple[int, int]:
    if text is None:
        return 0, min(length, total)
    first, colon, last = text.partition(":")
    if not colon or not first.isdecimal() or not last.isdecimal():
        raise RefdesignError(f"--cycles: found {text!r}, expected A:B, two numbers of cycles")
    return int(first), int(last)


def _different(network: Network, images: NDArray[np.uint8], simulation: Simulation) -> list[str]:
    """The outputs that differ from the packed path's."""
    expected = network.run(images, outputs="all")
    return [name for name, values in expected.items() if not np.array_equal(values, simulation.outputs[name])]


def _verdict(different: list[str]) -> str:
    if not different:
        return "All outputs equal those of the packed path, bit for bit."
    return f"Outputs differ from those of the packed path, first in {different[0]}."


def _predictions(simulation: Simulation, labels: NDArray[np.int64] | None) -> dict[str, Any]:
    try:
        predicted = class_logits(simulation.outputs["logits"]).argmax(axis=1)
    except RefdesignError:  # a map for each image, which names no class
        return {}
    if labels is None:
        return {"predictions": predicted}
    return {"predictions": predicted, "labels": labels, "correct": int((predicted == labels).sum())}


def _print(
    rows: tuple[dict[str, Any], ...],
    total: dict[str, Any],
    accelerator: Accelerator,
    images: int,
    predictions: dict[str, Any],
    drawn: str | None,
) -> None:
    shown = ("layer", "pe", "simd", "compute", "fill", "starved", "blocked", "drain")
    made = common.table(*shown, "utilisation", "lanes used", "weight bits read", title=None, left=("layer",))
    for row in rows:
        made.add_row(
            common.cell(row["layer"]),
            *(f"{row[name]:,}" for name in shown[1:]),
            f"{row['utilisation']:.1%}",
            f"{row['mapping_efficiency']:.1%}",
            f"{row['weight_bits_read']:,}",
        )
    console = common.console()
    console.print(
        common.cell(f"Accelerator {accelerator.name}, {images} image{'s' * (images != 1)}, {total['cycles']:,} cycles")
    )
    console.print(made)
    console.print("\nBits that the memories have room for")
    console.print(memory_table((*rows, {"layer": "total", **total})))
    interval = total["steady_state_interval"]
    steady = "" if interval is None else f", then one every {interval:,.1f}"
    console.print(f"First image after {total['first_image_latency']:,} cycles{steady}.")
    if "correct" in predictions:
        console.print(f"{predictions['correct']} of {images} predictions are right.")
    if drawn is not None:
        console.print(common.cell(drawn), soft_wrap=True)
