// The sliding window unit: a line buffer that is written word by word and read window by window, tap by tap.
//
// What a window needs, and the oldest row that is still needed, come from tables of one word for every output row or
// column, worked out from the geometry at elaboration.
`include "faults.svh"

module sliding_window #(
    parameter LANE_BITS = 1,       // 8 where the input is pixels
    parameter IN_PE = 2,           // lanes of an input word
    parameter IN_GROUPS = 1,       // groups of the layer in front, and the output channels of each:
    parameter IN_OUTPUTS = 6,      // its words are folds of IN_PE channels within a group
    parameter GROUPS = 1,
    parameter INPUTS = 6,          // channels of a group
    parameter SIMD = 3,
    parameter PLANES = 1,          // planes LANE_BITS and above are constant 1
    parameter HEIGHT = 5,          // of the input map
    parameter WIDTH = 4,
    parameter ROWS = 5,            // of the output map
    parameter COLUMNS = 4,
    parameter KERNEL_ROWS = 3,
    parameter KERNEL_COLUMNS = 3,
    parameter STRIDE_ROWS = 1,
    parameter STRIDE_COLUMNS = 1,
    parameter DILATION_ROWS = 1,
    parameter DILATION_COLUMNS = 1,
    parameter PADDING_ROWS = 1,
    parameter PADDING_COLUMNS = 1,
    parameter PADDING_MODE = 0,    // 0: counts for nothing, 1: FILL, 2: symmetric, 3: reflect, 4: edge, 5: circular
    parameter FILL = 0,
    parameter LINES = 4            // rows of the line buffer
) (
    input logic clk,
    input logic reset,
    input logic in_valid,
    output logic in_ready,
    input logic [IN_PE*LANE_BITS-1:0] in_word,
    output logic out_valid,
    input logic out_ready,
    output logic [SIMD-1:0] out_word,
    output logic out_word_valid
);
    `FAULT_NUMBER
    localparam CHANNELS = GROUPS * INPUTS;
    localparam INPUT_FOLDS = (INPUTS + SIMD - 1) / SIMD;
    localparam IN_FOLDS = (IN_OUTPUTS + IN_PE - 1) / IN_PE;
    localparam ROW_WIDTH = ROWS > 1 ? $clog2(ROWS) : 1;
    localparam COLUMN_WIDTH = COLUMNS > 1 ? $clog2(COLUMNS) : 1;
    localparam ENTRY = 16;  // bits of a table's entry, signed
    localparam NONE = HEIGHT;

    // The position on the map that a position of the padded axis shows; -1 in constant padding.
    function automatic integer shown(input integer position, input integer extent);
        shown = position;
        if (position < 0) begin
            case (PADDING_MODE)
                2: shown = -1 - position;
                3: shown = -position;
                4: shown = 0;
                5: shown = position + extent;
                default: shown = -1;
            endcase
        end else if (position >= extent) begin
            case (PADDING_MODE)
                2: shown = 2 * extent - 1 - position;
                3: shown = 2 * extent - 2 - position;
                4: shown = extent - 1;
                5: shown = position - extent;
                default: shown = -1;
            endcase
        end
    endfunction

    // The first or the last position that window `index` of an axis shows; -1: none.
    function automatic integer reach(
        input integer index, input integer last, input integer extent, input integer kernel, input integer stride,
        input integer dilation, input integer padding
    );
        integer tap, position;
        reach = -1;
        for (tap = 0; tap < kernel; tap = tap + 1) begin
            position = shown(index * stride + tap * dilation - padding, extent);
            if (position >= 0 && (reach < 0 || (last != 0 ? position > reach : position < reach))) reach = position;
        end
    endfunction

    function automatic integer row_reach(input integer index, input integer last);
        row_reach = reach(index, last, HEIGHT, KERNEL_ROWS, STRIDE_ROWS, DILATION_ROWS, PADDING_ROWS);
    endfunction
    function automatic integer column_reach(input integer index, input integer last);
        column_reach = reach(index, last, WIDTH, KERNEL_COLUMNS, STRIDE_COLUMNS, DILATION_COLUMNS, PADDING_COLUMNS);
    endfunction

    // By output row: the last row that its windows show, and that all windows of rows before it show; -1: none.
    function automatic [ROWS*ENTRY-1:0] last_rows(input integer earlier);
        integer index, most, here;
        most = -1;
        for (index = 0; index < ROWS; index = index + 1) begin
            here = row_reach(index, 1);
            last_rows[index * ENTRY +: ENTRY] = earlier != 0 ? most[ENTRY-1:0] : here[ENTRY-1:0];
            if (here > most) most = here;
        end
    endfunction
    // By output row: the oldest row that its windows show, and that all windows of rows behind it show; NONE: none.
    function automatic [ROWS*ENTRY-1:0] oldest_rows(input integer behind);
        integer index, least, here;
        least = NONE;
        for (index = ROWS - 1; index >= 0; index = index - 1) begin
            here = row_reach(index, 0);
            if (here < 0) here = NONE;
            oldest_rows[index * ENTRY +: ENTRY] = behind != 0 ? least[ENTRY-1:0] : here[ENTRY-1:0];
            if (here < least) least = here;
        end
    endfunction
    // By output column: the last column that the windows up to it show; -1: none.
    function automatic [COLUMNS*ENTRY-1:0] last_columns(input integer unused);
        integer index, most, here;
        most = -1;
        for (index = 0; index < COLUMNS; index = index + 1) begin
            here = column_reach(index, 1);
            if (here > most) most = here;
            last_columns[index * ENTRY +: ENTRY] = most[ENTRY-1:0];
        end
    endfunction
    // By output column: whether it or one behind it shows the map at all.
    function automatic [COLUMNS-1:0] columns_show(input integer unused);
        integer index;
        columns_show = '0;
        for (index = COLUMNS - 1; index >= 0; index = index - 1)
            columns_show[index] = column_reach(index, 0) >= 0
                || (index < COLUMNS - 1 && columns_show[(index + 1) % COLUMNS]);
    endfunction

    localparam [ROWS*ENTRY-1:0] LAST_ROW = last_rows(0);
    localparam [ROWS*ENTRY-1:0] LAST_ROW_BEFORE = last_rows(1);
    localparam [ROWS*ENTRY-1:0] OLDEST_ROW = oldest_rows(0);
    localparam [ROWS*ENTRY-1:0] OLDEST_ROW_BEHIND = oldest_rows(1);
    localparam [COLUMNS*ENTRY-1:0] LAST_COLUMN = last_columns(0);
    localparam [COLUMNS-1:0] COLUMNS_SHOW = columns_show(0);
    localparam signed [ENTRY-1:0] LAST_COLUMN_OF_ALL = LAST_COLUMN[(COLUMNS - 1) * ENTRY +: ENTRY];

    // --------------------------------------------------------------------------------------------------- writing
    logic [CHANNELS*LANE_BITS-1:0] lines[0:LINES*WIDTH-1];
    logic [$clog2(LINES+1)-1:0] write_line;
    logic [$clog2(WIDTH+1)-1:0] write_column;
    logic [$clog2(IN_GROUPS+1)-1:0] in_group;
    logic [$clog2(IN_FOLDS+1)-1:0] in_fold;
    logic signed [ENTRY-1:0] ahead;  // the row that is written, counted from the first row of the image that is read
    logic writes, pixel_written, row_written, image_read;

    assign writes = in_valid && in_ready;
    assign pixel_written = writes && 32'(in_fold) == IN_FOLDS - 1 && 32'(in_group) == IN_GROUPS - 1;
    assign row_written = pixel_written && 32'(write_column) == WIDTH - 1;

    integer lane;
    always_ff @(posedge clk) begin
        if (reset) begin
            write_line <= '0;
            write_column <= '0;
            in_group <= '0;
            in_fold <= '0;
            ahead <= '0;
        end else begin
            if (writes) begin
                in_fold <= 32'(in_fold) == IN_FOLDS - 1 ? '0 : in_fold + 1'b1;
                if (32'(in_fold) == IN_FOLDS - 1) in_group <= 32'(in_group) == IN_GROUPS - 1 ? '0 : in_group + 1'b1;
                for (lane = 0; lane < IN_PE; lane = lane + 1) begin
                    if (32'(in_fold) * IN_PE + lane < IN_OUTPUTS)
                        lines[32'(write_line) * WIDTH + 32'(write_column)][
                            (32'(in_group) * IN_OUTPUTS + 32'(in_fold) * IN_PE + lane) * LANE_BITS +: LANE_BITS
                        ] <= in_word[lane * LANE_BITS +: LANE_BITS];
                end
            end
            if (pixel_written) write_column <= row_written ? '0 : write_column + 1'b1;
            if (row_written) write_line <= 32'(write_line) == LINES - 1 ? '0 : write_line + 1'b1;
            ahead <= ahead + (row_written ? ENTRY'(1) : '0) - (image_read ? ENTRY'(HEIGHT) : '0);
        end
    end

    // --------------------------------------------------------------------------------------------------- reading
    logic [ROW_WIDTH-1:0] row;
    logic [COLUMN_WIDTH-1:0] column;
    logic [$clog2(GROUPS+1)-1:0] group;
    logic [$clog2(KERNEL_ROWS+1)-1:0] tap_row;
    logic [$clog2(KERNEL_COLUMNS+1)-1:0] tap_column;
    logic [$clog2(INPUT_FOLDS+1)-1:0] input_fold;
    logic [$clog2(PLANES+1)-1:0] plane;
    logic reads, last_plane, last_fold, last_tap_column, last_tap_row, last_group, last_column, last_row;

    assign reads = out_valid && out_ready;
    assign last_plane = 32'(plane) == PLANES - 1;
    assign last_fold = last_plane && 32'(input_fold) == INPUT_FOLDS - 1;
    assign last_tap_column = last_fold && 32'(tap_column) == KERNEL_COLUMNS - 1;
    assign last_tap_row = last_tap_column && 32'(tap_row) == KERNEL_ROWS - 1;
    assign last_group = last_tap_row && 32'(group) == GROUPS - 1;
    assign last_column = last_group && 32'(column) == COLUMNS - 1;
    assign last_row = last_column && 32'(row) == ROWS - 1;
    assign image_read = reads && last_row;

    always_ff @(posedge clk) begin
        if (reset) begin
            plane <= '0;
            input_fold <= '0;
            tap_column <= '0;
            tap_row <= '0;
            group <= '0;
            column <= '0;
            row <= '0;
        end else if (reads) begin
            plane <= last_plane ? '0 : plane + 1'b1;
            if (last_plane) input_fold <= last_fold ? '0 : input_fold + 1'b1;
            if (last_fold) tap_column <= last_tap_column ? '0 : tap_column + 1'b1;
            if (last_tap_column) tap_row <= last_tap_row ? '0 : tap_row + 1'b1;
            if (last_tap_row) group <= last_group ? '0 : group + 1'b1;
            if (last_group) column <= last_column ? '0 : column + 1'b1;
            if (last_column) row <= last_row ? '0 : row + 1'b1;
        end
    end

    // What this window and all before it need: the later of two pixels.
    logic signed [ENTRY-1:0] here_row, here_column, before_row, needed_row, needed_column, oldest_here, oldest;
    logic later_here;
    assign here_row = LAST_ROW[32'(row) * ENTRY +: ENTRY];
    assign here_column = LAST_COLUMN[32'(column) * ENTRY +: ENTRY];
    assign before_row = LAST_ROW_BEFORE[32'(row) * ENTRY +: ENTRY];
    assign later_here = here_column >= 0 && here_row > before_row;
    always_comb begin
        needed_row = '0;
        needed_column = '0;
        if (later_here) begin
            needed_row = here_row;
            needed_column = here_column;
        end else if (before_row >= 0 && LAST_COLUMN_OF_ALL >= 0) begin
            needed_row = before_row;
            needed_column = LAST_COLUMN_OF_ALL;
        end
        oldest_here = COLUMNS_SHOW[column] ? OLDEST_ROW[32'(row) * ENTRY +: ENTRY] : ENTRY'(NONE);
        oldest = COLUMNS_SHOW[0] ? OLDEST_ROW_BEHIND[32'(row) * ENTRY +: ENTRY] : ENTRY'(NONE);
        if (oldest_here < oldest) oldest = oldest_here;
    end
    assign in_ready = 32'(ahead) - 32'(oldest) < LINES + (`FAULT(`LINE_FREED_TOO_EARLY) ? 1 : 0);
    assign out_valid = ahead > needed_row || (ahead == needed_row && 32'(write_column) > 32'(needed_column))
        || (`FAULT(`WINDOW_READ_TOO_EARLY) && ahead == needed_row && 32'(write_column) == 32'(needed_column));

    // The word at the tap.
    integer source_row, source_column, line, here_tap_row, here_tap_column;
    logic [CHANNELS*LANE_BITS-1:0] pixel;
    logic padded;
    always_comb begin
        here_tap_row = 32'(tap_row);
        here_tap_column = 32'(tap_column);
        if (`FAULT(`TAPS_MIRRORED)) begin
            here_tap_row = KERNEL_ROWS - 1 - here_tap_row;
            here_tap_column = KERNEL_COLUMNS - 1 - here_tap_column;
        end
        source_row = shown(32'(row) * (`FAULT(`STRIDE_IGNORED) ? 1 : STRIDE_ROWS)
            + here_tap_row * (`FAULT(`DILATION_IGNORED) ? 1 : DILATION_ROWS) - PADDING_ROWS, HEIGHT);
        source_column = shown(32'(column) * (`FAULT(`STRIDE_IGNORED) ? 1 : STRIDE_COLUMNS)
            + here_tap_column * (`FAULT(`DILATION_IGNORED) ? 1 : DILATION_COLUMNS) - PADDING_COLUMNS, WIDTH);
        padded = source_row < 0 || source_column < 0;
        line = 32'(write_line) - (32'(ahead) - source_row) - (`FAULT(`LINE_OFF_BY_ONE) ? 1 : 0);
        if (line < 0) line = line + LINES;
        if (padded || !out_valid || line < 0 || line >= LINES) begin
            // Not a row that the buffer holds: nothing is read (the word counts for nothing, or is FILL).
            line = 0;
            source_column = 0;
        end
        pixel = lines[line * WIDTH + source_column];
        if (padded) pixel = {CHANNELS{LANE_BITS'(FILL)}};
    end
    assign out_word_valid = !(padded && PADDING_MODE == 0);

    genvar s;
    generate
        for (s = 0; s < SIMD; s = s + 1) begin : lanes
            integer channel;
            logic [LANE_BITS-1:0] value;
            logic on_channel;
            assign on_channel = 32'(input_fold) * SIMD + s < INPUTS;
            assign channel = on_channel ? 32'(group) * INPUTS + 32'(input_fold) * SIMD + s : 0;
            assign value = pixel[channel * LANE_BITS +: LANE_BITS];
            if (PLANES > 1) begin : plane_bit
                integer which;
                assign which = `FAULT(`PLANES_REVERSED) ? PLANES - 1 - 32'(plane) : 32'(plane);
                assign out_word[s] = on_channel && out_word_valid && (which >= LANE_BITS || value[which % LANE_BITS]);
            end else begin : only_bit
                assign out_word[s] = on_channel && out_word_valid && value[0];
            end
        end
    endgenerate
endmodule
