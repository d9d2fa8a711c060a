/* The network `digits` as a C program, for `refdesign verify digits --pipe "./digits vectors"`.
 *
 *   refdesign vectors digits vectors && cc -O2 -ffp-contract=off digits.c -o digits -lm
 *
 * It reads weights and thresholds from the folder of vectors, images from its standard input, and answers with the
 * bits of every layer and the logits. Bits are packed as everywhere in refdesign: channel c is bit c % 64 of word
 * c / 64, and a 1 bit is +1. With v products in a window a = v - 2 * popcount(x ^ w); a bit is a >= threshold.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct layer { const char *name; int size, in, out, pool, taps; } LAYERS[] = {
    {"conv1", 8, 1, 64, 1, 9},   {"conv2", 8, 64, 64, 2, 9},    {"conv3", 4, 64, 128, 1, 9},
    {"conv4", 4, 128, 128, 2, 9}, {"dense1", 1, 512, 256, 1, 1}, {"dense2", 1, 256, 10, 1, 1}};
static uint64_t *weights[6], *threshold[6], *direction[6], *k, *c;

static uint64_t *load(const char *folder, const char *layer, const char *what, int count) {
    char path[4096];
    uint64_t *words = malloc(count * sizeof *words);
    snprintf(path, sizeof path, "%s/parameters/%s.%s.hex", folder, layer, what);
    FILE *file = fopen(path, "r");
    for (int i = 0; file && i < count; i++)
        if (fscanf(file, "%lx", &words[i]) != 1) { fclose(file); file = NULL; }
    if (!file) { fprintf(stderr, "%s: cannot be read\n", path); exit(2); }
    fclose(file);
    return words;
}

static int clamp(int i, int size) { return i < 0 ? 0 : i >= size ? size - 1 : i; } /* symmetric padding by one */

static int accumulate(int l, const uint64_t *x, const int *pixels, int row, int column, int o) {
    const struct layer *at = &LAYERS[l];
    int words = (at->in + 63) / 64, reach = at->taps == 9, a = 0;
    for (int tap = 0; tap < at->taps; tap++) {
        int r = clamp(row + tap / 3 - reach, at->size), q = clamp(column + tap % 3 - reach, at->size);
        const uint64_t *w = &weights[l][(o * at->taps + tap) * words];
        if (l == 0) { a += (w[0] & 1 ? 1 : -1) * pixels[r * at->size + q]; continue; }
        for (int i = 0; i < words; i++) a += 64 - 2 * __builtin_popcountll(x[(r * at->size + q) * words + i] ^ w[i]);
    }
    return a;
}

static void run(int number, const int *pixels) {
    static uint64_t bits[2][8 * 8 * 8];
    for (int l = 0; l < 6; l++) {
        const struct layer *at = &LAYERS[l];
        uint64_t *x = bits[l % 2], *y = bits[(l + 1) % 2];
        int size = at->size / at->pool, words = (at->out + 63) / 64, period = at->taps == 9 ? 2 : 1;
        if (l == 5) printf("%d logits", number); else printf("%d %s.bits", number, at->name);
        memset(y, 0, sizeof bits[0]);
        for (int row = 0; row < size; row++) for (int column = 0; column < size; column++)
            for (int o = 0; o < at->out; o++) {
                int a = -0x7fffffff;
                for (int p = 0; p < at->pool * at->pool; p++) {
                    int one = accumulate(l, x, pixels, row * at->pool + p / at->pool, column * at->pool + p % at->pool, o);
                    if (one > a) a = one;
                }
                if (l == 5) {
                    uint32_t kb = (uint32_t)k[o], cb = (uint32_t)c[o];
                    float kf, cf;
                    memcpy(&kf, &kb, 4); memcpy(&cf, &cb, 4);
                    printf(" %.9g", fmaf((float)a, kf, cf)); /* the last batch norm as torch computes it */
                    continue;
                }
                int cell = ((row % period) * period + column % period) * at->out + o, t = (int32_t)threshold[l][cell];
                int fires = (int8_t)direction[l][cell] > 0 ? a >= t : a <= t;
                if (fires) y[(row * size + column) * words + o / 64] |= (uint64_t)1 << o % 64;
                printf(fires ? " 1" : " -1");
            }
        printf("\n");
    }
    printf("%d end\n", number);
    fflush(stdout);
}

int main(int argc, char **argv) {
    char line[4096];
    int number, pixels[64];
    if (argc != 2) { fprintf(stderr, "usage: digits FOLDER_OF_VECTORS\n"); return 2; }
    for (int l = 0; l < 6; l++) {
        const struct layer *at = &LAYERS[l];
        int period = at->taps == 9 ? 2 : 1;
        weights[l] = load(argv[1], at->name, "weights", at->out * at->taps * ((at->in + 63) / 64));
        if (l == 5) break;
        threshold[l] = load(argv[1], at->name, "threshold", period * period * at->out);
        direction[l] = load(argv[1], at->name, "direction", period * period * at->out);
    }
    k = load(argv[1], "dense2", "k", 10);
    c = load(argv[1], "dense2", "c", 10);
    while (fgets(line, sizeof line, stdin) && strcmp(line, "start\n")) {}
    while (scanf("%d", &number) == 1) {
        for (int i = 0; i < 64; i++) {
            if (scanf("%d", &pixels[i]) != 1) return 3;
            pixels[i] = 2 * pixels[i] - 255;
        }
        run(number, pixels);
    }
    return 0;
}
