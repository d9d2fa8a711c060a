// The network `digits` as a behavioural model and its bench, which leaves hex files for `refdesign verify --files`.
//
//   refdesign vectors digits vectors
//   iverilog -g2012 -o bench bench.sv && mkdir -p results && vvp bench +images=4
//   refdesign verify digits --vectors vectors --first 4 --files results --map map.toml
//
// Weights and thresholds are read from the folder of vectors; PE channels leave side by side in a word.

module layer #(
    parameter SIZE = 8, IN = 64, OUT = 64, POOL = 1, TAPS = 9, PE = 4, PERIOD = 2, PIXELS = 0, LAST = 0,
    parameter NAME = "conv"
);
    localparam WORDS = (IN + 63) / 64, MAP = SIZE / POOL, REACH = TAPS == 9 ? 1 : 0, BITS = PIXELS ? 8 : IN;
    reg [63:0] weights[0:OUT*TAPS*WORDS-1];
    reg [31:0] threshold[0:PERIOD*PERIOD*OUT-1];
    reg [7:0] direction[0:PERIOD*PERIOD*OUT-1];
    reg [SIZE*SIZE*BITS-1:0] x;
    reg [MAP*MAP*OUT-1:0] y;
    integer file;

    initial begin
        $readmemh({"vectors/parameters/", NAME, ".weights.hex"}, weights);
        if (!LAST) begin
            $readmemh({"vectors/parameters/", NAME, ".threshold.hex"}, threshold);
            $readmemh({"vectors/parameters/", NAME, ".direction.hex"}, direction);
        end
        if (LAST) file = $fopen({"results/", NAME, ".accumulator.hex"}, "w");
        else file = $fopen({"results/", NAME, ".bits.hex"}, "w");
    end

    function automatic integer clamp(input integer i);
        clamp = i < 0 ? 0 : i >= SIZE ? SIZE - 1 : i;  // the map's edge is repeated
    endfunction

    function automatic integer accumulator(input integer row, input integer column, input integer o);
        integer tap, i, place, address;
        accumulator = 0;
        for (tap = 0; tap < TAPS; tap = tap + 1) begin
            place = clamp(row + tap / 3 - REACH) * SIZE + clamp(column + tap % 3 - REACH);
            for (i = 0; i < WORDS; i = i + 1) begin
                address = (o * TAPS + tap) * WORDS + i;
                if (PIXELS)
                    accumulator = accumulator + (weights[address][0] ? 1 : -1) * (2 * x[place*8 +: 8] - 255);
                else accumulator = accumulator + 64 - 2 * $countones(x[place*BITS + 64*i +: 64] ^ weights[address]);
            end
        end
    endfunction

    task automatic run;
        integer row, column, o, p, a, one, at;
        reg [PE-1:0] word;
        for (row = 0; row < MAP; row = row + 1)
            for (column = 0; column < MAP; column = column + 1)
                for (o = 0; o < OUT; o = o + 1) begin
                    a = -(1 << 30);
                    for (p = 0; p < POOL * POOL; p = p + 1) begin
                        one = accumulator(row * POOL + p / POOL, column * POOL + p % POOL, o);
                        if (one > a) a = one;
                    end
                    if (LAST) $fwrite(file, "%h\n", a[15:0]);
                    else begin
                        at = ((row % PERIOD) * PERIOD + column % PERIOD) * OUT + o;
                        word[o % PE] = direction[at][7] ? a <= $signed(threshold[at])
                                                           : a >= $signed(threshold[at]);
                        y[(row*MAP + column)*OUT + o] = word[o % PE];
                        if (o % PE == PE - 1) $fwrite(file, "%h\n", word);
                    end
                end
    endtask
endmodule

module bench;
    layer #(.NAME("conv1"), .IN(1), .PIXELS(1)) conv1 ();
    layer #(.NAME("conv2"), .POOL(2)) conv2 ();
    layer #(.NAME("conv3"), .SIZE(4), .OUT(128)) conv3 ();
    layer #(.NAME("conv4"), .SIZE(4), .IN(128), .OUT(128), .POOL(2)) conv4 ();
    layer #(.NAME("dense1"), .SIZE(1), .IN(512), .OUT(256), .TAPS(1), .PERIOD(1), .PE(8)) dense1 ();
    layer #(.NAME("dense2"), .SIZE(1), .IN(256), .OUT(10), .TAPS(1), .LAST(1)) dense2 ();

    reg [7:0] pixels[0:64*97-1];
    integer image, images, i;

    initial begin
        if (!$value$plusargs("images=%d", images)) images = 1;
        $readmemh("vectors/images.hex", pixels);
        for (image = 0; image < images; image = image + 1) begin
            for (i = 0; i < 64; i = i + 1) conv1.x[8*i +: 8] = pixels[64*image + i];
            conv1.run; conv2.x = conv1.y;
            conv2.run; conv3.x = conv2.y;
            conv3.run; conv4.x = conv3.y;
            conv4.run; dense1.x = conv4.y;
            dense1.run; dense2.x = dense1.y;
            dense2.run;
        end
        $finish;
    end
endmodule
