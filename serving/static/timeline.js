// The emotions of a stream over the last minute: layers of an area, the whole height is 1.

import { colourOf, percent } from "./colours.js";

const SPAN = 60_000; // ms
const [WIDTH, HEIGHT] = [600, 120];

export class Timeline {
  constructor(svg, legend) {
    Object.assign(this, { svg, legend, points: [], labels: "" });
  }

  clear() {
    this.points = [];
    this.svg.dataset.points = 0;
  }

  /** Add the answer of one frame. */
  add(probabilities, now = performance.now()) {
    const labels = Object.keys(probabilities);
    if (labels.join() !== this.labels) this.#create(labels);
    this.points.push({ now, values: Object.values(probabilities) });
    while (this.points[0].now < now - SPAN) this.points.shift();
    this.svg.dataset.points = this.points.length;
    this.#draw(labels, now);
    this.#describe(labels);
  }

  #create(labels) {
    this.clear();
    this.labels = labels.join();
    this.svg.replaceChildren(
      ...labels.map((label) => {
        const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
        path.setAttribute("fill", colourOf(label));
        return path;
      }),
    );
    this.legend.replaceChildren(
      ...labels.map((label) => {
        const item = document.createElement("li");
        item.textContent = label;
        item.style.setProperty("--colour", colourOf(label));
        return item;
      }),
    );
  }

  #draw(labels, now) {
    const span = Math.min(SPAN, Math.max(5_000, now - this.points[0].now));
    const xs = this.points.map((point) => (WIDTH * (1 - (now - point.now) / span)).toFixed(1));
    let below = this.points.map(() => HEIGHT);
    for (const index of labels.keys()) {
      const above = this.points.map(({ values }, i) => below[i] - HEIGHT * values[index]);
      const way = (ys) => ys.map((y, i) => `${xs[i]},${y.toFixed(1)}`);
      this.svg.children[index].setAttribute("d", `M${[...way(above), ...way(below).reverse()].join("L")}Z`);
      below = above;
    }
  }

  #describe(labels) {
    const mean = labels.map((_, index) => this.points.reduce((sum, { values }) => sum + values[index], 0) / this.points.length);
    const most = mean.indexOf(Math.max(...mean));
    this.svg.setAttribute("aria-label", `Emotions over time: mostly ${labels[most]}, ${percent(mean[most])} on average`);
  }
}
