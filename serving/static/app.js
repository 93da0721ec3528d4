// The page: what the visitor does, and what is shown for it.

import { Problem, detect, features, modelCard, recommend, setKey } from "./api.js";
import { sentence, showAnswer } from "./answer.js";
import { Camera } from "./camera.js";
import { load } from "./device.js";
import { Feedback } from "./feedback.js";
import { copyButton, showLineage } from "./lineage.js";
import { Picture } from "./picture.js";
import { Timeline } from "./timeline.js";

const $ = (id) => document.getElementById(id);
const SPEAK = 3_000; // ms between two sentences about a stream

const state = { file: null, bitmap: null, faces: [], chosen: 0, camera: null, model: null, turn: 0, spoken: 0 };
const picture = new Picture($("picture"), pick, () => again());
const timeline = new Timeline($("timeline"), $("legend"));
const feedback = new Feedback(complain, (text) => {
  forget();
  toast(text);
});
let able = {};

async function start() {
  try {
    able = await features();
    await showModel();
  } catch (problem) {
    return tell(problem);
  }
  $("heat-switch").hidden = !able.heat;
  $("device-switch").hidden = $("device-note").hidden = !able.device;
  feedback.tell(able.keepsForDays);
  $("camera").hidden = !navigator.mediaDevices?.getUserMedia;
  document.body.dataset.ready = "true";
}

async function showModel() {
  const card = await modelCard();
  state.bundle = card.bundle_sha256;
  $("served").textContent = `${card.model}, version ${card.version}`;
  showLineage($("lineage"), card, toast);
  $("model").hidden = false;
}

// ---- what is asked

async function open(file) {
  if (!file) return;
  stopCamera();
  state.file = file;
  state.bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" }).catch(() => null);
  $("empty").hidden = true;
  picture.mark([], 0);
  if (state.bitmap) picture.show(state.bitmap, state.bitmap.width, state.bitmap.height);
  picture.frame($("device").checked && Boolean(state.bitmap));
  await again();
}

/** Judge the picture in view once more. */
async function again() {
  if (!state.file || state.camera) return;
  const turn = ++state.turn; // an answer that was overtaken is not shown
  $("summary").textContent = "Looking …";
  try {
    const { answer, ms } = await judge();
    if (turn !== state.turn) return;
    if (!state.bitmap) picture.show(null, answer.image.width, answer.image.height);
    forget();
    show(answer, ms, onDevice() ? "on this device" : "from sending to answer");
    $("summary").textContent = sentence(state.faces);
    if (state.faces.length) sing();
  } catch (problem) {
    if (turn === state.turn) tell(problem);
  }
}

async function judge() {
  if (!onDevice()) return detect(state.file, $("heat").checked);
  if (!state.bitmap) throw new Problem(0, "This browser cannot read such a picture", "switch off “On this device”");
  state.model = await load(state.model);
  return state.model.judgeFile(state.file, picture.square);
}

const onDevice = () => $("device").checked;

async function startCamera() {
  state.turn += 1;
  state.file = null;
  timeline.clear();
  const camera = (state.camera = new Camera({
    stream: able.stream,
    judge: () => (onDevice() ? judgeFrame : null),
    onAnswer: showFrame,
    onProblem: tell,
  }));
  $("camera").setAttribute("aria-pressed", true);
  $("camera").textContent = "Stop the camera";
  $("heat").disabled = true;
  $("song").hidden = true;
  $("summary").textContent = "Starting the camera …";
  try {
    await camera.start();
  } catch (problem) {
    if (state.camera !== camera) return;
    stopCamera();
    return tell(new Problem(0, "No camera", problem.message));
  }
  if (state.camera !== camera) return; // stopped while the browser still asked
  forget();
  $("empty").hidden = true;
  $("stream").hidden = false;
  picture.mark([], 0);
  const { video } = camera;
  picture.show(video, video.videoWidth, video.videoHeight);
  picture.frame(onDevice());
  draw();
}

async function judgeFrame(video) {
  state.model ??= await load();
  const { answer, ms } = await state.model.judge(video, video.videoWidth, video.videoHeight, picture.square);
  showFrame(answer, ms, "on this device");
}

function draw() {
  if (!state.camera?.running) return;
  picture.draw();
  requestAnimationFrame(draw);
}

function stopCamera() {
  state.camera?.stop();
  state.camera = null;
  $("summary").classList.remove("hidden-text");
  $("camera").setAttribute("aria-pressed", false);
  $("camera").textContent = "Use the camera";
  $("heat").disabled = onDevice();
}

// ---- what is shown

function showFrame(answer, ms, where) {
  if (!state.camera) return;
  forget();
  show(answer, ms, where);
  if (state.faces.length) timeline.add(state.faces[state.chosen].probabilities);
  if (performance.now() - state.spoken < SPEAK) return;
  state.spoken = performance.now();
  $("summary").textContent = sentence(state.faces);
  $("summary").classList.add("hidden-text"); // what is seen changes faster than can be spoken
}

function show(answer, ms, where) {
  state.faces = answer.faces;
  state.shown = { ms, where, size: answer.image, id: answer.prediction_id };
  pick(Math.max(0, Math.min(state.chosen, state.faces.length - 1)));
  $("picture").setAttribute("aria-label", sentence(state.faces));
  if (answer.prediction_id) showTrace(answer.prediction_id);
  $("trace").hidden = !answer.prediction_id;
  if (answer.model.bundle_sha256 !== state.bundle) showModel().catch(tell); // another one answers now
}

function pick(index) {
  state.chosen = index;
  const { ms, where, size, id } = state.shown;
  picture.mark(state.faces, index, size);
  feedback.offer(able.feedback && !state.camera && id, state.faces[index], index);
  showAnswer(state.faces, index, ms, where, (other) => {
    pick(other);
    if (!state.camera) sing();
  });
}

function showTrace(id) {
  const code = document.createElement("code");
  code.textContent = `emotion trace ${id}`;
  $("trace").replaceChildren("Follow this answer to its data: ", code, copyButton("Command", code.textContent, toast));
}

async function sing() {
  if (!able.songs) return;
  try {
    const song = await recommend(state.faces[state.chosen].label);
    $("song-title").textContent = song.title;
    $("song-artist").textContent = song.artist;
    $("song").hidden = false;
  } catch {
    $("song").hidden = true; // the catalogue may know other emotions than the model
  }
}

function tell(problem) {
  complain(problem);
  if (state.camera) return;
  $("summary").textContent = "There is no answer.";
  $("result").hidden = $("song").hidden = true;
}

function complain({ message, status }) {
  $("problem").textContent = message;
  $("problem").hidden = false;
  $("key-form").hidden = status !== 401;
}

function forget() {
  $("problem").hidden = $("key-form").hidden = true;
}

function toast(text) {
  $("toast").textContent = text;
  setTimeout(() => ($("toast").textContent = ""), 2_000);
}

// ---- what the visitor does

$("choose").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", ({ target }) => {
  open(target.files[0]);
  target.value = ""; // the same file may be chosen again
});
$("camera").addEventListener("click", () => {
  if (!state.camera) return startCamera();
  stopCamera();
  $("summary").textContent = "The camera is off.";
  return undefined;
});
$("another").addEventListener("click", sing);
$("heat").addEventListener("change", again);
$("device").addEventListener("change", () => {
  $("heat").disabled = onDevice() || Boolean(state.camera);
  $("frame-help").hidden = !onDevice();
  if (state.bitmap || state.camera) picture.frame(onDevice());
  again();
});
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setKey($("key").value.trim());
  forget();
  start().then(again);
});

addEventListener("paste", ({ clipboardData }) => open([...clipboardData.files].find((file) => file.type.startsWith("image/"))));
for (const kind of ["dragenter", "dragover"])
  addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.add("over");
  });
addEventListener("dragleave", (event) => event.relatedTarget || $("drop").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  open(event.dataTransfer.files[0]);
});
$("drop").addEventListener("click", () => $("empty").hidden || $("file").click());

start();
