// One lane of the pool: the memory of what was kept of every window of a row of windows, and the combination with it.
`include "faults.svh"

module pool #(
    parameter WIDTH = 8,    // an accumulator, or 1: a bit
    parameter DEPTH = 4,    // windows of a row, times channel folds
    parameter ON_BITS = 0,  // OR, AND where flip; else the maximum, signed
    parameter ADDRESS_WIDTH = DEPTH > 1 ? $clog2(DEPTH) : 1
) (
    input logic clk,
    input logic keep,   // write what stands at `pooled`
    input logic alone,  // the window's first pixel, or one that no window takes: it does not meet the memory
    input logic flip,
    input logic [ADDRESS_WIDTH-1:0] address,
    input logic [WIDTH-1:0] value,
    output logic [WIDTH-1:0] pooled
);
    `FAULT_NUMBER
    logic [WIDTH-1:0] kept[0:DEPTH-1];
    logic [WIDTH-1:0] earlier;
    logic [WIDTH-1:0] both;

    assign earlier = kept[address];
    generate
        if (ON_BITS != 0) begin : bits
            assign both = flip && !`FAULT(`OR_FOR_AND) ? earlier & value : earlier | value;
        end else begin : accumulators
            assign both = $signed(earlier) > $signed(value) ? earlier : value;
        end
    endgenerate
    assign pooled = alone && !`FAULT(`POOL_KEPT_BETWEEN_WINDOWS) ? value : both;

    always_ff @(posedge clk) if (keep) kept[address] <= pooled;

`ifdef FAULTS
    // Without the fault nothing is read before it is written.
    integer slot;
    initial for (slot = 0; slot < DEPTH; slot = slot + 1) kept[slot] = '0;
`endif
endmodule
