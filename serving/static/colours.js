// One colour for each emotion, the same everywhere on the page.

const KNOWN = {
  angry: "#c65f4a", contempt: "#8d6e63", disgust: "#7f8f45", fear: "#7f70ad", happy: "#dd9f33",
  neutral: "#8b95a1", sad: "#4c82b5", surprise: "#3a9f92",
};
const OTHERS = ["#b5577e", "#5b9a5f", "#a8823c", "#5c6bc0", "#c0794a"];
const given = new Map();

export function colourOf(label) {
  if (KNOWN[label]) return KNOWN[label];
  if (!given.has(label)) given.set(label, OTHERS[given.size % OTHERS.length]);
  return given.get(label);
}

/** Two digits: 91 %, 4.2 %. */
export const percent = (value) => `${value < 0.0995 ? (100 * value).toFixed(1) : Math.round(100 * value)} %`;
