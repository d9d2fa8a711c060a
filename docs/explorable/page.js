"use strict";
// Looks values up in the tables that the reference filled, and draws them. No value is computed here: a bit, a sum or
// a threshold is always an entry of a table, found by the window's bits and the controls' positions.
(async () => {
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

// ---- pictures
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
// A colour is one little-endian word, as in the memory of an image: red lowest, opaque.
const word = (parts) => (parts[0] | (parts[1] << 8) | (parts[2] << 16) | (255 << 24)) >>> 0;
const parts = (colour) => [colour & 255, (colour >> 8) & 255, (colour >> 16) & 255];
const rgb = (text) => word([1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16)));
let COLOURS;
function readColours() {
  COLOURS = { on: rgb(style("--on")), off: rgb(style("--off")), zero: rgb(style("--zero")), dim: rgb(style("--dim")) };
}
const blend = (a, b, share) => word(parts(a).map((value, i) => Math.round(value + (parts(b)[i] - value) * share)));
function paint(canvas, height, width, colourOf, marks = []) {
  const room = Math.min(canvas.parentElement.clientWidth || width, 600), dpr = window.devicePixelRatio || 1;
  const scale = Math.max(1, Math.floor(room * dpr / width));
  if (canvas.width !== width * scale) { canvas.width = width * scale; canvas.height = height * scale; }
  canvas.style.width = `${width * scale / dpr}px`; canvas.style.height = `${height * scale / dpr}px`;
  const image = new ImageData(width, height);
  const words = new Uint32Array(image.data.buffer);
  for (let i = 0; i < words.length; i++) words[i] = colourOf(i);
  const small = paint.canvas || (paint.canvas = document.createElement("canvas"));
  small.width = width; small.height = height;
  small.getContext("2d").putImageData(image, 0, 0);
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, width * scale, height * scale);
  for (const [r, c, extent] of marks) {
    const grow = Math.max(2, scale), line = Math.max(2, Math.round(dpr * 1.5));
    const box = [c * scale - grow, r * scale - grow, extent * scale + 2 * grow, extent * scale + 2 * grow];
    context.lineWidth = 2 * line; context.strokeStyle = "#fff"; context.strokeRect(...box);
    context.lineWidth = line; context.strokeStyle = "#c2410c"; context.strokeRect(...box);
  }
}
const bitColour = (bit) => (bit > 0 ? COLOURS.on : bit < 0 ? COLOURS.off : COLOURS.zero);
const MAPS = {
  one: (canvas) => { const bits = dots(0, S.light); paint(canvas, H, W, (i) => (bits[i] ? COLOURS.on : COLOURS.off), [[S.row + 1, S.column + 1, 1]]); },
  dots: (canvas) => { const bits = dots(S.dots, S.light); paint(canvas, H, W, (i) => (bits[i] ? COLOURS.on : COLOURS.off), [[S.row + 1, S.column + 1, 1]]); },
  window: (canvas) => { const bits = dots(S.dots, S.light); paint(canvas, H, W, (i) => (bits[i] ? COLOURS.on : COLOURS.off), [[S.row, S.column, 3]]); },
  sums: (canvas) => {
    const values = sums(S.filter), shades = F.sums.map((_, i) => blend(COLOURS.off, COLOURS.on, i / (F.sums.length - 1)));
    paint(canvas, MH, MW, (i) => shades[PLACE[values[i]]], [[S.row, S.column, 1]]);
  },
  bits: (canvas) => { const bits = featureMap(S.filter, S.filter); paint(canvas, MH, MW, (i) => bitColour(bits[i]), [[S.row, S.column, 1]]); },
  phase: (canvas) => {
    const bits = featureMap(S.filter, S.filter), [p, q] = pixel().phase, [rows, columns] = phasesOf(S.dither);
    const plain = [COLOURS.off, COLOURS.zero, COLOURS.on], shades = { lit: [LIT.off, COLOURS.zero, LIT.on], dim: plain.map((colour) => blend(colour, COLOURS.dim, 0.82)) };
    paint(canvas, MH, MW, (i) => {
      const here = rows[(i / MW) | 0] === p && columns[i % MW] === q;
      return (here ? shades.lit : shades.dim)[bits[i] + 1];
    }, [[S.row, S.column, 1]]);
  },
};
const LIT = { on: word([255, 190, 120]), off: word([122, 40, 10]) };

// ---- grids of cells
function cells(node, columns, entries, label) {
  node.style.gridTemplateColumns = `repeat(${columns}, max-content)`;
  node.setAttribute("role", "img"); node.setAttribute("aria-label", label);
  node.replaceChildren(...entries.map(([text, kind]) => make("span", { class: kind || "" }, text)));
}
const bitCell = (bit) => (bit ? ["+1", "on"] : ["−1", "off"]);
function around(entry) {
  const side = 6, r0 = Math.min(Math.max(S.row + 1 - 2, 0), H - side), c0 = Math.min(Math.max(S.column + 1 - 2, 0), W - side), found = [];
  for (let r = r0; r < r0 + side; r++) for (let c = c0; c < c0 + side; c++) {
    const [text, kind] = entry(r, c);
    found.push([text, `${kind || ""}${r === S.row + 1 && c === S.column + 1 ? " hit" : ""}`]);
  }
  return found;
}
const firesFrom = (r, c) => at("dots_fires", S.dots, S.light, at("dots_row_phase", S.dots, r), at("dots_column_phase", S.dots, c));
const CELLS = {
  grey: (node) => cells(node, 6, around((r, c) => [at("photograph", r, c)]), "Grey values around the chosen pixel"),
  fires: (node) => cells(node, 6, around((r, c) => { const f = firesFrom(r, c); return [f > 255 ? "never" : f]; }), "The grey from which each cell fires"),
  bits: (node) => { const bits = dots(S.dots, S.light); cells(node, 6, around((r, c) => bitCell(bits[r * W + c])), "Bits around the chosen pixel"); },
  x: (node) => { const { number } = pixel(); cells(node, 3, TAPS.map((tap) => bitCell((number >> tap) & 1)), "The window's nine bits"); },
  w: (node) => cells(node, 3, TAPS.map((tap) => bitCell(weight(S.filter, tap) > 0)), "The filter's nine weights"),
  agree: (node) => { const { agree, popcount } = pixel(); cells(node, 3, TAPS.map((tap) => ((agree >> tap) & 1 ? ["1", "yes"] : ["0", ""])), `XNOR: ${popcount} of nine agree`); },
  tap: (node) => {
    const { number } = pixel();
    cells(node, 3, TAPS.map((tap) => { const [text, kind] = bitCell((number >> tap) & 1); return [text, kind + (tap === S.cycle ? " hit" : tap > S.cycle ? " wait" : "")]; }),
      `The window's bits up to cycle ${S.cycle}`);
  },
};

// ---- drawings
const NS = "http://www.w3.org/2000/svg";
function svg(node, height, label) {
  const width = Math.max(280, node.clientWidth), root = document.createElementNS(NS, "svg");
  root.setAttribute("viewBox", `0 0 ${width} ${height}`); root.setAttribute("height", height);
  root.setAttribute("role", "img"); root.setAttribute("aria-label", label);
  const add = (tag, attributes, text) => {
    const made = document.createElementNS(NS, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text !== undefined) made.textContent = text;
    root.append(made); return made;
  };
  node.replaceChildren(root);
  return { width, add };
}
const PLOTS = {
  ranking: (node) => {
    const { width, add } = svg(node, 250, `Total variation of ${F.ranking.length} kernels, best first; rank ${S.rank + 1} is chosen`);
    const left = 44, bottom = 206, top = 16, best = F.ranking[0].score;
    const x = (i) => left + (width - left - 8) * i / (F.ranking.length - 1), y = (score) => bottom - (bottom - top) * score / best;
    add("path", { d: "M" + F.ranking.map((one, i) => `${x(i)},${y(one.score)}`).join("L") + `L${x(F.ranking.length - 1)},${bottom}L${left},${bottom}Z`, fill: "var(--accent-soft)", stroke: "none" });
    add("path", { d: "M" + F.ranking.map((one, i) => `${x(i)},${y(one.score)}`).join("L"), fill: "none", stroke: "var(--cool)", "stroke-width": 2 });
    for (const value of [0, 0.02, 0.04, 0.06]) {
      add("line", { x1: left, x2: width - 8, y1: y(value), y2: y(value), stroke: "var(--rule)" });
      add("text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(2));
    }
    add("text", { x: left, y: 240 }, "rank"); add("text", { x: width - 8, y: 240, "text-anchor": "end" }, F.ranking.length);
    add("text", { x: left, y: 10 }, "expected total variation per pixel");
    const chosen = F.ranking[S.rank];
    add("line", { x1: x(S.rank), x2: x(S.rank), y1: y(chosen.score), y2: bottom, stroke: "var(--accent)", "stroke-width": 2 });
    add("circle", { cx: x(S.rank), cy: y(chosen.score), r: 6, fill: "var(--accent)" });
    const size = 38, gx = width - 2 * size - 12, gy = 16;
    chosen.levels.flat().forEach((value, i) => {
      add("rect", { x: gx + size * (i % 2), y: gy + size * ((i / 2) | 0), width: size, height: size, fill: "var(--card)", stroke: "var(--accent)" });
      add("text", { x: gx + size * (i % 2) + size / 2, y: gy + size * ((i / 2) | 0) + size / 2 + 5, "text-anchor": "middle", class: "strong mono" }, value);
    });
  },
  line: (node) => {
    const here = pixel(), { width, add } = svg(node, 330, `Batch norm as a line over the ten sums, cut by the threshold ${number(here.threshold)}`);
    const left = 34, right = width - 14, top = 16, bottom = 268, most = 3.2;
    const x = (a) => left + (right - left) * (a + 10) / 20, y = (value) => (top + bottom) / 2 - (bottom - top) / 2 * Math.max(-1, Math.min(1, value / most));
    for (const value of [-3, -2, -1, 0, 1, 2, 3]) {
      add("line", { x1: left, x2: right, y1: y(value), y2: y(value), stroke: "var(--rule)", "stroke-width": value ? 1 : 1.5 });
      add("text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" }, value < 0 ? `−${-value}` : value);
    }
    const points = F.sums.map((a, place) => [x(a), at("y", S.filter, S.gamma, S.beta, place), at("bit", S.zero, S.filter, S.gamma, S.beta, here.cell, place), a]);
    const inside = points.filter(([, value]) => Math.abs(value) <= most);
    add("path", { d: "M" + (inside.length ? inside : points).map(([px, value]) => `${px},${y(value)}`).join("L"), fill: "none", stroke: "var(--cool)", "stroke-width": 2.5 });
    add("line", { x1: left, x2: right, y1: y(here.threshold), y2: y(here.threshold), stroke: "var(--accent)", "stroke-width": 2.5, "stroke-dasharray": "7 4" });
    add("text", { x: right, y: y(here.threshold) - 7, "text-anchor": "end", class: "t" }, `T = ${number(here.threshold)}`);
    for (const [px, value, bit, a] of points) {
      const chosen = a === here.accumulator;
      if (chosen) add("line", { x1: px, x2: px, y1: y(value), y2: bottom + 8, stroke: "var(--accent)", "stroke-width": 1.5 });
      if (Math.abs(value) <= most) add("circle", { cx: px, cy: y(value), r: chosen ? 8 : 6, fill: bit > 0 ? "var(--on)" : bit < 0 ? "var(--off)" : "var(--zero)", stroke: chosen ? "var(--accent)" : "var(--cool)", "stroke-width": chosen ? 3 : 2 });
      add("text", { x: px, y: bottom + 22, "text-anchor": "middle", class: chosen ? "t" : "mono" }, signed(a));
      add("rect", { x: px - 9, y: bottom + 30, width: 18, height: 18, fill: bit > 0 ? "var(--on)" : bit < 0 ? "var(--off)" : "var(--zero)", stroke: chosen ? "var(--accent)" : "var(--rail)", "stroke-width": chosen ? 3 : 1 });
    }
    add("text", { x: left - 26, y: bottom + 22 }, "a"); add("text", { x: left - 26, y: bottom + 44 }, "bit"); add("text", { x: left + 4, y: top - 4, class: "strong" }, "y");
  },
  fold: (node) => {
    const here = pixel(), { width, add } = svg(node, 92, `The folded rule: ${rule(S.filter, here.cell)}`);
    const pitch = (width - 20) / F.sums.length, direction = decision("direction", S.filter, here.cell), t = decision("threshold", S.filter, here.cell);
    F.sums.forEach((a, place) => {
      const bit = at("bit", S.zero, S.filter, S.gamma, S.beta, here.cell, place), px = 10 + pitch * place, chosen = place === here.place;
      add("rect", { x: px + 2, y: 34, width: pitch - 4, height: 34, rx: 3, fill: bit > 0 ? "var(--on)" : bit < 0 ? "var(--off)" : "var(--zero)", stroke: chosen ? "var(--accent)" : "var(--rail)", "stroke-width": chosen ? 3 : 1 });
      add("text", { x: px + pitch / 2, y: 86, "text-anchor": "middle", class: chosen ? "t" : "mono" }, signed(a));
    });
    if (direction !== 0 && sumPlace(t) >= 0) {
      const edge = 10 + pitch * (sumPlace(t) + (direction > 0 ? 0 : 1)), tip = edge + direction * Math.min(70, pitch * 2);
      add("line", { x1: edge, x2: edge, y1: 22, y2: 72, stroke: "var(--accent)", "stroke-width": 3 });
      add("path", { d: `M${edge},22L${tip},22m${-direction * 8},-6l${direction * 8},6l${-direction * 8},6`, fill: "none", stroke: "var(--accent)", "stroke-width": 3 });
      add("text", { x: edge, y: 12, class: "t", "text-anchor": direction > 0 ? "start" : "end" }, `fires from ${signed(t)} ${direction > 0 ? "up" : "down"}`);
    }
  },
  wave: (node) => {
    const here = pixel(), start = at("start_cycle", S.row, S.column), hardware = S.zero < 2;
    const { width, add } = svg(node, 268, "Waveform of nine cycles: input bit, weight, XNOR, accumulator, limit, out_valid and the output bit");
    const left = 74, pitch = (width - left - 6) / TAPS.length, x = (tap) => left + pitch * tap;
    add("rect", { x: x(S.cycle), y: 0, width: pitch, height: 262, fill: "var(--accent-soft)" });
    const lane = (name, row) => { add("text", { x: 0, y: 24 + row * 32, class: "mono" }, name); return 10 + row * 32; };
    const bits = (name, row, valueOf) => {
      const top = lane(name, row), height = (value) => top + (value ? 0 : 20);
      let path = "";
      TAPS.forEach((tap) => { const y = height(valueOf(tap)); path += `${tap ? "L" : "M"}${x(tap)},${y}L${x(tap + 1)},${y}`; });
      add("path", { d: path, fill: "none", stroke: "var(--cool)", "stroke-width": 2 });
    };
    const bus = (name, row, valueOf, wide) => {
      const top = lane(name, row);
      (wide ? [0] : TAPS).forEach((tap) => {
        const x0 = x(tap), x1 = wide ? x(9) : x(tap + 1);
        add("path", { d: `M${x0 + 3},${top}L${x1 - 3},${top}L${x1},${top + 10}L${x1 - 3},${top + 20}L${x0 + 3},${top + 20}L${x0},${top + 10}Z`, fill: "none", stroke: "var(--cool)", "stroke-width": 1.5 });
        add("text", { x: (x0 + x1) / 2, y: top + 15, "text-anchor": "middle", class: tap === S.cycle ? "t" : "strong" }, valueOf(tap));
      });
    };
    const clock = lane("clk", 0);
    add("path", { d: TAPS.map((tap) => `M${x(tap)},${clock + 20}V${clock}H${x(tap + 0.5)}V${clock + 20}H${x(tap + 1)}`).join(""), fill: "none", stroke: "var(--rail)", "stroke-width": 1.5 });
    bits("x", 1, (tap) => at("trace_word", here.number, tap));
    bits("w", 2, (tap) => weight(S.filter, tap) > 0);
    bits("xnor", 3, (tap) => at("trace_popcount", here.number, tap, S.filter));
    bus("accum.", 4, (tap) => signed(at("trace_accumulator", here.number, tap, S.filter)));
    bus("limit", 5, () => hardware ? `${signed(at("limit", S.zero, S.filter, S.gamma, S.beta, here.cell))}, flip ${at("flip", S.zero, S.filter, S.gamma, S.beta, here.cell)}` : "no one-bit circuit has sign(0) = 0", true);
    bits("out_valid", 6, (tap) => at("trace_valid", tap));
    const top = lane("bit", 7);
    add("rect", { x: x(0), y: top, width: pitch * 8, height: 20, fill: "none", stroke: "var(--rule)", "stroke-dasharray": "3 3" });
    add("rect", { x: x(8) + 1, y: top, width: pitch - 2, height: 20, fill: here.bit > 0 ? "var(--on)" : here.bit < 0 ? "var(--off)" : "var(--zero)", stroke: "var(--accent)", "stroke-width": 2 });
    add("text", { x: x(4), y: top + 14, "text-anchor": "middle" }, "not valid yet");
    node.dataset.start = start;
  },
};

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
  const bit = make("b", { class: here.bit > 0 ? "plus" : "minus" }, signed(here.bit));
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

// ---- drawing everything
const OUT = {
  light: () => `from ${at("dots_fires", 0, S.light, 0, 0)} of 255`, gamma: () => number(F.gammas[S.gamma]), beta: () => number(F.betas[S.beta]),
  cycle: () => S.cycle, rank: () => S.rank + 1,
};
function kernelButtons() {
  const node = $("[data-kernel]"), [m, n] = F.dither_shapes[S.dither], [p, q] = pixel().phase, key = `${S.dither},${S.filter}`;
  node.style.gridTemplateColumns = `repeat(${n}, minmax(0, max-content))`;
  if (node.dataset.key !== key) {
    node.dataset.key = key;
    node.replaceChildren(...Array.from({ length: m * n }, (_, i) => { const button = make("button", { type: "button", "data-phase": i }); button.append(make("b"), make("small")); return button; }));
  }
  $$("button", node).forEach((button, i) => {
    const cell = at("cell", S.dither, S.filter, (i / n) | 0, i % n);
    button.setAttribute("aria-pressed", String(((i / n) | 0) === p && i % n === q));
    button.firstChild.textContent = `T ${number(F.levels[cell])}`;
    const direction = decision("direction", S.filter, cell);
    button.lastChild.textContent = direction ? `a ${direction > 0 ? "≥" : "≤"} ${signed(decision("threshold", S.filter, cell))}` : "constant";
  });
}
function toPhase(i) {
  const [m, n] = F.dither_shapes[S.dither], want = [(i / n) | 0, i % n];
  const near = (limit, from, period, target) => { for (let d = 0; d <= period; d++) for (const place of [from - d, from + d]) if (place >= 0 && place < limit && place % period === target) return place; return from; };
  set({ row: near(MH, S.row, m, want[0]), column: near(MW, S.column, n, want[1]) });
}
function strips(nodes) {
  for (const node of nodes) {
    const dither = DITHERS.indexOf(node.dataset.strip), maps = FILTERS.map((_, slice) => featureMap(S.filter, slice, dither));
    if (!node.children.length) {
      const four = make("div", { class: "four" });
      for (let i = 0; i <= FILTERS.length; i++) {
        const figure = make("figure", { class: "map" });
        figure.append(make("canvas", { role: "img" }), make("figcaption", {}, i === FILTERS.length ? "their sum: what the next layer sees" : `channel ${i}`));
        (i === FILTERS.length ? node : four).append(figure);
      }
      node.prepend(four);
    }
    $$("canvas", node).forEach((canvas, i) => {
      if (i < FILTERS.length) { canvas.setAttribute("aria-label", `Bits of channel ${i}, ${node.dataset.strip.toUpperCase()}`); paint(canvas, MH, MW, (k) => bitColour(maps[i][k])); return; }
      canvas.setAttribute("aria-label", `Sum of the four channels, ${node.dataset.strip.toUpperCase()}`);
      const shades = Array.from({ length: 9 }, (_, k) => blend(COLOURS.off, COLOURS.on, k / 8));
      paint(canvas, MH, MW, (k) => shades[at("sum4", maps[0][k] + 1, maps[1][k] + 1, maps[2][k] + 1, maps[3][k] + 1) + 4]);
    });
  }
}
/** What is costly to draw, and only where it can be seen soon. */
const near = new Set();
function drawSection(section) {
  for (const canvas of $$("[data-map]", section)) {
    MAPS[canvas.dataset.map](canvas);
    canvas.setAttribute("aria-label", `${TEXTS[canvas.dataset.map]?.() ?? "The one-bit photograph"}. Row ${S.row}, column ${S.column} is chosen; arrow keys move.`);
  }
  for (const node of $$("[data-cells]", section)) CELLS[node.dataset.cells](node);
  for (const node of $$("[data-plot]", section)) PLOTS[node.dataset.plot](node);
  strips($$("[data-strip]", section));
}
const watchNear = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) near.delete(target); else if (!near.has(target)) { near.add(target); drawSection(target); }
  }
}, { rootMargin: "250px 0px" });
function draw() {
  near.forEach(drawSection);
  for (const node of $$("[data-text]")) if (node.dataset.text === "chain") node.replaceChildren(...chain()); else { const text = TEXTS[node.dataset.text](); if (node.textContent !== text) node.textContent = text; }
  for (const node of $$("[data-out]")) node.textContent = OUT[node.dataset.out]();
  for (const node of $$("[data-bind]")) { node.value = S[node.dataset.bind]; node.setAttribute("aria-valuetext", String(OUT[node.dataset.bind]())); }
  for (const node of $$("[data-number]")) if (document.activeElement !== node) node.value = S[node.dataset.number];
  for (const node of $$("[data-choice]")) for (const input of $$("input", node)) input.checked = Number(input.value) === S[node.dataset.choice];
  kernelButtons();
  for (const node of $$("[data-address]")) { node.href = address() || "#"; node.textContent = location.href.split("#")[0].replace(/^.*\//, "…/") + address(); }
}
let waiting = false;
function set(changes, quiet = false) {
  S = { ...S, ...changes };
  if (!waiting) {
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); if (!quiet) history.replaceState(null, "", address() || location.pathname + location.search); });
  }
}

// ---- controls
for (const node of $$("[data-bind]")) {
  node.min = 0; node.max = LIMITS[node.dataset.bind] - 1; node.step = 1;
  node.addEventListener("input", () => { stop(); set({ [node.dataset.bind]: Number(node.value) }); });
}
const LABELS = { dots: INPUTS.map((name) => F.inputs[name]), dither: DITHERS.map((name) => F.dithers[name]), zero: F.zeros.map(signed), filter: FILTERS.map((name) => FILTER_NAMES[name]) };
$$("[data-choice]").forEach((node, group) => LABELS[node.dataset.choice].forEach((text, i) => {
  const label = make("label"), input = make("input", { type: "radio", name: `${node.dataset.choice}-${group}`, value: i });
  label.append(input);
  if (node.dataset.choice === "filter") { const mini = make("span", { class: "mini", "aria-hidden": "true" }); TAPS.forEach((tap) => mini.append(make("i", weight(i, tap) > 0 ? { class: "on" } : {}))); label.append(mini); }
  label.append(make("span", {}, text)); node.append(label);
  input.addEventListener("change", () => { stop(); set({ [node.dataset.choice]: i }); });
}));
for (const [name, rank] of Object.entries(F.named)) { const button = make("button", { type: "button" }, `${name} (${rank + 1})`); button.addEventListener("click", () => set({ rank })); $("[data-named]").append(button); }
$("[data-kernel]").addEventListener("click", (event) => { const button = event.target.closest("[data-phase]"); if (button) { stop(); toPhase(Number(button.dataset.phase)); } });
for (const node of $$("[data-number]")) {
  node.min = 0; node.max = LIMITS[node.dataset.number] - 1;
  node.addEventListener("input", () => { const value = Number(node.value); if (node.value !== "" && Number.isInteger(value) && value >= 0 && value < LIMITS[node.dataset.number]) { stop(); set({ [node.dataset.number]: value }); } });
}
const ACTIONS = {
  export: exportVector,
  link: () => { const text = location.href.split("#")[0] + address(); (navigator.clipboard?.writeText(text) ?? Promise.reject()).then(() => say("Address copied"), () => say("The address bar holds it")); },
  reset: () => { stop(); set({ ...DEFAULT }); },
};
for (const node of $$("[data-action]")) node.addEventListener("click", () => ACTIONS[node.dataset.action]());
for (const canvas of $$("[data-map]")) {
  const photograph = ["one", "dots", "window"].includes(canvas.dataset.map), offset = photograph ? 1 : 0;
  canvas.tabIndex = 0; canvas.setAttribute("role", "application"); canvas.setAttribute("aria-roledescription", "picture");
  const pick = (event) => {
    const box = canvas.getBoundingClientRect(), place = (share, extent, limit) => Math.min(Math.max(Math.floor(share * extent) - offset, 0), limit - 1);
    stop();
    set({ row: place((event.clientY - box.top) / box.height, photograph ? H : MH, MH), column: place((event.clientX - box.left) / box.width, photograph ? W : MW, MW) });
  };
  canvas.addEventListener("click", pick);
  canvas.addEventListener("pointermove", (event) => { if (event.buttons === 1 && event.pointerType === "mouse") pick(event); });
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!move) return;
    event.preventDefault(); stop();
    const step = event.shiftKey ? 10 : 1, within = (value, limit) => Math.min(Math.max(value, 0), limit - 1);
    set({ row: within(S.row + step * move[0], MH), column: within(S.column + step * move[1], MW) });
  });
}

// ---- demonstrations: once, when a section first comes into view and nothing was touched; again on the button
const sweep = (name, from, to, then) => { const steps = [], by = Math.sign(to - from); for (let i = from; i !== to + by; i += by) steps.push({ [name]: i }); return steps.concat({ [name]: then ?? to }); };
const DEMOS = {
  light: () => [...sweep("light", S.light, LIMITS.light - 2), ...sweep("light", LIMITS.light - 3, 2), ...sweep("light", 3, DEFAULT.light)],
  gamma: () => [...sweep("gamma", S.gamma, 4), ...sweep("gamma", 5, DEFAULT.gamma)],
  cycle: () => sweep("cycle", 0, TAPS.length - 1),
  phase: () => { const [m, n] = F.dither_shapes[S.dither]; return Array.from({ length: m * n + 1 }, (_, i) => ({ phase: i % (m * n) })); },
};
const PAUSE = { light: 110, gamma: 110, cycle: 380, phase: 700 };
let playing = 0, touched = location.hash.length > 1;
function stop() { touched = true; clearTimeout(playing); playing = 0; }
function play(name) {
  clearTimeout(playing);
  const steps = DEMOS[name]();
  const next = () => {
    const step = steps.shift();
    if (!step) { playing = 0; return; }
    if ("phase" in step) toPhase(step.phase); else set(step);
    playing = setTimeout(next, PAUSE[name]);
  };
  next();
}
for (const node of $$("[data-play]")) node.addEventListener("click", () => { touched = true; play(node.dataset.play); });
if (!matchMedia("(prefers-reduced-motion: reduce)").matches) {
  const watcher = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) if (isIntersecting && !touched && !playing) { watcher.unobserve(target); play(target.dataset.play); }
  }, { threshold: 1 });
  for (const node of $$("[data-play]")) watcher.observe(node);
}

// ---- theme, size, start
const theme = $("#theme"), dark = matchMedia("(prefers-color-scheme: dark)");
function useTheme(name) { document.documentElement.dataset.theme = name; theme.textContent = name === "dark" ? "Light" : "Dark"; readColours(); }
useTheme(dark.matches ? "dark" : "light");
dark.addEventListener("change", () => { useTheme(dark.matches ? "dark" : "light"); draw(); });
theme.addEventListener("click", () => { useTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"); draw(); });
addEventListener("hashchange", () => { if ($(location.hash || "#none-such")?.closest("main")) return; S = fromAddress(location.hash); draw(); });
let lastWidth = innerWidth;
addEventListener("resize", () => { if (innerWidth !== lastWidth) { lastWidth = innerWidth; draw(); } });
S = fromAddress(location.hash);
for (const section of $$("main section")) { if (section.getBoundingClientRect().top < innerHeight + 250) near.add(section); watchNear.observe(section); }
draw();
window.explorable = { state: () => ({ ...S }), set: (changes) => { S = { ...S, ...changes }; draw(); }, vector, featureMap: (filter, slice, dither) => Array.from(featureMap(filter, slice, dither)) };
document.documentElement.dataset.ready = "";
})();
