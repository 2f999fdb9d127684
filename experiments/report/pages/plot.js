// Charts that zoom and answer to the pointer, over the drawings that a page has without script.
//
// Each figure of class "chart" may carry its numbers in a script of type application/json, written by
// chart_data() in chart.cpp:
//   x, y        {label, log, low, high, ticks: [[value, text], ...]}
//   series      [{name, color, dashed, shift, line: [[x, y]], band: [[x, low, high]],
//                 marks: [[x, y, low, high, text, shape, link]]}]
//   references  [[y, label]]
// Drag to zoom, double click for the whole, click a legend entry to hide its series.
(() => {
  if (!window.uPlot) return;
  const kHit = 18; // pixels from the pointer to the mark that it shows
  const kAside = 0.4; // marks of equal x step aside, less than in the drawing: lines do not
  const plots = [];

  const css = (name) =>
    getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  const fade = (color, share) =>
    color + Math.round(share * 255).toString(16).padStart(2, "0");

  // One sorted list of x for all series, as uPlot wants it. Both ends of the axis are in it, so that
  // the whole is what the drawing shows.
  function columns(chart) {
    const at = new Set([chart.x.low, chart.x.high]);
    for (const series of chart.series) {
      for (const point of series.line) at.add(point[0]);
      for (const point of series.band) at.add(point[0]);
    }
    const x = [...at].sort((a, b) => a - b);
    const column = (points, value) => {
      const known = new Map(points.map((point) => [point[0], point[value]]));
      return x.map((place) => (known.has(place) ? known.get(place) : null));
    };
    const data = [x];
    for (const series of chart.series)
      data.push(column(series.line, 1), column(series.band, 1), column(series.band, 2));
    return data;
  }

  // The ticks of the drawing as long as two of them are in view; even steps when zoomed further.
  function splits(axis) {
    return (plot, index, low, high) => {
      const seen = axis.ticks.map((tick) => tick[0]).filter((at) => at >= low && at <= high);
      if (seen.length >= 2) return seen;
      const forward = axis.log ? Math.log : (value) => value;
      const back = axis.log ? Math.exp : (value) => value;
      const step = (forward(high) - forward(low)) / 4;
      return [1, 2, 3].map((k) => back(forward(low) + k * step));
    };
  }
  const labels = (axis) => {
    const known = new Map(axis.ticks);
    return (plot, values) =>
      values.map((at) => (known.has(at) ? known.get(at) : String(+at.toPrecision(3))));
  };
  const axis_of = (axis, side, size) => ({
    side, size, gap: 4, label: axis.label, labelSize: 20, labelGap: 2,
    font: "12px system-ui, sans-serif", labelFont: "12.5px system-ui, sans-serif",
    stroke: () => css("soft"),
    grid: { show: side === 3, stroke: () => css("grid"), width: 1 },
    ticks: { show: side === 2, stroke: () => css("rule"), width: 1, size: 4 },
    splits: splits(axis), values: labels(axis), filter: (plot, values) => values,
  });
  const scale_of = (axis, whole) => ({
    time: false, distr: axis.log ? 3 : 1, log: 10,
    range: whole ? () => [axis.low, axis.high] : (plot, low, high) => [low, high],
  });

  // What lies outside the y axis stands at its edge, as in the drawing.
  const place_y = (plot, chart, y, on_canvas) =>
    plot.valToPos(Math.min(Math.max(y, chart.y.low), chart.y.high), "y", on_canvas);

  function draw_marks(plot, chart, hidden) {
    const context = plot.ctx, ratio = window.devicePixelRatio || 1;
    context.save();
    context.beginPath();
    context.rect(plot.bbox.left, plot.bbox.top, plot.bbox.width, plot.bbox.height);
    context.clip();
    context.strokeStyle = css("soft");
    context.lineWidth = ratio;
    context.setLineDash([2 * ratio, 4 * ratio]);
    for (const [y] of chart.references) {
      const at = plot.valToPos(y, "y", true);
      context.beginPath();
      context.moveTo(plot.bbox.left, at);
      context.lineTo(plot.bbox.left + plot.bbox.width, at);
      context.stroke();
    }
    context.setLineDash([]);
    // A mark at the very edge of an axis is whole.
    context.restore();
    context.save();
    const edge = 8 * ratio;
    context.beginPath();
    context.rect(plot.bbox.left - edge, plot.bbox.top - edge, plot.bbox.width + 2 * edge,
      plot.bbox.height + 2 * edge);
    context.clip();
    chart.series.forEach((series, index) => {
      if (hidden.has(index)) return;
      const color = css(series.color);
      for (const [vx, vy, low, high, , shape] of series.marks) {
        const x = plot.valToPos(vx, "x", true) + kAside * series.shift * ratio;
        const y = place_y(plot, chart, vy, true);
        context.strokeStyle = color;
        if (low !== null && high !== null) {
          context.lineWidth = 1.4 * ratio;
          context.globalAlpha = 0.75;
          const bottom = place_y(plot, chart, low, true), top = place_y(plot, chart, high, true);
          context.beginPath();
          context.moveTo(x, bottom);
          context.lineTo(x, top);
          for (const end of [bottom, top]) {
            context.moveTo(x - 2.5 * ratio, end);
            context.lineTo(x + 2.5 * ratio, end);
          }
          context.stroke();
          context.globalAlpha = 1;
        }
        context.beginPath();
        if (shape === "diamond") {
          const r = 5 * ratio;
          context.moveTo(x, y - r);
          context.lineTo(x + r, y);
          context.lineTo(x, y + r);
          context.lineTo(x - r, y);
          context.closePath();
        } else {
          context.arc(x, y, (shape === "faint" ? 3 : 4) * ratio, 0, 2 * Math.PI);
        }
        if (shape === "faint") {
          context.globalAlpha = 0.5;
          context.lineWidth = 1.3 * ratio;
          context.stroke();
          context.globalAlpha = 1;
        } else {
          context.fillStyle = color;
          context.fill();
          context.lineWidth = 1.5 * ratio;
          context.strokeStyle = css("card");
          context.stroke();
        }
      }
    });
    context.restore();
  }

  function nearest(plot, chart, hidden) {
    const { left, top } = plot.cursor;
    let best = null, distance = kHit;
    if (left < 0) return null;
    chart.series.forEach((series, index) => {
      if (hidden.has(index)) return;
      for (const mark of series.marks) {
        const x = plot.valToPos(mark[0], "x") + kAside * series.shift;
        const y = place_y(plot, chart, mark[1], false);
        const here = Math.hypot(x - left, y - top);
        if (here < distance) distance = here, best = { mark, x, y };
      }
    });
    return best;
  }

  function enhance(figure) {
    const chart = JSON.parse(figure.querySelector("script[type='application/json']").textContent);
    const drawing = figure.querySelector("svg.plot");
    const box = drawing.getBoundingClientRect();
    const holder = document.createElement("div");
    holder.className = "live";
    const tip = document.createElement("div");
    tip.className = "tip";
    tip.hidden = true;
    const hidden = new Set();
    const series = [{}], bands = [];
    chart.series.forEach((one, index) => {
      const color = () => css(one.color);
      const plain = { points: { show: false }, spanGaps: true };
      series.push({ ...plain, stroke: color, width: 2, dash: one.dashed ? [6, 4] : undefined });
      series.push({ ...plain, width: 0 }, { ...plain, width: 0 });
      bands.push({ series: [3 * index + 3, 3 * index + 2], fill: () => fade(color(), 0.16) });
    });
    let shown = null;
    const plot = new uPlot({
      width: Math.round(box.width), height: Math.round(box.height),
      padding: [12, 14, 0, 0], legend: { show: false },
      cursor: { points: { show: false }, drag: { x: true, y: false } },
      scales: { x: scale_of(chart.x, false), y: scale_of(chart.y, true) },
      axes: [axis_of(chart.x, 2, 28), axis_of(chart.y, 3, 40)],
      series, bands,
      hooks: {
        draw: [(self) => draw_marks(self, chart, hidden)],
        setCursor: [(self) => {
          shown = nearest(self, chart, hidden);
          tip.hidden = !shown;
          self.over.style.cursor = shown && shown.mark[6] ? "pointer" : "";
          if (!shown) return;
          tip.textContent = shown.mark[4];
          tip.style.left = shown.x + "px";
          tip.style.top = shown.y + "px";
          tip.classList.toggle("flip", shown.x > self.over.clientWidth / 2);
        }],
      },
    }, columns(chart), holder);
    plot.over.append(tip);
    plot.over.addEventListener("click", () => {
      if (shown && shown.mark[6]) location.href = shown.mark[6];
    });
    drawing.replaceWith(holder);
    const named = chart.series.map((one, index) => index).filter((at) => chart.series[at].name);
    [...figure.querySelectorAll(".legend li")].slice(0, named.length).forEach((entry, place) => {
      const index = named[place];
      entry.classList.add("switch");
      entry.addEventListener("click", () => {
        const off = !hidden.delete(index);
        if (off) hidden.add(index);
        entry.classList.toggle("off", off);
        for (let k = 1; k <= 3; ++k) plot.setSeries(3 * index + k, { show: !off });
        plot.redraw();
      });
    });
    plots.push({ plot, holder, shape: box.height / box.width });
  }

  for (const figure of document.querySelectorAll("figure.chart"))
    if (figure.querySelector("script[type='application/json']")) enhance(figure);

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const { plot } of plots) plot.redraw();
  });
  addEventListener("resize", () => {
    for (const { plot, holder, shape } of plots) {
      const width = Math.round(holder.getBoundingClientRect().width);
      plot.setSize({ width, height: Math.round(width * shape) });
    }
  });
})();
