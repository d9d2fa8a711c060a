// Draws all that can be seen, answers the controls, and starts.
// One part of the page's script: `page.html` holds them all, in one function, in the order of `SCRIPT` in page.py.

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
  const n = F.dither_shapes[S.dither][1], want = [(i / n) | 0, i % n];
  const [rows, columns] = phasesOf(S.dither);
  const near = (phases, from, target) => { for (let d = 0; d < phases.length; d++) for (const place of [from - d, from + d]) if (phases[place] === target) return place; return from; };
  set({ row: near(rows, S.row, want[0]), column: near(columns, S.column, want[1]) });
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
addEventListener("beforeprint", () => $$("main section").forEach(drawSection));
let lastWidth = innerWidth;
addEventListener("resize", () => { if (innerWidth !== lastWidth) { lastWidth = innerWidth; draw(); } });
S = fromAddress(location.hash);
// At first everything is drawn: only then has each section its height, and a link into the page meets its mark.
for (const section of $$("main section")) { near.add(section); watchNear.observe(section); }
draw();
window.explorable = { state: () => ({ ...S }), set: (changes) => { S = { ...S, ...changes }; draw(); }, vector, featureMap: (filter, slice, dither) => Array.from(featureMap(filter, slice, dither)) };
document.documentElement.dataset.ready = "";
