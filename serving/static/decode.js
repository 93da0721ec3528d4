// A picture file -> pixels from which the same grey can be made that the server sees.
//
//   const { bitmap, grey } = await decode(file, channels of the model)      grey: a key of GREYS
//
// Browsers give colours only. libjpeg, which the server uses, takes the brightness of a JPEG as it stands in the file;
// made from colours again it would differ by some steps wherever a colour was clipped. So the browser is told that the
// three components of the JPEG are red, green and blue (Adobe's marker, transform 0), and the red ones are taken.

const [APP0, APP1, APP14, SOS] = [0xe0, 0xe1, 0xee, 0xda];
const ADOBE = [0xff, APP14, 0, 14, 0x41, 0x64, 0x6f, 0x62, 0x65, 0, 100, 0, 0, 0, 0, 0];

/** Weights of red, green and blue in 15 bits, and what is added before the rest is cut off. */
export const GREYS = {
  rounded: [9798, 19235, 3735, 1 << 14], // ITU-R BT.601, as Pillow and libjpeg
  cut: [9797, 19234, 3737, 0], // as libpng
  red: [1 << 15, 0, 0, 0],
};

/** Throws what the browser throws for a file that it cannot read. */
export async function decode(file, channels) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const raw = channels === 1 && isJpeg(bytes) && untransformed(bytes);
  const options = { colorSpaceConversion: "none" };
  const bitmap = await createImageBitmap(raw ? new Blob(raw, { type: "image/jpeg" }) : file, options);
  return { bitmap, grey: raw ? "red" : isPlainPng(bytes) ? "cut" : "rounded" };
}

const isJpeg = (bytes) => bytes[0] === 0xff && bytes[1] === 0xd8;

/** RGB, neither turned nor transparent: a PNG that the server gives to libpng, not to Pillow. */
function isPlainPng(bytes) {
  if (bytes[0] !== 0x89 || bytes[1] !== 0x50 || bytes[25] !== 2) return false;
  const view = new DataView(bytes.buffer);
  for (let at = 8; at + 8 <= bytes.length; at += 12 + view.getUint32(at))
    if (["eXIf", "tRNS", "acTL"].includes(String.fromCharCode(...bytes.subarray(at + 4, at + 8)))) return false;
  return true;
}

/** The parts of the same JPEG with its components untransformed; null where the server goes by its colours, too. */
function untransformed(bytes) {
  const parts = [bytes.subarray(0, 2), Uint8Array.from(ADOBE)];
  let components = 0;
  for (const { marker, segment, rest } of segments(bytes)) {
    if (marker === APP1 && orientation(segment) > 1) return null; // turned by Pillow, which takes the long way
    if (isFrame(marker)) components = segment[9];
    if (marker !== APP0 && marker !== APP14) parts.push(segment);
    if (rest) parts.push(rest);
  }
  return components === 3 ? parts : null;
}

const isFrame = (marker) => marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);

function* segments(bytes) {
  let at = 2;
  while (at + 4 <= bytes.length && bytes[at] === 0xff) {
    const [marker, end] = [bytes[at + 1], at + 2 + bytes[at + 2] * 256 + bytes[at + 3]];
    const rest = marker === SOS && bytes.subarray(end);
    yield { marker, segment: bytes.subarray(at, end), rest };
    if (rest) return;
    at = end;
  }
}

/** EXIF orientation in a segment APP1, 1 to 8. */
function orientation(segment) {
  if (String.fromCharCode(...segment.subarray(4, 8)) !== "Exif") return 1;
  const tiff = new DataView(segment.buffer, segment.byteOffset + 10, segment.length - 10);
  try {
    const little = tiff.getUint16(0) === 0x4949;
    const start = tiff.getUint32(4, little);
    for (let entry = 0; entry < tiff.getUint16(start, little); entry++) {
      const at = start + 2 + 12 * entry;
      if (tiff.getUint16(at, little) === 0x112) return tiff.getUint16(at + 8, little);
    }
  } catch {
    return 1; // damaged metadata
  }
  return 1;
}
