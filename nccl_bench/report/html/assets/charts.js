// Draws a chart with uPlot: areas, intervals, lines and marks.

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
  const splits = (u, side, low, high) => {
    const pixels = u.bbox.width / devicePixelRatio;
    return chart.x_scale === "size" ? sizeTicks(xs, low, high, pixels) : markTicks(marks, low, high, pixels);
  };
  const textOf = (x) => (chart.x_scale === "size" ? sizeText(Math.round(2 ** x)) : marks.get(x) || "");
  const plot = new uPlot(
    {
      width: holder.clientWidth,
      height: holder.clientHeight,
      legend: { show: false },
      padding: [8, 12, 0, 0],
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 9, fill: (u, number) => colourOf(chart.lines[number - 1].style) } },
      scales: { x: { time: false, range: () => [first - space, last + space] }, y: { range: () => rangeOf(chart) } },
      axes: [
        { ...axis, size: 30, gap: 4, splits, values: (u, shown) => shown.map(textOf) },
        { ...axis, size: 54, gap: 4, splits: (u, side, low, high) => ticks(chart.y_scale, low, high, u.bbox.height / devicePixelRatio), values: (u, splits) => splits.map((y) => numberText(fromY(y))) },
      ],
      series: [
        {},
        ...chart.lines.map((line, number) => ({
          label: line.label,
          show: !hidden.has(line.arm),
          stroke: () => colourOf(line.style),
          width: 2,
          dash: dashOf(line.style, line.hollow),
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
