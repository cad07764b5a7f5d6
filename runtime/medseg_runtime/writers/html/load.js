"use strict";
// The report that a page carries => the plain object that the viewer takes. See data.py for what is carried.

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

async function inflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Return a report whose slices are decoded when they are asked for. */
function loaded(carried) {
  return { ...carried, slices: carried.slices.map((slice) => ({ ...slice, load: () => decoded(slice, carried) })) };
}

async function decoded(slice, { samples, classes }) {
  const { box, step } = slice;
  const pictures = slice.pictures.map(async ({ content, ...place }) =>
    ({ ...place, bitmap: await createImageBitmap(new Blob([bytesOf(content)])) }));
  const bits = await inflated(bytesOf(slice.masks));
  return {
    box, step, pictures: await Promise.all(pictures),
    masks: new Masks(bits, samples, classes.length, Math.ceil(box.width / step), Math.ceil(box.height / step)),
  };
}
