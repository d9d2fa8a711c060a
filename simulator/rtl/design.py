"""An accelerator as SystemVerilog: the parameters of every stage's units, and the top level that chains them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from refdesign.network import BinaryConv2d, PixelConv2d
from refdesign.ops.padding import FILLS
from simulator.config import Accelerator
from simulator.stage import StageSchedule, word_widths

FOLDER = Path(__file__).parent
MODULES = tuple(
    FOLDER / f"{name}.sv"
    for name in ("axis_counter", "popcount", "pool", "fifo", "processing_element", "mvtu", "sliding_window")
)
"""The design's sources."""

_PADDINGS = {"zeros": 0, "ones": 1, "minus_ones": 1, "symmetric": 2, "reflect": 3, "edge": 4, "circular": 5}

Parameters = dict[str, int | str]


@dataclass(frozen=True)
class Field:
    """One entry of the vector of registers: its name in `simulator.units.TRACE_FIELDS`, bits, lanes, sign."""

    name: str
    bits: int
    lanes: int = 0
    signed: bool = False


def registers(stage: StageSchedule) -> tuple[Field, ...]:
    """The entries of `mvtu.registers`, the lowest first; `lanes` is 0 for a scalar."""
    config = stage.config
    return (
        *(Field(name, 32) for name in ("nf", "sf", "row", "column", "phase_row", "phase_column", "weight_address")),
        Field("word", config.simd),
        Field("popcount", config.popcount_width, config.pe),
        Field("accumulator", config.accumulator_width, config.pe, signed=True),
        Field("threshold_address", 32),
        Field("threshold", config.threshold_width, config.pe, signed=True),
        Field("flip", 1, config.pe),
        Field("bits", 1, config.pe),
        *(Field(name, 1) for name in ("in_valid", "in_ready", "out_valid", "out_ready")),
    )


def identifier(name: str) -> str:
    """A layer's name as the start of its memory images' names, and in identifiers.

    >>> identifier("block 1.conv")
    'block_1_conv'
    """
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)


def mvtu_parameters(stage: StageSchedule) -> Parameters:
    """The parameters of `mvtu.sv` for a stage."""
    config = stage.config
    scale_width = max(max(plane.scale.bit_length(), (-plane.scale - 1).bit_length()) for plane in stage.planes) + 1
    scales = sum(
        (plane.scale & ((1 << scale_width) - 1)) << index * scale_width for index, plane in enumerate(stage.planes)
    )
    planes = len(stage.planes)
    return {
        "PE": config.pe,
        "SIMD": config.simd,
        "GROUPS": stage.groups,
        "OUTPUTS": stage.outputs,
        "INPUTS": stage.inputs,
        "TAPS": stage.taps,
        "PLANES": planes,
        "SCALE_WIDTH": scale_width,
        "SCALES": f"{planes * scale_width}'h{scales:x}",
        "UNSIGNED": f"{planes}'h{sum(int(plane.unsigned) << index for index, plane in enumerate(stage.planes)):x}",
        "ROWS": stage.output_map[0],
        "COLUMNS": stage.output_map[1],
        "POOL_ROWS": stage.pool[0],
        "POOL_COLUMNS": stage.pool[1],
        "POOL_BITS": int(config.pool == "bits"),
        "THRESHOLDS": int(stage.thresholds is not None),
        "PERIOD_ROWS": stage.period[0],
        "PERIOD_COLUMNS": stage.period[1],
        "ORIGIN_ROW": stage.origin[0],
        "ORIGIN_COLUMN": stage.origin[1],
        "POPCOUNT_WIDTH": config.popcount_width,
        "ACCUMULATOR_WIDTH": config.accumulator_width,
        "THRESHOLD_WIDTH": config.threshold_width,
        "SATURATE": int(config.overflow == "saturate"),
        "MEMORY": f'"{identifier(stage.name)}"',
    }


def window_parameters(stage: StageSchedule, before: StageSchedule | None) -> Parameters:
    """The parameters of `sliding_window.sv` for a stage; `before` is the stage in front, None for the first one."""
    layer, (height, width) = stage.layer, stage.input_map
    if isinstance(layer, (BinaryConv2d, PixelConv2d)):
        kernel = layer.weight_shape[1:3]
        stride, dilation, padding, mode = layer.stride, layer.dilation, layer.padding, layer.padding_mode
    else:
        kernel, stride, dilation, padding, mode = (height, width), (1, 1), (1, 1), (0, 0), "zeros"
    channels = stage.groups * stage.inputs
    if mode in FILLS:
        mode = "zeros" if stage.fill is None else "ones"
    if before is None:
        arriving: Parameters = {"IN_PE": channels, "IN_GROUPS": 1, "IN_OUTPUTS": channels}
    else:
        arriving = {"IN_PE": before.config.pe, "IN_GROUPS": before.groups, "IN_OUTPUTS": before.outputs}
    pairs = {
        f"{name}_{axis}": value
        for name, both in (("KERNEL", kernel), ("STRIDE", stride), ("DILATION", dilation), ("PADDING", padding))
        for axis, value in zip(("ROWS", "COLUMNS"), both, strict=True)
    }
    return {
        "LANE_BITS": 8 if stage.reads_pixels else 1,
        **arriving,
        "GROUPS": stage.groups,
        "INPUTS": stage.inputs,
        "SIMD": stage.config.simd,
        "PLANES": len(stage.planes),
        "HEIGHT": height,
        "WIDTH": width,
        "ROWS": stage.output_map[0],
        "COLUMNS": stage.output_map[1],
        **pairs,
        "PADDING_MODE": _PADDINGS[mode],
        "FILL": stage.fill or 0,
        "LINES": stage.config.line_buffer_rows,
    }


def pipeline(name: str, stages: Sequence[StageSchedule], accelerator: Accelerator, folder: str = "") -> str:
    """The module that chains FIFO, sliding window unit and MVTU of every stage, and the FIFO behind the last one.

    With the macro TRACE it has an output `registers` (the MVTUs' registers, the first stage lowest) and an output
    `counts` (what the FIFOs hold, 32 bits each).

    Args:
        name: the module's.
        stages, accelerator: what it is made of.
        folder: where the memory images lie, seen from where the simulator runs; empty, or with a slash at its end.
    """
    depths = [*(stage.config.fifo_depth for stage in stages), accelerator.output_fifo_depth]
    widths = word_widths(stages)
    last = len(stages)
    text = _HEAD.format(
        name=name,
        into=widths[0] - 1,
        out=widths[-1] - 1,
        registers=sum(register_bits(stage) for stage in stages) - 1,
        counts=32 * len(depths) - 1,
    )
    text += "".join(
        f"    logic valid_{i}, ready_{i};\n    logic [{width - 1}:0] word_{i};\n" for i, width in enumerate(widths)
    )
    before: StageSchedule | None = None
    for index, stage in enumerate(stages):
        text += _STAGE.format(
            name=stage.name.replace("\n", " "),
            i=index,
            next=index + 1,
            fifo=_list({"WIDTH": widths[index], "DEPTH": depths[index]}),
            window=_list(window_parameters(stage, before)),
            mvtu=_list({**mvtu_parameters(stage), "MEMORY": f'"{folder}{identifier(stage.name)}"'}),
            head=widths[index] - 1,
            operand=stage.config.simd - 1,
            registers=register_bits(stage) - 1,
            count=depths[index].bit_length(),
        )
        before = stage
    return text + _TAIL.format(
        i=last,
        fifo=_list({"WIDTH": widths[-1], "DEPTH": depths[-1]}),
        count=depths[-1].bit_length(),
        counts=", ".join(f"32'(count_{i})" for i in reversed(range(last + 1))),
        registers=", ".join(f"registers_{i}" for i in reversed(range(last))),
    )


def register_bits(stage: StageSchedule) -> int:
    """Bits of `mvtu.registers`."""
    return sum(field.bits * max(1, field.lanes) for field in registers(stage))


def pixel_words(images: NDArray[np.uint8]) -> list[str]:
    """The words that enter the first stage, in hexadecimal: a pixel each, its first channel lowest.

    >>> pixel_words(np.array([[[[1, 2, 3]]]], dtype=np.uint8))
    ['030201']
    """
    return [pixel.tobytes()[::-1].hex() for pixel in images.reshape(-1, images.shape[-1])]


def _list(parameters: Parameters) -> str:
    return ", ".join(f".{name}({value})" for name, value in parameters.items())


_HEAD = """\
module {name} (
    input logic clk,
    input logic reset,
    input logic in_valid,
    output logic in_ready,
    input logic [{into}:0] in_word,
    output logic out_valid,
    input logic out_ready,
    output logic [{out}:0] out_word
`ifdef TRACE
    ,
    output logic [{registers}:0] registers,
    output logic [{counts}:0] counts
`endif
);
    // valid_n, ready_n, word_n: the stream into FIFO n
"""

_STAGE = """\

    // Stage {i}: {name}
    logic head_valid_{i}, head_ready_{i}, operand_valid_{i}, operand_ready_{i}, operand_word_valid_{i};
    logic [{head}:0] head_{i};
    logic [{operand}:0] operand_{i};
    logic [{count}:0] count_{i};
    fifo #({fifo}, .COUNT_WIDTH({count} + 1)) fifo_{i} (
        .clk(clk), .reset(reset), .in_valid(valid_{i}), .in_ready(ready_{i}), .in_word(word_{i}),
        .out_valid(head_valid_{i}), .out_ready(head_ready_{i}), .out_word(head_{i}), .count(count_{i})
    );
    sliding_window #({window}) window_{i} (
        .clk(clk), .reset(reset), .in_valid(head_valid_{i}), .in_ready(head_ready_{i}), .in_word(head_{i}),
        .out_valid(operand_valid_{i}), .out_ready(operand_ready_{i}), .out_word(operand_{i}),
        .out_word_valid(operand_word_valid_{i})
    );
`ifdef TRACE
    logic [{registers}:0] registers_{i};
`endif
    mvtu #({mvtu}) mvtu_{i} (
        .clk(clk), .reset(reset), .in_valid(operand_valid_{i}), .in_ready(operand_ready_{i}), .in_word(operand_{i}),
        .in_word_valid(operand_word_valid_{i}), .out_valid(valid_{next}), .out_ready(ready_{next}),
        .out_word(word_{next})
`ifdef TRACE
        , .registers(registers_{i})
`endif
    );
"""

_TAIL = """\

    assign valid_0 = in_valid;
    assign in_ready = ready_0;
    assign word_0 = in_word;
    logic [{count}:0] count_{i};
    fifo #({fifo}, .COUNT_WIDTH({count} + 1)) fifo_{i} (
        .clk(clk), .reset(reset), .in_valid(valid_{i}), .in_ready(ready_{i}), .in_word(word_{i}),
        .out_valid(out_valid), .out_ready(out_ready), .out_word(out_word), .count(count_{i})
    );
`ifdef TRACE
    assign counts = {{{counts}}};
    assign registers = {{{registers}}};
`endif
endmodule
"""
