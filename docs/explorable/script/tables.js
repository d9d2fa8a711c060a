// Looks values up in the tables that the reference filled. No value is computed on the page: a bit, a sum or a threshold
// is always an entry of a table, found by the window's bits and the controls' positions.
// One part of the page's script: `page.html` holds them all, in one function, in the order of `SCRIPT` in page.py.

const F = JSON.parse(document.getElementById("header").textContent);
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const make = (tag, attributes = {}, text) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
};

// ---- tables
async function unpack(text) {
  const packed = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}
const block = await unpack($("#block").textContent);
const T = {}, SHAPE = {};
for (const [name, { type, shape, start }] of Object.entries(F.index)) {
  const kind = { Int8Array, Uint8Array, Int16Array, Uint16Array, Uint32Array, Float32Array }[type];
  T[name] = new kind(block, start, shape.reduce((a, b) => a * b, 1));
  SHAPE[name] = shape;
}
const at = (name, ...index) => T[name][index.reduce((place, i, axis) => place * SHAPE[name][axis] + i, 0)];

const H = F.height, W = F.width, MH = H - 2, MW = W - 2;
const INPUTS = Object.keys(F.inputs), DITHERS = Object.keys(F.dithers), FILTERS = Object.keys(F.filters);
const FILTER_NAMES = { authors: "the authors'", edge: "edge", corner: "corner", blur: "blur" };
const TAPS = [0, 1, 2, 3, 4, 5, 6, 7, 8];

// ---- state: indices into the tables; addresses hold the values that they stand for
const DEFAULT = { dots: INPUTS.indexOf("bayer4"), light: F.lights.indexOf(0), row: 46, column: 67, filter: 2, gamma: F.gammas.indexOf(1),
  beta: F.betas.indexOf(0), dither: DITHERS.indexOf("2d"), zero: 0, cycle: 8, rank: 0 };
const VALUES = { dots: INPUTS, light: F.lights, gamma: F.gammas, beta: F.betas, dither: DITHERS, zero: F.zeros, filter: FILTERS };
const LIMITS = { row: MH, column: MW, cycle: TAPS.length, rank: F.ranking.length };
for (const [name, values] of Object.entries(VALUES)) LIMITS[name] = values.length;
let S = { ...DEFAULT };

function address() {
  const parts = Object.keys(DEFAULT).filter((name) => S[name] !== DEFAULT[name])
    .map((name) => `${name}=${encodeURIComponent(VALUES[name] ? VALUES[name][S[name]] : S[name])}`);
  return parts.length ? "#" + parts.join("&") : "";
}
function fromAddress(hash) {
  const found = { ...DEFAULT };
  for (const part of hash.replace(/^#/, "").split("&")) {
    const [name, text] = part.split("=");
    if (!(name in DEFAULT) || text === undefined) continue;
    let value;
    try { value = decodeURIComponent(text); } catch { continue; }
    const index = VALUES[name] ? VALUES[name].findIndex((one) => String(one) === value) : /^\d+$/.test(value) ? Number(value) : -1;
    if (index >= 0 && index < LIMITS[name]) found[name] = index;
  }
  return found;
}

// ---- look-ups
const cache = new Map();
function remembered(key, produce) {
  if (!cache.has(key)) { if (cache.size > 60) cache.clear(); cache.set(key, produce()); }
  return cache.get(key);
}
function dots(kernel, light) {
  return remembered(`d${kernel},${light}`, () => {
    const size = SHAPE.dots[2], first = (kernel * SHAPE.dots[1] + light) * size, bits = new Uint8Array(H * W);
    for (let i = 0; i < bits.length; i++) bits[i] = (T.dots[first + (i >> 3)] >> (i & 7)) & 1;
    return bits;
  });
}
/** The number of the window at every place of the map: its nine bits, the first tap lowest. */
function windows(kernel, light) {
  return remembered(`w${kernel},${light}`, () => {
    const bits = dots(kernel, light), found = new Uint16Array(MH * MW);
    for (let r = 0; r < MH; r++) for (let c = 0; c < MW; c++) {
      let number = 0;
      for (const tap of TAPS) number |= bits[(r + ((tap / 3) | 0)) * W + c + tap % 3] << tap;
      found[r * MW + c] = number;
    }
    return found;
  });
}
const sumPlace = (a) => F.sums.indexOf(a);
const PLACE = Object.fromEntries(F.sums.map((a, place) => [a, place]));
function sums(filter) {
  return remembered(`s${S.dots},${S.light},${filter}`, () => {
    const numbers = windows(S.dots, S.light), count = FILTERS.length, found = new Int8Array(numbers.length);
    for (let i = 0; i < numbers.length; i++) found[i] = T.accumulator[numbers[i] * count + filter];
    return found;
  });
}
const phasesOf = (dither) => [T.row_phase.subarray(dither * MH, (dither + 1) * MH), T.column_phase.subarray(dither * MW, (dither + 1) * MW)];
const level = (dither, slice, r, c) => at("cell", dither, slice, at("row_phase", dither, r), at("column_phase", dither, c));
const decision = (name, filter, levelIndex, zero = S.zero) => at(name, zero, filter, S.gamma, S.beta, levelIndex);
/** The bits of a channel that carries `filter` and uses slice `slice` of the kernel. */
function featureMap(filter, slice, dither = S.dither) {
  const key = `f${S.dots},${S.light},${filter},${slice},${dither},${S.gamma},${S.beta},${S.zero}`;
  return remembered(key, () => {
    const accumulators = sums(filter), found = new Int8Array(accumulators.length);
    const levels = SHAPE.cell, table = [];
    for (let p = 0; p < levels[2]; p++) for (let q = 0; q < levels[3]; q++) {
      const cell = at("cell", dither, slice, p, q);
      table.push(F.sums.map((_, place) => at("bit", S.zero, filter, S.gamma, S.beta, cell, place)));
    }
    const [rows, columns] = phasesOf(dither);
    for (let r = 0; r < MH; r++) for (let c = 0; c < MW; c++) {
      found[r * MW + c] = table[rows[r] * levels[3] + columns[c]][PLACE[accumulators[r * MW + c]]];
    }
    return found;
  });
}
/** Everything about the chosen pixel. */
function pixel() {
  const number = windows(S.dots, S.light)[S.row * MW + S.column];
  const cell = level(S.dither, S.filter, S.row, S.column);
  const accumulator = at("accumulator", number, S.filter), place = sumPlace(accumulator);
  return { number, cell, accumulator, place, popcount: at("popcount", number, S.filter), agree: at("agree", number, S.filter),
    threshold: F.levels[cell], y: at("y", S.filter, S.gamma, S.beta, place),
    bit: at("bit", S.zero, S.filter, S.gamma, S.beta, cell, place),
    phase: [at("row_phase", S.dither, S.row), at("column_phase", S.dither, S.column)] };
}
const weight = (filter, tap) => F.filters[FILTERS[filter]][(tap / 3) | 0][tap % 3];
const signed = (value) => (value > 0 ? "+" : value < 0 ? "−" : "") + Math.abs(value);
const number = (value, digits = 3) => String(Number(Math.abs(value).toFixed(digits))).replace(/^/, value < 0 ? "−" : "");
function rule(filter, cell) {
  const low = decision("zero_low", filter, cell), high = decision("zero_high", filter, cell);
  const ties = low > high ? "" : low === high ? `; 0 where a = ${signed(low)}` : `; 0 where ${signed(low)} ≤ a ≤ ${signed(high)}`;
  const direction = decision("direction", filter, cell), t = decision("threshold", filter, cell);
  if (direction === 0) {
    if (ties) return "always 0: a tie at every sum";
    const constant = decision("constant", filter, cell);
    return constant === 0 ? "always 0" : `always ${signed(constant)}, whatever the image`;
  }
  return `+1 where a ${direction > 0 ? "≥" : "≤"} ${signed(t)}${ties}`;
}
