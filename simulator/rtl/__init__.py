"""The hardware as SystemVerilog, and what builds, drives and compares it.

`axis_counter.sv`, `popcount.sv`, `pool.sv`, `mvtu.sv`, `sliding_window.sv` and `fifo.sv` are the design; `design.py`
writes the top level that chains them for a network on an accelerator. Every register in every cycle is held against
the simulator in Python (`compare.py`).
"""
