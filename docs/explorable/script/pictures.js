// Draws maps of bits and grids of cells.
// One part of the page's script: `page.html` holds them all, in one function, in the order of `SCRIPT` in page.py.

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
  fires: (node) => cells(node, 6, around((r, c) => { const f = firesFrom(r, c); return [f > 255 ? "–" : f]; }), "The grey from which each cell fires"),
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
