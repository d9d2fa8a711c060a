// One processing element of the mvtu: weight memory, XNOR, popcount, accumulator, threshold memory, comparator, pool.
`include "faults.svh"

module processing_element #(
    parameter SIMD = 3,
    parameter WEIGHT_DEPTH = 18,
    parameter THRESHOLDS = 1,       // 0: no comparator, the sum leaves
    parameter THRESHOLD_DEPTH = 2,
    parameter POOL_DEPTH = 0,       // what the pool keeps; 0: no pool
    parameter POOL_BITS = 0,        // the pool stands behind the threshold
    parameter ALWAYS_PRESENT = 1,   // has a channel in the last fold of a group too
    parameter SCALE_WIDTH = 2,
    parameter COUNTED_WIDTH = 2,
    parameter POPCOUNT_WIDTH = 2,
    parameter ACCUMULATOR_WIDTH = 8,
    parameter THRESHOLD_WIDTH = 8,
    parameter SATURATE = 0,         // what a value does that its width cannot hold; 0: wrap
    parameter WEIGHTS = "weights.hex",
    parameter LIMITS = "thresholds.hex",
    parameter WEIGHT_STYLE = "auto",     // for synthesis: what the memories become, "auto", "block", "distributed"
    parameter THRESHOLD_STYLE = "auto",
    parameter WEIGHT_ADDRESS_WIDTH = WEIGHT_DEPTH > 1 ? $clog2(WEIGHT_DEPTH) : 1,
    parameter THRESHOLD_ADDRESS_WIDTH = THRESHOLD_DEPTH > 1 ? $clog2(THRESHOLD_DEPTH) : 1,
    parameter POOL_ADDRESS_WIDTH = POOL_DEPTH > 1 ? $clog2(POOL_DEPTH) : 1
) (
    input logic clk,
    input logic reset,
    input logic fire,           // this cycle's sum counts
    input logic waits,          // it would, but what it leads to has nowhere to go (for a seeded fault)
    input logic clears,         // the sum starts anew
    input logic last_fold,      // of its group
    input logic [SIMD-1:0] word,
    input logic [SIMD-1:0] mask,
    input logic [COUNTED_WIDTH-1:0] counted,  // ones of mask
    input logic signed [SCALE_WIDTH-1:0] scale,
    input logic [WEIGHT_ADDRESS_WIDTH-1:0] next_weight_address,
    input logic [THRESHOLD_ADDRESS_WIDTH-1:0] next_threshold_address,
    input logic keep,           // the pool's memory takes what stands behind the pool
    input logic alone,          // this pixel does not meet the pool's memory
    input logic [POOL_ADDRESS_WIDTH-1:0] pool_address,
    output logic [POPCOUNT_WIDTH-1:0] count,
    output logic signed [ACCUMULATOR_WIDTH-1:0] accumulator,
    output logic [THRESHOLD_WIDTH:0] threshold,              // {flip, limit}
    output logic signed [ACCUMULATOR_WIDTH-1:0] compared,    // what the comparator sees
    output logic out_bit
);
    `FAULT_NUMBER
    localparam TERM_WIDTH = COUNTED_WIDTH + 2 + SCALE_WIDTH;
    localparam SUM_WIDTH = (ACCUMULATOR_WIDTH > TERM_WIDTH ? ACCUMULATOR_WIDTH : TERM_WIDTH) + 1;
    localparam COMPARE_WIDTH = (ACCUMULATOR_WIDTH > THRESHOLD_WIDTH ? ACCUMULATOR_WIDTH : THRESHOLD_WIDTH) + 1;

    // ------------------------------------------------------------------------------------- popcount of agreements
    (* ram_style = WEIGHT_STYLE *) logic [SIMD-1:0] weights[0:WEIGHT_DEPTH-1];
    logic [SIMD-1:0] weight;
    initial $readmemh(WEIGHTS, weights);
    always_ff @(posedge clk) weight <= weights[next_weight_address];

    logic present;
    assign present = ALWAYS_PRESENT != 0 || !last_fold || `FAULT(`MASKED_CHANNEL_LIVE);

    logic [SIMD-1:0] agree;
    assign agree = present
        ? ~(word ^ weight) & mask & ~(SIMD'(`FAULT(`POPCOUNT_LOSES_LAST_LANE)) << (SIMD - 1)) : '0;
    popcount #(.SIMD(SIMD), .WIDTH(POPCOUNT_WIDTH), .SATURATE(SATURATE)) tree (.bits(agree), .count(count));

    // ------------------------------------------------------------------------------------------------ accumulator
    logic signed [TERM_WIDTH-1:0] term;
    logic signed [SUM_WIDTH-1:0] sum;
    logic signed [ACCUMULATOR_WIDTH-1:0] held;
    logic kept;  // of a seeded fault: the sum before is not cleared

    assign term = present
        ? TERM_WIDTH'(scale) * $signed(TERM_WIDTH'({count, 1'b0}) - TERM_WIDTH'(counted)) : '0;
    assign sum = (clears && !kept ? '0 : SUM_WIDTH'(held)) + SUM_WIDTH'(term);
    generate
        if (SATURATE != 0) begin : saturated
            logic beyond;  // the bits above the sign are not all like it
            assign beyond = sum[SUM_WIDTH-1:ACCUMULATOR_WIDTH-1]
                != {(SUM_WIDTH - ACCUMULATOR_WIDTH + 1) {sum[SUM_WIDTH-1]}};
            assign accumulator = beyond && !`FAULT(`SATURATION_WRAPS)
                ? {sum[SUM_WIDTH-1], {(ACCUMULATOR_WIDTH - 1) {!sum[SUM_WIDTH-1]}}} : sum[ACCUMULATOR_WIDTH-1:0];
        end else begin : wrapped
            assign accumulator = sum[ACCUMULATOR_WIDTH-1:0];
        end
    endgenerate
    always_ff @(posedge clk) begin
        if (reset) held <= '0;
        else if (fire || (`FAULT(`ACCUMULATOR_COUNTS_WHILE_STALLED) && waits)) held <= accumulator;
    end

`ifdef FAULTS
    logic stalled;  // the cycle before did not fire
    always_ff @(posedge clk) stalled <= !reset && !fire;
    assign kept = `FAULT(`ACCUMULATOR_KEPT_AFTER_STALL) && stalled;
`else
    assign kept = 1'b0;
`endif

    // ----------------------------------------------------------------------------------------- threshold and pool
    logic bit_of_sum;
    generate
        if (THRESHOLDS != 0) begin : comparator
            (* ram_style = THRESHOLD_STYLE *) logic [THRESHOLD_WIDTH:0] thresholds[0:THRESHOLD_DEPTH-1];
            initial $readmemh(LIMITS, thresholds);
            always_ff @(posedge clk) threshold <= thresholds[next_threshold_address];

            logic signed [COMPARE_WIDTH-1:0] limit, value;
            assign value = COMPARE_WIDTH'(compared);
            assign limit = `FAULT(`LIMIT_UNSIGNED)
                ? $signed(COMPARE_WIDTH'({1'b0, threshold[THRESHOLD_WIDTH-1:0]}))
                : COMPARE_WIDTH'($signed(threshold[THRESHOLD_WIDTH-1:0]));
            assign bit_of_sum = present
                && ((value >= limit && !(`FAULT(`COMPARATOR_STRICT) && value == limit))
                    != (threshold[THRESHOLD_WIDTH] && !`FAULT(`FLIP_IGNORED)));
        end else begin : no_comparator
            assign threshold = '0;
            assign bit_of_sum = 1'b0;
        end

        if (POOL_DEPTH > 0 && POOL_BITS != 0 && THRESHOLDS != 0) begin : pool_of_bits
            assign compared = accumulator;
            pool #(.WIDTH(1), .DEPTH(POOL_DEPTH), .ON_BITS(1)) unit (
                .clk(clk), .keep(keep), .alone(alone), .flip(threshold[THRESHOLD_WIDTH]),
                .address(pool_address), .value(bit_of_sum), .pooled(out_bit)
            );
        end else begin : no_pool_of_bits
            assign out_bit = bit_of_sum;
            if (POOL_DEPTH > 0) begin : pool_of_sums
                pool #(.WIDTH(ACCUMULATOR_WIDTH), .DEPTH(POOL_DEPTH), .ON_BITS(0)) unit (
                    .clk(clk), .keep(keep), .alone(alone), .flip(1'b0),
                    .address(pool_address), .value(accumulator), .pooled(compared)
                );
            end else begin : no_pool
                assign compared = accumulator;
            end
        end
    endgenerate
endmodule
