"use strict";

/** The masks of all samples and classes in a box of the image. A plane has a margin of one empty pixel on each side. */
class Masks {
  /** bits: for each sample and class the rows of the mask, eight pixels a byte, first pixel highest; each mask begins a byte. */
  constructor(bits, samples, classes, width, height) {
    Object.assign(this, { samples, classes, width, height, stride: width + 2 });
    const bytes = Math.ceil((width * height) / 8);
    this.planes = Array.from({ length: samples * classes }, (_, plane) =>
      this.unpacked(bits.subarray(plane * bytes, (plane + 1) * bytes)));
  }

  unpacked(bits) {
    const plane = new Uint8Array(this.stride * (this.height + 2));
    for (let byte = 0; byte < bits.length; byte++) {
      for (let bit = 0, value = bits[byte]; value; bit++, value = (value << 1) & 255) {
        if (value & 128) {
          const pixel = 8 * byte + bit;
          plane[this.index(pixel % this.width, Math.floor(pixel / this.width))] = 1;
        }
      }
    }
    return plane;
  }

  /** Return the place of a pixel in a plane. */
  index(x, y) {
    return (y + 1) * this.stride + x + 1;
  }

  plane(sample, class_) {
    return this.planes[sample * this.classes + class_];
  }

  /** Return how many samples contain each pixel, as a plane. */
  counts(class_) {
    const counts = new Uint16Array(this.stride * (this.height + 2));
    for (let sample = 0; sample < this.samples; sample++) {
      const plane = this.plane(sample, class_);
      for (let i = 0; i < counts.length; i++) counts[i] += plane[i];
    }
    return counts;
  }
}

/** Return the plane of pixels that at least `least` samples contain. */
function atLeast(counts, least) {
  return Uint8Array.from(counts, (count) => (count >= least ? 1 : 0));
}

/** Return the entropy in bits of a share in [0, 1]. */
function entropy(share) {
  const term = (p) => (p > 0 ? -p * Math.log2(p) : 0);
  return term(share) + term(1 - share);
}
