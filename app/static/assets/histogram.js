// How a score is spread over the images; a bar is a button that filters.

import { h } from "./dom.js";
import { BINS, binOf } from "./items.js";
import { count } from "./formatting.js";

const edge = (bin) => (bin / BINS).toFixed(2);

/** Twenty bars over [0, 1]; `choose(from, to)` is called with bars, or with nulls to drop the filter. */
export class Histogram {
  #focused = 0;

  constructor(choose) {
    this.choose = choose;
    this.fills = [];
    this.bars = Array.from({ length: BINS }, (_, bin) => {
      const fill = h("span", { class: "column" });
      this.fills.push(fill);
      return h("button", { type: "button", class: "bin", tabindex: bin ? "-1" : "0", "aria-pressed": "false",
        onclick: (event) => this.#click(bin, event.shiftKey), onkeydown: (event) => this.#move(bin, event) }, fill);
    });
    this.plot = h("div", { class: "bins", role: "group", "aria-label": "Histogram; a bar filters, with Shift a range" }, this.bars);
    this.root = h("div", { class: "histogram" }, this.plot,
      h("div", { class: "axis", "aria-hidden": "true" }, ["0", "0.25", "0.5", "0.75", "1"].map((mark) => h("span", {}, mark))));
  }

  /** `values` of the head; `from` and `to` are the bars that filter now, or null. */
  show(values, head, from, to) {
    const counts = new Array(BINS).fill(0);
    for (const value of values) counts[binOf(value)] += 1;
    const most = Math.max(1, ...counts);
    this.from = from;
    this.bars.forEach((bar, bin) => {
      const chosen = from !== null && bin >= from && bin <= to;
      this.fills[bin].style.height = `${(100 * counts[bin]) / most}%`;
      bar.setAttribute("aria-pressed", String(chosen));
      bar.classList.toggle("out", from !== null && !chosen);
      bar.setAttribute("aria-label", `${head} ${edge(bin)} to ${edge(bin + 1)}: ${count(counts[bin], "image")}`);
      bar.title = `${edge(bin)} – ${edge(bin + 1)}: ${count(counts[bin], "image")}`;
    });
  }

  #click(bin, range) {
    this.#focus(bin);
    const pressed = this.bars[bin].getAttribute("aria-pressed") === "true";
    if (range && this.from !== null) this.choose(Math.min(this.from, bin), Math.max(this.from, bin));
    else if (pressed) this.choose(null, null);
    else this.choose(bin, bin);
  }

  #move(bin, event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -BINS, End: BINS }[event.key];
    if (!step) return;
    event.preventDefault();
    this.#focus(Math.min(BINS - 1, Math.max(0, bin + step)));
    this.bars[this.#focused].focus();
  }

  #focus(bin) {
    this.bars[this.#focused].tabIndex = -1;
    this.#focused = bin;
    this.bars[bin].tabIndex = 0;
  }
}
