// The table of times: a row for each size, a column for each arm of each timing.

function fillTimes(holder) {
  const charts = data.charts[holder.dataset.times][kind];
  const groups = charts.map((chart) => ({ chart, lines: visible(chart) })).filter((group) => group.lines.length);
  const sizes = [...new Set(groups.flatMap(({ chart }) => chart.positions))].sort((a, b) => a - b);
  const head = [
    make("tr", {}, make("td", {}), ...groups.map(({ chart, lines }) => make("th", { scope: "colgroup", colspan: lines.length }, chart.title))),
    make("tr", {}, make("th", { scope: "col", class: "numeric" }, "size"), ...groups.flatMap(({ lines }) => lines.map((line, at) => make("th", { scope: "col", class: at ? "numeric" : "numeric first" }, line.label)))),
  ];
  const rows = sizes.map((size) => make("tr", {}, make("th", { scope: "row" }, sizeText(size)), ...groups.flatMap(({ chart, lines }) => {
    const values = lines.map((line) => line.values[chart.positions.indexOf(size)]);
    // Times that look the same are all the smallest.
    const least = timeText(Math.min(...values.filter((value) => value != null)));
    const emphasised = lines.length > 1 && "emphasised" in holder.dataset;
    return values.map((value, at) => {
      const text = value == null ? "" : timeText(value);
      return make("td", { class: at ? "numeric" : "numeric first" }, emphasised && text === least ? make("b", {}, text) : text);
    });
  })));
  holder.replaceChildren(scrolling("Times by size", make("table", { "aria-label": "Times by size" }, make("thead", {}, ...head), make("tbody", {}, ...rows))));
}

const fillAllTimes = () => document.querySelectorAll("[data-times]").forEach(fillTimes);
// Three significant digits, and all digits before the point.
const timeText = (value) => (value >= 100 ? value.toFixed(0) : value.toPrecision(3));
