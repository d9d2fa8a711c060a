// Draws lines, the folded rule and the waveform.
// One part of the page's script: `page.html` holds them all, in one function, in the order of `SCRIPT` in page.py.

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
    const left = 34, right = width - 14, top = 16, bottom = 268, most = 4.8;
    const x = (a) => left + (right - left) * (a + 10) / 20, y = (value) => (top + bottom) / 2 - (bottom - top) / 2 * Math.max(-1, Math.min(1, value / most));
    for (const value of [-4, -3, -2, -1, 0, 1, 2, 3, 4]) {
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
      const edge = 10 + pitch * (sumPlace(t) + (direction > 0 ? 0 : 1)), tip = Math.min(Math.max(edge + direction * Math.min(70, pitch * 2), 10), width - 10);
      add("line", { x1: edge, x2: edge, y1: 22, y2: 72, stroke: "var(--accent)", "stroke-width": 3 });
      add("path", { d: `M${edge},22L${tip},22m${-direction * 8},-6l${direction * 8},6l${-direction * 8},6`, fill: "none", stroke: "var(--accent)", "stroke-width": 3 });
      add("text", { x: edge, y: 12, class: "t", "text-anchor": edge < width / 2 ? "start" : "end" }, `fires from ${signed(t)} ${direction > 0 ? "up" : "down"}`);
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
