// The number of ones, held in WIDTH bits. ADDER_TREE chooses the tree that synthesis wants; simulators are faster at
// $countones.
`include "faults.svh"

module popcount #(
    parameter SIMD = 8,
    parameter WIDTH = $clog2(SIMD + 1),
    parameter SATURATE = 0,  // 0: wrap
    parameter FULL = $clog2(SIMD + 1)
) (
    input logic [SIMD-1:0] bits,
    output logic [WIDTH-1:0] count
);
    `FAULT_NUMBER
    logic [FULL-1:0] ones;

`ifdef ADDER_TREE
    // Level by level, pairs of nodes: node n is the sum of the nodes 2n + 1 and 2n + 2, the leaves come last.
    localparam LEAVES = 1 << $clog2(SIMD);
    logic [(2 * LEAVES - 1) * FULL - 1:0] node;
    genvar n;
    generate
        for (n = 0; n < LEAVES; n = n + 1) begin : leaf
            if (n < SIMD) assign node[(LEAVES - 1 + n) * FULL +: FULL] = FULL'(bits[n]);
            else assign node[(LEAVES - 1 + n) * FULL +: FULL] = '0;
        end
        for (n = 0; n < LEAVES - 1; n = n + 1) begin : pair
            assign node[n * FULL +: FULL] = node[(2 * n + 1) * FULL +: FULL] + node[(2 * n + 2) * FULL +: FULL];
        end
    endgenerate
    assign ones = node[FULL-1:0];
`else
    assign ones = FULL'($countones(bits));
`endif

    generate
        if (WIDTH >= FULL) begin : whole
            assign count = WIDTH'(ones);
        end else if (SATURATE != 0) begin : saturated
            assign count = |ones[FULL-1:WIDTH] && !`FAULT(`SATURATION_WRAPS) ? '1 : ones[WIDTH-1:0];
        end else begin : wrapped
            assign count = ones[WIDTH-1:0];
        end
    endgenerate
endmodule
