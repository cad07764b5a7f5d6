"use strict";
// The colors of overlay.png: figures/photo.py and figures/overlay.py have the same, and a test compares them.

/** matplotlib's inferno (CC0) at 0, 0.1 ... 1: perceptually uniform, brighter is more, safe for color-blind readers. */
const INFERNO = [
  [0, 0, 4], [22, 11, 57], [66, 10, 104], [106, 23, 110], [147, 38, 103], [188, 55, 84],
  [221, 81, 58], [243, 120, 25], [252, 165, 10], [246, 215, 70], [252, 255, 164],
];
/** Position of the value 0: the black end would look like a dark image. */
const INFERNO_FROM = 0.12;
const SHADES = 255;
/** Samples from the smallest to the largest. */
const BY_SIZE = [[70, 200, 255], [150, 145, 255], [255, 105, 190]];
/** The consensus of each class, repeated. */
const CONSENSUS = [[255, 214, 70], [110, 225, 130], [255, 135, 100], [120, 190, 255], [235, 140, 235]];
const PAPER = [18, 20, 24];
const INK = [238, 240, 244];

/** Return the color at a position in [0, 1] between the first and the last knot. */
function between(knots, position) {
  const place = position * (knots.length - 1);
  const below = Math.min(Math.floor(place), knots.length - 2);
  return knots[below].map((value, channel) => value + (place - below) * (knots[below + 1][channel] - value));
}

/** Return the color of a value in [0, 1], as whole numbers. */
function inferno(value) {
  const shade = Math.ceil(Math.min(Math.max(value, 0), 1) * SHADES) / SHADES;
  return between(INFERNO, INFERNO_FROM + (1 - INFERNO_FROM) * shade).map(Math.round);
}

function css(color, opacity = 1) {
  return `rgba(${color.map(Math.round).join(", ")}, ${opacity})`;
}

/** Return a CSS gradient to the right through a function of [0, 1]. */
function gradient(colorAt) {
  return `linear-gradient(to right, ${[0, 1, 2, 3, 4, 5, 6, 7, 8].map((step) => css(colorAt(step / 8))).join(", ")})`;
}

/** Return the color of each sample by the rank of its size: sizes[k] of sample k. */
function colorsBySize(sizes) {
  const order = sizes.map((_, k) => k).sort((one, other) => sizes[one] - sizes[other] || one - other);
  const colors = new Array(sizes.length);
  order.forEach((k, rank) => { colors[k] = between(BY_SIZE, rank / Math.max(sizes.length - 1, 1)); });
  return colors;
}
