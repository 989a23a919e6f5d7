// An image of the gallery: thumbnail, name, scores or problem.

import { problemBox } from "./detail.js";
import { h } from "./dom.js";
import { HEADS, score, title } from "./formatting.js";

const STATES = { new: "waiting", waiting: "waiting", scoring: "scoring …" };

/** A card that `update` draws anew when its item has changed. */
export class Card {
  #drawn = null;

  /** `actions`: open(item), retry(item). */
  constructor(item, thumbnails, actions) {
    this.item = item;
    this.actions = actions;
    this.thumbnails = thumbnails;
    this.canvas = h("canvas", { width: "4", height: "3", "aria-hidden": "true" });
    this.button = h("button", { type: "button", class: "open", onclick: () => actions.open(item) },
      h("span", { class: "thumb", "data-kind": item.name.split(".").at(-1).toUpperCase().slice(0, 5) }, this.canvas));
    this.caption = h("div", { class: "card-caption" });
    this.root = h("li", { class: "card" }, this.button, this.caption);
    thumbnails.watch(this.canvas, item.file);
  }

  update(head) {
    const state = `${this.item.version} ${head}`;
    if (state === this.#drawn) return;
    this.#drawn = state;
    this.root.dataset.state = this.item.state;
    this.button.setAttribute("aria-label", this.#label());
    this.caption.replaceChildren(...this.#tell(head));
  }

  leave() {
    this.thumbnails.forget(this.canvas);
  }

  #label() {
    const { item } = this;
    const known = HEADS.filter((head) => item.head(head) !== null);
    const state = known.length
      ? known.map((head) => `${head} ${score(item.head(head))}`).join(", ")
      : item.problem?.detail ?? item.state;
    return `${item.path}: ${state}`;
  }

  #tell(head) {
    const { item } = this;
    const name = h("p", { class: "name", title: item.path }, item.name);
    if (!item.answer) {
      const settled = item.state === "failed" || item.state === "cancelled";
      return [name, settled ? problemBox(item, this.actions.retry) : h("p", { class: "pending" }, STATES[item.state])];
    }
    const others = HEADS.filter((other) => other !== head && item.head(other) !== null);
    return [
      h("div", { class: "headline" }, name, h("strong", { title: title(head) }, score(item.head(head)))),
      meterLine(item.head(head)),
      others.length ? h("p", { class: "others" }, others.map((other) => h("span", {}, `${title(other)} ${score(item.head(other))}`))) : null,
      item.used?.prompt ? h("p", { class: "card-prompt", title: item.used.prompt }, item.used.prompt) : null,
    ].filter(Boolean);
  }
}

function meterLine(value) {
  const fill = h("span", { class: "bar-fill" });
  fill.style.width = `${100 * (value ?? 0)}%`;
  return h("span", { class: "bar", "aria-hidden": "true" }, fill);
}
