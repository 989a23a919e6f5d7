// The windows of an answer: where they lie, and the mean of those that overlap.

/** Five numbers per window, [x, y, width, height, score], as `Item` packs them. */
export class Windows {
  #data;

  constructor(data) {
    this.#data = data;
    this.length = data.length / 5;
  }

  at(i) {
    const [x, y, width, height, score] = this.#data.subarray(5 * i, 5 * i + 5);
    return { x, y, width, height, score };
  }

  all() {
    return Array.from({ length: this.length }, (_, i) => this.at(i));
  }

  /** The side lengths that the windows reach. */
  get extent() {
    const all = this.all();
    return {
      width: Math.max(1, ...all.map((w) => w.x + w.width)),
      height: Math.max(1, ...all.map((w) => w.y + w.height)),
    };
  }

  /** The least and greatest score. */
  get range() {
    const scores = this.all().map((w) => w.score);
    return { low: Math.min(...scores), high: Math.max(...scores) };
  }

  /**
   * Rectangles between neighbouring edges, each with the mean score of the windows over it. This is
   * the mean of every pixel: inside such a rectangle all pixels lie under the same windows.
   */
  cells() {
    const all = this.all();
    const xs = edges(all.flatMap((w) => [w.x, w.x + w.width]));
    const ys = edges(all.flatMap((w) => [w.y, w.y + w.height]));
    const cells = [];
    for (let row = 0; row + 1 < ys.length; row += 1) {
      for (let column = 0; column + 1 < xs.length; column += 1) {
        const [x, y, right, bottom] = [xs[column], ys[row], xs[column + 1], ys[row + 1]];
        const over = all.filter((w) => w.x <= x && right <= w.x + w.width && w.y <= y && bottom <= w.y + w.height);
        if (over.length) cells.push({ x, y, width: right - x, height: bottom - y, score: mean(over) });
      }
    }
    return cells;
  }

  /** The window over a point whose middle is nearest to it; -1 without one. */
  under(x, y) {
    let [best, least] = [-1, Infinity];
    this.all().forEach((w, i) => {
      if (x < w.x || y < w.y || x > w.x + w.width || y > w.y + w.height) return;
      const distance = Math.hypot(x - w.x - w.width / 2, y - w.y - w.height / 2);
      if (distance < least) [best, least] = [i, distance];
    });
    return best;
  }

  /** The nearest window in a direction (one of dx, dy is -1 or 1); the same one at the edge. */
  beside(i, dx, dy) {
    const here = this.at(i);
    let [best, least] = [i, Infinity];
    this.all().forEach((w, j) => {
      const [across, down] = [w.x - here.x, w.y - here.y];
      const ahead = dx * across + dy * down;
      if (ahead <= 0) return;
      const distance = ahead + 3 * Math.abs(dx * down + dy * across);
      if (distance < least) [best, least] = [j, distance];
    });
    return best;
  }
}

const edges = (values) => [...new Set(values)].sort((a, b) => a - b);

const mean = (windows) => windows.reduce((sum, w) => sum + w.score, 0) / windows.length;
