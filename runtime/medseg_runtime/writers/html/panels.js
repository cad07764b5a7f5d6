"use strict";
// The panels beside the image. Each function fills one element from the report and from what is selected.

/** Fill the table of measurements; a click on a name shows its histogram. */
function fillMeasurements(body, measurements, { chosen, selected, onChoose }) {
  body.replaceChildren(...measurements.map((each, index) => element("tr", index === chosen ? { class: "chosen" } : {},
    element("th", { scope: "row" }, element("button", {
      type: "button", "aria-pressed": String(index === chosen), onclick: () => onChoose(index),
    }, capital(each.name))),
    element("td", {}, quantity(each.median, each.unit)),
    element("td", {}, `${digits(each.low)} – ${digits(each.high)}`),
    element("td", {}, selected === NO_SAMPLE ? "–" : digits(each.values[selected])))));
}

/** Fill the list of samples that represent all, each with its share; a click shows one. */
function fillRepresentatives(list, report, { colors, onSelect }) {
  list.replaceChildren(...report.representatives.map(({ sample, share }) => element("li", {},
    element("button", { type: "button", "aria-pressed": "false", "data-sample": sample, onclick: () => onSelect(sample) },
      element("canvas", { width: 1, height: 1, "aria-hidden": "true" }),
      element("span", { class: "name" }, report.sizes[sample] ? capital(sampleName(sample, report.samples)) : "Empty"),
      element("span", { class: "share" }, percent(share)),
      shareBar(share, colors[sample])))));
}

/** Say what the shares are. That of an empty sample is not how many samples are empty. */
function representativesNote({ representatives, sizes, samples, slices, slice }) {
  const over = slices.length > 1 ? `, over all ${slice.toLowerCase()}s` : "";
  const empty = sizes.filter((size) => size === 0).length;
  const emptyShown = representatives.some(({ sample }) => sizes[sample] === 0);
  return `A share is how much of all samples one stands for${over}. ${emptyShown ? `${empty} of ${samples} samples are empty.` : ""}`;
}

function shareBar(share, color) {
  const bar = element("span", { class: "bar", "aria-hidden": "true" }, element("span"));
  Object.assign(bar.firstChild.style, { width: `${100 * share}%`, background: css(color) });
  return bar;
}

/** Draw the outline of each representative on its button. */
function paintRepresentatives(list, viewer) {
  for (const button of list.querySelectorAll("button")) {
    const canvas = button.querySelector("canvas");
    const { width, height } = canvas.getBoundingClientRect();
    if (!width || !viewer.painting) continue;
    Object.assign(canvas, { width: Math.round(width * viewer.pixelRatio), height: Math.round(height * viewer.pixelRatio) });
    const viewport = new Viewport(viewer.report.image, viewer.viewport.aspect);
    viewport.resize(width, height);
    viewport.fit(viewer.report.near);
    const view = { ...viewer.view, sample: Number(button.dataset.sample), map: "none", image: true, outlines: false, consensus: false };
    const context = canvas.getContext("2d", { alpha: false });
    paintGround(context, viewport, viewer.painting, view, viewer.pixelRatio);
    paintSelection(context, viewport, viewer.painting, view, viewer.pixelRatio, 0.6);
  }
}

function markSelected(list, sample) {
  for (const button of list.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.sample) === sample));
  }
}

/** Fill a list of names and values. */
function fillPairs(list, pairs) {
  list.replaceChildren(...pairs.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
}

function fillLines(list, lines) {
  list.replaceChildren(...lines.map((line) => element("li", {}, line)));
}
