// One image of the gallery in a dialog; arrow keys go to its neighbours.

import { Detail } from "./detail.js";
import { byId } from "./dom.js";
import { count } from "./formatting.js";

/** The dialog; `neighbours()` are the items that the gallery shows, in its order. */
export class Viewer {
  #dialog = byId("viewer");

  constructor(neighbours, actions) {
    this.neighbours = neighbours;
    this.detail = new Detail(byId("viewer-body"), actions);
    byId("viewer-previous").addEventListener("click", () => this.#turn(-1));
    byId("viewer-next").addEventListener("click", () => this.#turn(1));
    byId("viewer-close").addEventListener("click", () => this.#dialog.close());
    this.#dialog.addEventListener("click", (event) => { if (event.target === this.#dialog) this.#dialog.close(); });
    this.#dialog.addEventListener("close", () => this.detail.clear());
    this.#dialog.addEventListener("keydown", (event) => this.#key(event));
  }

  open(item) {
    this.#show(item);
    this.#dialog.showModal();
  }

  refresh() {
    if (!this.#dialog.open) return;
    this.detail.refresh();
    this.#place();
  }

  #show(item) {
    this.detail.show(item);
    byId("viewer-title").textContent = item.name;
    this.#place();
  }

  #place() {
    const shown = this.neighbours();
    const i = shown.indexOf(this.detail.item);
    byId("viewer-place").textContent = i < 0 ? "" : `${i + 1} of ${count(shown.length, "image")}`;
    byId("viewer-previous").disabled = i <= 0;
    byId("viewer-next").disabled = i < 0 || i === shown.length - 1;
  }

  #turn(by) {
    const shown = this.neighbours();
    const next = shown[shown.indexOf(this.detail.item) + by];
    if (next) this.#show(next);
  }

  #key(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.target.closest("input, textarea, select, .stage")) return;
    event.preventDefault();
    this.#turn(by);
  }
}
