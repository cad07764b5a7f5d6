"use strict";
// Numbers and units as text, and elements. All text goes through textContent: names cannot become markup.

const UNITS = { mm2: "mm²", mm3: "mm³", mm: "mm", px: "px" };

/** Return a number with three digits that count, and no more than the number has. */
function digits(value) {
  if (!Number.isFinite(value)) return "–";
  if (Number.isInteger(value) || Math.abs(value) >= 100) return Math.round(value).toLocaleString("en");
  return value.toFixed(Math.abs(value) >= 10 ? 1 : 2);
}

function quantity(value, unit) {
  return Number.isFinite(value) ? `${digits(value)} ${UNITS[unit] || unit}` : "–";
}

function percent(share) {
  return `${Math.round(100 * share)} %`;
}

/** Return the number of a sample as its file is named. */
function sampleName(sample, samples) {
  return `sample ${String(sample).padStart(Math.max(2, String(samples - 1).length), "0")}`;
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Return a new element: its attributes, and its children as elements or text. */
function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}
