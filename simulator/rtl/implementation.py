"""The RTL as an implementation under test: images in, outputs by name, for the verification doors of refdesign."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.api import Network
from refdesign.errors import RefdesignError
from refdesign.network import BinaryDense
from refdesign.ops.batch_norm import batch_norm
from simulator.config import Accelerator
from simulator.rtl.simulation import Bench, Recording, Stimulus
from simulator.run import Simulator, by_channel
from simulator.schedule import fit
from simulator.stage import StageSchedule

Array = NDArray[Any]


class RtlImplementation:
    """A network on the SystemVerilog design, run by an HDL simulator; called with images, it answers with outputs.

    The bits of every layer come from the words that leave its stage; the logits from the accumulators that leave the
    last one, with the batch norm (if any) done behind the hardware.

    Args:
        network: what runs.
        accelerator: where; None is one that fits, with PE and SIMD of at most 4 and 8.
        simulator: `"verilator"` or `"icarus"`.
        fault: the number of a seeded fault, 0 for none: then a reference has to find differences.

    Raises:
        RefdesignError: a tool is absent, or the accelerator does not run the network.
    """

    def __init__(
        self,
        network: Network,
        accelerator: Accelerator | None = None,
        *,
        simulator: str = "verilator",
        fault: int = 0,
    ) -> None:
        self.network = network
        self.model = Simulator(network, accelerator or fit(network, pe=4, simd=8))
        self.fault = fault
        self._bench = Bench([self.model], simulator)

    def __call__(self, images: NDArray[np.uint8]) -> Mapping[str, Array]:
        """Outputs by name: `<layer>.bits` of every layer that has them, `logits`.

        Raises:
            RefdesignError: the run fails, or another number of words leaves a stage than should.
        """
        cycles = self.model.times(len(images)).cycles
        with tempfile.TemporaryDirectory() as folder:
            (recording,) = self._bench.run([Stimulus(images, cycles)], Path(folder), fault=self.fault)
        outputs: dict[str, Array] = {}
        for stage in self.model.stages[:-1]:
            fields = recording.fields[stage.name]
            leaves = (fields["out_valid"] & fields["out_ready"]) == 1
            bits = _map(stage, fields["bits"][leaves], len(images))
            outputs[f"{stage.name}.bits"] = (2 * bits - 1).astype(np.int8)
        outputs["logits"] = self._logits(recording, len(images))
        return outputs

    def _logits(self, recording: Recording, images: int) -> Array:
        last = self.model.stages[-1]
        width, lanes = last.config.accumulator_width, range(last.config.pe)
        half, whole = 1 << (width - 1), 1 << width
        words = [[((word >> width * lane) + half) % whole - half for lane in lanes] for word in recording.words]
        sums = _map(last, np.array(words, dtype=np.int64).reshape(-1, last.config.pe), images).astype(np.int32)
        if last.layer.batch_norm is None:
            return sums
        return batch_norm(sums, last.layer.batch_norm, self.network.conventions.arithmetic)


def _map(stage: StageSchedule, words: Array, images: int) -> Array:
    """Words (images * words_out, PE) as the layer's map (N, H, W, O), or (N, O) behind a dense layer."""
    if len(words) != images * stage.words_out:
        raise RefdesignError(
            f"layer {stage.name!r}: found {len(words)} words of the RTL, expected {images * stage.words_out}"
        )
    values = by_channel(stage, words.reshape(images, *stage.pooled_map, -1))
    return values[:, 0, 0] if isinstance(stage.layer, BinaryDense) else values


def verilated(network: Network) -> Callable[[NDArray[np.uint8]], Mapping[str, Array]]:
    """The implementation of a network on Verilator: a factory, as `refdesign.verify` takes one by name."""
    return RtlImplementation(network)
