"""One MVTU on Verilator with a bench in C++, as fast as it goes: what the simulator's speed is measured against.

The unit alone (no sliding window, no FIFO), with its operand buffer, weight and threshold memories, between an input
and an output register, so that Verilator evaluates it once a cycle.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from simulator.memory import StageMemory
from simulator.memory_files import export
from simulator.rtl import tools
from simulator.rtl.design import FOLDER, MODULES, mvtu_parameters
from simulator.stage import StageSchedule

FLAGS = ("-O3", "--x-assign", "fast", "--noassert")
COMPILER = "-O3 -march=native"
_BENCH = FOLDER / "speed.cpp"


@dataclass(frozen=True, eq=False)
class Timed:
    """A run of the C++ bench.

    Attributes:
        cycles: clock cycles behind the reset.
        seconds: processor time of the loop over the cycles alone.
        bits: bool (words, PE), the words that left.
    """

    cycles: int
    seconds: float
    bits: NDArray[np.bool_]


class VerilatedUnit:
    """The MVTU of a stage, compiled by Verilator.

    Args:
        stage: with thresholds, at most 64 lanes and 64 PEs.
        waves: whether it writes a VCD.

    Raises:
        RefdesignError: a tool is absent or refuses the design, or the stage is too wide.
    """

    def __init__(self, stage: StageSchedule, *, waves: bool = False) -> None:
        if stage.config.simd > 64 or stage.config.pe > 64 or stage.thresholds is None:
            raise RefdesignError(f"layer {stage.name!r}: the bench takes at most 64 lanes and PEs, with thresholds")
        tools.require("verilator")
        self.stage = stage
        self.waves = waves
        top = _TOP.format(
            simd=stage.config.simd - 1,
            out=stage.out_width - 1,
            parameters=", ".join(f".{name}({value})" for name, value in mvtu_parameters(stage).items()),
        )
        inputs = [top, _BENCH.read_text(encoding="utf-8"), str(waves), *FLAGS, COMPILER]
        self._folder = tools.cached("speed", inputs, lambda at: self._build(at, top))

    def _build(self, folder: Path, top: str) -> None:
        (folder / "top.sv").write_text(top, encoding="utf-8")
        trace = ["--trace"] if self.waves else []
        command: list[str | Path] = [
            "verilator", "--cc", "--exe", "--prefix", "Vtop", "--top-module", "top", "-o", "bench", "-Wno-fatal",
            *FLAGS, *trace, f"-I{FOLDER}", "-Mdir", folder, _BENCH, *MODULES, folder / "top.sv",
        ]  # fmt: skip
        tools.run(command, folder, "build with verilator")
        tools.make(folder, "Vtop.mk", COMPILER, slow=COMPILER, what="build with verilator")

    def run(self, memory: StageMemory, words: NDArray[np.uint64], valid: NDArray[np.bool_], folder: Path) -> Timed:
        """Run it.

        Args:
            memory: its memories.
            words, valid: (N,), the operands in the order in which the unit takes them.
            folder: a working folder; what an earlier run left there is deleted.

        Raises:
            RefdesignError: the run fails.
        """
        export(folder, [self.stage], [memory], "readmemh")
        operands, outputs, wave = folder / "operands.bin", folder / "outputs.bin", folder / "wave.vcd"
        for file in (outputs, wave):
            file.unlink(missing_ok=True)
        np.stack([words, valid.astype(np.uint64)], axis=1).astype("<u8").tofile(operands)
        printed = tools.run([self._folder / "bench", operands, len(words), outputs, wave], folder, "run on verilator")
        if not outputs.exists() or (self.waves and not wave.exists()):
            raise RefdesignError("run on verilator: it left no outputs")
        cycles, seconds = printed.split()
        octets = np.fromfile(outputs, dtype=np.uint8).reshape(-1, 8)
        bits = np.unpackbits(octets, axis=1, bitorder="little", count=self.stage.config.pe).view(np.bool_)
        return Timed(int(cycles), float(seconds), bits)


_TOP = """
module top (
    input logic clk, input logic reset, input logic in_valid, output logic in_ready, input logic [{simd}:0] in_word,
    input logic in_word_valid, output logic out_valid, output logic [{out}:0] out_word, output logic busy
);
    logic valid, ready, word_valid, leaves;
    logic [{simd}:0] word;
    logic [{out}:0] leaving;
    assign in_ready = !valid || ready;
    assign busy = valid || !ready;
    always_ff @(posedge clk) begin
        if (reset) valid <= 1'b0;
        else if (in_ready) valid <= in_valid;
        if (in_ready) begin
            word <= in_word;
            word_valid <= in_word_valid;
        end
        out_valid <= leaves && !reset;
        out_word <= leaving;
    end
    mvtu #({parameters}) unit (
        .clk(clk), .reset(reset), .in_valid(valid), .in_ready(ready), .in_word(word), .in_word_valid(word_valid),
        .out_valid(leaves), .out_ready(1'b1), .out_word(leaving)
    );
endmodule
"""
