"""Pipelines on an HDL simulator: build once, run with any data, stalls or seeded fault; every register comes back."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from simulator.memory_files import export
from simulator.rtl import tools
from simulator.rtl.design import FOLDER, MODULES, Field, pipeline, pixel_words, register_bits, registers
from simulator.run import Simulator
from simulator.stage import StageSchedule, word_widths
from simulator.stalls import NO_STALLS, Stalls

Array = NDArray[Any]
SIMULATORS = ("verilator", "icarus")
"""What cocotb drives here."""


@dataclass(frozen=True, eq=False)
class Stimulus:
    """What a pipeline is given.

    Attributes:
        images: uint8 (N, H, W, C).
        cycles: how many cycles to run.
        stalls: in which of them the source offers and the sink takes.
    """

    images: NDArray[np.uint8]
    cycles: int
    stalls: Stalls = NO_STALLS


@dataclass(frozen=True, eq=False)
class Recording:
    """What a pipeline did, cycle by cycle.

    Attributes:
        fields: by layer, by the names of `simulator.units.TRACE_FIELDS`: (cycles,) or (cycles, PE), int64; `word` as
            Python integers (dtype object).
        occupancy: int64 (cycles,) by the layer that a FIFO feeds, then `"output"`.
        words: the words that the sink took, in order, as integers of the output's bits.
    """

    fields: dict[str, dict[str, Array]]
    occupancy: dict[str, Array]
    words: list[int]


def bench_source(simulators: Sequence[Simulator]) -> str:
    """The pipelines of several accelerators and the top level `bench` with all of them side by side."""
    ports, body, modules = [], [], []
    for index, simulator in enumerate(simulators):
        stages = simulator.stages
        modules.append(pipeline(f"pipeline_{index}", stages, simulator.accelerator, f"memory_{index}/"))
        widths, bits = word_widths(stages), sum(register_bits(stage) for stage in stages)
        counts = 32 * (len(stages) + 1)
        sample = 2 + widths[-1] + counts + bits
        ports.append(
            f"    input logic in_valid_{index} {_PUBLIC},\n"
            f"    input logic [{widths[0] - 1}:0] in_word_{index} {_PUBLIC},\n"
            f"    input logic out_ready_{index} {_PUBLIC},\n"
            f"    output logic [{sample - 1}:0] sample_{index} {_PUBLIC}"
        )
        body.append(
            f"    logic in_ready_{index}, out_valid_{index};\n"
            f"    logic [{widths[-1] - 1}:0] out_word_{index};\n"
            f"    logic [{bits - 1}:0] registers_{index};\n"
            f"    logic [{counts - 1}:0] counts_{index};\n"
            f"    pipeline_{index} pipeline_{index}_unit (\n"
            f"        .clk(clk), .reset(reset), .in_valid(in_valid_{index}), .in_ready(in_ready_{index}),\n"
            f"        .in_word(in_word_{index}), .out_valid(out_valid_{index}), .out_ready(out_ready_{index}),\n"
            f"        .out_word(out_word_{index}), .registers(registers_{index}), .counts(counts_{index})\n"
            f"    );\n"
            f"    assign sample_{index} = {{registers_{index}, counts_{index}, out_word_{index}, out_valid_{index}, "
            f"in_ready_{index}}};\n"
        )
    head = (
        f"module bench (\n    input logic clk {_PUBLIC},\n    input logic reset {_PUBLIC},\n"
        + ",\n".join(ports)
        + "\n);\n"
    )
    return "\n".join([*modules, head + "".join(body) + "endmodule\n"])


_PUBLIC = "/* verilator public_flat_rw */"


class Bench:
    """Several pipelines in one build of an HDL simulator.

    Args:
        pipelines: the accelerators with their networks.
        simulator: one of `SIMULATORS`.
        adder_tree: popcounts by the adder tree that synthesis gets, instead of `$countones`.

    Raises:
        RefdesignError: a tool is absent, or refuses the design.
    """

    def __init__(
        self, pipelines: Sequence[Simulator], simulator: str = "verilator", *, adder_tree: bool = False
    ) -> None:
        if simulator not in SIMULATORS:
            raise RefdesignError(f"simulator: found {simulator!r}, expected one of {', '.join(SIMULATORS)}")
        tools.require(simulator)
        self.pipelines = tuple(pipelines)
        self.simulator = simulator
        self._defines = {"TRACE": 1, "FAULTS": 1, **({"ADDER_TREE": 1} if adder_tree else {})}
        text = bench_source(self.pipelines)
        self._folder = tools.cached(
            simulator, [text, json.dumps(self._defines)], lambda folder: self._build(folder, text)
        )

    def _build(self, folder: Path, text: str) -> None:
        (folder / "bench.sv").write_text(text, encoding="utf-8")
        sources = [*MODULES, folder / "bench.sv"]
        defines = [f"-D{name}={value}" for name, value in self._defines.items()]
        what = f"build with {self.simulator}"
        if self.simulator == "icarus":
            tools.run(
                ["iverilog", "-g2012", *defines, "-I", FOLDER, "-s", "bench", "-o", "sim.vvp", *sources], folder, what
            )
            return
        from cocotb_tools import config

        # What cocotb's runner does, but only the bench's ports are public: a build is several times faster.
        libraries = config.libs_dir
        tools.run(
            [
                "verilator", "--cc", "--exe", "--vpi", "--prefix", "Vtop", "--top-module", "bench", "-o", "bench",
                *("-O3", "--x-assign", "fast", "--noassert", "-Wno-fatal"), *defines, f"-I{FOLDER}",
                *("-LDFLAGS", f"-Wl,-rpath,{libraries} -L{libraries} -lcocotbvpi_verilator", "-Mdir", folder),
                config.share_dir / "lib" / "verilator" / "verilator.cpp", *sources,
            ],
            folder, what,
        )  # fmt: skip
        tools.make(folder, "Vtop.mk", "-O0", slow="-O0", what=what)  # compiling is what takes the time here

    def run(
        self, stimuli: Sequence[Stimulus], folder: Path, *, fault: int = 0, timeout: float = 600
    ) -> tuple[Recording, ...]:
        """Run every pipeline on its stimulus.

        Args:
            stimuli: one for each pipeline.
            folder: a working folder; what an earlier run left there is deleted.
            fault: the number of a seeded fault (`simulator.rtl.faults`); 0 is none.
            timeout: seconds after which a run is given up.

        Raises:
            RefdesignError: the run fails.
        """
        plans = []
        for index, (pipe, stimulus) in enumerate(zip(self.pipelines, stimuli, strict=True)):
            export(folder / f"memory_{index}", pipe.stages, pipe.memories, "readmemh")
            plans.append(
                {
                    "words": pixel_words(stimulus.images),
                    "source": stimulus.stalls.source.astype(int).tolist(),
                    "sink": stimulus.stalls.sink.astype(int).tolist(),
                    "cycles": stimulus.cycles,
                }
            )
        samples = [folder / f"samples_{index}.txt" for index in range(len(plans))]
        results = folder / "results.xml"
        for file in (*samples, results):
            file.unlink(missing_ok=True)
        (folder / "plan.json").write_text(json.dumps(plans), encoding="utf-8")
        work = {
            "test_module": "simulator.rtl.bench",
            "hdl_toplevel": "bench",
            "hdl_toplevel_lang": "verilog",
            "build_dir": str(self._folder),
            "test_dir": str(folder),
            "results_xml": str(results),
            "plusargs": [f"+fault={fault}"],
        }
        (folder / "work.json").write_text(json.dumps(work), encoding="utf-8")
        path = os.pathsep.join([str(FOLDER.parent.parent), *(part for part in sys.path if part)])
        command: list[str | Path] = [sys.executable, "-m", "simulator.rtl.worker", self.simulator, folder / "work.json"]
        tools.run(command, folder, f"run on {self.simulator}", {"PYTHONPATH": path}, timeout)
        _check(results, samples)
        return tuple(
            record(file.read_bytes().split(b"\n"), pipe.stages, stimulus, file.name)
            for file, pipe, stimulus in zip(samples, self.pipelines, stimuli, strict=True)
        )


def _check(results: Path, samples: Sequence[Path]) -> None:
    if not results.exists() or not all(file.exists() for file in samples):
        raise RefdesignError("cocotb: the run left no results")
    if any(True for _ in ElementTree.parse(results).getroot().iter("failure")):
        raise RefdesignError("cocotb: the bench failed")


def record(lines: Sequence[bytes], stages: Sequence[StageSchedule], stimulus: Stimulus, source: str) -> Recording:
    """What the samples of a bench say.

    Args:
        lines: for every cycle the vector {registers, counts, out_word, out_valid, in_ready} as a text of bits.
        stages, stimulus: what ran on what.
        source: where the lines are from, for errors.

    Raises:
        RefdesignError: a bit that is undefined.
    """
    bits = np.frombuffer(b"".join(lines), np.uint8).reshape(len(lines), -1)[:, ::-1]  # the lowest first
    width = word_widths(stages)[-1]
    known = (bits == ord("0")) | (bits == ord("1"))
    known[:, 2 : 2 + width] |= bits[:, 1:2] == ord("0")  # a word that is not offered may be anything
    if not known.all():
        cycle, bit = (int(place) for place in np.argwhere(~known)[0])
        raise RefdesignError(f"{source}: cycle {cycle}, bit {bit}: found an undefined value")
    values = (bits == ord("1")).astype(np.uint8)
    out_valid, out_word = values[:, 1], values[:, 2 : 2 + width]
    sink = stimulus.stalls.sink
    takes = (out_valid == 1) & sink[np.arange(len(values)) % sink.size]
    place = 2 + width
    names = [*(stage.name for stage in stages), "output"]
    occupancy = {name: _number(values[:, place + 32 * i : place + 32 * i + 32], False) for i, name in enumerate(names)}
    place += 32 * len(names)
    fields: dict[str, dict[str, Array]] = {}
    for stage in stages:
        fields[stage.name] = {}
        for field in registers(stage):
            size = field.bits * max(1, field.lanes)
            fields[stage.name][field.name] = unpack_field(values[:, place : place + size], field)
            place += size
    words = _integers(out_word[takes])
    return Recording(fields=fields, occupancy=occupancy, words=words)


def unpack_field(bits: NDArray[np.uint8], field: Field) -> Array:
    """An entry of the vector of registers: uint8 bits (cycles, bits * lanes), lowest first, to numbers.

    >>> unpack_field(np.array([[1, 0, 1, 1]], dtype=np.uint8), Field("popcount", 2, 2)).tolist()
    [[1, 3]]
    """
    if field.name == "word":
        return np.array(_integers(bits), dtype=object)
    if not field.lanes:
        return _number(bits, field.signed)
    return _number(bits.reshape(len(bits), field.lanes, field.bits), field.signed)


def _number(bits: NDArray[np.uint8], signed: bool) -> NDArray[np.int64]:
    weights = np.int64(1) << np.arange(bits.shape[-1], dtype=np.int64)
    if signed:
        weights[-1] = -weights[-1]
    total: NDArray[np.int64] = (bits * weights).sum(axis=-1)
    return total


def _integers(bits: NDArray[np.uint8]) -> list[int]:
    packed = np.packbits(bits, axis=-1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in packed]
