// Which model answers, and where it comes from; everything can be copied.

const ROWS = [
  ["Model", (card) => (card.architecture ? `${card.model}, ${card.parameters.toLocaleString("en")} weights` : card.name)],
  ["Version", (card) => card.version],
  ["Run", (card) => card.run_id],
  ["Commit", (card) => card.commit],
  ["Data", (card) => card.data_hash],
  ["Bundle", (card) => card.bundle_sha256],
  ["Computes in", (card) => card.precision],
];

/** `onCopy(what)` says that something was copied. */
export function showLineage(list, card, onCopy) {
  list.replaceChildren(
    ...ROWS.map(([name, value]) => [name, value(card)])
      .filter(([, value]) => value)
      .map(([name, value]) => row(name, value, onCopy)),
  );
}

function row(name, value, onCopy) {
  const [group, term, definition, code] = ["div", "dt", "dd", "code"].map((tag) => document.createElement(tag));
  term.textContent = name;
  code.textContent = code.title = value;
  definition.append(code, copyButton(name, value, onCopy));
  group.append(term, definition);
  return group;
}

/** A button that copies a text. */
export function copyButton(name, text, onCopy) {
  const button = Object.assign(document.createElement("button"), { type: "button", className: "copy", textContent: "Copy" });
  button.setAttribute("aria-label", `Copy ${name.toLowerCase()}`);
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text);
    onCopy(`${name} copied`);
  });
  button.hidden = !navigator.clipboard; // only on HTTPS and localhost
  return button;
}
