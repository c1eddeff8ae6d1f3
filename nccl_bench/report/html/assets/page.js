"use strict";
(() => {
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

  const COLOURS = 8;
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
  const colourOf = (style) => css(`--line-${style % COLOURS}`);
  const dashOf = (style) => DASHES[style % DASHES.length];
  const markOf = (style) => MARKS[style % MARKS.length];

  function swatch(style, hollow) {
    const mark = markOf(style).map(([x, y]) => `${17 + 4 * x},${7 + 4 * y}`).join(" ");
    const holder = document.createElement("span");
    holder.innerHTML =
      `<svg class="swatch" viewBox="0 0 34 14" aria-hidden="true"><line x1="0" y1="7" x2="34" y2="7" stroke-width="2" ` +
      `stroke="var(--line-${style % COLOURS})" stroke-dasharray="${dashOf(style)}"/>` +
      `<polygon points="${mark}" fill="var(--${hollow ? "paper" : `line-${style % COLOURS}`})" stroke="var(--line-${style % COLOURS})" stroke-width="1.5"/></svg>`;
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

  const numberText = (value) => (value == null ? "" : Number(value.toPrecision(4)).toString());

  // Four significant digits, and all digits before the point.
  function exactText(value) {
    const digits = value === 0 ? 0 : 3 - Math.floor(Math.log10(Math.abs(value)));
    return value.toFixed(Math.max(0, Math.min(8, digits)));
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

  // ---- Charts

  function visible(chart) {
    return chart.lines.filter((line) => !line.arm || !hidden.has(line.arm));
  }

  function rangeOf(chart) {
    const to = SCALES[chart.y_scale][0];
    let [low, high] = [Infinity, -Infinity];
    const add = (value) => {
      if (value == null || (chart.y_scale === "log" && value <= 0)) return;
      const at = to(value);
      if (at < low) low = at;
      if (at > high) high = at;
    };
    for (const line of visible(chart)) for (const values of [line.values, line.low, line.high]) (values || []).forEach(add);
    (chart.y_range || []).forEach(add);
    add(chart.y_reference);
    if (low > high) return [0, 1];
    const space = (high - low || 1) * 0.06;
    return [low - (chart.y_scale === "linear" && from0(chart) ? 0 : space), high + space];
  }

  const from0 = (chart) => chart.y_range && chart.y_range[0] === 0;

  function runs(low, high) {
    const found = [];
    let current = null;
    low.forEach((value, at) => {
      if (value == null || high[at] == null) current = null;
      else if (current) current.push(at);
      else found.push((current = [at]));
    });
    return found;
  }

  function area(u, xs, low, high, to, toEdges) {
    const { ctx, bbox } = u;
    const x = (at) => u.valToPos(xs[at], "x", true);
    const y = (value) => u.valToPos(to(value), "y", true);
    for (const run of runs(low, high)) {
      const [first, last] = [run[0], run[run.length - 1]];
      const left = toEdges && first === 0 ? bbox.left : x(first);
      const right = toEdges && last === xs.length - 1 ? bbox.left + bbox.width : x(last);
      ctx.beginPath();
      ctx.moveTo(left, y(high[first]));
      run.forEach((at) => ctx.lineTo(x(at), y(high[at])));
      ctx.lineTo(right, y(high[last]));
      ctx.lineTo(right, y(low[last]));
      [...run].reverse().forEach((at) => ctx.lineTo(x(at), y(low[at])));
      ctx.lineTo(left, y(low[first]));
      ctx.closePath();
      ctx.fill();
      if (toEdges) continue;
      // A single size has no width, so its interval is a stroke.
      if (run.length === 1) {
        ctx.beginPath();
        ctx.moveTo(x(first), y(low[first]));
        ctx.lineTo(x(first), y(high[first]));
        ctx.stroke();
      }
    }
  }

  // Draws inside of the axes only.
  function clipped(u, action) {
    const { ctx, bbox } = u;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    action();
    ctx.restore();
  }

  function drawBehind(u, chart, xs) {
    const { ctx } = u;
    const to = SCALES[chart.y_scale][0];
    clipped(u, () => {
      for (const shade of chart.shades || []) {
        ctx.fillStyle = css(`--${shade.shading.replace(" ", "-")}`);
        area(u, xs, shade.low, shade.high, to, true);
      }
    });
  }

  function drawReference(u, chart) {
    const { ctx, bbox } = u;
    if (chart.y_reference == null) return;
    const y = u.valToPos(SCALES[chart.y_scale][0](chart.y_reference), "y", true);
    ctx.strokeStyle = css("--ink");
    ctx.lineWidth = devicePixelRatio;
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
  }

  function drawIntervals(u, chart, xs) {
    const { ctx } = u;
    clipped(u, () => {
      ctx.lineWidth = 2 * devicePixelRatio;
      ctx.globalAlpha = 0.18;
      for (const line of visible(chart)) {
        if (!line.low) continue;
        ctx.fillStyle = ctx.strokeStyle = colourOf(line.style);
        area(u, xs, line.low, line.high, SCALES[chart.y_scale][0], false);
      }
    });
  }

  function drawMarks(u, chart, number) {
    const { ctx } = u;
    const line = chart.lines[number - 1];
    const mark = markOf(line.style);
    const dense = chart.positions.length > 120;
    const radius = (dense ? 1.9 : 3.2) * devicePixelRatio;
    const [xs, ys] = [u.data[0], u.data[number]];
    clipped(u, () => {
      ctx.fillStyle = colourOf(line.style);
      ctx.globalAlpha = dense ? 0.75 : 1;
      ctx.beginPath();
      for (let at = 0; at < xs.length; at++) {
        if (ys[at] == null) continue;
        const [x, y] = [u.valToPos(xs[at], "x", true), u.valToPos(ys[at], "y", true)];
        mark.forEach(([dx, dy], corner) => ctx[corner ? "lineTo" : "moveTo"](x + radius * dx, y + radius * dy));
        ctx.closePath();
      }
      if (line.hollow) {
        ctx.strokeStyle = ctx.fillStyle;
        ctx.fillStyle = css("--paper");
        ctx.lineWidth = 1.5 * devicePixelRatio;
        ctx.stroke();
      }
      ctx.fill();
    });
  }

  function draw(figure, chart) {
    const holder = figure.querySelector(".plot");
    const [toX] = SCALES[chart.x_scale];
    const [toY, fromY] = SCALES[chart.y_scale];
    const xs = chart.positions.map(toX);
    const marks = new Map((chart.marks || []).map(([at, text]) => [at, text]));
    const [first, last] = [xs[0], xs[xs.length - 1]];
    const space = (last - first || 1) * (chart.points_only ? 0.005 : 0.03);
    const font = "12px system-ui, sans-serif";
    const axis = { font, stroke: () => css("--quiet"), grid: { stroke: () => css("--grid"), width: 1 }, ticks: { stroke: () => css("--rule"), width: 1, size: 4 } };
    const labelled = chart.x_scale === "marks" ? [...marks.keys()] : xs;
    const texts = new Map(chart.x_scale === "size" ? xs.map((x, at) => [x, sizeText(chart.positions[at])]) : marks);
    const plot = new uPlot(
      {
        width: holder.clientWidth,
        height: holder.clientHeight,
        legend: { show: false },
        padding: [8, 12, 0, 0],
        cursor: { y: false, drag: { x: false, y: false }, points: { size: 9, fill: (u, number) => colourOf(chart.lines[number - 1].style) } },
        scales: { x: { time: false, range: () => [first - space, last + space] }, y: { range: () => rangeOf(chart) } },
        axes: [
          { ...axis, size: 30, gap: 4, splits: (u, side, low, high) => spaced(labelled, low, high, u.bbox.width / devicePixelRatio, 62), values: (u, splits) => splits.map((x) => texts.get(x) || "") },
          { ...axis, size: 54, gap: 4, splits: (u, side, low, high) => ticks(chart.y_scale, low, high, u.bbox.height / devicePixelRatio), values: (u, splits) => splits.map((y) => numberText(fromY(y))) },
        ],
        series: [
          {},
          ...chart.lines.map((line, number) => ({
            label: line.label,
            show: !hidden.has(line.arm),
            stroke: () => colourOf(line.style),
            width: 2,
            dash: dashOf(line.style),
            spanGaps: false,
            ...(chart.points_only ? { paths: () => null } : {}),
            points: { show: (u) => { drawMarks(u, chart, number + 1); } },
          })),
        ],
        hooks: {
          drawClear: [(u) => drawBehind(u, chart, xs)],
          drawAxes: [(u) => { drawReference(u, chart); drawIntervals(u, chart, xs); }],
          setCursor: [(u) => showValues(u, figure, chart)],
        },
      },
      [xs, ...chart.lines.map((line) => line.values.map((value) => (value == null || (chart.y_scale === "log" && value <= 0) ? null : toY(value))))],
      holder,
    );
    figure.dataset.points = chart.lines.reduce((sum, line) => sum + line.values.filter((value) => value != null).length, 0);
    drawn.set(figure, { chart, plot });
    resizes.observe(holder);
  }

  // ---- Values at the pointer, or at the position that the arrow keys choose

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

  const scrolling = (label, table) => make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": label }, table);

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

  // ---- The table of all numbers

  const ROWS_AT_FIRST = 100;

  function fillNumbers(holder) {
    const { count, columns, left_out: leftOut } = data.numbers;
    const valueAt = (column, row) => ("same" in column ? column.same : column.values[row]);
    const textAt = (column, row) => {
      const value = valueAt(column, row);
      if (value == null) return "";
      return column.name === "size_bytes" || typeof value !== "number" || Number.isInteger(value) ? String(value) : numberText(value);
    };
    let order = Array.from({ length: count }, (_, row) => row);
    let [sortedBy, ascending, every, most, wanted] = [null, true, false, ROWS_AT_FIRST, ""];

    const search = make("input", { type: "search", placeholder: "for example graph", "aria-label": "Show only rows with this text" });
    const all = make("input", { type: "checkbox" });
    const more = make("button", { type: "button" });
    const status = make("span", { role: "status" });
    const table = make("table", { "aria-label": "All numbers" });
    const shown = () => columns.filter((column) => every || column.main);
    const matching = () => order.filter((row) => !wanted || columns.some((column) => textAt(column, row).toLowerCase().includes(wanted)));

    function fill() {
      const rows = matching();
      const head = shown().map((column) => {
        const button = make("button", { type: "button", title: column.help }, column.name);
        button.addEventListener("click", () => sortBy(column));
        const direction = sortedBy === column ? (ascending ? "ascending" : "descending") : "none";
        return make("th", { scope: "col", class: column.numeric ? "numeric" : null, "aria-sort": direction }, button);
      });
      const body = rows.slice(0, most).map((row) => make("tr", {}, ...shown().map((column) => make("td", { class: column.numeric ? "numeric" : null }, textAt(column, row)))));
      table.replaceChildren(make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body));
      more.hidden = rows.length <= most;
      more.textContent = `Show all ${rows.length} rows`;
      status.textContent = `${Math.min(most, rows.length)} of ${count} rows`;
    }

    function sortBy(column) {
      ascending = sortedBy === column ? !ascending : true;
      sortedBy = column;
      const sign = ascending ? 1 : -1;
      order.sort((first, second) => {
        const [a, b] = [valueAt(column, first), valueAt(column, second)];
        if (a == null || b == null) return (a == null) - (b == null);
        return sign * (column.numeric ? a - b : String(a).localeCompare(String(b)));
      });
      fill();
      table.querySelectorAll("th button")[shown().indexOf(column)].focus();
    }

    const lines = (separator, chosen, quote) => [
      chosen.map((column) => column.name).join(separator),
      ...matching().map((row) => chosen.map((column) => quote(valueAt(column, row))).join(separator)),
    ].join("\n") + "\n";
    const quoted = (value) => { const text = value == null ? "" : String(value); return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text; };
    const flat = (value) => (value == null ? "" : String(value).replace(/[\t\n]/g, " "));

    const copy = make("button", { type: "button" }, "Copy the table");
    copy.addEventListener("click", () => copyText(lines("\t", shown(), flat), copy));
    const save = make("button", { type: "button" }, "Download as CSV");
    save.addEventListener("click", () => {
      const link = make("a", { href: URL.createObjectURL(new Blob([lines(",", columns, quoted)], { type: "text/csv" })), download: holder.dataset.file });
      link.click();
      URL.revokeObjectURL(link.href);
    });
    search.addEventListener("input", () => { wanted = search.value.toLowerCase(); fill(); });
    all.addEventListener("change", () => { every = all.checked; fill(); });
    more.addEventListener("click", () => { most = Infinity; fill(); });

    const same = columns.filter((column) => "same" in column && !column.main && count > 1).map((column) => `${column.name} ${column.same}`);
    holder.append(
      ...(leftOut ? [make("p", { class: "note" }, `${leftOut} more rows are not in this page. --format csv prints all rows.`)] : []),
      ...(same.length ? [make("p", { class: "note" }, `The same in all rows: ${same.join(", ")}.`)] : []),
      make("div", { class: "tools" }, make("label", {}, "Filter ", search), make("label", {}, all, " all columns"), copy, save, status),
      scrolling("All numbers", table), more,
    );
    fill();
  }

  // ---- Copying, themes, printing

  async function copyText(text, button) {
    const label = button.firstChild;
    const before = label.textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without permission, or from a file in some browsers.
      const area = make("textarea", {}, text);
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
      button.focus();
    }
    label.textContent = "Copied";
    setTimeout(() => { label.textContent = before; }, 1500);
  }

  const root = document.documentElement;
  const THEMES = ["system", "light", "dark"];
  const button = document.getElementById("theme");

  function setTheme(name) {
    if (name === "system") delete root.dataset.theme;
    else root.dataset.theme = name;
    button.textContent = `Theme: ${name}`;
    redraw();
  }

  function startThemes() {
    let theme = "system";
    try { theme = localStorage.getItem("nccl-bench theme") || theme; } catch { /* a file in some browsers */ }
    button.hidden = false;
    button.addEventListener("click", () => {
      theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
      try { localStorage.setItem("nccl-bench theme", theme); } catch { /* the choice holds until the page is closed */ }
      setTheme(theme);
    });
    setTheme(THEMES.includes(theme) ? theme : "system");
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    addEventListener("beforeprint", () => { for (const figure of [...waiting.keys()]) drawOnce(figure); setTheme("light"); });
    addEventListener("afterprint", () => setTheme(theme));
  }

  startThemes();
  fillControls();
  if (data.charts) showKind();
  document.querySelectorAll(".numbers").forEach(fillNumbers);
  document.querySelectorAll("[data-copy]").forEach((each) => each.addEventListener("click", () => copyText(each.dataset.copy, each)));
})();
