// Viridis: even steps look even, also to the colour-blind and in grey (van der Walt and Smith, 2015).

const STOPS = [
  [68, 1, 84], [72, 40, 120], [62, 73, 137], [49, 104, 142], [38, 130, 142],
  [31, 158, 137], [53, 183, 121], [110, 206, 88], [181, 222, 43], [253, 231, 37],
];

/** The CSS colour of a value in [0, 1]. */
export function viridis(value) {
  const place = Math.min(1, Math.max(0, value)) * (STOPS.length - 1);
  const i = Math.min(STOPS.length - 2, Math.floor(place));
  const mix = STOPS[i].map((c, k) => Math.round(c + (place - i) * (STOPS[i + 1][k] - c)));
  return `rgb(${mix.join(" ")})`;
}

/** Draws the scale from low (left) to high over a canvas. */
export function drawScale(canvas) {
  const context = canvas.getContext("2d");
  for (let x = 0; x < canvas.width; x += 1) {
    context.fillStyle = viridis(x / (canvas.width - 1));
    context.fillRect(x, 0, 1, canvas.height);
  }
}
