"use strict";
// Outlines as in overlay.png (figures/contours.py): a smooth curve through the middle of every pixel edge between inside and outside.
// It never moves, grows or loses a mask.

/** The curves around a corner of the pixel grid, for each of the 16 ways its four pixels can be inside or outside. */
const CURVES = Array.from({ length: 16 }, (_, turn) => {
  const [northWest, northEast, southWest, southEast] = [1, 2, 4, 8].map((bit) => Boolean(turn & bit));
  const [north, east, south, west] = [[0, -0.5], [0.5, 0], [0, 0.5], [-0.5, 0]];
  const crossed = [];
  if (northWest !== northEast) crossed.push(north);
  if (northEast !== southEast) crossed.push(east);
  if (southEast !== southWest) crossed.push(south);
  if (southWest !== northWest) crossed.push(west);
  if (crossed.length === 4) return northWest ? [[north, west], [south, east]] : [[north, east], [south, west]];
  return crossed.length ? [crossed] : [];
});

/** Return the outline of a plane of `masks` as a path, in pixels from the corner of its box. */
function outlinePath(plane, masks) {
  const path = new Path2D();
  const { stride, width, height } = masks;
  for (let y = 0; y <= height; y++) {
    for (let x = 0, i = y * stride; x <= width; x++, i++) {
      const turn = plane[i] | (plane[i + 1] << 1) | (plane[i + stride] << 2) | (plane[i + stride + 1] << 3);
      if (turn === 0 || turn === 15) continue;
      for (const [[fromX, fromY], [toX, toY]] of CURVES[turn]) {
        path.moveTo(x + fromX, y + fromY);
        path.quadraticCurveTo(x, y, x + toX, y + toY);
      }
    }
  }
  return path;
}
