"""Pipelines without any compiler: Yosys (from pip) elaborates the design and steps it; and Yosys's synthesis."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from refdesign.errors import RefdesignError
from simulator.memory_files import export
from simulator.rtl import tools
from simulator.rtl.design import FOLDER, MODULES, pipeline, pixel_words, register_bits
from simulator.rtl.simulation import Recording, Stimulus, record
from simulator.run import Simulator
from simulator.stage import word_widths

RESET_CYCLES = 2


def play(pipe: Simulator, stimulus: Stimulus, folder: Path, *, timeout: float = 600) -> Recording:
    """Run a pipeline on its stimulus in Yosys's own simulator. Slow; for small ones.

    Args:
        pipe, stimulus: what runs on what.
        folder: a working folder; what an earlier run left there is deleted.
        timeout: seconds after which a run is given up.

    Raises:
        RefdesignError: pyosys or pywellen is absent, or the run fails.
    """
    tools.require("yosys")
    export(folder / "memory_0", pipe.stages, pipe.memories, "readmemh")
    _write(folder / "words.hex", pixel_words(stimulus.images))
    for name in ("source", "sink"):
        _write(folder / f"{name}.hex", [str(int(bit)) for bit in getattr(stimulus.stalls, name)])
    source = pipeline("pipeline_0", pipe.stages, pipe.accelerator, "memory_0/")
    (folder / "playback.sv").write_text(source + playback_source(pipe, stimulus), encoding="utf-8")
    wave = folder / "wave.fst"
    wave.unlink(missing_ok=True)
    cycles = RESET_CYCLES + stimulus.cycles
    commands = [
        read(["TRACE"], ["playback.sv"]),
        "hierarchy -top playback",
        "proc",
        "flatten",
        "opt -fast",
        # Only public names go into the wave.
        "rename -hide w:* w:clk %d w:reset %d w:sample %d",
        f"sim -clock clk -reset reset -rstlen {RESET_CYCLES} -n {cycles} -zinit -fst {wave.name}",
    ]
    run(commands, folder, "run on yosys", timeout)
    if not wave.exists():
        raise RefdesignError("run on yosys: it left no wave")
    return record(_samples(wave, stimulus.cycles), pipe.stages, stimulus, wave.name)


def playback_source(pipe: Simulator, stimulus: Stimulus) -> str:
    """A module that drives the pipeline from memories and puts everything that is sampled into one output."""
    widths = word_widths(pipe.stages)
    counts, bits = 32 * (len(pipe.stages) + 1), sum(register_bits(stage) for stage in pipe.stages)
    words = stimulus.images.size // stimulus.images.shape[-1]
    return _PLAYBACK.format(
        sample=2 + widths[-1] + counts + bits - 1,
        into=widths[0] - 1,
        out=widths[-1] - 1,
        counts=counts - 1,
        registers=bits - 1,
        words=words,
        source=stimulus.stalls.source.size,
        sink=stimulus.stalls.sink.size,
    )


def read(macros: Sequence[str], files: Sequence[str]) -> str:
    """The command that reads the design, with the adder tree, and more files; `run` puts the design into the folder."""
    defines = " ".join(f"-D{macro}" for macro in ("ADDER_TREE", *macros))
    return f"read_verilog -defer -sv {defines} {' '.join([*(file.name for file in MODULES), *files])}"


def run(commands: Sequence[str], folder: Path, what: str, timeout: float = 3600) -> str:
    """Run Yosys's commands in a process of its own, in a folder; what it printed.

    Raises:
        RefdesignError: pyosys is absent, or a command fails.
    """
    tools.require("yosys")
    for source in (*MODULES, FOLDER / "faults.svh"):  # Yosys takes no path with a space in it
        shutil.copy(source, folder)
    file = folder / "commands.json"
    file.write_text(json.dumps(list(commands)), encoding="utf-8")
    path = os.pathsep.join([str(FOLDER.parent.parent), *(part for part in sys.path if part)])
    command: list[str | Path] = [sys.executable, "-m", "simulator.rtl.yosys_worker", file]
    return tools.run(command, folder, what, {"PYTHONPATH": path}, timeout)


def _write(file: Path, words: Sequence[str]) -> None:
    file.write_text("\n".join(words) + "\n", encoding="ascii")


def _samples(wave: Path, cycles: int) -> list[bytes]:
    """The vector of samples before every rising edge behind the reset, a text of bits each."""
    import pywellen

    names = {var.full_name: var for var in pywellen.Waveform(str(wave)).all_vars()}
    rises = [time for time, level in names["playback.clk"].tv if level == 1]
    wanted = rises[RESET_CYCLES : RESET_CYCLES + cycles]
    changes = list(names["playback.sample"].tv)
    times = np.array([time for time, _ in changes])
    width = max(len(_text(value)) for _, value in changes)
    place = np.searchsorted(times, wanted, side="left") - 1
    return [_text(changes[index][1]).rjust(width, "0").encode() for index in place]


def _text(value: object) -> str:
    return format(value, "b") if isinstance(value, int) else str(value)


_PLAYBACK = """
module playback (
    input logic clk,
    input logic reset,
    output logic [{sample}:0] sample
);
    logic [{into}:0] words[0:{words} - 1];
    logic source[0:{source} - 1];
    logic sink[0:{sink} - 1];
    initial begin
        $readmemh("words.hex", words);
        $readmemh("source.hex", source);
        $readmemh("sink.hex", sink);
    end
    logic [31:0] sent, source_place, sink_place;
    logic in_valid, in_ready, out_valid, out_ready;
    logic [{into}:0] in_word;
    logic [{out}:0] out_word;
    logic [{registers}:0] registers;
    logic [{counts}:0] counts;
    assign in_valid = sent < {words} && source[source_place];
    assign in_word = in_valid ? words[sent] : '0;
    assign out_ready = sink[sink_place];
    always_ff @(posedge clk) begin
        if (reset) begin
            sent <= '0;
            source_place <= '0;
            sink_place <= '0;
        end else begin
            if (in_valid && in_ready) sent <= sent + 1;
            source_place <= source_place == {source} - 1 ? '0 : source_place + 1;
            sink_place <= sink_place == {sink} - 1 ? '0 : sink_place + 1;
        end
    end
    pipeline_0 unit (
        .clk(clk), .reset(reset), .in_valid(in_valid), .in_ready(in_ready), .in_word(in_word),
        .out_valid(out_valid), .out_ready(out_ready), .out_word(out_word), .registers(registers), .counts(counts)
    );
    assign sample = {{registers, counts, out_word, out_valid, in_ready}};
endmodule
"""
