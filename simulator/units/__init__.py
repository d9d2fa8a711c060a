"""Bit-true units of one layer's pipeline stage, each small enough to be read beside its circuit.

A *stage* is what the accelerator has for one layer: a sliding window unit (SWU), a matrix-vector-threshold unit
(MVTU) with its pool, and the FIFO in front of the SWU. This page is the contract that the models in Python and the
SystemVerilog in `simulator/rtl` both keep; a difference in any of the registers below, in any cycle, is a bug.

**Sizes.** O output channels in G groups, C input channels a group, K = kernel rows * columns taps (a dense layer is
a convolution whose kernel is the whole map), P bit planes (1, or 8 to 9 in a first layer that reads pixels):

    NG = ceil((O/G) / PE)   NF = G * NG     channel folds; fold nf holds the channels q*(O/G) + (nf % NG)*PE + pe of
                                            group q = nf // NG, where (nf % NG)*PE + pe < O/G
    CF = ceil(C / SIMD)     SF = K * CF * P synapse folds; fold sf = (tap*CF + cf)*P + plane holds the input channels
                                            cf*SIMD + s of its group at kernel tap `tap` (row by row), where < C

Lanes beyond the last channel (of a ragged fold) are masked: they count for nothing and leave 0 bits.

**Order.** For every image, for every output pixel of the convolution row by row, for nf, for sf: one cycle each.

**Streams** are ready/valid: a word moves in a cycle in which both are high. Between stages a word is the PE output
bits of one channel fold (bit pe), NF words a pixel; the words of pixels before a pool or cut off by it do not leave
the MVTU. The first stage's input word is one pixel with all its channels. The last stage leaves PE accumulators.

**FIFO**, of depth D, registered: in_ready = (count < D), out_valid = (count > 0); a word that is pushed in cycle t can
be popped in t + 1, a slot that is popped in t can be filled in t + 1 (depth 1 moves a word every second cycle).

**SWU**: a line buffer of R rows, row r (counted on over the images) in line r mod R. in_ready = (row of the next
write - oldest row that this or a later window reads < R), a window's rows being free in the cycle after its last
word was taken; a pixel can be read in the cycle after its last word was written. out_valid = (all pixels that this
and all earlier windows of the image need are written, and the image's first one is); both are functions of registers
alone. It leaves, for every window, the words of (group, tap, cf, plane), each with `word_valid` = 0 where the tap lies
in zero padding (the word is 0 then), and other paddings as the pixels that they show.

**MVTU**: operands of the first channel fold of a group (nf % NG == 0) come from the stream and are kept; the group's
other folds read them again. In one cycle, without any pipeline register:

    first         = nf % NG == 0
    operand_valid = in_valid if first else 1
    word, mask    = operand & lanes, lanes if word_valid (all 0 while operand_valid is 0); where a plane is `unsigned`
                    the mask is the word itself (a pixel's 0 bit counts for nothing, its 1 bit as +1)
    popcount[pe]  = ones of (~(word ^ weight[pe]) & mask), through the tree
    accumulator[pe] = (0 if sf == 0 else register[pe]) + scale * (2*popcount[pe] - ones of mask)
    completes     = sf == SF - 1 and this pixel is the last of its pool's window (always, without a pool)
    out_valid     = operand_valid & completes
    in_ready      = first & (~completes | out_ready)
    fire          = operand_valid & (~completes | out_ready)

and `register <= accumulator`, counters one on, only where `fire`. `scale` is 1, or the plane's weight. Counters run
over (row, column, nf, sf) and wrap at the end of an image.

**Pool** (size = stride), in the same cycle as sf == SF - 1, from a memory [column // columns][nf]: `"accumulators"`
keeps the maximum and thresholds it; `"bits"` thresholds first, then ORs (ANDs where `flip` = 1). The window's first
pixel overwrites. Rows and columns that fill no window are computed and dropped: nothing is stored for them.

**Threshold memory**: word {flip, limit} of every PE; output bit = (accumulator >= limit) ^ flip, so direction +1 is
(0, t), direction -1 is (1, t + 1), a constant is (bit is -1, lowest limit). The weight memory has for every PE one
word of SIMD bits. Masked PEs hold 0 in both memories, their popcount is 0 and their output bits are 0.

**Widths.** The tree's result is unsigned, accumulators and limits are two's complement; a value that does not fit is
an error, wraps, or saturates (an accumulator in every addition). The term that is added is not limited in itself.

**The registers of the MVTU, in every cycle** (sampled just before the rising edge that ends it; `TRACE_FIELDS`):

| name | meaning |
| --- | --- |
| `nf`, `sf` | channel fold and synapse fold |
| `row`, `column` | output pixel of the convolution, before the pool |
| `phase_row`, `phase_column` | (origin + row // pool rows) mod m and the like; counters, not divisions, in RTL |
| `weight_address` | nf * (K*CF) + sf // P |
| `word` | the operand, SIMD bits, as masked above |
| `popcount[PE]` | this cycle's, after the tree; unsigned |
| `accumulator[PE]` | this cycle's sum, which the threshold sees; signed; without operand the held one, 0 at sf = 0 |
| `threshold_address` | nf * (m*n) + phase_row*n + phase_column; 0 in a stage without thresholds |
| `threshold[PE]`, `flip[PE]` | the memory's word at that address; 0 without thresholds |
| `bits[PE]` | output bits, in every cycle (meant only with out_valid); behind the pool where there is one |
| `in_valid`, `in_ready`, `out_valid`, `out_ready` | the MVTU's two streams |

`bits` is a function of this cycle's `accumulator` in every cycle, also where sf < SF - 1: without a pool the
comparison alone; with one, the comparison of the larger of it and the pool's memory at [column // columns][nf] (or the
OR/AND of both bits). Without that memory's word where the pixel is its window's first, or is dropped. The pool's
memory is 0 after reset.
"""

from __future__ import annotations

TRACE_FIELDS = (
    "nf",
    "sf",
    "row",
    "column",
    "phase_row",
    "phase_column",
    "weight_address",
    "word",
    "popcount",
    "accumulator",
    "threshold_address",
    "threshold",
    "flip",
    "bits",
    "in_valid",
    "in_ready",
    "out_valid",
    "out_ready",
)
"""The MVTU's registers and wires that every model gives for every cycle, in this order."""
