"""The simulator beside the same unit on Verilator: cycles per second, PE 16, SIMD 64, 3x3x128 to 128 channels.

Both give the same output bits, which is checked. The simulator keeps the popcount and the accumulator of every PE in
every cycle; Verilator once keeps nothing, once writes a VCD of all signals. What Verilator runs is the unit alone: its
counters, operand buffer, weight and threshold memories, PEs and comparators, with `$countones`, without sliding window
and FIFO, `-O3 --x-assign fast --noassert`, the C++ with `-O3 -march=native`, evaluated once a cycle
(`simulator/rtl/speed.cpp`); only the loop over the cycles is timed. One thread each, processor time: other programs on
the machine do not count.

    python -m benchmarks.rtl [--images N] [--repeats N] [--json]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks._measure import report, table, with_one_thread
from refdesign.bits import pack_bool
from simulator.arithmetic import Operands
from simulator.rtl.speed import VerilatedUnit
from simulator.rtl.synthesis import unit_network
from simulator.run import Engine, Simulator
from simulator.schedule import fit

VCD_PIXELS = 16
"""Output pixels of the run that writes a VCD: it is slow, and its file large."""


def simulate(engine: Engine, operands: Operands) -> None:
    """Every popcount and accumulator of every cycle."""
    for _ in engine.folder.blocks(operands):
        pass


def main() -> None:
    with_one_thread("benchmarks.rtl")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=8, help="maps of 16x16 pixels")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    network = unit_network(128, (2, 2, 1), 16)
    simulator = Simulator(network, fit(network, pe=16, simd=64))
    stage, memory, engine = simulator.stages[1], simulator.memories[1], simulator.engine("unit")
    rng = np.random.default_rng(2)
    maps = rng.random((options.images, *stage.input_map, 128)) < 0.5
    operands = Operands.of(stage, maps)
    gathered = operands.gather(slice(None))[:, 0, :, 0].T  # (pixels, SF): the order in which the unit takes them
    on_map = np.repeat(np.tile(stage.source >= 0, (options.images, 1)), stage.input_folds, axis=1)
    sums = engine.accumulate(pack_bool(maps))
    expected = engine.decide(sums, sums).reshape(-1, stage.config.pe)
    cycles = len(gathered) * stage.channel_folds * stage.synapse_folds

    seconds: dict[str, list[float]] = {"simulator": [], "Verilator": [], "Verilator, VCD": []}
    with tempfile.TemporaryDirectory() as folder:
        plain, waves = VerilatedUnit(stage), VerilatedUnit(stage, waves=True)
        few = slice(0, VCD_PIXELS)
        for _ in range(options.repeats + 1):
            start = time.process_time()
            simulate(engine, operands)
            seconds["simulator"].append((time.process_time() - start) / cycles)
            for name, unit, part in (("Verilator", plain, slice(None)), ("Verilator, VCD", waves, few)):
                timed = unit.run(memory, gathered[part].ravel(), on_map[part].ravel(), Path(folder))
                words = len(gathered[part]) * stage.channel_folds
                if timed.cycles != words * stage.synapse_folds or not np.array_equal(timed.bits, expected[:words]):
                    raise SystemExit(f"{name}: other cycles or bits than the simulator's")
                seconds[name].append(timed.seconds / timed.cycles)
    best = {name: 1 / min(times[1:]) for name, times in seconds.items()}
    middle = {name: 1 / statistics.median(times[1:]) for name, times in seconds.items()}
    rows = [
        [name, best[name] / 1e6, middle[name] / 1e6, best["simulator"] / best[name], middle["simulator"] / middle[name]]
        for name in seconds
    ]
    heads = ["", "Mcycles/s, best", "median", "simulator / this, best", "median"]
    result = {"cycles": cycles, "cycles_per_second": {"best": best, "median": middle}}
    report(result, f"{cycles} cycles, PE 16, SIMD 64, 3x3x128 to 128\n" + table(heads, rows), options.json)


if __name__ == "__main__":
    main()
