// Charts in the page: their values at the pointer or at the arrow keys, their tables, and the boxes of the arms.

function positionText(chart, at) {
  const position = chart.positions[at];
  if (chart.x_scale === "size") return sizeText(position);
  const mark = [...(chart.marks || [])].reverse().find(([start]) => start <= position);
  return mark ? mark[1] : numberText(position);
}

function valueText(line, at) {
  const ends = line.low && line.low[at] != null ? ` (${exactText(line.low[at])} to ${exactText(line.high[at])})` : "";
  return line.values[at] == null ? "no value" : exactText(line.values[at]) + ends;
}

function showValues(u, figure, chart) {
  const tip = figure.querySelector(".tip");
  const at = u.cursor.idx;
  if (at == null || u.cursor.left < 0) {
    tip.hidden = true;
    return;
  }
  const rows = visible(chart).filter((line) => line.values[at] != null);
  tip.replaceChildren(
    make("b", {}, positionText(chart, at)),
    make("table", {}, ...rows.map((line) => make("tr", {}, make("td", {}, swatch(line.style, line.hollow)), make("td", {}, line.label), make("td", { class: "numeric" }, valueText(line, at))))),
  );
  tip.hidden = rows.length === 0;
  const left = u.over.offsetLeft + u.cursor.left;
  const room = figure.querySelector(".plot").clientWidth;
  tip.style.top = "4px";
  tip.style.left = `${Math.max(0, Math.min(left + 14 + tip.offsetWidth > room ? left - tip.offsetWidth - 14 : left + 14, room - tip.offsetWidth))}px`;
}

function moveByKey(event, figure, chart) {
  const { plot } = drawn.get(figure) || {};
  if (!plot) return;
  const last = chart.positions.length - 1;
  const now = plot.cursor.left >= 0 ? plot.cursor.idx : null;
  const step = event.shiftKey ? 10 : 1;
  const targets = { ArrowRight: now == null ? 0 : now + step, ArrowLeft: now == null ? last : now - step, Home: 0, End: last };
  if (event.key === "Escape") plot.setCursor({ left: -10, top: -10 });
  if (!(event.key in targets)) return;
  event.preventDefault();
  const at = Math.max(0, Math.min(last, targets[event.key]));
  plot.setCursor({ left: plot.valToPos(plot.data[0][at], "x"), top: 10 });
  const values = visible(chart).map((line) => `${line.label} ${valueText(line, at)}`);
  figure.querySelector("output").textContent = `${positionText(chart, at)}: ${values.join(", ")}`;
}

// ---- Figures

function figureOf(chart, heading) {
  const shades = (chart.shades || []).map((shade) => make("span", {}, make("i", { class: shade.shading.replace(" ", "-") }), shade.label));
  const own = chart.lines.filter((line) => !line.arm || !arms.some((arm) => arm.name === line.label));
  const lines = own.map((line) => make("span", {}, swatch(line.style, line.hollow), line.label));
  const plot = make("div", {
    class: "plot", tabindex: "0", role: "application", "aria-roledescription": "chart",
    "aria-label": `${chart.description} The arrow keys read the values.`,
  });
  const table = make("details", { class: "folded" }, make("summary", {}, "Values", make("span", { class: "unseen" }, ` of ${chart.title}`)));
  const figure = make(
    "figure", {},
    make("figcaption", {}, make(heading, {}, chart.title), make("p", { class: "unit" }, chart.y_label)),
    ...(shades.length + lines.length ? [make("p", { class: "key" }, ...shades, ...lines)] : []),
    plot,
    make("output", { class: "unseen", "aria-live": "polite" }),
    table,
  );
  plot.append(make("div", { class: "tip", hidden: true }));
  plot.addEventListener("keydown", (event) => moveByKey(event, figure, chart));
  plot.addEventListener("blur", () => drawn.get(figure)?.plot.setCursor({ left: -10, top: -10 }));
  table.addEventListener("toggle", () => table.open && table.children.length === 1 && table.append(tableOf(chart)));
  figure.hidden = hidden.has(chart.arm);
  return figure;
}

function tableOf(chart) {
  const header = [chart.x_scale === "size" ? "size" : "at", ...chart.lines.map((line) => line.label)];
  const rows = chart.points_only ? rangesByMark(chart) : chart.positions.map((_, at) => [positionText(chart, at), ...chart.lines.map((line) => valueText(line, at))]);
  return scrolling(`Values of ${chart.title}`, make(
    "table", {},
    make("caption", {}, chart.y_label),
    make("thead", {}, make("tr", {}, ...header.map((text) => make("th", { scope: "col" }, text)))),
    make("tbody", {}, ...rows.map(([first, ...rest]) => make("tr", {}, make("th", { scope: "row" }, first), ...rest.map((text) => make("td", {}, text))))),
  ));
}

function rangesByMark(chart) {
  return chart.marks.map(([start, text], number) => {
    const end = number + 1 < chart.marks.length ? chart.marks[number + 1][0] : Infinity;
    return [text, ...chart.lines.map((line) => {
      const values = line.values.filter((value, at) => value != null && chart.positions[at] >= start && chart.positions[at] < end);
      return values.length ? `${numberText(Math.min(...values))} to ${numberText(Math.max(...values))}` : "no value";
    })];
  });
}

const scrolling = (label, table) => hinted(make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": label }, table));

// A box whose table is wider than the window says so until the reader has scrolled to its end.
const cuts = new ResizeObserver((entries) => entries.forEach(({ target }) => hint(target.closest(".scroll"))));
const hint = (box) => box.toggleAttribute("data-cut", box.scrollWidth - box.clientWidth - box.scrollLeft > 4);

function hinted(box) {
  box.addEventListener("scroll", () => hint(box), { passive: true });
  cuts.observe(box);
  for (const table of box.children) cuts.observe(table);
  return box;
}

const views = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) if (isIntersecting) drawOnce(target);
}, { rootMargin: "400px 0px" });
const waiting = new Map(); // figure -> chart
const resizes = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const { plot } = drawn.get(target.closest("figure")) || {};
    if (plot && target.clientWidth && target.clientWidth !== plot.width) plot.setSize({ width: target.clientWidth, height: target.clientHeight });
  }
});

function drawOnce(figure) {
  const chart = waiting.get(figure);
  if (!chart || figure.hidden) return;
  waiting.delete(figure);
  views.unobserve(figure);
  draw(figure, chart);
}

function showKind() {
  fillAllTimes();
  for (const { plot } of drawn.values()) plot.destroy();
  drawn.clear();
  waiting.clear();
  views.disconnect();
  resizes.disconnect();
  for (const holder of document.querySelectorAll("[data-charts]")) {
    const charts = data.charts[holder.dataset.charts][kind];
    // The heading of a chart is one level below the heading above it.
    const heading = holder.previousElementSibling?.matches("h3") ? "h4" : "h3";
    const figures = charts.map((chart) => figureOf(chart, heading));
    holder.replaceChildren(...(figures.length ? figures : [make("p", { class: "note" }, "Not measured in this case.")]));
    figures.forEach((figure, at) => { waiting.set(figure, charts[at]); views.observe(figure); });
  }
}

function redraw() {
  for (const { plot } of drawn.values()) plot.batch(() => plot.redraw());
}

function switchArm(name, shown) {
  if (shown) hidden.delete(name);
  else hidden.add(name);
  for (const [figure, { chart, plot }] of drawn) {
    figure.hidden = hidden.has(chart.arm);
    plot.batch(() => chart.lines.forEach((line, at) => line.arm === name && plot.setSeries(at + 1, { show: shown })));
  }
  for (const [figure, chart] of waiting) figure.hidden = hidden.has(chart.arm);
  fillAllTimes();
}

function fillControls() {
  const controls = document.getElementById("controls");
  if (!controls || (arms.length < 2 && data.kinds.length < 2)) return;
  controls.hidden = false;
  const boxes = arms.map((arm) => {
    const box = make("input", { type: "checkbox", checked: true });
    box.addEventListener("change", () => switchArm(arm.name, box.checked));
    return make("label", {}, box, swatch(arm.style), arm.name, ...(arm.note ? [make("span", { class: "role" }, `(${arm.note})`)] : []));
  });
  // A single arm, or a single pair of arms, is always shown.
  if (arms.length > 1) document.getElementById("arms").append(...boxes);
  const select = document.getElementById("kind");
  if (select) select.addEventListener("change", () => { kind = Number(select.value); showKind(); });
}
