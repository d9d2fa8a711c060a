"""The simulator beside the packed path: cycles a second with a full trace, one image through BinaryNet.

    python -m benchmarks.simulator [--repeats 15] [--json]

`trace`: a layer of 128 to 128 channels, 3x3, on 32x32 pixels, PE 16, SIMD 64: every popcount and every accumulator of
every cycle, in blocks that are reused (as a checker reads them), or kept in memory. `image`: all layers of BinaryNet on
one CIFAR-sized image, with the times of all words and back-pressure included; its peer is the packed path, which
only gives the outputs. One thread on every side.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import numpy as np

from benchmarks import _measure
from refdesign.design import published
from refdesign.models import binarynet
from simulator.arithmetic import Folder, Operands
from simulator.memory import contents
from simulator.run import Simulator
from simulator.schedule import fit, schedule
from simulator.stage import StageSchedule

KERNEL = published("threshold_2x2_v1")


class TracedLayer:
    """The layer of `trace`: its stage, and operands of one image."""

    def __init__(self) -> None:
        network = binarynet(kernel=KERNEL)
        self.stage: StageSchedule = schedule(network, fit(network, pe=16, simd=64))[1]
        bits = np.random.default_rng(0).random((1, 32, 32, 128)) < 0.5
        self.operands = Operands.of(self.stage, bits)
        self.folder = Folder(self.stage, contents(self.stage))
        slots = self.folder.present.size
        self.kept = np.zeros((self.stage.synapse_folds, self.stage.windows, slots), dtype=np.int16)

    def blocks(self) -> int:
        """Every accumulator of every cycle, block by block; the last ones are summed up."""
        return sum(int(block.accumulator[-1, -1, -1]) for block in self.folder.blocks(self.operands))

    def keep(self) -> None:
        """The same, kept in memory as one array."""
        for block in self.folder.blocks(self.operands):
            self.kept[:, block.pixels] = block.accumulator


def measure(repeats: int) -> dict[str, Any]:
    """Times in turns; ratios over the packed path; cycles a second."""
    layer = TracedLayer()
    network = binarynet(kernel=KERNEL)
    image = np.random.default_rng(1).integers(0, 256, (1, *network.input_shape), dtype=np.uint8)
    functions: dict[str, Any] = {
        "trace, in blocks": layer.blocks,
        "trace, kept": layer.keep,
        "image, packed path": lambda: network.run(image),
    }
    logits = frozenset(["logits"])
    for pe in (16, 32, 64):
        simulator = Simulator(network, fit(network, pe=pe, simd=64))

        def simulate(simulator: Simulator = simulator) -> object:
            return simulator.outputs(image, wanted=logits), simulator.times(1)

        functions[f"image, simulator PE {pe}"] = simulate
    seconds = _measure.interleaved(functions, repeats)
    packed = _measure.summary(seconds["image, packed path"])
    result: dict[str, Any] = {}
    for name, taken in seconds.items():
        result[name] = _measure.summary(taken)
        if name.startswith("trace"):
            result[name]["cycles_per_second"] = layer.stage.cycles / statistics.median(taken)
            result[name]["most_cycles_per_second"] = layer.stage.cycles / min(taken)
        else:
            result[name]["ratio"] = _measure.ratios(result[name], packed)
    return result


def main() -> None:
    """Measure and print."""
    _measure.with_one_thread("benchmarks.simulator")
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulator", description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15, help="how often each is timed")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    result = measure(arguments.repeats)
    rows = []
    for name, figures in result.items():
        rate = figures.get("cycles_per_second")
        ratio = figures.get("ratio")
        rows.append(
            [
                name,
                figures["median_ms"],
                figures["least_ms"],
                "" if rate is None else f"{rate / 1e6:.1f}",
                "" if ratio is None else ratio["median"],
            ]
        )
    headings = ["what", "median ms", "least ms", "Mcycles/s", "over packed"]
    _measure.report({"simulator": result}, _measure.table(headings, rows), arguments.json)


if __name__ == "__main__":
    main()
