"use strict";

const PLOT = { width: 360, height: 156, left: 18, right: 18, bottom: 22, top: 28 };

/** Return a histogram of a measurement in which each sample is a block: { values, unit, median, low, high, limit }. */
function histogram(measurement, { colors, samples, selected, onSelect }) {
  const { values, unit, median, low, high, limit } = measurement;
  const { width, height, left, right, bottom, top } = PLOT;
  const shown = limit === null ? values : [...values, limit];
  const ticks = ticksFor(Math.min(...shown), Math.max(...shown));
  const [from, to] = [ticks[0], ticks[ticks.length - 1]];
  const x = (value) => left + ((value - from) / (to - from)) * (width - left - right);
  const floor = height - bottom;
  const bins = stacked(values, from, to, samples > 24 ? 24 : 16);
  const wide = (width - left - right) / bins.length;
  const tall = Math.min((floor - top) / Math.max(...bins.map((bin) => bin.length)), wide);
  const plot = svg("svg", {
    viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `Histogram of ${measurement.name}: ${samples} samples, median ${quantity(median, unit)}, `
      + `5th to 95th percentile ${quantity(low, unit)} to ${quantity(high, unit)}`,
  });
  plot.append(svg("text", { class: "caption", x: left, y: 12 }, `${capital(measurement.name)}, ${UNITS[unit] || unit}`));
  if (median !== null) {
    plot.append(svg("rect", { class: "span", x: x(low), y: top - 6, width: Math.max(x(high) - x(low), 1), height: floor - top + 6 }));
    plot.append(svg("line", { class: "median", x1: x(median), x2: x(median), y1: top - 6, y2: floor + 4 }));
  }
  bins.forEach((bin, column) => bin.forEach((k, row) => plot.append(svg("rect", {
    class: `block${k === selected ? " selected" : ""}${values[k] === 0 ? " empty" : ""}`,
    x: left + column * wide + 1, width: wide - 2,
    y: floor - (row + 1) * tall + Math.min(1, tall / 5), height: Math.max(tall - Math.min(2, tall / 3), 0.5),
    rx: Math.min(2, tall / 3), fill: css(colors[k]), onclick: () => onSelect(k),
  }, svg("title", {}, `${capital(sampleName(k, samples))}: ${quantity(values[k], unit)}`)))));
  plot.append(svg("line", { class: "axis", x1: left, x2: width - right, y1: floor, y2: floor }));
  if (limit !== null) plot.append(svg("line", { class: "limit", x1: x(limit), x2: x(limit), y1: top - 6, y2: floor + 4 }));
  for (const tick of ticks) plot.append(svg("text", { class: "tick", x: x(tick), y: height - 5 }, digits(tick)));
  return plot;
}

/** Return the numbers of the samples in each bin, the smallest value first. */
function stacked(values, from, to, count) {
  const bins = Array.from({ length: count }, () => []);
  const order = values.map((_, k) => k).sort((one, other) => values[one] - values[other] || one - other);
  for (const k of order) {
    const bin = Math.floor(((values[k] - from) / (to - from)) * count);
    bins[Math.min(Math.max(bin, 0), count - 1)].push(k);
  }
  return bins;
}

/** Return three to six round numbers that enclose a range. */
function ticksFor(least, most) {
  const span = most > least ? most - least : Math.max(Math.abs(most), 1);
  const step = [1, 2, 2.5, 5, 10, 20].map((digit) => digit * 10 ** (Math.floor(Math.log10(span)) - 1))
    .find((length) => span / length <= 5) || span;
  const first = Math.floor(least / step);
  const last = Math.max(Math.ceil(most / step), first + 1);
  return Array.from({ length: last - first + 1 }, (_, index) => (first + index) * step);
}
