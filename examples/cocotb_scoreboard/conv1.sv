// The first layer of `digits`, as the unit under test of the bench beside it: an image in, four channels a cycle out.
//
// After `start` every cycle gives one word of PE bits, row by row, column by column, four channels after four.
// FAULT 1 swaps the thresholds' rows and columns; FAULT 2 turns one bit round, in the third image only.
`timescale 1ns / 1ps
module conv1 #(parameter PE = 4, FAULT = 0) (
    input clk,
    input reset,
    input start,
    input [511:0] image,  // 8x8 pixels, the first one in the lowest byte
    output reg valid,
    output reg [PE-1:0] word
);
    reg [63:0] weights[0:575];  // (channel, tap), one bit each
    reg [31:0] threshold[0:255];  // (row, column, channel) of a 2x2 period
    reg [7:0] direction[0:255];
    initial begin
        $readmemh("vectors/parameters/conv1.weights.hex", weights);
        $readmemh("vectors/parameters/conv1.threshold.hex", threshold);
        $readmemh("vectors/parameters/conv1.direction.hex", direction);
    end

    reg [511:0] pixels;
    reg [2:0] row, column;
    reg [3:0] fold;
    reg busy;
    reg [7:0] number;  // of the image
    reg [PE-1:0] bits;

    integer lane, channel, tap, a, r, q, at;
    always @* begin
        bits = 0;
        for (lane = 0; lane < PE; lane = lane + 1) begin
            channel = fold * PE + lane;
            a = 0;
            for (tap = 0; tap < 9; tap = tap + 1) begin
                r = row + tap / 3 - 1;
                q = column + tap % 3 - 1;
                r = r < 0 ? 0 : r > 7 ? 7 : r;  // the map's edge is repeated
                q = q < 0 ? 0 : q > 7 ? 7 : q;
                at = 2 * pixels[(r*8+q)*8 +: 8] - 255;
                a = weights[channel*9+tap][0] ? a + at : a - at;
            end
            at = FAULT == 1 ? (column[0] * 2 + row[0]) * 64 + channel : (row[0] * 2 + column[0]) * 64 + channel;
            bits[lane] = direction[at][7] ? a <= $signed(threshold[at]) : a >= $signed(threshold[at]);
            if (FAULT == 2 && number == 3 && row == 5 && column == 6 && channel == 41) bits[lane] = !bits[lane];
        end
    end

    always @(posedge clk) begin
        valid <= busy && !reset;
        word <= bits;
        if (reset) begin
            busy <= 0;
            number <= 0;
        end else if (start) begin
            pixels <= image;
            {row, column, fold} <= 0;
            busy <= 1;
            number <= number + 1;
        end else if (busy) begin
            {row, column, fold} <= {row, column, fold} + 1;
            if (&{row, column, fold}) busy <= 0;
        end
    end
endmodule
