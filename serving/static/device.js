// The served model in this browser: onnxruntime-web, the model's file and its labels, all from this server.
//
//   const model = await load();               the model that the server answers with now
//   await model.judgeFile(file, square)       -> { answer, ms }
//   await model.judge(video, width, height, square)

import { ask, modelCard } from "./api.js";
import { GREYS, decode } from "./decode.js";
import { centre, channelsOf, fit } from "./preprocess.js";

const VENDOR = "/static/vendor/";

/** Everything is loaded by the first call; later ones only ask whether the model is still the same. */
export async function load(previous) {
  const { InferenceSession, Tensor, env } = await import(`${VENDOR}ort.wasm.bundle.min.mjs`);
  const response = await ask("/model/model.onnx");
  const digest = response.headers.get("ETag").replace(/^W\/|"/g, "");
  if (previous?.digest === digest) return previous;
  const bytes = await response.arrayBuffer();
  await verify(bytes, digest);
  const card = await modelCard();
  if (card.bundle_sha256 !== response.headers.get("X-Model-Bundle-Sha256")) return load(previous); // swapped in between
  Object.assign(env.wasm, { numThreads: 1, wasmPaths: { wasm: `${VENDOR}ort-wasm-simd-threaded.wasm` } });
  const session = await InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  return new DeviceModel(session, Tensor, card, digest);
}

async function verify(bytes, expected) {
  if (!globalThis.crypto?.subtle) return; // only on HTTPS and localhost
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const found = Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== expected) throw new Error("The model was damaged on its way; load the page again");
}

class DeviceModel {
  constructor(session, Tensor, card, digest) {
    Object.assign(this, { session, Tensor, card, digest });
    this.canvas = document.createElement("canvas");
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
  }

  /** Judge a square of a picture file as one face. */
  async judgeFile(file, square) {
    if (this.file !== file) Object.assign(this, await decode(file, this.card.input.channels), { file });
    const { width, height } = this.bitmap;
    return this.judge(this.bitmap, width, height, square, this.grey);
  }

  /** Judge a square of a bitmap or video as one face. */
  async judge(source, width, height, square = centre(width, height), grey = "rounded") {
    const start = performance.now();
    const { image_size: size, channels } = this.card.input;
    Object.assign(this.canvas, { width: square.side, height: square.side });
    this.context.drawImage(source, -square.x, -square.y, width, height);
    const { data } = this.context.getImageData(0, 0, square.side, square.side);
    const whole = { x: 0, y: 0, side: square.side };
    const image = fit(channelsOf(data, channels, GREYS[grey]), square.side, channels, whole, size);
    const probabilities = await this.predict(image);
    const label = Object.keys(probabilities).reduce((a, b) => (probabilities[a] >= probabilities[b] ? a : b));
    const { x, y, side } = square;
    const face = { box: { x, y, width: side, height: side }, detector: null, label, confidence: probabilities[label], probabilities };
    return { answer: { faces: [face], image: { width, height }, model: this.card }, ms: performance.now() - start };
  }

  /** uint8 (S, S, C) -> probability of each label. */
  async predict(image) {
    const { image_size: size, channels } = this.card.input;
    const input = new this.Tensor("uint8", image, [1, size, size, channels]);
    const { probabilities } = await this.session.run({ image: input }, ["probabilities"]);
    return Object.fromEntries(this.card.labels.map((label, index) => [label, probabilities.data[index]]));
  }
}
