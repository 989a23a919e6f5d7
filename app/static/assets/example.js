// A picture of our own, and the same spoiled here, so that the page can be tried without a file.
// tests/browser/still_life.py draws it. The cat is scikit-image's Chelsea (Stefan van der Walt, CC0).

const [WIDTH, HEIGHT] = [768, 512];

const PICTURE = "still-life.webp";

async function picture(name) {
  const blob = await (await fetch(`static/${name}`)).blob();
  return { file: new File([blob], name, { type: blob.type }), path: name };
}

/** The picture, as {file, path} entries. */
export async function oneExample() {
  return [await picture(PICTURE)];
}

/** The picture and seven worse ones. */
export async function manyExamples() {
  const [{ file }] = await oneExample();
  const bitmap = await createImageBitmap(file);
  const copy = () => {
    const canvas = blank();
    canvas.getContext("2d", { willReadFrequently: true }).drawImage(bitmap, 0, 0);
    return canvas;
  };
  const spoiled = Object.entries(SPOILED).map(([name, spoil]) => entry(spoil(copy()), `${name}.png`));
  return Promise.all([entry(copy(), "original.png"), ...spoiled, jpeg(copy())]);
}

const CAT = "cat.webp";

// What the photograph shows, nearly that, and something else.
const PROMPTS = {
  "own-prompt": "a tabby cat looking at the camera",
  "near-prompt": "a dog looking at the camera",
  "other-prompt": "a red car on a street at night",
};

/** A photograph three times, and a CSV that has another prompt for each. */
export async function promptExamples() {
  const { file } = await picture(CAT);
  const entries = Object.keys(PROMPTS).map((name) => {
    const path = `${name}.webp`;
    return { file: new File([file], path, { type: file.type }), path };
  });
  const rows = Object.entries(PROMPTS).map(([name, prompt]) => `${name}.webp,${prompt}\n`);
  return { entries, tables: [new File(["image,prompt\n", ...rows], "prompts.csv", { type: "text/csv" })] };
}

const SPOILED = {
  "slightly-blurred": (canvas) => through(canvas, 3, true),
  "blurred": (canvas) => through(canvas, 8, true),
  "pixelated": (canvas) => through(canvas, 8, false),
  "dark": (canvas) => eachPixel(canvas, (v) => v * 0.25),
  "flat": (canvas) => eachPixel(canvas, (v) => 128 + (v - 128) * 0.3),
  "noisy": (canvas) => {
    const random = randomFrom(7);
    return eachPixel(canvas, (v) => v + 90 * (random() + random() + random() - 1.5));
  },
};

function entry(canvas, path, type = "image/png", quality = undefined) {
  return new Promise((resolve) => {
    canvas.toBlob((blob) => resolve({ file: new File([blob], path, { type }), path }), type, quality);
  });
}

const jpeg = (canvas) => entry(canvas, "jpeg-at-4-percent.jpg", "image/jpeg", 0.04);

function blank(width = WIDTH, height = HEIGHT) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  return canvas;
}

/** Shrunk and enlarged again. */
function through(canvas, factor, smooth) {
  const small = blank(WIDTH / factor, HEIGHT / factor);
  small.getContext("2d").drawImage(canvas, 0, 0, small.width, small.height);
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = smooth;
  context.drawImage(small, 0, 0, WIDTH, HEIGHT);
  return canvas;
}

function eachPixel(canvas, change) {
  const context = canvas.getContext("2d");
  const image = context.getImageData(0, 0, WIDTH, HEIGHT);
  for (let i = 0; i < image.data.length; i += 1) if (i % 4 !== 3) image.data[i] = change(image.data[i]);
  context.putImageData(image, 0, 0);
  return canvas;
}

/** The same numbers in [0, 1) for the same seed (mulberry32). */
function randomFrom(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
