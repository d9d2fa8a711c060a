// Position along one axis of the output map, with its place in the pool's window and the dither's phase.
`include "faults.svh"

module axis_counter #(
    parameter EXTENT = 5,  // pixels of the convolution's output along the axis
    parameter POOL = 2,    // pixels of a pool's window; 1 without a pool
    parameter PERIOD = 3,  // the dither's
    parameter ORIGIN = 1,  // the first pixel's phase
    parameter ROWS = 0,    // which axis this is (for the seeded faults)
    parameter POSITION_WIDTH = EXTENT > 1 ? $clog2(EXTENT) : 1,
    parameter WINDOW_WIDTH = $clog2(EXTENT / POOL + 2),
    parameter PHASE_WIDTH = PERIOD > 1 ? $clog2(PERIOD) : 1
) (
    input logic clk,
    input logic reset,
    input logic advance,
    output logic [POSITION_WIDTH-1:0] position,
    output logic [WINDOW_WIDTH-1:0] window,
    output logic [PHASE_WIDTH-1:0] phase,
    output logic [PHASE_WIDTH-1:0] next_phase,  // what phase is after this cycle's rising edge
    output logic begins,                        // first position of a pool's window
    output logic ends,                          // last position of a pool's window
    output logic dropped,                       // behind the last whole window
    output logic last                           // last position of the axis
);
    `FAULT_NUMBER
    localparam WINDOWS = EXTENT / POOL;
    localparam IN_WINDOW_WIDTH = POOL > 1 ? $clog2(POOL) : 1;

    logic [IN_WINDOW_WIDTH-1:0] in_window;
    logic [PHASE_WIDTH-1:0] origin;
    logic phase_kept;

    assign begins = in_window == 0;
    assign ends = in_window == IN_WINDOW_WIDTH'(POOL - 1);
    assign dropped = window == WINDOW_WIDTH'(WINDOWS);
    assign last = position == POSITION_WIDTH'(EXTENT - 1);
    assign origin = `FAULT(`ORIGIN_IGNORED) ? '0 : PHASE_WIDTH'(ORIGIN);
    assign phase_kept = ROWS != 0 ? `FAULT(`PHASE_ROW_KEPT_AT_IMAGE_END) : `FAULT(`PHASE_COLUMN_KEPT_AT_ROW_END);

    always_comb begin
        next_phase = phase;
        if (reset) next_phase = origin;
        else if (advance && last && !phase_kept) next_phase = origin;
        else if (advance && (ends || `FAULT(`PHASE_COUNTED_BEFORE_POOL)))
            next_phase = phase == PHASE_WIDTH'(PERIOD - 1) ? '0 : phase + 1'b1;
    end

    always_ff @(posedge clk) begin
        phase <= next_phase;
        if (reset || (advance && last)) begin
            position <= '0;
            in_window <= '0;
            window <= '0;
        end else if (advance) begin
            position <= position + 1'b1;
            in_window <= ends ? '0 : in_window + 1'b1;
            if (ends) window <= window + 1'b1;
        end
    end
endmodule
