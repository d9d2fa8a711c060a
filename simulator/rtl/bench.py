"""The cocotb bench: drives pipelines word by word with stalls on both sides and writes down every cycle.

It runs inside the HDL simulator. `plan.json` in the working folder says what to drive; for pipeline k, `samples_k.txt`
gets a line of bits for every cycle, sampled just before the rising edge.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cocotb
from cocotb.triggers import Timer

RESET_CYCLES = 2


class _Driver:
    """One pipeline's two streams.

    Args:
        dut: the bench's top level.
        plan: its part of the plan.
        index: which pipeline it is.
    """

    def __init__(self, dut: Any, plan: dict[str, Any], index: int) -> None:
        self.words = [int(word, 16) for word in plan["words"]]
        self.source, self.sink = plan["source"], plan["sink"]
        self.cycles: int = plan["cycles"]
        self.in_valid = getattr(dut, f"in_valid_{index}")
        self.in_word = getattr(dut, f"in_word_{index}")
        self.out_ready = getattr(dut, f"out_ready_{index}")
        self.sample = getattr(dut, f"sample_{index}")
        self.sent = 0
        self.offers = False
        self.samples: list[str] = []
        self.in_valid.value = 0
        self.in_word.value = 0
        self.out_ready.value = 0

    def drive(self, cycle: int) -> None:
        self.offers = self.sent < len(self.words) and bool(self.source[cycle % len(self.source)])
        self.in_valid.value = int(self.offers)
        self.in_word.value = self.words[self.sent] if self.offers else 0
        self.out_ready.value = int(self.sink[cycle % len(self.sink)])

    def watch(self) -> None:
        sample = str(self.sample.value)
        self.samples.append(sample)
        self.sent += self.offers and sample[-1] == "1"  # the lowest bit is in_ready


@cocotb.test()
async def run_pipelines(dut: Any) -> None:
    """Reset, then as many cycles as the plan says."""
    plans = json.loads(Path("plan.json").read_text(encoding="utf-8"))
    drivers = [_Driver(dut, plan, index) for index, plan in enumerate(plans)]
    dut.clk.value = 0
    dut.reset.value = 1
    for _ in range(RESET_CYCLES):
        for level in (0, 1):
            dut.clk.value = level
            await Timer(1, "step")
    for cycle in range(max(driver.cycles for driver in drivers)):
        dut.clk.value = 0
        dut.reset.value = 0
        active = [driver for driver in drivers if cycle < driver.cycles]
        for driver in active:
            driver.drive(cycle)
        await Timer(1, "step")
        for driver in active:
            driver.watch()
        dut.clk.value = 1
        await Timer(1, "step")
    for index, driver in enumerate(drivers):
        Path(f"samples_{index}.txt").write_text("\n".join(driver.samples), encoding="ascii")
