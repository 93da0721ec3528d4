// The answer in words, bars and, for several faces, a choice between them.

import { colourOf, percent } from "./colours.js";

const $ = (id) => document.getElementById(id);
const REASONS = {
  too_small: "the face is small", too_dark: "it is dark", too_bright: "it is very bright",
  low_contrast: "it has little contrast", blurred: "it is blurred",
};

/** Show one face of an answer. `onPick(index)` is called for another one. */
export function showAnswer(faces, chosen, ms, where, onPick) {
  $("result").hidden = !faces.length;
  $("latency").textContent = `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
  $("where").textContent = where;
  if (!faces.length) return;
  const face = faces[chosen];
  $("label").textContent = face.label;
  $("label").style.setProperty("--colour", colourOf(face.label));
  $("confidence").textContent = percent(face.confidence);
  showBars(face.probabilities);
  const reasons = (face.quality?.reasons ?? []).map((reason) => REASONS[reason] ?? reason);
  $("quality").hidden = !reasons.length;
  $("quality").textContent = `Take this with care: ${reasons.join(", ")}.`;
  showFaces(faces, chosen, onPick);
}

/** One sentence for those who listen. */
export function sentence(faces) {
  if (!faces.length) return "No face was found in this picture.";
  const parts = faces.map(({ label, confidence }) => `${label}, ${percent(confidence)}`);
  if (faces.length === 1) return `${faces[0].detector ? "One face" : "The picture as one face"}: ${parts[0]}.`;
  return `${faces.length} faces: ${parts.join("; ")}.`;
}

function showBars(probabilities) {
  const list = $("bars");
  const labels = Object.keys(probabilities);
  if (list.dataset.labels !== labels.join()) {
    list.dataset.labels = labels.join();
    list.replaceChildren(...labels.map(createBar));
  }
  for (const [index, label] of labels.entries()) {
    const [, track, value] = list.children[index].children;
    list.children[index].dataset.value = probabilities[label];
    track.firstChild.style.setProperty("--share", probabilities[label]);
    value.textContent = percent(probabilities[label]);
  }
}

function createBar(label) {
  const [item, name, track, fill, value] = ["li", "span", "span", "i", "span"].map((tag) => document.createElement(tag));
  item.dataset.label = name.textContent = label;
  [track.className, value.className] = ["track", "value"];
  track.ariaHidden = "true";
  fill.style.setProperty("--colour", colourOf(label));
  track.append(fill);
  item.append(name, track, value);
  return item;
}

function showFaces(faces, chosen, onPick) {
  const group = $("faces");
  group.hidden = faces.length < 2;
  const had = group.contains(document.activeElement);
  group.replaceChildren(
    ...faces.map((face, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = `${index + 1} ${face.label}`;
      button.setAttribute("aria-label", `Face ${index + 1}: ${face.label}`);
      button.setAttribute("aria-pressed", index === chosen);
      button.style.setProperty("--colour", colourOf(face.label));
      button.addEventListener("click", () => onPick(index));
      return button;
    }),
  );
  if (had) group.children[chosen]?.focus();
}
