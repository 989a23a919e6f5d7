// How far the scoring is, how fast, and what was left over.

import { announce, byId } from "./dom.js";
import { count, duration } from "./formatting.js";

const TICK_MS = 250;

/** The strip with bar, words, and the buttons to cancel and to retry. */
export class Progress {
  #run = null;
  #timer = null;

  constructor(items, queue) {
    this.items = items;
    this.queue = queue;
    byId("cancel").addEventListener("click", () => queue.cancel());
    byId("retry-all").addEventListener("click", () => queue.add(this.#left()));
  }

  refresh() {
    if (this.queue.busy) this.#begin();
    const left = this.#left();
    byId("progress").hidden = !this.queue.busy && (left.length === 0 || this.items().length < 2);
    byId("progress-bar").hidden = !this.queue.busy;
    byId("cancel").hidden = !this.queue.busy;
    byId("retry-all").hidden = this.queue.busy || !left.length;
    byId("retry-all").textContent = `Try ${count(left.length, "image")} again`;
    if (this.queue.busy) this.#show();
    else byId("progress-text").textContent = this.#summary(left);
  }

  /** The queue is empty. */
  finish() {
    clearInterval(this.#timer);
    this.#run = null;
    this.refresh();
    if (this.items().length) announce(this.#summary(this.#left()));
  }

  #left() {
    return this.items().filter((item) => item.state === "failed" || item.state === "cancelled");
  }

  #summary(left) {
    const scored = this.items().filter((item) => item.state === "scored").length;
    return `${count(scored, "image")} scored${left.length ? `, ${left.length} not` : ""}.`;
  }

  #begin() {
    if (this.#run) return;
    this.#run = { started: performance.now(), open: this.#open().length, announced: 0 };
    clearInterval(this.#timer);
    this.#timer = setInterval(() => this.#show(), TICK_MS);
  }

  #open() {
    return this.items().filter((item) => item.state === "waiting" || item.state === "scoring");
  }

  #show() {
    if (!this.#run) return;
    const open = this.#open().length;
    // Images that came in the meantime belong to the run.
    this.#run.open = Math.max(this.#run.open, open, this.#run.done ? this.#run.done + open : 0);
    const [all, done] = [this.#run.open, this.#run.open - open];
    this.#run.done = done;
    const rate = done / ((performance.now() - this.#run.started) / 1000);
    byId("progress-bar").max = all;
    byId("progress-bar").value = done;
    byId("progress-text").textContent = [
      `${done} of ${count(all, "image")}`,
      done > 2 ? `${rate.toFixed(1)} per second, ${duration(open / rate)} left` : null,
      this.queue.heldBack > 0 ? `the service is busy, going on in ${Math.ceil(this.queue.heldBack)} s` : null,
    ].filter(Boolean).join(" · ");
    const quarter = Math.floor((4 * done) / all);
    if (quarter > this.#run.announced && quarter < 4) announce(`${done} of ${all} images scored.`);
    this.#run.announced = quarter;
  }
}
