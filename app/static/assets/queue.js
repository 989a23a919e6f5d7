// Scores items a few at a time, waits as long as the service asks, and can be cancelled.

const IN_FLIGHT = 4;
const TRIES = 8;

/** Calls `score(item, signal)`; sets the items' state, answer and problem; emits "change" and "idle". */
export class ScoringQueue extends EventTarget {
  #score;
  #waiting = [];
  #running = new Map();
  #workers = 0;
  #resumeAt = 0;

  constructor(score) {
    super();
    this.#score = score;
  }

  get busy() {
    return this.#workers > 0;
  }

  /** Seconds that the service asked to wait, as they are left. */
  get heldBack() {
    return Math.max(0, (this.#resumeAt - performance.now()) / 1000);
  }

  add(items) {
    for (const item of items) {
      if (item.state === "waiting" || item.state === "scoring") continue;
      item.become("waiting");
      this.#waiting.push(item);
    }
    while (this.#workers < IN_FLIGHT && this.#waiting.length) {
      this.#workers += 1;
      this.#work();
    }
    this.#changed();
  }

  /** Gives up what waits and aborts what is on its way. */
  cancel() {
    for (const item of this.#waiting.splice(0)) item.become("cancelled");
    for (const controller of this.#running.values()) controller.abort();
    this.#changed();
  }

  async #work() {
    for (let item = this.#waiting.shift(); item; item = this.#waiting.shift()) {
      await this.#serve(item);
      this.#changed();
    }
    this.#workers -= 1;
    if (!this.#workers) this.dispatchEvent(new Event("idle"));
  }

  async #serve(item) {
    const controller = new AbortController();
    this.#running.set(item, controller);
    item.become("scoring");
    try {
      item.become("scored", await this.#persist(item, controller.signal));
    } catch (problem) {
      if (problem.name === "AbortError") item.become("cancelled");
      else item.become("failed", { problem });
    } finally {
      this.#running.delete(item);
    }
  }

  async #persist(item, signal) {
    for (let attempt = 1; ; attempt += 1) {
      await this.#wait(signal);
      try {
        return await this.#score(item, signal);
      } catch (problem) {
        if ((problem.retryAfter ?? null) === null || attempt === TRIES) throw problem;
        // All wait: a service that is too busy for one request is so for the others.
        this.#resumeAt = Math.max(this.#resumeAt, performance.now() + 1000 * problem.retryAfter);
        this.#changed();
      }
    }
  }

  async #wait(signal) {
    while (this.heldBack > 0 && !signal.aborted) {
      await /** @type {Promise<void>} */ (new Promise((resolve) => {
        const timer = setTimeout(resolve, 1000 * this.heldBack);
        signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
      }));
    }
    signal.throwIfAborted();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
