// The picture with what was found in it: boxes, heat, and the square that the visitor draws.

import { colourOf, percent } from "./colours.js";

const SIDE = 1600; // longer side of the canvas at most, pixels

export class Picture {
  /** `onPick(index)` is called when a face is clicked, `onFrame(square)` when a square was drawn. */
  constructor(canvas, onPick, onFrame) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.faces = [];
    this.size = { width: 1, height: 1 };
    this.framing = false;
    this.square = null;
    this.onPick = onPick;
    this.onFrame = onFrame;
    canvas.addEventListener("pointerdown", (event) => this.#press(event));
    canvas.addEventListener("pointermove", (event) => this.#drag(event));
    canvas.addEventListener("pointerup", () => this.#release());
    canvas.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Show a bitmap or a video; null where the browser cannot read the file, but the server can. */
  show(source, width, height) {
    Object.assign(this, { source, size: { width, height } });
    const scale = Math.min(1, SIDE / Math.max(width, height)) * (Math.max(width, height) < 480 ? 480 / Math.max(width, height) : 1);
    const [w, h] = [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
    if (this.canvas.width !== w || this.canvas.height !== h) Object.assign(this.canvas, { width: w, height: h });
    this.canvas.hidden = false;
    this.draw();
  }

  /** Mark faces; `chosen` is the one whose emotions are shown. `size` is that of the picture they were found in. */
  mark(faces, chosen, size) {
    Object.assign(this, { faces, chosen, found: size });
    this.draw();
  }

  draw() {
    const { context, canvas, source } = this;
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (source) context.drawImage(source, 0, 0, canvas.width, canvas.height);
    const scale = canvas.width / (this.found?.width ?? this.size.width);
    for (const face of this.faces) if (face.heatmap) this.#heat(face, scale);
    for (const [index, face] of this.faces.entries()) if (face.detector) this.#box(face, scale, index === this.chosen);
    if (this.framing && this.square) this.#frame();
  }

  #box(face, scale, chosen) {
    const { context } = this;
    const unit = Math.max(1, this.canvas.width / 640);
    const [x, y, w, h] = [face.box.x, face.box.y, face.box.width, face.box.height].map((v) => v * scale);
    context.strokeStyle = context.fillStyle = colourOf(face.label);
    context.lineWidth = (chosen ? 4 : 2.5) * unit;
    context.beginPath();
    context.roundRect(x, y, w, h, 8 * unit);
    context.stroke();
    const text = `${face.label} ${percent(face.confidence)}`;
    context.font = `600 ${14 * unit}px Inter, system-ui, sans-serif`;
    const width = context.measureText(text).width + 16 * unit;
    const room = y > 28 * unit; // else the name stands in the box
    const left = Math.max(0, Math.min(x + (room ? -context.lineWidth / 2 : 4 * unit), this.canvas.width - width));
    const top = room ? y - 28 * unit : y + 4 * unit;
    context.beginPath();
    context.roundRect(left, top, width, 24 * unit, 6 * unit);
    context.fill();
    context.fillStyle = "#fff";
    context.fillText(text, left + 8 * unit, top + 17 * unit);
  }

  /** What the model sees is a square around the middle of the box, `quality.size` pixels wide. */
  #heat(face, scale) {
    const { box, quality, heatmap } = face;
    const side = quality.size;
    const square = [box.x + (box.width - side) / 2, box.y + (box.height - side) / 2, side, side].map((v) => v * scale);
    this.context.imageSmoothingEnabled = true;
    this.context.drawImage(heatPicture(heatmap), ...square);
  }

  #frame() {
    const { context, canvas, square } = this;
    const scale = canvas.width / this.size.width;
    const [x, y, side] = [square.x, square.y, square.side].map((v) => v * scale);
    context.fillStyle = "rgb(0 0 0 / 45%)";
    context.beginPath();
    context.rect(0, 0, canvas.width, canvas.height);
    context.rect(x, y, side, side);
    context.fill("evenodd");
    context.strokeStyle = "#fff";
    context.lineWidth = Math.max(2, canvas.width / 300);
    context.strokeRect(x, y, side, side);
  }

  #place(event) {
    const rect = this.canvas.getBoundingClientRect();
    const scale = this.size.width / rect.width;
    return { x: (event.clientX - rect.left) * scale, y: (event.clientY - rect.top) * scale };
  }

  #press(event) {
    const place = this.#place(event);
    if (this.framing) {
      this.start = place;
      this.canvas.setPointerCapture(event.pointerId);
      return;
    }
    const factor = (this.found?.width ?? this.size.width) / this.size.width;
    const [x, y] = [place.x * factor, place.y * factor];
    const index = this.faces.findIndex(({ box }) => x >= box.x && y >= box.y && x < box.x + box.width && y < box.y + box.height);
    if (index >= 0) this.onPick(index);
  }

  #drag(event) {
    if (!this.start) return;
    const { x, y } = this.#place(event);
    const side = Math.max(Math.abs(x - this.start.x), Math.abs(y - this.start.y));
    if (side < 4) return;
    this.setSquare(x < this.start.x ? this.start.x - side : this.start.x, y < this.start.y ? this.start.y - side : this.start.y, side);
    this.moved = true;
  }

  #release() {
    if (this.moved) this.onFrame(this.square);
    this.start = this.moved = null;
  }

  #key(event) {
    if (!this.framing || !this.square || event.ctrlKey || event.metaKey) return;
    const { x, y, side } = this.square;
    const step = Math.max(1, Math.round(side / 20));
    const moves = {
      ArrowLeft: [x - step, y, side], ArrowRight: [x + step, y, side], ArrowUp: [x, y - step, side], ArrowDown: [x, y + step, side],
      "+": [x - step, y - step, side + 2 * step], "-": [x + step, y + step, side - 2 * step], Escape: this.#whole(),
    };
    if (!moves[event.key]) return;
    event.preventDefault();
    this.setSquare(...moves[event.key]);
    this.onFrame(this.square);
  }

  #whole() {
    const { width, height } = this.size;
    const side = Math.min(width, height);
    return [Math.floor((width - side) / 2), Math.floor((height - side) / 2), side];
  }

  setSquare(x, y, side) {
    const { width, height } = this.size;
    side = Math.round(Math.max(Math.min(16, width, height), Math.min(side, width, height)));
    const within = (value, most) => Math.round(Math.max(0, Math.min(value, most)));
    this.square = { x: within(x, width - side), y: within(y, height - side), side };
    this.draw();
  }

  /** Whether the visitor says where the face is. */
  frame(on) {
    this.framing = on;
    this.canvas.tabIndex = on ? 0 : -1;
    this.canvas.classList.toggle("framing", on);
    this.setSquare(...this.#whole());
  }
}

/** (S, S) of 0 to 1 -> a picture, the hotter the less transparent. */
function heatPicture(heat) {
  const side = heat.length;
  const canvas = new OffscreenCanvas(side, side);
  const context = canvas.getContext("2d");
  const image = context.createImageData(side, side);
  for (const [i, value] of heat.flat().entries())
    image.data.set([235 + 20 * value, 70 + 165 * value ** 2, 40 + 60 * value ** 2, 225 * value], 4 * i);
  context.putImageData(image, 0, 0);
  return canvas;
}
