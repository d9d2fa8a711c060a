// Drives one mvtu as fast as it goes: operands from a file, the output always ready. Prints cycles and seconds of processor time.
//
//     bench <operands> <words> <outputs> [<wave.vcd>]
//
// <operands>: for every word 16 bytes, the bits (up to 64 lanes) and whether it stands on the map.
// <outputs>: gets 8 bytes for every word that leaves.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <vector>

#include "Vmvtu.h"
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
    Vmvtu unit{&context};
    const size_t count = std::strtoull(argv[2], nullptr, 10);
    std::vector<Operand> operands(count);
    FILE* file = std::fopen(argv[1], "rb");
    if (!file || std::fread(operands.data(), sizeof(Operand), count, file) != count) return 3;
    std::fclose(file);
    std::vector<uint64_t> outputs;
    outputs.reserve(count);
#if VM_TRACE
    context.traceEverOn(true);
    VerilatedVcdC wave;
    unit.trace(&wave, 99);
    wave.open(argv[4]);
#endif
    uint64_t time = 0;
    auto half = [&](int level) {
        unit.clk = level;
        unit.eval();
#if VM_TRACE
        wave.dump(time++);
#endif
    };
    unit.reset = 1;
    unit.in_valid = 0;
    unit.out_ready = 1;
    for (int i = 0; i < 2; ++i) half(0), half(1);
    unit.reset = 0;

    uint64_t cycles = 0;
    size_t next = 0;
    const double start = seconds();
    // After the last operand the other folds of its group read the kept ones; the unit waits for an operand then.
    for (bool more = true; more; ++cycles) {
        unit.in_valid = next < count;
        if (next < count) {
            unit.in_word = operands[next].bits;
            unit.in_word_valid = operands[next].valid;
        }
        half(0);
        if (unit.out_valid) outputs.push_back(unit.out_word);
        more = next < count || !unit.in_ready;
        next += unit.in_valid && unit.in_ready;
        half(1);
    }
    const double taken = seconds() - start;
#if VM_TRACE
    wave.close();
#endif
    unit.final();
    file = std::fopen(argv[3], "wb");
    if (!file || std::fwrite(outputs.data(), 8, outputs.size(), file) != outputs.size() || std::fclose(file)) return 4;
    std::printf("%llu %.9f\n", static_cast<unsigned long long>(cycles - 1), taken);
    return 0;
}
