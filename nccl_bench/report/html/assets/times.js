// The tables of times, one for each timing: a row for each size, a column for each arm. They wrap in a narrow window.

function fillTimes(holder) {
  const charts = data.charts[holder.dataset.times][kind];
  holder.replaceChildren(...charts.filter((chart) => visible(chart).length).map((chart) => timesTable(chart, "emphasised" in holder.dataset)));
}

function timesTable(chart, emphasised) {
  const lines = visible(chart);
  const sizes = [...chart.positions].sort((a, b) => a - b);
  const heads = [make("th", { scope: "col", class: "numeric" }, "size"), ...lines.map((line) => make("th", { scope: "col", class: "numeric" }, line.label))];
  const rows = sizes.map((size) => {
    const values = lines.map((line) => line.values[chart.positions.indexOf(size)]);
    // Times that look the same are all the smallest.
    const least = timeText(Math.min(...values.filter((value) => value != null)));
    const texts = values.map((value) => (value == null ? "" : timeText(value)));
    const bold = emphasised && lines.length > 1;
    return make("tr", {}, make("th", { scope: "row" }, sizeText(size)), ...texts.map((text) => make("td", { class: "numeric" }, bold && text === least ? make("b", {}, text) : text)));
  });
  return scrolling(`Times by size, ${chart.title}`, make("table", {}, make("caption", {}, chart.title), make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows)));
}

const fillAllTimes = () => document.querySelectorAll("[data-times]").forEach(fillTimes);
// Three significant digits, and all digits before the point.
const timeText = (value) => (value >= 100 ? value.toFixed(0) : value.toPrecision(3));
