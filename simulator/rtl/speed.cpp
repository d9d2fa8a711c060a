// Drives one mvtu between two registers (speed.py writes that top level) as fast as it goes: operands from a file, the
// output always ready. Prints the unit's clock cycles and the seconds of processor time that they took.
//
//     bench <operands> <words> <outputs> [<wave.vcd>]
//
// <operands>: for every word 16 bytes, the bits (up to 64 lanes) and whether it stands on the map.
// <outputs>: gets 8 bytes for every word that leaves.
//
// Verilator evaluates what depends on a top level's inputs in every call of eval(), and what depends on registers once
// a clock cycle. Behind the register nothing but that register depends on inputs, so the unit is evaluated once a
// cycle; driven without it, three times.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <vector>

#include "Vtop.h"
#include "verilated.h"
#if VM_TRACE
#include "verilated_vcd_c.h"
#endif

struct Operand {
    uint64_t bits;
    uint64_t valid;
};

// Processor time: other programs on the machine do not count.
static double seconds() {
    timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec + 1e-9 * now.tv_nsec;
}

int main(int argc, char** argv) {
    if (argc < 4) return 2;
    VerilatedContext context;
    context.commandArgs(argc, argv);
    Vtop top{&context};
    const size_t count = std::strtoull(argv[2], nullptr, 10);
    std::vector<Operand> operands(count + 1);  // one more, which is read and not offered
    FILE* file = std::fopen(argv[1], "rb");
    if (!file || std::fread(operands.data(), sizeof(Operand), count, file) != count) return 3;
    std::fclose(file);
    std::vector<uint64_t> outputs;
    outputs.reserve(count);
#if VM_TRACE
    if (argc < 5) return 2;
    context.traceEverOn(true);
    VerilatedVcdC wave;
    top.trace(&wave, 99);
    wave.open(argv[4]);
    uint64_t time = 0;
#endif
    auto half = [&](int level) {
        top.clk = level;
        top.eval();
#if VM_TRACE
        wave.dump(time++);
#endif
    };
    top.in_valid = 0;
    top.reset = 1;
    for (int i = 0; i < 2; ++i) half(0), half(1);
    half(0);
    top.reset = 0;

    uint64_t cycles = 0;
    size_t next = 0;
    const double start = seconds();
    for (; next < count || top.busy; ++cycles) {
        const bool taken = top.in_ready && next < count;
        top.in_valid = next < count;
        top.in_word = operands[next].bits;
        top.in_word_valid = operands[next].valid;
        half(1);
        next += taken;
        if (top.out_valid) outputs.push_back(top.out_word);
        half(0);
    }
    const double seconds_taken = seconds() - start;
#if VM_TRACE
    wave.close();
#endif
    top.final();
    file = std::fopen(argv[3], "wb");
    if (!file || std::fwrite(outputs.data(), 8, outputs.size(), file) != outputs.size() || std::fclose(file)) return 4;
    // One more cycle than the unit's: that of the register before it.
    std::printf("%llu %.9f\n", static_cast<unsigned long long>(cycles - 1), seconds_taken);
    return 0;
}
