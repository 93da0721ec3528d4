// The server's API: what it can do, asked for in words, and its errors told in words.

const KEY = "emotion-key"; // for this tab alone

export class Problem extends Error {
  constructor(status, title, detail) {
    super(detail ? `${title}: ${detail}` : title);
    this.status = status;
  }
}

export const keyOf = () => sessionStorage.getItem(KEY);
export const setKey = (key) => sessionStorage.setItem(KEY, key);

/** Fetch from this server; whatever is not an answer becomes a Problem. */
export async function ask(path, options = {}) {
  const key = keyOf();
  const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Problem(0, "The server cannot be reached", "is it still running?");
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  throw new Problem(response.status, problem.title ?? `The server answered ${response.status}`, problem.detail);
}

/** What this server has, from its own description. */
export async function features() {
  const { paths } = await (await ask("/openapi.json")).json();
  const parameters = (paths["/detect"]?.post?.parameters ?? []).map(({ name }) => name);
  return {
    heat: parameters.includes("explain"),
    stream: "/stream" in paths,
    songs: "/recommend" in paths,
    feedback: "/feedback" in paths,
    keepsForDays: paths["/feedback"]?.post?.["x-keeps-faces-for-days"] ?? null,
    device: "/model/model.onnx" in paths,
  };
}

export async function modelCard() {
  return (await ask("/model")).json();
}

/** Detect the emotions in a picture file; `ms` is what it took from here to here. */
export async function detect(file, explain) {
  const form = new FormData();
  form.append("file", file, "picture"); // its own name is nobody's business
  const start = performance.now();
  const response = await ask(explain ? "/detect?explain=true" : "/detect", { method: "POST", body: form });
  const answer = await response.json();
  return { answer, ms: performance.now() - start };
}

/** Say what a face of an answer shows. */
export async function giveFeedback(prediction_id, face, label) {
  const body = JSON.stringify({ prediction_id, face, label });
  return (await ask("/feedback", { method: "POST", body, headers: { "Content-Type": "application/json" } })).json();
}

let session = null;

/** A song that this tab has not heard yet. */
export async function recommend(emotion) {
  const query = new URLSearchParams({ emotion, ...(session && { session }) });
  const song = await (await ask(`/recommend?${query}`)).json();
  session = song.session;
  return song;
}

/** A WebSocket cannot send headers from a browser: the key goes among the protocols. */
export function openStream() {
  const url = new URL("/stream", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  const key = keyOf();
  const socket = key ? new WebSocket(url, ["emotion", `key.${key}`]) : new WebSocket(url);
  socket.binaryType = "arraybuffer";
  return socket;
}
