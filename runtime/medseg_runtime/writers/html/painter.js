"use strict";

const CONFIDENCE_MAP = "confidence";
const ENTROPY_MAP = "entropy";
const NO_SAMPLE = -1;
/** The outlines of so many samples are drawn together; more would hide the image. */
const MAX_OUTLINES = 64;

/** One slice, ready to be drawn: its pictures, and the outlines and maps of its masks. */
class Painting {
  /** slice: { pictures: [{ bitmap, x, y, width, height }], masks, box, step }. See report.js. */
  constructor(slice, colors) {
    Object.assign(this, { slice, colors, outlines: new Map(), maps: new Map(), counted: new Map() });
  }

  counts(class_) {
    return this.kept(this.counted, `${class_}`, () => this.slice.masks.counts(class_));
  }

  /** Return how many samples contain a pixel of the image. */
  countAt(x, y, class_) {
    const { box, step, masks } = this.slice;
    const [column, row] = [Math.floor((x - box.x) / step), Math.floor((y - box.y) / step)];
    const inside = column >= 0 && row >= 0 && column < masks.width && row < masks.height;
    return inside ? this.counts(class_)[masks.index(column, row)] : 0;
  }

  sampleOutline(sample, class_) {
    const { masks } = this.slice;
    return this.kept(this.outlines, `${sample} ${class_}`, () => outlinePath(masks.plane(sample, class_), masks));
  }

  consensusOutline(least, class_) {
    const { masks } = this.slice;
    return this.kept(this.outlines, `>= ${least} ${class_}`, () => outlinePath(atLeast(this.counts(class_), least), masks));
  }

  /** Return the map of a class as a canvas of one pixel per pixel of the masks; transparent where no sample is. */
  map(kind, class_) {
    return this.kept(this.maps, `${kind} ${class_}`, () => {
      const { masks } = this.slice;
      const canvas = new OffscreenCanvas(masks.width, masks.height);
      const picture = new ImageData(masks.width, masks.height);
      const counts = this.counts(class_);
      for (let y = 0, i = 0; y < masks.height; y++) {
        for (let x = 0; x < masks.width; x++, i += 4) {
          const share = counts[masks.index(x, y)] / masks.samples;
          const value = kind === ENTROPY_MAP ? entropy(share) : share;
          if (value > 0) picture.data.set([...inferno(value), 230], i); // 90 % opaque
        }
      }
      canvas.getContext("2d").putImageData(picture, 0, 0);
      return canvas;
    });
  }

  kept(cache, key, make) {
    if (!cache.has(key)) cache.set(key, make());
    return cache.get(key);
  }
}

/** Draw what lies under the selection: the image, a map and all outlines, as `view` asks. See Viewer. */
function paintGround(context, viewport, painting, view, pixelRatio) {
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.fillStyle = css(PAPER);
  context.fillRect(0, 0, context.canvas.width, context.canvas.height);
  viewport.apply(context, pixelRatio);
  if (view.image) paintPictures(context, painting.slice.pictures);
  if (view.map !== "none") paintMap(context, painting, view);
  if (view.outlines) paintSamples(strokes(context, viewport, painting, pixelRatio), painting, view);
}

/** Draw the consensus and the selected sample, as `view` asks. line: factor of the width of lines. */
function paintSelection(context, viewport, painting, view, pixelRatio, line = 1) {
  const stroke = strokes(context, viewport, painting, pixelRatio, line);
  if (view.consensus) paintConsensus(stroke, painting, view);
  if (view.sample !== NO_SAMPLE) paintSample(stroke, painting, view);
}

/** Return a function that strokes a path of the masks. line: factor of the width of lines. */
function strokes(context, viewport, { slice }, pixelRatio, line = 1) {
  viewport.apply(context, pixelRatio);
  const matrix = context.getTransform().translate(slice.box.x, slice.box.y).scale(slice.step, slice.step);
  context.setTransform(1, 0, 0, 1, 0, 0);
  return (path, color, width, opacity) => {
    const onScreen = new Path2D();
    onScreen.addPath(path, matrix);
    Object.assign(context, { strokeStyle: css(color, opacity), lineWidth: line * width * pixelRatio });
    context.stroke(onScreen);
  };
}

function paintPictures(context, pictures) {
  Object.assign(context, { imageSmoothingEnabled: true, imageSmoothingQuality: "high" });
  for (const { bitmap, x, y, width, height } of pictures) context.drawImage(bitmap, x, y, width, height);
}

function paintMap(context, painting, view) {
  const { image, box } = painting.slice;
  context.fillStyle = "rgba(0, 0, 0, 0.5)";
  context.fillRect(0, 0, image.width, image.height);
  context.imageSmoothingEnabled = false;
  context.drawImage(painting.map(view.map, view.class_), box.x, box.y, box.width, box.height);
}

function sampleColor(painting, sample, class_) {
  return painting.slice.masks.classes > 1 ? CONSENSUS[class_ % CONSENSUS.length] : painting.colors[sample];
}

function paintSamples(stroke, painting, view) {
  const { samples, classes } = painting.slice.masks;
  const opacity = view.sample === NO_SAMPLE ? 0.75 : 0.3;
  for (let sample = 0; sample < Math.min(samples, MAX_OUTLINES); sample++) {
    for (let class_ = 0; class_ < classes; class_++) {
      stroke(painting.sampleOutline(sample, class_), sampleColor(painting, sample, class_), 1.4, opacity);
    }
  }
}

function paintConsensus(stroke, painting, view) {
  for (let class_ = 0; class_ < painting.slice.masks.classes; class_++) {
    const path = painting.consensusOutline(view.least, class_);
    stroke(path, PAPER, 4.6, 0.6);
    stroke(path, CONSENSUS[class_ % CONSENSUS.length], 2.7, 1);
  }
}

function paintSample(stroke, painting, view) {
  for (let class_ = 0; class_ < painting.slice.masks.classes; class_++) {
    const path = painting.sampleOutline(view.sample, class_);
    stroke(path, PAPER, 5, 0.7);
    stroke(path, INK, 3.4, 0.9);
    stroke(path, sampleColor(painting, view.sample, class_), 2.2, 1);
  }
}
