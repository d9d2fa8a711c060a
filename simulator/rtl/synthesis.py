"""What the unit costs: LUTs, flip-flops and RAM after Yosys's `synth_xilinx`, Sign beside DeSign 2D and 3D.

    python -m simulator.rtl.synthesis [--sizes small medium large] [--json]

The weights, the same for all rules, stand in block RAM. Where the thresholds stand is left to Yosys, which may put deep
tables into RAM, so LUTs and RAM stand side by side (`deep` has the deepest tables: few PEs for its channels). A table's
depth is the channel folds times the kernel's rows times its columns: a 3D kernel costs what a 2D one of its rows and
columns does, for the slices are told apart when the thresholds are folded.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from refdesign.bits import pack
from refdesign.errors import RefdesignError
from refdesign.network import BinaryConv2d, BinaryDense, NetworkData, PixelConv2d
from refdesign.parameters import BatchNorm, ThresholdKernel
from simulator.memory import StageMemory, contents
from simulator.memory_files import export
from simulator.rtl import tools, yosys
from simulator.rtl.design import mvtu_parameters
from simulator.schedule import fit, schedule
from simulator.stage import StageSchedule
from simulator.storage import threshold_storage

SIZES = {"small": (4, 8, 16), "medium": (8, 32, 64), "large": (16, 64, 128), "deep": (8, 64, 256)}
"""By name: PE, SIMD, and the channels that a 3x3 layer reads and writes."""
KERNELS = {"Sign": None, "DeSign 2D 2x2": (2, 2, 1), "DeSign 2D 3x3": (3, 3, 1), "DeSign 3D 2x2x4": (2, 2, 4)}
"""By name: the shape of the threshold kernel."""
EXTENT = 14
"""Rows and columns of the map; no multiple of 3 and 4."""

_LUTS = re.compile(r"LUT[1-6]$")
_LUT_RAM = {"RAM16X1D": 2, "RAM32X1D": 2, "RAM32X1S": 1, "RAM64X1D": 2, "RAM64X1S": 1, "RAM32M": 4, "RAM64M": 4}
_LUT_RAM |= {"RAM128X1D": 4, "RAM128X1S": 2, "RAM256X1S": 4, "RAM32X2S": 2, "SRL16E": 1, "SRLC32E": 1}
"""LUTs that one cell of distributed RAM takes on the 7 series."""


@dataclass(frozen=True)
class Resources:
    """What a unit takes of a 7-series FPGA.

    Attributes:
        luts: LUTs of logic (wide multiplexers are not counted).
        lut_ram: LUTs that are distributed RAM or shift registers.
        ffs: flip-flops.
        brams: block RAMs, in halves of 36 kbit.
    """

    luts: int
    lut_ram: int
    ffs: int
    brams: float


@dataclass(frozen=True)
class Cost:
    """One row of the table.

    Attributes:
        size, rule: names in `SIZES` and `KERNELS`.
        luts, lut_ram, ffs, brams: as in `Resources`.
        threshold_bits: bits of all threshold memories.
    """

    size: str
    rule: str
    luts: int
    lut_ram: int
    ffs: int
    brams: float
    threshold_bits: int


def unit_network(channels: int, kernel: tuple[int, int, int] | None, extent: int = EXTENT) -> NetworkData:
    """A 3x3 layer `unit` that reads and writes `channels`, with random weights and thresholds, in a network around it.

    Args:
        channels: read and written.
        kernel: the shape of its threshold kernel; None for plain Sign.
        extent: rows and columns of its map.

    >>> unit_network(8, (2, 2, 1)).shapes["unit"].accumulator
    (14, 14, 8)
    """
    rng = np.random.default_rng(channels)
    spread = np.float32(np.sqrt(9 * channels))
    norm = BatchNorm(
        rng.choice([-1.0, 1.0], channels, p=[0.2, 0.8]).astype(np.float32),
        rng.normal(0, 0.5, channels).astype(np.float32),
        (rng.normal(0, 0.5, channels) * spread).astype(np.float32),
        np.full(channels, spread * spread, np.float32),
        1e-5,
    )
    weights = rng.choice([-1, 1], (channels, 3, 3, channels))
    dither = None if kernel is None else ThresholdKernel(rng.uniform(-1, 1, kernel).astype(np.float32))
    pixels = PixelConv2d(name="pixels", weights=pack(rng.choice([-1, 1], (channels, 1, 1, 1))), batch_norm=norm)
    unit = BinaryConv2d(name="unit", weights=pack(weights), padding=(1, 1), batch_norm=norm, kernel=dither)
    dense = BinaryDense(name="dense", weights=pack(rng.choice([-1, 1], (2, extent * extent * channels))))
    return NetworkData(name="unit", input_shape=(extent, extent, 1), layers=(pixels, unit, dense))


def synthesize(size: str, rule: str) -> Cost:
    """Synthesise the unit of one size with one rule; results are kept in the cache.

    Raises:
        RefdesignError: pyosys is absent or fails, or a name is unknown.
    """
    for value, known in ((size, SIZES), (rule, KERNELS)):
        if value not in known:
            raise RefdesignError(f"synthesis: found {value!r}, expected one of {', '.join(known)}")
    pe, simd, channels = SIZES[size]
    network = unit_network(channels, KERNELS[rule])
    stage = schedule(network, fit(network, pe=pe, simd=simd))[1]
    found = synthesize_unit(stage, contents(stage))
    return Cost(size, rule, **asdict(found), threshold_bits=threshold_storage(stage).bits)


def synthesize_unit(stage: StageSchedule, memory: StageMemory) -> Resources:
    """Synthesise a stage's MVTU with its memories; weights stand in block RAM. Results are kept in the cache.

    Raises:
        RefdesignError: pyosys is absent or fails.
    """
    parameters = {**mvtu_parameters(stage), "WEIGHT_STYLE": '"block"'}
    top = _TOP.format(
        simd=stage.config.simd - 1,
        out=stage.out_width - 1,
        parameters=", ".join(f".{name}({value})" for name, value in parameters.items()),
    )

    def build(folder: Path) -> None:
        export(folder, [stage], [memory], "readmemh")
        (folder / "top.sv").write_text(top, encoding="utf-8")
        commands = [
            yosys.read([], ["top.sv"]),
            "synth_xilinx -family xc7 -flatten -noiopad -top top",
            "tee -o cells.json stat -json",
        ]
        yosys.run(commands, folder, f"synthesis of {stage.name}")

    inputs = [top, *(values.tobytes().hex() for values in (memory.weights, memory.limit, memory.flip))]
    cells = json.loads((tools.cached("synthesis", inputs, build) / "cells.json").read_text(encoding="utf-8"))
    count: dict[str, int] = cells["design"]["num_cells_by_type"]
    return Resources(
        luts=sum(number for name, number in count.items() if _LUTS.match(name)),
        lut_ram=sum(_LUT_RAM[name] * number for name, number in count.items() if name in _LUT_RAM),
        ffs=sum(number for name, number in count.items() if name.startswith("FD")),
        brams=count.get("RAMB36E1", 0) + count.get("RAMB18E1", 0) / 2,
    )


_TOP = """
module top (
    input logic clk, input logic reset, input logic in_valid, output logic in_ready, input logic [{simd}:0] in_word,
    input logic in_word_valid, output logic out_valid, input logic out_ready, output logic [{out}:0] out_word
);
    mvtu #({parameters}) unit (
        .clk(clk), .reset(reset), .in_valid(in_valid), .in_ready(in_ready), .in_word(in_word),
        .in_word_valid(in_word_valid), .out_valid(out_valid), .out_ready(out_ready), .out_word(out_word)
    );
endmodule
"""


HEAD = """\
| size: PE x SIMD, channels | rule | LUT | LUT RAM | FF | block RAM | threshold bits |
| --- | --- | ---: | ---: | ---: | ---: | ---: |"""


def text_row(cost: Cost) -> str:
    """A row of the printed table, which is Markdown.

    >>> text_row(Cost("small", "Sign", luts=229, lut_ram=12, ffs=88, brams=2.0, threshold_bits=160))
    '| small: 4 x 8, 16 to 16 | Sign | 229 | 12 | 88 | 2.0 | 160 |'
    """
    pe, simd, channels = SIZES[cost.size]
    size = f"{cost.size}: {pe} x {simd}, {channels} to {channels}"
    numbers = (cost.luts, cost.lut_ram, cost.ffs, cost.brams, cost.threshold_bits)
    return f"| {size} | {cost.rule} | {' | '.join(map(str, numbers))} |"


def main() -> None:
    """Print the table; exit status 2 where a tool is absent."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    costs = []
    if not options.json:
        print(HEAD, flush=True)
    for size in options.sizes:
        for rule in KERNELS:
            try:
                cost = synthesize(size, rule)
            except RefdesignError as error:
                print(f"error: {error}", file=sys.stderr)
                raise SystemExit(2) from None
            costs.append(asdict(cost))
            if not options.json:
                print(text_row(cost), flush=True)
    if options.json:
        print(json.dumps(costs, indent=2))


if __name__ == "__main__":
    main()
