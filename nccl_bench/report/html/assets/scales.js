// The data of the page, and what charts are made of: lines, marks, scales, and numbers as text.

const data = JSON.parse(document.getElementById("data").textContent);
const arms = data.arms || [];
const hidden = new Set();
const drawn = new Map(); // figure -> { chart, plot }
let kind = 0;

// ---- Elements

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// ---- Lines: each style has a colour, a dash and a mark, so that no reader needs the colour

const COLOURS = 12; // The colours of arms, then those of timings; styles.py has the same numbers.
const AGAIN = [4, 5, 6, 7];
const DASHES = [[], [], [9, 4], [2, 3], [9, 3, 2, 3], [14, 4], [5, 3], [2, 6]];
const circle = Array.from({ length: 12 }, (_, at) => [Math.cos((at * Math.PI) / 6), Math.sin((at * Math.PI) / 6)]);
const plus = [[-0.4, -1.2], [0.4, -1.2], [0.4, -0.4], [1.2, -0.4], [1.2, 0.4], [0.4, 0.4], [0.4, 1.2], [-0.4, 1.2], [-0.4, 0.4], [-1.2, 0.4], [-1.2, -0.4], [-0.4, -0.4]];
const MARKS = [
  circle,
  [[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]],
  [[0, -1.2], [1.15, 0.85], [-1.15, 0.85]],
  [[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]],
  plus,
  [[0, 1.2], [1.15, -0.85], [-1.15, -0.85]],
  plus.map(([x, y]) => [(x - y) * 0.72, (x + y) * 0.72]),
];
const colourNumber = (style) => (style < COLOURS ? style : AGAIN[(style - COLOURS) % AGAIN.length]);
const colourOf = (style) => css(`--line-${colourNumber(style)}`);
// The time before a change has the style of the time after it, but is dashed, with hollow marks.
const dashOf = (style, hollow) => (hollow ? [3, 4] : DASHES[style % DASHES.length]);
const markOf = (style) => MARKS[style % MARKS.length];

function swatch(style, hollow) {
  const mark = markOf(style).map(([x, y]) => `${17 + 4 * x},${7 + 4 * y}`).join(" ");
  const holder = document.createElement("span");
  const colour = `var(--line-${colourNumber(style)})`;
  holder.innerHTML =
    `<svg class="swatch" viewBox="0 0 34 14" aria-hidden="true"><line x1="0" y1="7" x2="34" y2="7" stroke-width="2" ` +
    `stroke="${colour}" stroke-dasharray="${dashOf(style, hollow)}"/>` +
    `<polygon points="${mark}" fill="${hollow ? "var(--paper)" : colour}" stroke="${colour}" stroke-width="1.5"/></svg>`;
  return holder.firstChild;
}

// ---- Scales and their labels

const SCALES = {
  linear: [(value) => value, (value) => value],
  marks: [(value) => value, (value) => value],
  log: [Math.log10, (value) => 10 ** value],
  size: [Math.log2, (value) => 2 ** value],
  "signed log": [(value) => Math.sign(value) * Math.log10(1 + Math.abs(value)), (value) => Math.sign(value) * (10 ** Math.abs(value) - 1)],
};

function sizeText(bytes) {
  for (const [unit, name] of [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]]) {
    if (bytes >= unit) return `${Number((bytes / unit).toPrecision(4))} ${name}`;
  }
  return `${bytes} B`;
}

// Adding 0 takes the sign off a zero.
const numberText = (value) => (value == null ? "" : (Number(value.toPrecision(4)) + 0).toString());

// Four significant digits, and all digits before the point.
function exactText(value) {
  const digits = value === 0 ? 0 : 3 - Math.floor(Math.log10(Math.abs(value)));
  return value.toFixed(Math.max(0, Math.min(8, digits))).replace(/^-(?=[0.]+$)/, "");
}

function niceSteps(low, high, count) {
  const rough = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= rough);
  const steps = [];
  for (let at = Math.ceil(low / step); at * step <= high; at++) steps.push(Number((at * step).toPrecision(10)));
  return steps;
}

function ticks(scale, low, high, pixels) {
  const [to, from] = SCALES[scale];
  if (scale === "linear") return niceSteps(low, high, pixels / 45);
  const [first, last] = [from(low), from(high)];
  if (scale === "log" && last / first < 8) return niceSteps(first, last, pixels / 45).filter((value) => value > 0).map(to);
  const values = scale === "signed log" ? [0] : [];
  for (let power = -6; power < 12; power++) {
    for (const factor of [1, 2, 5]) {
      const value = factor * 10 ** power;
      if (scale === "log") values.push(value);
      else if (value >= 0.5) values.push(value, -value);
    }
  }
  const inside = values.filter((value) => value >= first && value <= last).sort((a, b) => a - b).map(to);
  return spaced(inside, low, high, pixels, 26, scale === "signed log" ? to(0) : undefined);
}

// Keeps the ticks that have enough room. With `anchor`, that one is kept first.
function spaced(positions, low, high, pixels, room, anchor) {
  const kept = [];
  const order = anchor == null ? positions : [...positions].sort((a, b) => Math.abs(a - anchor) - Math.abs(b - anchor));
  for (const each of order) {
    if (kept.every((other) => (Math.abs(each - other) / (high - low)) * pixels >= room)) kept.push(each);
  }
  return kept.sort((a, b) => a - b);
}

// Powers of two with the same factor in between, such as 1 KiB, 32 KiB, 1 MiB; axis.py does the same.
function sizeTicks(positions, low, high, pixels) {
  for (const step of [1, 2, 5, 10]) {
    const powers = [];
    for (let power = Math.ceil(low / step) * step; power <= high; power += step) powers.push(power);
    if (powers.length > 1 && (step / (high - low)) * pixels >= 58) return powers;
  }
  return spaced(positions, low, high, pixels, 62);
}

// Labels such as 1 KiB, 32 KiB and 1 MiB if there are several, else those that have enough room.
function markTicks(marks, low, high, pixels) {
  const round = [...marks.keys()].filter((at) => /^(1|32) [KMGT]?i?B$/.test(marks.get(at)));
  const kept = spaced(round, low, high, pixels, 62);
  return kept.length > 2 ? kept : spaced([...marks.keys()], low, high, pixels, 62);
}
