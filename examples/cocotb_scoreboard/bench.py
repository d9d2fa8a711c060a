"""The cocotb bench of `conv1.sv`: a driver, a monitor, and refdesign's scoreboard between them."""

from __future__ import annotations

from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge

import refdesign
from refdesign.verify.doors.scoreboard import Scoreboard
from refdesign.verify.doors.words import WordFormat

IMAGES = 4
CYCLES = 8 * 8 * 64 // 4  # of an image, four channels a cycle


@cocotb.test()
async def conv1_equals_the_reference(dut: Any) -> None:
    """Drive images, watch words, and let the scoreboard judge."""
    network = refdesign.pretrained("digits")
    board = Scoreboard(network, required=["conv1.bits"], whole=False)
    images, _ = refdesign.datasets.load("digits", "test")
    Clock(dut.clk, 10, unit="ns").start()
    cocotb.start_soon(watch(dut, board))
    dut.reset.value, dut.start.value = 1, 0
    await ClockCycles(dut.clk, 2)
    dut.reset.value = 0
    for image in images[:IMAGES]:
        board.expect(image)
        dut.image.value = int.from_bytes(image.tobytes(), "little")
        dut.start.value = 1
        await ClockCycles(dut.clk, 1)
        dut.start.value = 0
        await ClockCycles(dut.clk, CYCLES + 2)
    board.check()


async def watch(dut: Any, board: Scoreboard) -> None:
    """Pass every valid word on, as its bits, so that an X in it is a finding."""
    packing = WordFormat(word_bits=4)
    while True:
        await FallingEdge(dut.clk)
        if dut.valid.value == 1:
            board.observe_words("conv1.bits", [str(dut.word.value)], packing, "n h w fold pe -> n h w (fold pe)", pe=4)
