// The camera: frames go where they are judged, one after the other; what is late is left out.

import { ask, openStream } from "./api.js";

const SIDE = 640; // longer side of a frame that is sent, pixels
const PAUSE = 66; // ms between two frames at least
const AHEAD = 2; // frames on their way at a time; the server keeps the newest

export class Camera {
  /** `judge(video)` gives the answer to a frame on this device; without it frames go to the server. */
  constructor({ stream, judge, onAnswer, onProblem }) {
    Object.assign(this, { useStream: stream, judge, onAnswer, onProblem, running: false });
    this.video = Object.assign(document.createElement("video"), { muted: true, playsInline: true });
    this.shot = document.createElement("canvas");
  }

  async start() {
    this.running = true; // the visitor may stop while the browser still asks
    const media = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 }, facingMode: "user" } });
    this.media = media;
    if (!this.running) return this.stop();
    this.video.srcObject = media;
    await this.video.play();
    media.getVideoTracks()[0].addEventListener("ended", () => this.onProblem(new Error("The camera was switched off")));
    this.#loop();
  }

  stop() {
    this.running = false;
    this.socket?.close();
    this.media?.getTracks().forEach((track) => track.stop());
    this.video.srcObject = null;
  }

  async #loop() {
    try {
      if (!this.judge() && this.useStream) await this.#connect();
    } catch {
      this.useStream = false; // a proxy that lets no WebSocket through: one request after the other
    }
    while (this.running) {
      const start = performance.now();
      try {
        await this.#frame();
      } catch (problem) {
        if (this.running) this.onProblem(problem instanceof Error ? problem : new Error("The connection was closed"));
        await pause(1_000);
      }
      await pause(Math.max(0, PAUSE - (performance.now() - start)));
    }
  }

  #connect() {
    this.sent = [];
    this.counted = this.answered = 0;
    this.socket = openStream();
    this.socket.addEventListener("message", ({ data }) => this.#receive(JSON.parse(data)));
    return new Promise((resolve, reject) => {
      this.socket.addEventListener("open", resolve);
      this.socket.addEventListener("close", reject);
    });
  }

  #receive({ frame, detection, problem }) {
    this.answered = frame;
    const ms = performance.now() - this.sent[frame];
    this.sent[frame] = undefined;
    if (!this.running) return;
    if (detection) this.onAnswer(detection, ms, "over a WebSocket, newest frame first");
    else this.onProblem(new Error(`${problem.title}: ${problem.detail}`));
  }

  async #frame() {
    const judge = this.judge();
    if (judge) return judge(this.video);
    if (!this.useStream) return this.#post();
    if (this.socket?.readyState !== WebSocket.OPEN) await this.#connect();
    if (this.socket.bufferedAmount || this.counted - this.answered >= AHEAD) return undefined;
    const data = await this.#encode();
    if (this.socket.readyState !== WebSocket.OPEN) return undefined; // stopped meanwhile
    this.counted += 1;
    this.sent[this.counted] = performance.now();
    return this.socket.send(data);
  }

  async #post() {
    const start = performance.now();
    const body = await this.#encode();
    if (!this.running) return;
    const response = await ask("/detect", { method: "POST", body, headers: { "Content-Type": "image/jpeg" } });
    this.onAnswer(await response.json(), performance.now() - start, "one request per frame");
  }

  #encode() {
    const { videoWidth, videoHeight } = this.video;
    const scale = Math.min(1, SIDE / Math.max(videoWidth, videoHeight));
    Object.assign(this.shot, { width: Math.round(videoWidth * scale), height: Math.round(videoHeight * scale) });
    this.shot.getContext("2d").drawImage(this.video, 0, 0, this.shot.width, this.shot.height);
    return new Promise((resolve) => this.shot.toBlob(resolve, "image/jpeg", 0.9));
  }
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
