// The matrix-vector-threshold unit with its pool: counters, addresses and operands, and what its processing elements
// share; simulator/units/__init__.py says what stands where in which cycle.
//
// All weights and thresholds are read synchronously, with the address that the counters will have after the edge, so
// that memories can be block RAM and no pipeline register is needed.
`include "faults.svh"

module mvtu #(
    parameter PE = 2,              // output channels side by side
    parameter SIMD = 3,            // input bits of a cycle
    parameter GROUPS = 1,
    parameter OUTPUTS = 4,         // output channels of a group
    parameter INPUTS = 6,          // input channels of a group
    parameter TAPS = 9,
    parameter PLANES = 1,          // bit planes of the operands
    parameter SCALE_WIDTH = 2,
    parameter SCALES = 2'd1,       // what a bit of every plane counts, signed, plane 0 lowest
    parameter UNSIGNED = 1'b0,     // for every plane, whether a 0 bit counts for nothing
    parameter ROWS = 5,            // of the output map, before the pool
    parameter COLUMNS = 4,
    parameter POOL_ROWS = 1,
    parameter POOL_COLUMNS = 1,
    parameter POOL_BITS = 0,       // the pool stands behind the threshold
    parameter THRESHOLDS = 1,      // 0: the last stage, which leaves accumulators
    parameter PERIOD_ROWS = 1,
    parameter PERIOD_COLUMNS = 1,
    parameter ORIGIN_ROW = 0,
    parameter ORIGIN_COLUMN = 0,
    parameter POPCOUNT_WIDTH = 2,
    parameter ACCUMULATOR_WIDTH = 8,
    parameter THRESHOLD_WIDTH = 8,
    parameter SATURATE = 0,        // what a value does that its width cannot hold; 0: wrap
    parameter MEMORY = "mvtu",     // memory images: <MEMORY>_weights_pe<n>.hex and <MEMORY>_thresholds_pe<n>.hex
    parameter WEIGHT_STYLE = "auto",     // for synthesis: what the memories become, "auto", "block", "distributed"
    parameter THRESHOLD_STYLE = "auto",
    parameter OUT_WIDTH = THRESHOLDS != 0 ? PE : PE * ACCUMULATOR_WIDTH,
    parameter REGISTERS_WIDTH = 8 * 32 + SIMD + PE * (POPCOUNT_WIDTH + ACCUMULATOR_WIDTH + THRESHOLD_WIDTH + 2) + 4
) (
    input logic clk,
    input logic reset,
    input logic in_valid,
    output logic in_ready,
    input logic [SIMD-1:0] in_word,
    input logic in_word_valid,  // the word stands on the map, not in padding that counts for nothing
    output logic out_valid,
    input logic out_ready,
    output logic [OUT_WIDTH-1:0] out_word
`ifdef TRACE
    ,
    output logic [REGISTERS_WIDTH-1:0] registers  // simulator.units.TRACE_FIELDS, the first one lowest
`endif
);
    `FAULT_NUMBER
    localparam GROUP_FOLDS = (OUTPUTS + PE - 1) / PE;
    localparam CHANNEL_FOLDS = GROUPS * GROUP_FOLDS;
    localparam INPUT_FOLDS = (INPUTS + SIMD - 1) / SIMD;
    localparam SYNAPSE_FOLDS = TAPS * INPUT_FOLDS * PLANES;
    localparam LAST_LANES = INPUTS - (INPUT_FOLDS - 1) * SIMD;
    localparam LAST_CHANNELS = OUTPUTS - (GROUP_FOLDS - 1) * PE;
    localparam WEIGHT_DEPTH = CHANNEL_FOLDS * TAPS * INPUT_FOLDS;
    localparam PERIOD = PERIOD_ROWS * PERIOD_COLUMNS;
    localparam THRESHOLD_DEPTH = CHANNEL_FOLDS * PERIOD;
    localparam POOL_DEPTH =
        POOL_ROWS * POOL_COLUMNS == 1 ? 0 : CHANNEL_FOLDS * (COLUMNS / POOL_COLUMNS > 0 ? COLUMNS / POOL_COLUMNS : 1);

    localparam NF_WIDTH = CHANNEL_FOLDS > 1 ? $clog2(CHANNEL_FOLDS) : 1;
    localparam NG_WIDTH = GROUP_FOLDS > 1 ? $clog2(GROUP_FOLDS) : 1;
    localparam SF_WIDTH = SYNAPSE_FOLDS > 1 ? $clog2(SYNAPSE_FOLDS) : 1;
    localparam CF_WIDTH = INPUT_FOLDS > 1 ? $clog2(INPUT_FOLDS) : 1;
    localparam PLANE_WIDTH = PLANES > 1 ? $clog2(PLANES) : 1;
    localparam WEIGHT_ADDRESS_WIDTH = WEIGHT_DEPTH > 1 ? $clog2(WEIGHT_DEPTH) : 1;
    localparam THRESHOLD_ADDRESS_WIDTH = THRESHOLD_DEPTH > 1 ? $clog2(THRESHOLD_DEPTH) : 1;
    localparam POOL_ADDRESS_WIDTH = POOL_DEPTH > 1 ? $clog2(POOL_DEPTH) : 1;
    localparam ROW_WIDTH = ROWS > 1 ? $clog2(ROWS) : 1;
    localparam COLUMN_WIDTH = COLUMNS > 1 ? $clog2(COLUMNS) : 1;
    localparam POOL_ROW_WIDTH = $clog2(ROWS / POOL_ROWS + 2);
    localparam POOL_COLUMN_WIDTH = $clog2(COLUMNS / POOL_COLUMNS + 2);
    localparam PHASE_ROW_WIDTH = PERIOD_ROWS > 1 ? $clog2(PERIOD_ROWS) : 1;
    localparam PHASE_COLUMN_WIDTH = PERIOD_COLUMNS > 1 ? $clog2(PERIOD_COLUMNS) : 1;
    localparam ONES_WIDTH = $clog2(SIMD + 1);
    localparam COUNTED_WIDTH = POPCOUNT_WIDTH > ONES_WIDTH ? POPCOUNT_WIDTH : ONES_WIDTH;

    // ------------------------------------------------------------------------------------------------- counters
    logic [NF_WIDTH-1:0] nf;
    logic [NG_WIDTH-1:0] group_fold;
    logic [SF_WIDTH-1:0] sf;
    logic [CF_WIDTH-1:0] input_fold;
    logic [PLANE_WIDTH-1:0] plane;
    logic [WEIGHT_ADDRESS_WIDTH-1:0] weight_address;
    logic [WEIGHT_ADDRESS_WIDTH-1:0] next_weight_address;
    logic [THRESHOLD_ADDRESS_WIDTH-1:0] threshold_base;  // nf * PERIOD
    logic [THRESHOLD_ADDRESS_WIDTH-1:0] next_threshold_base;
    logic [THRESHOLD_ADDRESS_WIDTH-1:0] threshold_address;
    logic [THRESHOLD_ADDRESS_WIDTH-1:0] next_threshold_address;
    logic [ROW_WIDTH-1:0] row;
    logic [COLUMN_WIDTH-1:0] column;
    logic [POOL_ROW_WIDTH-1:0] window_row;
    logic [POOL_COLUMN_WIDTH-1:0] window_column;
    logic [PHASE_ROW_WIDTH-1:0] phase_row;
    logic [PHASE_ROW_WIDTH-1:0] next_phase_row;
    logic [PHASE_COLUMN_WIDTH-1:0] phase_column;
    logic [PHASE_COLUMN_WIDTH-1:0] next_phase_column;
    logic row_begins, row_ends, row_dropped, last_row;
    logic column_begins, column_ends, column_dropped, last_column;
    logic last_plane, last_synapse, last_fold, pixel_done;

    // ------------------------------------------------------------------------------------------------ handshakes
    logic first, completes, dropped, fire, operand_valid;
    logic [PE-1:0] bits;

    assign first = group_fold == 0;
    assign operand_valid = in_valid || !first;
    assign last_plane = plane == PLANE_WIDTH'(PLANES - 1);
    assign last_synapse = sf == SF_WIDTH'(SYNAPSE_FOLDS - 1);
    assign last_fold = nf == NF_WIDTH'(CHANNEL_FOLDS - 1);
    assign dropped = row_dropped || column_dropped;
    assign completes = last_synapse && (dropped ? `FAULT(`CUT_OFF_PIXELS_LEAVE) : row_ends && column_ends);
    assign fire = operand_valid && (!completes || out_ready || `FAULT(`VALID_DROPPED_WHILE_BLOCKED));
    assign in_ready = first && (!completes || out_ready || `FAULT(`VALID_DROPPED_WHILE_BLOCKED));
    assign out_valid = operand_valid && completes;
    assign pixel_done = fire && last_synapse && last_fold;

    always_ff @(posedge clk) begin
        if (reset) begin
            nf <= '0;
            group_fold <= '0;
            sf <= '0;
            input_fold <= '0;
            plane <= '0;
        end else if (fire) begin
            plane <= last_plane ? '0 : plane + 1'b1;
            if (last_plane) input_fold <= input_fold == CF_WIDTH'(INPUT_FOLDS - 1) ? '0 : input_fold + 1'b1;
            sf <= last_synapse ? '0 : sf + 1'b1;
            if (last_synapse) begin
                nf <= last_fold ? '0 : nf + 1'b1;
                group_fold <= group_fold == NG_WIDTH'(GROUP_FOLDS - 1) ? '0 : group_fold + 1'b1;
            end
        end
    end

    axis_counter #(
        .EXTENT(ROWS), .POOL(POOL_ROWS), .PERIOD(PERIOD_ROWS), .ORIGIN(ORIGIN_ROW), .ROWS(1),
        .POSITION_WIDTH(ROW_WIDTH), .WINDOW_WIDTH(POOL_ROW_WIDTH), .PHASE_WIDTH(PHASE_ROW_WIDTH)
    ) rows (
        .clk(clk), .reset(reset), .advance(pixel_done && last_column), .position(row), .window(window_row),
        .phase(phase_row), .next_phase(next_phase_row), .begins(row_begins), .ends(row_ends), .dropped(row_dropped),
        .last(last_row)
    );
    axis_counter #(
        .EXTENT(COLUMNS), .POOL(POOL_COLUMNS), .PERIOD(PERIOD_COLUMNS), .ORIGIN(ORIGIN_COLUMN), .ROWS(0),
        .POSITION_WIDTH(COLUMN_WIDTH), .WINDOW_WIDTH(POOL_COLUMN_WIDTH), .PHASE_WIDTH(PHASE_COLUMN_WIDTH)
    ) columns (
        .clk(clk), .reset(reset), .advance(pixel_done), .position(column), .window(window_column),
        .phase(phase_column), .next_phase(next_phase_column), .begins(column_begins), .ends(column_ends),
        .dropped(column_dropped), .last(last_column)
    );

    // ------------------------------------------------------------------------------------------------- addresses
    // The weight address, nf * TAPS * INPUT_FOLDS + sf / PLANES, counts on through all folds of a pixel.
    logic [WEIGHT_ADDRESS_WIDTH-1:0] swapped_address;  // of a seeded fault
    logic [THRESHOLD_ADDRESS_WIDTH-1:0] cell_address;  // within a fold's words
    logic [THRESHOLD_ADDRESS_WIDTH-1:0] exact_address;
    assign swapped_address = WEIGHT_ADDRESS_WIDTH'(
        last_synapse ? 32'(nf) + 1 : 32'(nf) + (32'(sf) + 1) / PLANES * CHANNEL_FOLDS);
    assign next_weight_address =
        reset || pixel_done ? '0
        : `FAULT(`FOLD_ORDER_SWAPPED) && fire ? swapped_address
        : `FAULT(`WEIGHT_ADDRESS_OFF_BY_ONE) && fire && last_synapse ? weight_address
        : fire && last_plane ? weight_address + 1'b1 : weight_address;
    assign next_threshold_base =
        reset || pixel_done || `FAULT(`THRESHOLD_FOLD_IGNORED) ? '0
        : fire && last_synapse ? threshold_base + THRESHOLD_ADDRESS_WIDTH'(PERIOD) : threshold_base;
    assign cell_address = THRESHOLD_ADDRESS_WIDTH'(
        `FAULT(`PHASES_SWAPPED) ? (32'(next_phase_column) * PERIOD_COLUMNS + 32'(next_phase_row)) % PERIOD
        : 32'(next_phase_row) * PERIOD_COLUMNS + 32'(next_phase_column));
    assign exact_address = next_threshold_base + cell_address;
    assign next_threshold_address =
        THRESHOLDS == 0 ? '0
        : !`FAULT(`THRESHOLD_ADDRESS_OFF_BY_ONE) ? exact_address
        : exact_address == THRESHOLD_ADDRESS_WIDTH'(THRESHOLD_DEPTH - 1) ? '0 : exact_address + 1'b1;
    always_ff @(posedge clk) begin
        weight_address <= next_weight_address;
        threshold_base <= next_threshold_base;
        threshold_address <= next_threshold_address;
    end

    // -------------------------------------------------------------------------------------------------- operands
    logic [SIMD-1:0] operand, lanes, mask, word;
    logic operand_word_valid;

    generate
        if (GROUP_FOLDS > 1) begin : keep
            logic [SIMD-1:0] words[0:SYNAPSE_FOLDS-1];
            logic valids[0:SYNAPSE_FOLDS-1];
            always_ff @(posedge clk) begin
                if (in_valid && in_ready && !(`FAULT(`OPERANDS_NOT_KEPT) && row + column != 0)) begin
                    words[sf] <= in_word;
                    valids[sf] <= in_word_valid;
                end
            end
            assign operand = first ? in_word : words[sf];
            assign operand_word_valid = first ? in_word_valid : valids[sf];
        end else begin : pass
            assign operand = in_word;
            assign operand_word_valid = in_word_valid;
        end
        if (LAST_LANES < SIMD) begin : ragged
            assign lanes = input_fold == CF_WIDTH'(INPUT_FOLDS - 1) && !`FAULT(`RAGGED_LANES_COUNTED)
                ? {{(SIMD - LAST_LANES) {1'b0}}, {LAST_LANES{1'b1}}} : '1;
        end else begin : even
            assign lanes = '1;
        end
    endgenerate

    logic [COUNTED_WIDTH-1:0] counted;  // lanes that count in this cycle
    logic [ONES_WIDTH-1:0] counted_ones;
    logic signed [SCALE_WIDTH-1:0] scale;
    logic plane_unsigned;

    assign mask = !operand_valid || !(operand_word_valid || `FAULT(`PADDING_COUNTED)) ? '0
        : plane_unsigned ? operand & lanes : lanes;
    assign word = operand & mask;
    assign counted = COUNTED_WIDTH'(counted_ones);
    popcount #(.SIMD(SIMD)) ones_of_mask (.bits(mask), .count(counted_ones));
    generate
        if (PLANES > 1) begin : scales
            assign scale = `FAULT(`PLANE_SCALE_IGNORED) ? SCALE_WIDTH'(1) : SCALES[plane * SCALE_WIDTH +: SCALE_WIDTH];
            assign plane_unsigned = UNSIGNED[plane];
        end else begin : one_scale
            assign scale = SCALES[SCALE_WIDTH-1:0];
            assign plane_unsigned = UNSIGNED[0];
        end
    endgenerate

    // ------------------------------------------------------------------------------------------ processing elements
    logic alone;
    logic [POOL_ADDRESS_WIDTH-1:0] pool_address;
    assign alone = (row_begins && column_begins) || dropped;
    assign pool_address = dropped ? '0 : POOL_ADDRESS_WIDTH'(32'(window_column) * CHANNEL_FOLDS + 32'(nf));

    logic [PE*POPCOUNT_WIDTH-1:0] counts;
    logic [PE*ACCUMULATOR_WIDTH-1:0] accumulators, sums;
    logic [PE*THRESHOLD_WIDTH-1:0] limits;
    logic [PE-1:0] flips;

    genvar p;
    generate
        for (p = 0; p < PE; p = p + 1) begin : lane
            localparam DIGITS = p < 10 ? 1 : p < 100 ? 2 : p < 1000 ? 3 : 4;
            localparam [31:0] NUMBER =
                ((48 + p / 1000 % 10) << 24) | ((48 + p / 100 % 10) << 16) | ((48 + p / 10 % 10) << 8) | (48 + p % 10);

            processing_element #(
                .SIMD(SIMD), .WEIGHT_DEPTH(WEIGHT_DEPTH), .THRESHOLDS(THRESHOLDS), .THRESHOLD_DEPTH(THRESHOLD_DEPTH),
                .POOL_DEPTH(POOL_DEPTH), .POOL_BITS(POOL_BITS), .ALWAYS_PRESENT(p < LAST_CHANNELS ? 1 : 0),
                .SCALE_WIDTH(SCALE_WIDTH), .COUNTED_WIDTH(COUNTED_WIDTH), .POPCOUNT_WIDTH(POPCOUNT_WIDTH),
                .ACCUMULATOR_WIDTH(ACCUMULATOR_WIDTH), .THRESHOLD_WIDTH(THRESHOLD_WIDTH), .SATURATE(SATURATE),
                .WEIGHTS({MEMORY, "_weights_pe", NUMBER[8*DIGITS-1:0], ".hex"}),
                .LIMITS({MEMORY, "_thresholds_pe", NUMBER[8*DIGITS-1:0], ".hex"}),
                .WEIGHT_STYLE(WEIGHT_STYLE), .THRESHOLD_STYLE(THRESHOLD_STYLE)
            ) element (
                .clk(clk), .reset(reset), .fire(fire), .waits(operand_valid), .clears(sf == 0),
                .last_fold(group_fold == NG_WIDTH'(GROUP_FOLDS - 1)), .word(word), .mask(mask), .counted(counted),
                .scale(scale), .next_weight_address(next_weight_address),
                .next_threshold_address(next_threshold_address), .keep(fire && last_synapse && !dropped),
                .alone(alone), .pool_address(pool_address), .count(counts[p * POPCOUNT_WIDTH +: POPCOUNT_WIDTH]),
                .accumulator(accumulators[p * ACCUMULATOR_WIDTH +: ACCUMULATOR_WIDTH]),
                .threshold({flips[p], limits[p * THRESHOLD_WIDTH +: THRESHOLD_WIDTH]}),
                .compared(sums[p * ACCUMULATOR_WIDTH +: ACCUMULATOR_WIDTH]), .out_bit(bits[p])
            );
            if (THRESHOLDS != 0) begin : leaves_bits
                assign out_word[p] = `FAULT(`LANES_REVERSED) ? bits[PE-1-p] : bits[p];
            end
        end
        if (THRESHOLDS == 0) begin : leaves_sums
            assign out_word = sums;
        end
    endgenerate

`ifdef TRACE
    // The registers, as simulator.units lists them.
    assign registers = {
        out_ready, out_valid, in_ready, in_valid, bits, flips, limits, 32'(threshold_address), accumulators, counts,
        word, 32'(weight_address), 32'(phase_column), 32'(phase_row), 32'(column), 32'(row), 32'(sf), 32'(nf)
    };
`endif
endmodule
