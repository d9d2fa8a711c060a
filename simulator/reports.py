"""What a co-design user wants to know of a run, in the spirit of SCALE-Sim's reports: cycles, utilisation, bits moved.

Every count is taken from the schedule and from the times of the words. `conservation` then holds it against what the
network's shapes say, so that a report which does not add up cannot pass unseen.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from refdesign.network import PixelConv2d
from simulator.run import Simulator
from simulator.stage import StageSchedule
from simulator.storage import MEMORIES, Storage, storage
from simulator.timing import RunTimes

CAUSES = ("compute", "fill", "starved", "blocked", "drain")
"""Why a stage spends a cycle; stalls are `starved` and `blocked`."""

STORED = (*(f"{name}_memory_bits" for name in MEMORIES), "weight_block_rams")
"""Columns that say what the memories have room for, and how many block RAMs hold the weights."""

COLUMNS = (
    "layer",
    "pe",
    "simd",
    "channel_folds",
    "synapse_folds",
    "windows",
    "cycles",
    *CAUSES,
    "utilisation",
    "mapping_efficiency",
    "operations",
    "weight_bits_read",
    "weight_bits_used",
    "threshold_bits_read",
    "input_bits_written",
    "line_buffer_bits_read",
    "operand_bits_kept",
    "operand_bits_reread",
    "pool_bits_read",
    "pool_bits_written",
    "output_bits",
    "fifo_words",
    "fifo_most",
    *STORED,
)
"""The columns of a report, one row a layer.

`operations` are products of one bit with one weight; `utilisation` is compute / cycles; `mapping_efficiency` the share
of PE*SIMD lanes that are used while computing. Bits read include those of masked lanes, bits used do not.
`weight_bits_used` counts one bit for each operation. `fifo_words` pass the FIFO in front, which holds `fifo_most`.
"""


@dataclass(frozen=True, kw_only=True)
class Check:
    """Two counts of the same thing, taken apart.

    Attributes:
        layer, what: what is counted.
        counted: from the run.
        expected: from the network's shapes.
    """

    layer: str
    what: str
    counted: int
    expected: int

    @property
    def holds(self) -> bool:
        """Whether they agree."""
        return self.counted == self.expected


@dataclass(frozen=True, kw_only=True)
class Report:
    """A run's report.

    Attributes:
        network, accelerator: their names.
        images: how many ran.
        rows: one for each layer, by `COLUMNS`.
        total: cycles of the run, latency of the first image, interval in the steady state (None for one image),
            operations, what `STORED` names, and the slowest stage.
        checks: see `conservation`.
    """

    network: str
    accelerator: str
    images: int
    rows: tuple[dict[str, Any], ...]
    total: dict[str, Any]
    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that do not hold."""
        return tuple(check for check in self.checks if not check.holds)

    def to_csv(self) -> str:
        """The rows as CSV with a header."""
        return csv_text(self.rows)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data."""
        return {
            "network": self.network,
            "accelerator": self.accelerator,
            "images": self.images,
            "total": self.total,
            "layers": list(self.rows),
            "checks": [
                {"layer": c.layer, "what": c.what, "counted": c.counted, "expected": c.expected, "holds": c.holds}
                for c in self.checks
            ],
        }

    def to_json(self) -> str:
        """The report as JSON."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of the same columns as CSV with a header.

    >>> csv_text([{"layer": "conv1", "pe": 4}])
    'layer,pe\\nconv1,4\\n'
    """
    file = io.StringIO()
    writer = csv.DictWriter(file, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def report(simulator: Simulator, times: RunTimes) -> Report:
    """The report of a run.

    >>> from refdesign.models import binarynet
    >>> from simulator.schedule import fit
    >>> network = binarynet(input_shape=(8, 8, 1), width=1 / 16)
    >>> simulator = Simulator(network, fit(network, pe=4, simd=8))
    >>> made = report(simulator, simulator.times(1))
    >>> made.rows[1]["compute"], made.rows[1]["operations"], len(made.failed)
    (1152, 36864, 0)
    """
    images = len(times.finished)
    memories = storage(simulator.stages)
    rows = tuple(_row(stage, held, times, images) for stage, held in zip(simulator.stages, memories, strict=True))
    slowest = max(simulator.stages, key=lambda stage: stage.cycles)
    interval = times.interval
    total = {
        "cycles": times.cycles,
        "first_image_latency": times.latency,
        "steady_state_interval": None if math.isnan(interval) else interval,
        "operations": sum(row["operations"] for row in rows),
        **{name: sum(row[name] for row in rows) for name in STORED},
        "slowest_layer": slowest.name,
        "slowest_layer_cycles_per_image": slowest.cycles,
    }
    return Report(
        network=simulator.network.name,
        accelerator=simulator.accelerator.name,
        images=images,
        rows=rows,
        total=total,
        checks=tuple(conservation(simulator, times, rows)),
    )


def _row(stage: StageSchedule, memories: dict[str, Storage], times: RunTimes, images: int) -> dict[str, Any]:
    config, stage_times, fifo = stage.config, times.stages[stage.name], times.fifos[stage.name]
    causes = stage_times.causes
    fires = causes["compute"]
    lanes = int(stage.lanes.sum()) * stage.taps * len(stage.planes)  # used in the synapse folds of one channel fold
    channels = int((stage.channels >= 0).sum())
    windows = len(stage_times.starts)
    used = windows * channels * lanes
    stream_words = windows * stage.groups * stage.synapse_folds
    words_out = len(stage_times.pushes)
    thresholded = windows * stage.channel_folds if config.pool == "bits" else words_out
    threshold_bits = memories["threshold"].width if stage.thresholds is not None else 0
    pool_reads, pool_writes = _pool_accesses(stage, images)
    pool_width = config.pe * memories["pool"].width
    return {
        "layer": stage.name,
        "pe": config.pe,
        "simd": config.simd,
        "channel_folds": stage.channel_folds,
        "synapse_folds": stage.synapse_folds,
        "windows": stage.windows,
        "cycles": stage_times.total,
        **causes,
        "utilisation": fires / stage_times.total,
        "mapping_efficiency": used / (fires * config.pe * config.simd),
        "operations": used,
        "weight_bits_read": fires * config.pe * config.simd,
        "weight_bits_used": used,
        "threshold_bits_read": thresholded * config.pe * threshold_bits,
        "input_bits_written": int(np.count_nonzero(fifo.pops < times.cycles)) * memories["fifo"].width,
        "line_buffer_bits_read": stream_words * config.simd,
        "operand_bits_kept": stream_words * config.simd,
        "operand_bits_reread": (fires - stream_words) * config.simd,
        "pool_bits_read": pool_reads * pool_width,
        "pool_bits_written": pool_writes * pool_width,
        "output_bits": words_out * stage.out_width,
        "fifo_words": len(fifo.pushes),
        "fifo_most": int(fifo.occupancy(times.cycles).max()),
        **{f"{name}_memory_bits": memory.bits for name, memory in memories.items()},
        "weight_block_rams": memories["weight"].block_rams,
    }


def _pool_accesses(stage: StageSchedule, images: int) -> tuple[int, int]:
    """Words read from and written to the pool's memory; none without a pool."""
    if stage.layer.pool is None:
        return 0, 0
    (height, width), (down, right) = stage.pooled_map, stage.pool
    kept = height * down * width * right
    folds = images * stage.channel_folds
    return int(np.count_nonzero(~stage.alone)) * folds, kept * folds


def conservation(simulator: Simulator, times: RunTimes, rows: tuple[dict[str, Any], ...]) -> list[Check]:
    """Counts of the run held against the network's shapes, layer by layer.

    Cycles by cause add up to the run and none is negative; operations are outputs * fan-in (* bit planes); words that
    enter and leave are the maps' channel folds; every word that was pushed is popped; operands and weights that were
    read are consumed, one of each in every cycle that computes.
    """
    network, images = simulator.network, len(times.finished)
    checks = []
    for index, (stage, row) in enumerate(zip(simulator.stages, rows, strict=True)):
        layer, shapes = stage.layer, network.shapes[stage.name]
        planes = len(stage.planes) if isinstance(layer, PixelConv2d) else 1
        outputs = math.prod(shapes.accumulator)
        fifo, pushes = times.fifos[stage.name], times.stages[stage.name].pushes
        names = [*(other.name for other in simulator.stages), "output"]
        behind = times.fifos[names[index + 1]]
        words_in = 1 if index == 0 else simulator.stages[index - 1].channel_folds
        simd = stage.config.simd
        operands = (row["line_buffer_bits_read"] + row["operand_bits_reread"]) // simd
        pairs = [
            ("cycles by cause", sum(row[cause] for cause in CAUSES), times.cycles),
            ("negative causes", sum(row[cause] < 0 for cause in CAUSES), 0),
            ("operations", row["operations"], images * outputs * layer.fan_in * planes),
            ("words in", len(fifo.pops), images * math.prod(shapes.input) // shapes.input[-1] * words_in),
            ("words popped", len(fifo.pops), len(fifo.pushes)),
            ("words out", len(pushes), images * math.prod(shapes.output[:-1]) * stage.channel_folds),
            ("words between", len(behind.pushes), len(pushes)),
            ("operands read", operands, row["compute"]),
            ("weight words read", row["weight_bits_read"] // (stage.config.pe * simd), row["compute"]),
            ("channels", int((stage.channels >= 0).sum()), layer.out_channels),
        ]
        checks += [Check(layer=stage.name, what=what, counted=int(a), expected=int(b)) for what, a, b in pairs]
    return checks
