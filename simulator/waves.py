"""Traces as waveforms: VCD and FST files for GTKWave and Surfer, with the layers as scopes, and terminal waveforms.

VCD is written by pyvcd, which is maintained and checks values against widths; FST by pylibfst, which wraps GTKWave's
own libfst.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError, missing_extra
from simulator.trace import StageTrace, Tracer

PERIOD = 10
"""Nanoseconds of a cycle in a waveform file; the clock rises at the cycle's start."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Wave:
    """One signal over a window of cycles.

    Attributes:
        scope: the scopes from the outermost.
        name: the signal's.
        width: bits.
        values: unsigned integers (cycles,), two's complement where the signal is signed.
        signed: whether it is.
    """

    scope: tuple[str, ...]
    name: str
    width: int
    values: NDArray[Any]
    signed: bool = False

    def changes(self) -> Iterator[tuple[int, int]]:
        """(cycle within the window, value) wherever the value differs from the cycle before; the first always.

        >>> list(Wave(scope=("top",), name="a", width=2, values=np.array([1, 1, 3])).changes())
        [(0, 1), (2, 3)]
        """
        differs = np.flatnonzero(self.values[1:] != self.values[:-1]) + 1
        for cycle in (0, *differs.tolist()):
            yield cycle, int(self.values[cycle])


def waves(tracer: Tracer, layers: Sequence[str], start: int, stop: int) -> list[Wave]:
    """All signals of some layers' stages in the cycles from `start` to before `stop`.

    Scopes are accelerator.<layer>.fifo, accelerator.<layer>.mvtu and accelerator.<layer>.mvtu.pe<index>.

    Raises:
        RefdesignError: no such layer, or not a window within the run.
    """
    top = identifier(tracer.simulator.accelerator.name)
    occupancy = tracer.occupancy()
    found = []
    for layer in layers:
        trace = tracer.stage(layer, start, stop)
        scope = (top, identifier(layer))
        depth = trace.stage.config.fifo_depth
        found.append(
            Wave(scope=(*scope, "fifo"), name="count", width=depth.bit_length(), values=occupancy[layer][start:stop])
        )
        found += _stage_waves(trace, (*scope, "mvtu"))
    return found


def identifier(name: str) -> str:
    """A name that waveform viewers take as one identifier.

    >>> identifier("conv 1.5")
    'conv_1_5'
    """
    return re.sub(r"\W", "_", name, flags=re.ASCII) or "_"


def _stage_waves(trace: StageTrace, scope: tuple[str, ...]) -> list[Wave]:
    stage, config = trace.stage, trace.stage.config
    m, n = stage.period
    most = {
        "nf": stage.channel_folds - 1,
        "sf": stage.synapse_folds - 1,
        "row": stage.output_map[0] - 1,
        "column": stage.output_map[1] - 1,
        "phase_row": m - 1,
        "phase_column": n - 1,
        "weight_address": stage.channel_folds * stage.taps * stage.input_folds - 1,
        "threshold_address": stage.channel_folds * m * n - 1,
    }
    per_pe = {
        "popcount": (config.popcount_width, False),
        "accumulator": (config.accumulator_width, True),
        "threshold": (config.threshold_width, True),
        "flip": (1, False),
        "bits": (1, False),
    }
    found = []
    for name, values in trace.fields.items():
        if name == "word":
            joined = (values.astype(object) << 64 * np.arange(values.shape[1], dtype=object)).sum(axis=1)
            found.append(Wave(scope=scope, name=name, width=config.simd, values=joined))
        elif name not in per_pe:
            width = max(1, most[name].bit_length()) if name in most else 1
            found.append(Wave(scope=scope, name=name, width=width, values=values.astype(np.int64)))
    for pe in range(config.pe):
        for name, (width, signed) in per_pe.items():
            values = trace.fields[name][:, pe].astype(np.int64)
            plain = values & ((1 << width) - 1) if width < 64 else values.view(np.uint64)
            found.append(Wave(scope=(*scope, f"pe{pe}"), name=name, width=width, values=plain, signed=signed))
    return found


def write(path: str | PathLike[str], signals: Sequence[Wave], first: int) -> None:
    """Write a waveform file; the name's end, .vcd or .fst, says which.

    Args:
        path: the file.
        signals: all of the same window of cycles.
        first: the window's first cycle.

    Raises:
        RefdesignError: another ending, no signals, or a file that cannot be written.
        MissingExtra: the library is not installed.
    """
    ending = str(path).rpartition(".")[2].lower()
    writers = {"vcd": write_vcd, "fst": write_fst}
    if ending not in writers:
        raise RefdesignError(f"{path}: found the ending {ending!r}, expected .vcd or .fst")
    if not signals:
        raise RefdesignError(f"{path}: found no signals, expected at least one")
    writers[ending](path, signals, first)


def _timeline(signals: Sequence[Wave], first: int) -> Iterable[tuple[int, list[tuple[int, int]]]]:
    """(time, [(signal, value)]) in order; signal -1 is the clock."""
    length = len(signals[0].values)
    by_cycle: list[list[tuple[int, int]]] = [[] for _ in range(length)]
    for index, signal in enumerate(signals):
        for cycle, value in signal.changes():
            by_cycle[cycle].append((index, value))
    for cycle, changes in enumerate(by_cycle):
        time = (first + cycle) * PERIOD
        yield time, [(-1, 1), *changes]
        yield time + PERIOD // 2, [(-1, 0)]


def write_vcd(path: str | PathLike[str], signals: Sequence[Wave], first: int) -> None:
    """As `write`, in the VCD format (IEEE 1364)."""
    try:
        from vcd import VCDWriter
    except ImportError as error:
        raise missing_extra("wave", "vcd") from error
    try:
        with (
            open(path, "w", encoding="ascii") as file,
            VCDWriter(file, timescale="1 ns", comment="refdesign simulator", init_timestamp=first * PERIOD) as writer,
        ):
            clock = writer.register_var(signals[0].scope[0], "clk", "wire", size=1, init=0)
            variables = [
                writer.register_var(".".join(s.scope), s.name, "reg", size=s.width, init=int(s.values[0]))
                for s in signals
            ]
            for time, changes in _timeline(signals, first):
                for index, value in changes:
                    writer.change(clock if index < 0 else variables[index], time, value)
            writer.close((first + len(signals[0].values)) * PERIOD)
    except OSError as error:
        raise RefdesignError(f"{path}: {error.strerror}") from None


def write_fst(path: str | PathLike[str], signals: Sequence[Wave], first: int) -> None:
    """As `write`, in GTKWave's compressed format."""
    try:
        from pylibfst import lib
    except ImportError as error:
        raise missing_extra("wave", "pylibfst") from error
    context = lib.fstWriterCreate(str(path).encode(), 1)
    if not context:
        raise RefdesignError(f"{path}: cannot be written")
    lib.fstWriterSetTimescaleFromString(context, b"1ns")
    lib.fstWriterSetVersion(context, b"refdesign simulator")
    scope: tuple[str, ...] = ()
    handles = []
    order = [Wave(scope=signals[0].scope[:1], name="clk", width=1, values=np.zeros(1)), *signals]
    for signal in order:
        shared = 0
        while shared < min(len(scope), len(signal.scope)) and scope[shared] == signal.scope[shared]:
            shared += 1
        for _ in scope[shared:]:
            lib.fstWriterSetUpscope(context)
        for name in signal.scope[shared:]:
            lib.fstWriterSetScope(context, lib.FST_ST_VCD_MODULE, name.encode(), b"")
        scope = signal.scope
        kind = lib.FST_VT_VCD_REG
        handles.append(
            lib.fstWriterCreateVar(context, kind, lib.FST_VD_IMPLICIT, signal.width, signal.name.encode(), 0)
        )
    for time, changes in _timeline(signals, first):
        lib.fstWriterEmitTimeChange(context, time)
        for index, value in changes:
            signal = order[index + 1]
            lib.fstWriterEmitValueChange(context, handles[index + 1], format(value, f"0{signal.width}b").encode())
    lib.fstWriterEmitTimeChange(context, (first + len(signals[0].values)) * PERIOD)
    lib.fstWriterClose(context)


def terminal(signals: Sequence[Wave], first: int, *, cell: int = 4) -> str:
    """Waveforms as text, for teaching: one column a cycle, lines for single bits, numbers for the others.

    Args:
        signals: all of the same window of cycles.
        first: the window's first cycle.
        cell: characters of a column; numbers that are longer widen it.

    >>> bit = Wave(scope=("top",), name="valid", width=1, values=np.array([0, 1, 1, 0]))
    >>> number = Wave(scope=("top",), name="sum", width=3, values=np.array([7, 0, 2, 2]), signed=True)
    >>> print(terminal([bit, number], 8))
        cycle 8   9   10  11
    top.valid ____/‾‾‾‾‾‾‾\\___
    top.sum   -1  |0  |2
    """
    texts = [[_text(signal, int(value)) for value in signal.values] for signal in signals]
    numbers = [row for signal, row in zip(signals, texts, strict=True) if signal.width > 1]
    last = str(first + len(signals[0].values) - 1)
    cell = max([cell, *(len(text) + 1 for row in [*numbers, [last]] for text in row)])
    names = [".".join((*signal.scope[-1:], signal.name)) for signal in signals]
    margin = max(len("cycle"), *map(len, names))
    length = len(signals[0].values)
    lines = [f"{'cycle':>{margin}} " + "".join(str(first + cycle).ljust(cell) for cycle in range(length))]
    for name, signal, row in zip(names, signals, texts, strict=True):
        drawn = _bit_line(signal, cell) if signal.width == 1 else _number_line(row, cell)
        lines.append(f"{name:<{margin}} {drawn}")
    return "\n".join(line.rstrip() for line in lines)


def _text(signal: Wave, value: int) -> str:
    if signal.signed and value >> signal.width - 1:
        value -= 1 << signal.width
    return str(value) if signal.name != "word" else format(value, "x")


def _bit_line(signal: Wave, cell: int) -> str:
    drawn, before = "", int(signal.values[0])
    for value in signal.values.tolist():
        flat = "‾" if value else "_"
        edge = flat if value == before else "/" if value else "\\"
        drawn += edge + flat * (cell - 1)
        before = value
    return drawn


def _number_line(row: list[str], cell: int) -> str:
    drawn, before = "", None
    for text in row:
        drawn += (("|" if before is not None else "") + text).ljust(cell) if text != before else " " * cell
        before = text
    return drawn
