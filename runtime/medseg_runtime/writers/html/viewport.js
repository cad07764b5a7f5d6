"use strict";

/** Which part of the image the screen shows. Lengths on the screen are in CSS pixels, in the image in its own pixels. */
class Viewport {
  /** image: { width, height }. aspect: height of an image pixel over its width. */
  constructor(image, aspect) {
    Object.assign(this, { image, aspect, width: 1, height: 1, scale: 1, x: image.width / 2, y: image.height / 2 });
    this.home = { x: 0, y: 0, ...image };
  }

  /** Take the screen's size. What was in the middle stays there. */
  resize(width, height) {
    const atHome = this.scale === this.scaleFor(this.home);
    Object.assign(this, { width, height });
    if (atHome) this.fit(this.home);
  }

  scaleFor(box) {
    return Math.min(this.width / box.width, this.height / (box.height * this.aspect));
  }

  /** Show a box of the image as large as it fits. */
  fit(box) {
    Object.assign(this, { scale: this.scaleFor(box), x: box.x + box.width / 2, y: box.y + box.height / 2 });
  }

  zoom(factor, screenX = this.width / 2, screenY = this.height / 2) {
    const [x, y] = this.toImage(screenX, screenY);
    const least = this.scaleFor(this.image);
    this.scale = Math.min(Math.max(this.scale * factor, least), Math.max(64, least));
    const [newX, newY] = this.toImage(screenX, screenY);
    this.move((newX - x) * this.scale, (newY - y) * this.scale * this.aspect);
  }

  /** Move the image on the screen; its middle never leaves it. */
  move(screenX, screenY) {
    this.x = Math.min(Math.max(this.x - screenX / this.scale, 0), this.image.width);
    this.y = Math.min(Math.max(this.y - screenY / (this.scale * this.aspect), 0), this.image.height);
  }

  toImage(screenX, screenY) {
    return [
      this.x + (screenX - this.width / 2) / this.scale,
      this.y + (screenY - this.height / 2) / (this.scale * this.aspect),
    ];
  }

  /** Let a canvas context draw in image pixels. */
  apply(context, pixelRatio) {
    const across = this.scale * pixelRatio;
    const down = across * this.aspect;
    context.setTransform(across, 0, 0, down,
      (this.width / 2) * pixelRatio - this.x * across, (this.height / 2) * pixelRatio - this.y * down);
  }
}
