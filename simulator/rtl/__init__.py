"""The hardware as SystemVerilog, and what builds, drives and compares it.

The design: `axis_counter.sv`, `popcount.sv` (`$countones`, or with the macro ADDER_TREE an adder tree), `pool.sv`,
`processing_element.sv`, `mvtu.sv`, `sliding_window.sv`, `fifo.sv`; `design.py` gives the parameters of a stage and
writes the top level that chains the stages of a network. `faults.svh` has the seeded faults (macro FAULTS,
`+fault=<number>`).

- `export.py`: a folder with an accelerator's sources, memory images and a test bench, for any simulator.
- `simulation.py`: pipelines side by side in one build of Verilator or Icarus, driven by cocotb (`bench.py`).
- `yosys.py`: the same without any compiler.
- `compare.py`: a recording against the simulator, every register of `simulator.units` in every cycle.
- `implementation.py`: the RTL as an implementation under test, for `refdesign.verify`.
- `synthesis.py`: LUTs, flip-flops and RAM in one table: `python -m simulator.rtl.synthesis`.
- `speed.py`, `speed.cpp`: one unit on Verilator as fast as it goes, for `benchmarks/rtl.py`.

Builds go to a cache folder (`$REFDESIGN_CACHE`, or `refdesign` in the user's cache folder), named by a hash of all
that goes into them.
"""
