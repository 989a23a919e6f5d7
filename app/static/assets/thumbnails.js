// Small pictures of what is in sight, made one or two at a time, so that thousands of files fit.

const AT_ONCE = 2;
const WIDTH = 440;
const HEIGHT = 330;

/** Draws a file into a canvas when that comes near the screen. */
export class Thumbnails {
  #files = new WeakMap();
  #waiting = [];
  #running = 0;
  #observer = new IntersectionObserver((seen) => this.#onSeen(seen), { rootMargin: "300px" });

  watch(canvas, file) {
    this.#files.set(canvas, file);
    this.#observer.observe(canvas);
  }

  /** For a canvas that leaves the page. */
  forget(canvas) {
    this.#observer.unobserve(canvas);
    this.#files.delete(canvas);
  }

  #onSeen(seen) {
    for (const { target, isIntersecting } of seen) {
      if (!isIntersecting) continue;
      this.#observer.unobserve(target);
      this.#waiting.push(target);
    }
    while (this.#running < AT_ONCE && this.#waiting.length) {
      this.#running += 1;
      this.#work();
    }
  }

  async #work() {
    for (let canvas = this.#waiting.shift(); canvas; canvas = this.#waiting.shift()) {
      const file = this.#files.get(canvas);
      if (file) await draw(canvas, file);
    }
    this.#running -= 1;
  }
}

async function draw(canvas, file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { resizeWidth: WIDTH, resizeQuality: "medium" });
  } catch {
    canvas.dataset.state = "unshown";
    return;
  }
  const zoom = Math.min(1, HEIGHT / bitmap.height);
  canvas.width = Math.max(1, Math.round(bitmap.width * zoom));
  canvas.height = Math.max(1, Math.round(bitmap.height * zoom));
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  canvas.dataset.state = "shown";
}
