// Says in words, and as a golden vector, what is shown.
// One part of the page's script: `page.html` holds them all, in one function, in the order of `SCRIPT` in page.py.

// ---- words
const percent = (share) => `${(100 * share).toFixed(1)} %`;
const share = (bits) => { let ones = 0; for (const bit of bits) ones += bit > 0; return ones / bits.length; };
const TEXTS = {
  one: () => { const from = at("dots_fires", 0, S.light, 0, 0); return `+1 from grey ${from} on: ${percent(share(dots(0, S.light)))} of the pixels`; },
  dots: () => `${F.inputs[INPUTS[S.dots]]}: ${F.input_shapes[S.dots].join(" × ")} cells, ${percent(share(dots(S.dots, S.light)))} of the pixels are +1`,
  ranking: () => {
    const one = F.ranking[S.rank], name = Object.entries(F.named).find(([, rank]) => rank === S.rank);
    return `Rank ${S.rank + 1} of ${F.ranking.length}: ${one.levels.map((row) => row.join(" ")).join(" / ")}, score ${one.score.toFixed(5)}${name ? ` (${name[0]})` : ""}`;
  },
  "sum-formula": () => { const { popcount, accumulator } = pixel(); return `a = 2p − 9 = 2·${popcount} − 9 = ${signed(accumulator)}`; },
  sums: () => `the sums of every window, −9 to +9; here ${signed(pixel().accumulator)}`,
  line: () => { const here = pixel(); return `At the chosen pixel a = ${signed(here.accumulator)}, y = ${number(here.y)}, T = ${number(here.threshold)}: the bit is ${signed(here.bit)}. (This channel: mean ${F.means[S.filter]}, variance ${F.variances[S.filter]}, ε = ${F.epsilon}.)`; },
  rule: () => rule(S.filter, pixel().cell),
  bits: () => `The feature map: ${percent(share(featureMap(S.filter, S.filter)))} of its bits are +1`,
  phase: () => { const { phase, cell } = pixel(), [m, n] = F.dither_shapes[S.dither]; return `Phase (${S.row} mod ${m}, ${S.column} mod ${n}) = (${phase.join(", ")}): T = ${number(F.levels[cell])}, ${rule(S.filter, cell)}`; },
  slices: () => `Filter “${FILTER_NAMES[FILTERS[S.filter]]}” in all channels. ${DITHERS.includes("3d") ? "In 3D the slices of this phase hold T = " + FILTERS.map((_, slice) => number(F.levels[level(DITHERS.indexOf("3d"), slice, S.row, S.column)])).join(", ") + " at the chosen pixel." : ""}`,
  tap: () => `tap ${S.cycle} of 9`.replace(String(S.cycle), String(S.cycle + 1)),
  wave: () => `Output pixel (${S.row}, ${S.column}) is computed in cycles ${at("start_cycle", S.row, S.column).toLocaleString("en")} to ${at("last_cycle", S.row, S.column).toLocaleString("en")} of ${F.cycles.toLocaleString("en")} for the whole photograph. Accumulator and limit have ${F.accumulator_width} bits. All four channels run side by side; this is channel ${S.filter}.`,
  summary: () => { const here = pixel(); return `${F.inputs[INPUTS[S.dots]]} makes the dots; filter “${FILTER_NAMES[FILTERS[S.filter]]}”; γ = ${number(F.gammas[S.gamma])}, β = ${number(F.betas[S.beta])}; ${F.dithers[DITHERS[S.dither]]}; sign(0) = ${signed(F.zeros[S.zero])}. Pixel (${S.row}, ${S.column}): ${here.popcount} of 9 agree, a = ${signed(here.accumulator)}, ${rule(S.filter, here.cell)}, so the bit is ${signed(here.bit)}.`; },
};
function chain() {
  const here = pixel(), part = (text, wide) => make("span", wide ? { class: "wide" } : {}, text), arrow = (wide) => make("span", { class: wide ? "arrow wide" : "arrow", "aria-hidden": "true" }, "→");
  const bit = make("b", { class: here.bit > 0 ? "plus" : here.bit < 0 ? "minus" : "neither" }, signed(here.bit));
  return [part(`grey ${at("photograph", S.row + 1, S.column + 1)}`, true), arrow(true), part(`${here.popcount} of 9 agree`), arrow(), part(`a = ${signed(here.accumulator)}`),
    arrow(), part(`y = ${number(here.y)}, T = ${number(here.threshold)}`, true), arrow(true), part(rule(S.filter, here.cell)), arrow(), bit];
}

// ---- golden vector
function vector() {
  const here = pixel(), of = (filter) => rowsOf(featureMap(filter, filter), MH, MW);
  const rowsOf = (bits, height, width) => Array.from({ length: height }, (_, r) => Array.from(bits.subarray(r * width, (r + 1) * width), (bit) => (bit > 0 ? "+" : bit < 0 ? "-" : "0")).join(""));
  const plus = dots(S.dots, S.light).map((bit) => bit), dotRows = Array.from({ length: H }, (_, r) => Array.from(plus.subarray(r * W, (r + 1) * W), (bit) => (bit ? "+" : "-")).join(""));
  return {
    format: "refdesign.explorable/1", address: address(),
    state: { dots: INPUTS[S.dots], light: F.lights[S.light], gamma: F.gammas[S.gamma], beta: F.betas[S.beta], dither: DITHERS[S.dither], zero: F.zeros[S.zero] },
    conventions: F.conventions[S.zero],
    dots: { weights: [[1]], multiplier: 2, offset: -255, gamma: 1, beta: F.lights[S.light], mean: F.dots_mean, variance: F.dots_variance, epsilon: F.epsilon, kernel: F.input_values[INPUTS[S.dots]] },
    conv: { weights: Object.values(F.filters), gamma: F.gammas[S.gamma], beta: F.betas[S.beta], mean: F.means, variance: F.variances, epsilon: F.epsilon, kernel: F.dither_values[DITHERS[S.dither]] },
    pixel: { row: S.row, column: S.column, channel: S.filter, window: TAPS.map((tap) => ((here.number >> tap) & 1 ? 1 : -1)), weights: TAPS.map((tap) => weight(S.filter, tap)),
      agree: TAPS.map((tap) => (here.agree >> tap) & 1), popcount: here.popcount, accumulator: here.accumulator, y: here.y, phase: here.phase, threshold: here.threshold,
      rule: { direction: decision("direction", S.filter, here.cell), threshold: decision("threshold", S.filter, here.cell), constant: decision("constant", S.filter, here.cell) },
      bit: here.bit, first_cycle: at("start_cycle", S.row, S.column), accumulators_by_cycle: TAPS.map((tap) => at("trace_accumulator", here.number, tap, S.filter)) },
    photograph: Array.from({ length: H }, (_, r) => Array.from(T.photograph.subarray(r * W, (r + 1) * W), (grey) => grey.toString(16).padStart(2, "0")).join("")),
    "dots.bits": dotRows, "conv.bits": FILTERS.map((_, filter) => of(filter)),
  };
}
function exportVector() {
  const link = make("a", { download: `designed-dither-${S.row}-${S.column}-${S.filter}.json` });
  link.href = URL.createObjectURL(new Blob([JSON.stringify(vector(), null, 1) + "\n"], { type: "application/json" }));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  say("Golden vector exported");
}
function say(text) { const node = $("[data-status]"); node.textContent = text; clearTimeout(say.timer); say.timer = setTimeout(() => { node.textContent = ""; }, 2500); }
