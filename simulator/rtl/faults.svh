// Seeded faults: with FAULTS defined, +fault=<number> breaks the design in one place, so that one build serves all.
// Without FAULTS nothing of them is left. simulator/rtl/faults.py reads the names and numbers from this file.
`ifndef REFDESIGN_FAULTS_SVH
`define REFDESIGN_FAULTS_SVH

`ifdef FAULTS
`define FAULT_NUMBER integer fault; initial if (!$value$plusargs("fault=%d", fault)) fault = 0;
`define FAULT(NUMBER) (fault == NUMBER)
`else
`define FAULT_NUMBER
`define FAULT(NUMBER) 1'b0
`endif

// Counters and phases
`define PHASE_COLUMN_KEPT_AT_ROW_END 1
`define PHASE_ROW_KEPT_AT_IMAGE_END 2
`define PHASE_COUNTED_BEFORE_POOL 3
`define ORIGIN_IGNORED 4
`define PHASES_SWAPPED 5
// Addresses
`define FOLD_ORDER_SWAPPED 6
`define WEIGHT_ADDRESS_OFF_BY_ONE 7
`define THRESHOLD_ADDRESS_OFF_BY_ONE 8
`define THRESHOLD_FOLD_IGNORED 9
// Arithmetic
`define ACCUMULATOR_KEPT_AFTER_STALL 10
`define ACCUMULATOR_COUNTS_WHILE_STALLED 11
`define RAGGED_LANES_COUNTED 12
`define PADDING_COUNTED 13
`define POPCOUNT_LOSES_LAST_LANE 14
`define PLANE_SCALE_IGNORED 15
`define SATURATION_WRAPS 16
`define MASKED_CHANNEL_LIVE 17
// Threshold and pool
`define COMPARATOR_STRICT 18
`define FLIP_IGNORED 19
`define LIMIT_UNSIGNED 20
`define OR_FOR_AND 21
`define POOL_KEPT_BETWEEN_WINDOWS 22
`define CUT_OFF_PIXELS_LEAVE 23
// Streams and operands
`define OPERANDS_NOT_KEPT 24
`define VALID_DROPPED_WHILE_BLOCKED 25
`define LANES_REVERSED 26
`define FIFO_TAKES_ONE_TOO_MANY 27
`define FIFO_FORGETS_A_WORD 28
// Sliding window
`define TAPS_MIRRORED 29
`define STRIDE_IGNORED 30
`define LINE_OFF_BY_ONE 31
`define LINE_FREED_TOO_EARLY 32
`define WINDOW_READ_TOO_EARLY 33
`define DILATION_IGNORED 34
`define PLANES_REVERSED 35

`endif
