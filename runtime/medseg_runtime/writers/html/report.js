"use strict";

/**
 * Show a report in the elements of report.html. It is a plain object, and where it comes from does not matter:
 *
 *   title, summary      text
 *   note                how the picture differs from the image, or nothing
 *   image               { width, height } in pixels
 *   home, near          { x, y, width, height }: what is shown at first, and on the small pictures
 *   spacing             [row, column] in mm per pixel, or null
 *   samples, classes    how many samples, and the names of the classes
 *   sizes               of each sample, to rank its color
 *   slice               what a slice is called
 *   start, slices       the index of the first slice to show; each slice { label, areas, above, load, measurements if it has its own }
 *     areas[c][k]       pixels of class c in sample k; above[c][n]: pixels that at least n samples contain
 *     load()            => promise of { box, step, masks: Masks, pictures: [{ bitmap, x, y, width, height }] }, see masks.js
 *   measurements        of all slices: [{ class, name, unit, values: one a sample, median, low, high, limit or null, note }]
 *   representatives     [{ sample, share }]
 *   warnings            sentences
 *   provenance          [[name, value]]
 */
function showReport(report) {
  const at = (id) => document.getElementById(id);
  const colors = colorsBySize(report.sizes);
  const state = { measurement: 0 };
  const viewer = new Viewer(at("image"), report, { onPoint: showPoint, onStep: (change) => openSlice(viewer.wanted + change) });

  function measurements() {
    const all = [...report.measurements, ...(report.slices[viewer.index].measurements || [])];
    return all.filter((each) => each.class === viewer.view.class_);
  }

  function area(pixels) {
    return report.spacing ? quantity(pixels * report.spacing[0] * report.spacing[1], "mm2") : quantity(pixels, "px");
  }

  function select(sample) {
    viewer.show({ sample: sample === viewer.view.sample ? NO_SAMPLE : sample });
    refresh();
  }

  async function openSlice(index) {
    await viewer.open(Math.min(Math.max(index, 0), report.slices.length - 1));
    refresh();
    paintRepresentatives(at("representatives"), viewer);
  }

  /** Bring sliders, values and panels in line with the view. */
  function refresh() {
    const { sample, map } = viewer.view;
    showValues();
    at("ramp-name").textContent = map === ENTROPY_MAP ? "Entropy, 0 to 1 bit" : "Confidence, 0 to 1";
    at("ramp-key").hidden = map === "none";
    fillMeasurements(at("measurements"), measurements(), { chosen: state.measurement, selected: sample, onChoose: choose });
    showHistogram();
    markSelected(at("representatives"), sample);
  }

  function showValues() {
    const { sample, least, class_ } = viewer.view;
    const slice = report.slices[viewer.index];
    at("sample").value = sample + 1;
    at("sample-value").textContent = sample === NO_SAMPLE ? "all"
      : `${sampleName(sample, report.samples)} · ${area(slice.areas[class_][sample])}`;
    at("least").value = least;
    at("least-value").textContent = `at least ${least} of ${report.samples} · ${area(slice.above[class_][least])}`;
    at("slice").value = viewer.index;
    at("slice-value").textContent = slice.label;
    for (const id of ["sample", "least", "slice"]) at(id).setAttribute("aria-valuetext", at(`${id}-value`).textContent);
    say();
  }

  function showHistogram() {
    const chosen = measurements()[state.measurement];
    const { samples } = report;
    at("histogram").replaceChildren(...(chosen ? [histogram(chosen, { colors, samples, selected: viewer.view.sample, onSelect: select })] : []));
    at("note").textContent = chosen ? chosen.note : "";
  }

  function choose(index) {
    state.measurement = index;
    refresh();
    at("measurements").querySelectorAll("button")[index].focus();
  }

  /** Tell screen readers what the sliders show, once they rest. */
  function say() {
    clearTimeout(state.saying);
    state.saying = setTimeout(() => {
      const text = [at("sample-value"), at("least-value"), at("slice-value")].map((value) => value.textContent);
      at("live").textContent = `Outlines: ${text[0]}. Consensus: ${text[1]}.${text[2] && ` ${report.slice}: ${text[2]}.`}`;
    }, 400);
  }

  function showPoint(point) {
    at("point").textContent = point === null ? ""
      : `x ${point.x}, y ${point.y} · ${point.count} of ${report.samples} samples (${percent(point.count / report.samples)})`;
  }

  function listen() {
    at("sample").addEventListener("input", () => { viewer.show({ sample: Number(at("sample").value) - 1 }); refresh(); });
    at("least").addEventListener("input", () => { viewer.show({ least: Number(at("least").value) }); showValues(); });
    at("slice").addEventListener("input", () => openSlice(Number(at("slice").value)));
    at("class").addEventListener("change", () => {
      state.measurement = 0;
      viewer.show({ class_: at("class").selectedIndex });
      refresh();
    });
    for (const name of ["image", "outlines", "consensus"]) {
      at(`show-${name}`).addEventListener("change", (event) => viewer.show({ [name]: event.target.checked }));
    }
    for (const radio of document.getElementsByName("map")) {
      radio.addEventListener("change", () => { viewer.show({ map: radio.value }); refresh(); });
    }
    at("zoom-in").addEventListener("click", () => viewer.zoom(1.25));
    at("zoom-out").addEventListener("click", () => viewer.zoom(0.8));
    at("zoom-fit").addEventListener("click", () => viewer.fit(report.home));
    at("zoom-whole").addEventListener("click", () => viewer.fit({ x: 0, y: 0, ...report.image }));
  }

  function outlinesNote() {
    return report.samples > MAX_OUTLINES
      ? `Outlines of the first ${MAX_OUTLINES} of ${report.samples} samples are drawn together. Consensus, maps and numbers are of all.` : "";
  }

  function fill() {
    at("title").textContent = report.title;
    at("summary").textContent = report.summary;
    at("picture-note").textContent = [report.note, outlinesNote()].filter(Boolean).join(" ");
    at("sample").max = report.samples;
    at("least").max = report.samples;
    at("slice").max = report.slices.length - 1;
    at("slice-name").textContent = report.slice;
    if (report.slices.length > 1) at("keys").textContent = at("keys").textContent.replace("the wheel enlarges it", "the wheel turns the slices, Ctrl and wheel enlarge it");
    at("slice-row").hidden = report.slices.length === 1;
    at("class").replaceChildren(...report.classes.map((name) => element("option", {}, name)));
    at("class-row").hidden = report.classes.length === 1;
    at("size-ramp").style.background = gradient((position) => between(BY_SIZE, position));
    at("size-key").hidden = report.classes.length > 1;
    at("ramp").style.background = gradient(inferno);
    at("consensus-keys").replaceChildren(...report.classes.map((name, class_) => {
      const line = element("span", { class: "line", "aria-hidden": "true" });
      line.style.background = css(CONSENSUS[class_ % CONSENSUS.length]);
      return element("span", { class: "key" }, line, report.classes.length > 1 ? `${name}, bold: consensus` : "Consensus");
    }));
    fillRepresentatives(at("representatives"), report, { colors, onSelect: select });
    at("representatives-note").textContent = representativesNote(report);
    at("representatives-panel").hidden = report.representatives.length === 0;
    fillLines(at("warnings"), report.warnings);
    at("warnings-panel").hidden = report.warnings.length === 0;
    fillPairs(at("provenance"), report.provenance);
  }

  fill();
  listen();
  new ResizeObserver(() => paintRepresentatives(at("representatives"), viewer)).observe(at("representatives"));
  return openSlice(report.start).then(() => viewer);
}
