// "That is wrong, it is ...": a visitor says what a face shows.

import { giveFeedback } from "./api.js";

const $ = (id) => document.getElementById(id);

export class Feedback {
  #judged = new Set(); // faces that have had their word
  #face = null;

  /** `onProblem(problem)` is called where the server refuses, `onThanks(text)` where it does not. */
  constructor(onProblem, onThanks) {
    $("feedback-right").addEventListener("click", () => this.#send(this.#face.label, onProblem, onThanks));
    $("feedback").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send($("feedback-label").value, onProblem, onThanks);
    });
  }

  /** Say for how many days the server keeps a face that somebody judges; null: it does not. */
  tell(days) {
    $("feedback-keeps").hidden = $("stored-note").hidden = !days;
    $("not-stored-note").hidden = Boolean(days);
    for (const place of document.querySelectorAll(".feedback-days"))
      place.textContent = days === 1 ? "a day" : `${days} days`;
  }

  /** Ask about one face of an answer; without one, ask nothing. */
  offer(predictionId, face, index) {
    this.#face = predictionId && face ? { predictionId, index, name: `${predictionId}/${index}`, label: face.label } : null;
    const open = Boolean(this.#face) && !this.#judged.has(this.#face.name);
    $("feedback").hidden = !open;
    if (!open) return;
    const others = Object.keys(face.probabilities).filter((label) => label !== face.label);
    $("feedback-label").replaceChildren(new Option("…", ""), ...others.map((label) => new Option(label)));
  }

  async #send(label, onProblem, onThanks) {
    const { predictionId, index, name } = this.#face;
    try {
      const { kept_until: kept } = await giveFeedback(predictionId, index, label);
      this.#judged.add(name);
      if (this.#face?.name === name) this.#close();
      onThanks(kept ? "Thank you. The face is kept with your word." : "Thank you.");
    } catch (problem) {
      onProblem(problem);
    }
  }

  /** The focus must not be lost with what had it. */
  #close() {
    if ($("feedback").contains(document.activeElement)) $("answer").focus();
    $("feedback").hidden = true;
  }
}
