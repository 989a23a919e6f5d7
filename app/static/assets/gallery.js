// Many images: histogram, filters, order, and pages of cards.

import { Card } from "./card.js";
import { download, table } from "./csv.js";
import { announce, h } from "./dom.js";
import { Histogram } from "./histogram.js";
import { VIEW, arrange, headsOf } from "./items.js";
import { Thumbnails } from "./thumbnails.js";
import { HEADS, count, score, title } from "./formatting.js";

// As many cards as a page holds; the tab's memory depends on this and not on the number of images.
const PAGE = 60;

/** The gallery of `items()`; `shown` are those of the view, in its order. */
export class Gallery {
  #cards = new Map();
  #page = 0;
  #view = { ...VIEW };
  #thumbnails = new Thumbnails();
  shown = [];

  /** `actions`: open(item), retry(item). */
  constructor(root, items, actions) {
    this.items = items;
    this.actions = actions;
    this.histogram = new Histogram((from, to) => this.#change({ from, to }));
    this.spread = h("p", { class: "spread" });
    this.filtered = h("button", { type: "button", class: "chip", hidden: true, onclick: () => this.#change({ from: null, to: null }) });
    this.heads = h("div", { class: "segments", role: "radiogroup", "aria-label": "Score of the histogram and the cards" });
    this.grid = h("ul", { class: "grid", "aria-label": "Images" });
    this.pager = this.#makePager();
    root.append(
      h("div", { class: "overview" }, h("div", { class: "overview-head" }, h("h2", {}, "Spread"), this.heads, this.spread, this.filtered), this.histogram.root),
      this.#makeToolbar(), this.grid, this.pager);
  }

  #makeToolbar() {
    const change = (name) => (event) => this.#change({ [name]: event.target.value });
    this.search = h("input", { type: "search", placeholder: "Name or prompt", oninput: change("text") });
    const states = h("select", { onchange: change("state") },
      [["all", "All"], ["scored", "Scored"], ["failed", "Not scored"]].map(([value, words]) => h("option", { value }, words)));
    this.sort = h("select", { onchange: change("sort") });
    this.direction = h("button", { type: "button", class: "quiet", onclick: () => this.#change({ descending: !this.#view.descending }) });
    this.save = h("button", { type: "button", onclick: () => download(table(this.shown), "scores.csv") });
    return h("div", { class: "toolbar", role: "group", "aria-label": "Filter, order and save" },
      h("label", { class: "field" }, h("span", { class: "label" }, "Find"), this.search),
      h("label", { class: "field" }, h("span", { class: "label" }, "Show"), states),
      h("label", { class: "field" }, h("span", { class: "label" }, "Sort by"), this.sort),
      this.direction, h("span", { class: "spring" }), this.save);
  }

  #makePager() {
    const turn = (by) => () => { this.#page += by; this.refresh(); this.grid.scrollIntoView(); };
    this.before = h("button", { type: "button", onclick: turn(-1) }, "← Previous");
    this.after = h("button", { type: "button", onclick: turn(1) }, "Next →");
    this.where = h("p");
    return h("nav", { class: "pager", "aria-label": "Pages of images" }, this.before, this.where, this.after);
  }

  #change(part) {
    this.#view = { ...this.#view, ...part };
    this.#page = 0;
    this.refresh();
    if ("from" in part || "text" in part || "state" in part) announce(`${count(this.shown.length, "image")} shown.`);
  }

  /** Forgets filters and cards. */
  reset() {
    this.#view = { ...this.#view, text: "", from: null, to: null };
    this.search.value = "";
    this.#page = 0;
    this.#showCards([]);
  }

  /** Draws what has changed. */
  refresh() {
    const items = this.items();
    const heads = headsOf(items);
    if (!heads.includes(this.#view.head)) this.#view.head = "quality";
    this.shown = arrange(items, this.#view);
    this.#showHeads(heads.length ? heads : ["quality"]);
    this.#showSpread(items);
    const all = this.shown.length === items.length;
    this.save.textContent = all ? "Download CSV" : `Download CSV of ${this.shown.length}`;
    this.#page = Math.max(0, Math.min(this.#page, Math.ceil(this.shown.length / PAGE) - 1));
    const start = this.#page * PAGE;
    this.#showCards(this.shown.slice(start, start + PAGE));
    this.#showPager(start);
  }

  #showHeads(heads) {
    const key = `${heads} ${this.#view.head} ${this.#view.sort} ${this.#view.descending}`;
    if (key === this.drawnHeads) return;
    this.drawnHeads = key;
    const focused = this.heads.contains(document.activeElement);
    this.heads.replaceChildren(...heads.map((head) => h("label", {},
      h("input", { type: "radio", name: "gallery-head", value: head, checked: head === this.#view.head,
        onchange: () => this.#change({ head, from: null, to: null }) }), h("span", {}, title(head)))));
    if (focused) this.heads.querySelector("input:checked").focus();
    this.heads.hidden = heads.length < 2;
    const orders = [["order", "Order added"], ["name", "Name"], ...HEADS.filter((head) => heads.includes(head)).map((head) => [head, title(head)])];
    this.sort.replaceChildren(...orders.map(([value, words]) => h("option", { value, selected: value === this.#view.sort }, words)));
    const words = this.#view.descending ? "Descending" : "Ascending";
    this.direction.textContent = this.#view.descending ? "↓" : "↑";
    this.direction.setAttribute("aria-label", `${words}; turn around`);
    this.direction.title = words;
  }

  #showSpread(items) {
    const { head, from, to } = this.#view;
    const values = items.map((item) => item.head(head)).filter((value) => value !== null).sort((a, b) => a - b);
    this.histogram.show(values, title(head), from, to);
    const middle = values.length ? (values[(values.length - 1) >> 1] + values[values.length >> 1]) / 2 : null;
    this.spread.textContent = values.length
      ? `${title(head)} of ${count(values.length, "image")}: median ${score(middle)}, from ${score(values[0])} to ${score(values.at(-1))}`
      : "No scores yet";
    this.filtered.hidden = from === null;
    if (from !== null) this.filtered.textContent = `${title(head)} ${(from / 20).toFixed(2)} to ${((to + 1) / 20).toFixed(2)} ✕`;
  }

  #showCards(items) {
    const cards = items.map((item) => {
      const card = this.#cards.get(item) ?? new Card(item, this.#thumbnails, this.actions);
      card.update(this.#view.head);
      return card;
    });
    const kept = new Set(cards);
    for (const card of this.#cards.values()) if (!kept.has(card)) card.leave();
    this.#cards = new Map(cards.map((card) => [card.item, card]));
    const same = this.grid.children.length === cards.length && cards.every((card, i) => this.grid.children[i] === card.root);
    if (same) return;
    // Moving an element takes its focus away.
    const focused = document.activeElement;
    this.grid.replaceChildren(...cards.map((card) => card.root));
    if (focused instanceof HTMLElement && this.grid.contains(focused)) focused.focus({ preventScroll: true });
  }

  #showPager(start) {
    const { length } = this.shown;
    this.pager.hidden = length <= PAGE;
    this.before.disabled = this.#page === 0;
    this.after.disabled = start + PAGE >= length;
    this.where.textContent = `${start + 1}–${Math.min(length, start + PAGE)} of ${length.toLocaleString("en")}`;
  }
}
