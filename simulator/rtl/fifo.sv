// A queue of DEPTH words with registered ready and valid: both are functions of its count alone.
`include "faults.svh"

module fifo #(
    parameter WIDTH = 8,
    parameter DEPTH = 2,
    parameter COUNT_WIDTH = $clog2(DEPTH + 2)
) (
    input logic clk,
    input logic reset,
    input logic in_valid,
    output logic in_ready,
    input logic [WIDTH-1:0] in_word,
    output logic out_valid,
    input logic out_ready,
    output logic [WIDTH-1:0] out_word,
    output logic [COUNT_WIDTH-1:0] count
);
    `FAULT_NUMBER
    localparam POINTER_WIDTH = DEPTH > 1 ? $clog2(DEPTH) : 1;
    localparam LAST = POINTER_WIDTH'(DEPTH - 1);

    function automatic [POINTER_WIDTH-1:0] after(input [POINTER_WIDTH-1:0] pointer);
        after = pointer == LAST ? '0 : pointer + 1'b1;
    endfunction

    logic [WIDTH-1:0] words[0:DEPTH-1];
    logic [POINTER_WIDTH-1:0] head;
    logic [POINTER_WIDTH-1:0] tail;
    logic push;
    logic pop;

    assign in_ready = count < COUNT_WIDTH'(DEPTH) || (`FAULT(`FIFO_TAKES_ONE_TOO_MANY) && count == COUNT_WIDTH'(DEPTH));
    assign out_valid = count != 0;
    assign out_word = words[head];
    assign push = in_valid && in_ready;
    assign pop = out_valid && out_ready;

    always_ff @(posedge clk) begin
        if (reset) begin
            head <= '0;
            tail <= '0;
            count <= '0;
        end else begin
            if (push) begin
                words[tail] <= in_word;
                tail <= after(tail);
            end
            if (pop) head <= after(head);
            if (push && !pop) count <= count + 1'b1;
            if (pop && !push) count <= count - 1'b1;
            // Full, and one leaves: the fault loses the word behind it.
            if (`FAULT(`FIFO_FORGETS_A_WORD) && pop && count == COUNT_WIDTH'(DEPTH) && DEPTH > 1) begin
                head <= after(after(head));
                count <= count - COUNT_WIDTH'(2);
            end
        end
    end
endmodule
