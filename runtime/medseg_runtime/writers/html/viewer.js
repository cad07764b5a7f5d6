"use strict";

/** Draws one slice of a report on a canvas, and lets people move and enlarge it. Knows nothing of sliders and panels. */
class Viewer {
  /** report: see report.js. onPoint({ x, y, count } or null): what the pointer is at. onStep(change): another slice is asked for. */
  constructor(canvas, report, { onPoint, onStep }) {
    Object.assign(this, { canvas, report, onPoint, onStep });
    this.context = canvas.getContext("2d", { alpha: false });
    this.ground = new OffscreenCanvas(1, 1).getContext("2d", { alpha: false });
    this.viewport = new Viewport(report.image, report.spacing ? report.spacing[0] / report.spacing[1] : 1);
    this.viewport.home = report.home;
    this.viewport.fit(report.home);
    this.colors = colorsBySize(report.sizes);
    this.view = {
      sample: NO_SAMPLE, least: Math.ceil(report.samples / 2), class_: 0,
      map: "none", image: true, outlines: true, consensus: true,
    };
    this.pointers = new Map();
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.listen();
  }

  /** Show a slice; the last call wins. */
  async open(index) {
    this.wanted = index;
    const slice = await this.report.slices[index].load();
    if (this.wanted !== index) return;
    this.index = index;
    this.painting = new Painting({ ...slice, image: this.report.image }, this.colors);
    this.show({});
  }

  /** Change what is shown, and draw it with the next frame of the screen. */
  show(changes) {
    Object.assign(this.view, changes);
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => this.draw());
  }

  /** Draw now. */
  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    if (!this.painting) return;
    this.drawGround();
    paintSelection(this.context, this.viewport, this.painting, this.view, this.pixelRatio);
    this.paintScaleBar();
    this.canvas.classList.toggle("moved", this.viewport.scale > 1.01 * this.viewport.scaleFor(this.viewport.home));
  }

  /** Draw what a slider does not change from a picture that is kept: all outlines take long. */
  drawGround() {
    const { context, ground, painting, viewport, view, pixelRatio } = this;
    const { width, height } = this.canvas;
    const key = JSON.stringify([
      width, height, viewport.scale, viewport.x, viewport.y,
      view.class_, view.map, view.image, view.outlines, view.sample === NO_SAMPLE,
    ]);
    if (painting !== this.grounded || key !== this.groundKey) {
      Object.assign(ground.canvas, { width, height });
      paintGround(ground, viewport, painting, view, pixelRatio);
      Object.assign(this, { grounded: painting, groundKey: key });
    }
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.drawImage(ground.canvas, 0, 0);
  }

  resize() {
    const { width, height } = this.canvas.getBoundingClientRect();
    this.pixelRatio = window.devicePixelRatio || 1;
    this.canvas.width = Math.max(Math.round(width * this.pixelRatio), 1);
    this.canvas.height = Math.max(Math.round(height * this.pixelRatio), 1);
    this.viewport.resize(width, height);
    this.draw(); // at once: a resized canvas is black until then
  }

  zoom(factor, x, y) {
    this.viewport.zoom(factor, x, y);
    this.show({});
  }

  fit(box) {
    this.viewport.fit(box);
    this.show({});
  }

  /** Draw a bar of a round length at the lower left. */
  paintScaleBar() {
    const { context, report, pixelRatio, viewport } = this;
    const unit = report.spacing ? "mm" : "px";
    const perUnit = viewport.scale / (report.spacing ? report.spacing[1] : 1);
    const length = niceBelow((0.25 * viewport.width) / perUnit);
    const [x, y, wide] = [14, viewport.height - 16, length * perUnit];
    context.setTransform(pixelRatio, 0, 0, pixelRatio, 0, 0);
    context.font = "600 12px system-ui, sans-serif";
    for (const [color, width] of [[css(PAPER, 0.75), 4], [css(INK), 1.6]]) {
      Object.assign(context, { strokeStyle: color, fillStyle: color, lineWidth: width, lineJoin: "round" });
      context.beginPath();
      for (const [toX, toY] of [[x, y - 5], [x, y], [x + wide, y], [x + wide, y - 5]]) context.lineTo(toX, toY);
      context.stroke();
      if (width > 2) context.strokeText(`${length} ${unit}`, x + 1, y - 9);
      else context.fillText(`${length} ${unit}`, x + 1, y - 9);
    }
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    });
    canvas.addEventListener("pointermove", (event) => this.pointerMoved(event));
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, (event) => this.pointers.delete(event.pointerId));
    }
    canvas.addEventListener("pointerleave", () => this.onPoint(null));
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("dblclick", () => this.fit(this.viewport.home));
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  /** One pointer moves the image, two also enlarge it. */
  pointerMoved(event) {
    const now = [event.offsetX, event.offsetY];
    const before = this.pointers.get(event.pointerId);
    if (!before) {
      this.pointAt(...now);
      return;
    }
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId);
    this.pointers.set(event.pointerId, now);
    const share = 1 / this.pointers.size;
    this.viewport.move(share * (now[0] - before[0]), share * (now[1] - before[1]));
    if (others.length === 1) {
      const [x, y] = others[0][1];
      const distance = (point) => Math.max(Math.hypot(point[0] - x, point[1] - y), 1);
      this.viewport.zoom(distance(now) / distance(before), (now[0] + x) / 2, (now[1] + y) / 2);
    }
    this.show({});
  }

  pointAt(screenX, screenY) {
    const [x, y] = this.viewport.toImage(screenX, screenY).map(Math.floor);
    const inside = this.painting && x >= 0 && y >= 0 && x < this.report.image.width && y < this.report.image.height;
    this.onPoint(inside ? { x, y, count: this.painting.countAt(x, y, this.view.class_) } : null);
  }

  /**
   * The wheel turns the slices of a series, as in a viewer of DICOM; with Ctrl, and without slices, it enlarges.
   * It scrolls a page that is longer than the window, unless the image has the focus: who reads down the page passes over the image.
   */
  wheel(event) {
    const scrolls = document.documentElement.scrollHeight > window.innerHeight;
    if (scrolls && !event.ctrlKey && document.activeElement !== this.canvas) return;
    if (this.report.slices.length > 1 && !event.ctrlKey) {
      this.onStep(Math.sign(event.deltaY));
    } else {
      const before = this.viewport.scale;
      this.zoom(Math.exp(-0.0018 * event.deltaY * (event.deltaMode === 1 ? 16 : 1)), event.offsetX, event.offsetY);
      if (this.viewport.scale === before) return; // let the page scroll
    }
    event.preventDefault();
  }

  key(event) {
    const move = (x, y) => { this.viewport.move(x, y); this.show({}); };
    const actions = {
      "+": () => this.zoom(1.25), "=": () => this.zoom(1.25), "-": () => this.zoom(0.8),
      0: () => this.fit(this.viewport.home),
      ArrowLeft: () => move(40, 0), ArrowRight: () => move(-40, 0), ArrowUp: () => move(0, 40), ArrowDown: () => move(0, -40),
      PageUp: () => this.onStep(-1), PageDown: () => this.onStep(1),
    };
    if (!actions[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    actions[event.key]();
    event.preventDefault();
  }
}

/** Return the largest of 1, 2, 5, 10, 20, 50 ... and their tenths that is not above a length. */
function niceBelow(length) {
  const power = 10 ** Math.floor(Math.log10(length));
  return [5, 2, 1].map((digit) => digit * power).find((nice) => nice <= length * 1.0001) || power;
}
