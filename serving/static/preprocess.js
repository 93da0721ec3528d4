// Pixels -> what the model sees, as src/emotion_detection/preprocess.py and OpenCV do it on the server.
//
//   fit(pixels, width, height, channels, square, size)   -> Uint8Array of size * size * channels
//
// A canvas would scale otherwise, in every browser differently; this is arithmetic on the raw pixels.

const f = Math.fround; // OpenCV adds up in single precision

/** RGBA over white -> RGB bytes, or grey ones by the weights `grey`, see decode.js; row by row. */
export function channelsOf(rgba, channels, grey) {
  const count = rgba.length / 4;
  const [red, green, blue, half] = grey;
  const out = new Uint8Array(count * channels);
  const over = (i, c, a) => (a === 255 ? rgba[i + c] : Math.round((rgba[i + c] * a) / 255 + 255 - a));
  for (let pixel = 0; pixel < count; pixel++) {
    const i = 4 * pixel;
    const a = rgba[i + 3];
    const [r, g, b] = [over(i, 0, a), over(i, 1, a), over(i, 2, a)];
    if (channels === 1) out[pixel] = (r * red + g * green + b * blue + half) >> 15;
    else out.set([r, g, b], 3 * pixel);
  }
  return out;
}

/** The largest centred square of a picture. */
export function centre(width, height) {
  const side = Math.min(width, height);
  return { x: Math.floor((width - side) / 2), y: Math.floor((height - side) / 2), side };
}

/** Cut a square out and scale it: area averaging when shrinking, bilinear when enlarging. */
export function fit(pixels, width, channels, square, size) {
  const { x, y, side } = square;
  const cut = new Uint8Array(side * side * channels);
  for (let row = 0; row < side; row++) {
    const start = ((y + row) * width + x) * channels;
    cut.set(pixels.subarray(start, start + side * channels), row * side * channels);
  }
  if (side === size) return cut;
  if (side < size) return enlarge(cut, side, channels, size);
  return side % size === 0 ? shrinkWhole(cut, side, channels, size) : shrink(cut, side, channels, size);
}

/** INTER_AREA by a whole factor: means of blocks. */
function shrinkWhole(cut, side, channels, size) {
  const k = side / size;
  const out = new Uint8Array(size * size * channels);
  for (let y = 0; y < size; y++)
    for (let x = 0; x < size; x++)
      for (let c = 0; c < channels; c++) {
        let sum = 0;
        for (let j = 0; j < k; j++)
          for (let i = 0; i < k; i++) sum += cut[((y * k + j) * side + x * k + i) * channels + c];
        out[(y * size + x) * channels + c] = k === 2 ? (sum + 2) >> 2 : even(f(sum * f(1 / (k * k))));
      }
  return out;
}

/** INTER_AREA by any other factor: each source pixel counts by the share of it that is covered. */
function shrink(cut, side, channels, size) {
  const parts = shares(side, size);
  const rows = new Float32Array(side * size * channels);
  for (let y = 0; y < side; y++)
    for (const [x, list] of parts.entries())
      for (let c = 0; c < channels; c++) {
        let sum = 0;
        for (const [at, share] of list) sum = f(sum + f(cut[(y * side + at) * channels + c] * share));
        rows[(y * size + x) * channels + c] = sum;
      }
  const out = new Uint8Array(size * size * channels);
  const line = size * channels;
  for (const [y, list] of parts.entries())
    for (let i = 0; i < line; i++) {
      let sum = 0;
      for (const [at, share] of list) sum = f(sum + f(share * rows[at * line + i]));
      out[y * line + i] = even(sum);
    }
  return out;
}

/** For each target pixel the source pixels it covers and their shares, which add up to 1. */
function shares(side, size) {
  const scale = side / size;
  return Array.from({ length: size }, (_, target) => {
    const [start, end] = [target * scale, (target + 1) * scale];
    const cell = Math.min(scale, side - start);
    const last = Math.min(Math.floor(end), side - 1);
    const first = Math.min(Math.ceil(start), last);
    const list = [];
    if (first - start > 1e-3) list.push([first - 1, f((first - start) / cell)]);
    for (let at = first; at < last; at++) list.push([at, f(1 / cell)]);
    if (end - last > 1e-3) list.push([last, f(Math.min(end - last, 1, cell) / cell)]);
    return list;
  });
}

/** INTER_LINEAR on bytes: weights in 11 bits, as OpenCV has them. */
function enlarge(cut, side, channels, size) {
  const rows = neighbours(side, size);
  const columns = rows.map((place) => (place[0] === place[1] ? [place[0], place[0], 2048, 0] : place));
  const out = new Uint8Array(size * size * channels);
  for (const [y, [top, bottom, w0, w1]] of rows.entries())
    for (const [x, [left, right, v0, v1]] of columns.entries())
      for (let c = 0; c < channels; c++) {
        const between = (row) => cut[(row * side + left) * channels + c] * v0 + cut[(row * side + right) * channels + c] * v1;
        const above = (w0 * (between(top) >> 4)) >> 16;
        const below = (w1 * (between(bottom) >> 4)) >> 16;
        out[(y * size + x) * channels + c] = (above + below + 2) >> 2;
      }
  return out;
}

/** For each target pixel the two source pixels around it and their weights; beyond the edge the last one counts twice. */
function neighbours(side, size) {
  return Array.from({ length: size }, (_, target) => {
    const place = f((target + 0.5) * (1 / (size / side)) - 0.5);
    const at = Math.floor(place);
    const rest = f(place - at);
    return [Math.max(at, 0), Math.min(at + 1, side - 1), even(f(f(1 - rest) * 2048)), even(f(rest * 2048))];
  });
}

/** Round half to even, as the processor does. */
function even(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}
