"""The accelerator of a network as a folder of SystemVerilog on its own, with a test bench for any simulator."""

from __future__ import annotations

import shutil
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from refdesign.errors import RefdesignError
from simulator.memory_files import export
from simulator.rtl.compare import output_words
from simulator.rtl.design import FOLDER, MODULES, pipeline, pixel_words
from simulator.run import Simulator
from simulator.stage import word_widths


def export_rtl(folder: str | PathLike[str], simulator: Simulator, images: NDArray[np.uint8]) -> list[Path]:
    """Write the design's sources, the top level `accelerator.sv`, its memory images, and a test bench.

    `testbench.sv` offers the images' pixels without stalls, compares every word that leaves with the expected one and
    ends with an error where one differs or is missing; it prints the cycle in which the last word left. Run it from
    the folder, where the `.hex` files are:

        verilator --binary --timing -Wno-fatal -CFLAGS -std=c++20 --top-module testbench *.sv && obj_dir/Vtestbench
        iverilog -g2012 -s testbench -o testbench.vvp *.sv && vvp testbench.vvp

    Args:
        folder: made where it is missing; files of these names in it are replaced.
        simulator: the network on its accelerator.
        images: uint8 (N, H, W, C).

    Returns:
        The files.

    Raises:
        RefdesignError: the folder cannot be written, or the images are not the network's.
    """
    where = Path(folder)
    stages = simulator.stages
    words = pixel_words(images)
    expected = output_words(stages[-1], simulator.outputs(images))
    widths = word_widths(stages)
    files = export(where, stages, simulator.memories, "readmemh")
    texts = {
        "accelerator.sv": pipeline("accelerator", stages, simulator.accelerator),
        "testbench.sv": _TESTBENCH.format(
            into=widths[0] - 1,
            out=widths[-1] - 1,
            pixels=len(words),
            words=len(expected),
            cycles=int(simulator.times(len(images)).finished[-1]),
        ),
        "pixels.hex": "\n".join(words) + "\n",
        "expected.hex": "".join(f"{word:0{-(-widths[-1] // 4)}x}\n" for word in expected),
    }
    try:
        for source in (*MODULES, FOLDER / "faults.svh"):
            files.append(Path(shutil.copy(source, where)))
        for name, text in texts.items():
            (where / name).write_text(text, encoding="utf-8")
            files.append(where / name)
    except OSError as error:
        raise RefdesignError(f"{error.filename or where}: {error.strerror}") from None
    return files


_TESTBENCH = """\
// Offers all pixels without a stall, takes every word at once and compares it with the reference's.
module testbench;
    localparam PIXELS = {pixels};
    localparam WORDS = {words};
    localparam CYCLES = {cycles};  // of the reference, up to the last word
    logic clk = 1'b0;
    logic reset = 1'b1;
    logic in_ready, out_valid;
    logic [{into}:0] pixels[0:PIXELS-1];
    logic [{out}:0] expected[0:WORDS-1];
    logic [{out}:0] out_word;
    integer sent = 0;
    integer taken = 0;
    integer cycle = 0;
    integer wrong = 0;
    logic in_valid, moves;
    assign in_valid = !reset && sent < PIXELS;

    accelerator dut (
        .clk(clk), .reset(reset), .in_valid(in_valid), .in_ready(in_ready),
        .in_word(in_valid ? pixels[sent] : '0), .out_valid(out_valid), .out_ready(1'b1), .out_word(out_word)
    );

    initial begin
        $readmemh("pixels.hex", pixels);
        $readmemh("expected.hex", expected);
        repeat (4) #1 clk = !clk;
        reset = 1'b0;
        while (taken < WORDS && cycle < 2 * CYCLES) begin
            #1;
            // Just before the rising edge.
            if (out_valid) begin
                if (out_word !== expected[taken]) begin
                    wrong = wrong + 1;
                    $display("word %0d, cycle %0d: found %h, expected %h", taken, cycle, out_word, expected[taken]);
                end
                taken = taken + 1;
            end
            moves = in_valid && in_ready;
            cycle = cycle + 1;
            clk = 1'b1;
            #1 clk = 1'b0;
            if (moves) sent = sent + 1;
        end
        if (wrong != 0 || taken != WORDS || cycle != CYCLES)
            $fatal(1, "%0d of %0d words, %0d wrong, %0d cycles; expected %0d", taken, WORDS, wrong, cycle, CYCLES);
        $display("all %0d words are right, the last one after %0d cycles", WORDS, cycle);
        $finish;
    end
endmodule
"""
