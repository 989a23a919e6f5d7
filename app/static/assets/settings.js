// What the next images are scored by: kind, model, and the prompt for all.

import { inShort } from "./about.js";
import { byId, h } from "./dom.js";

const ENDPOINTS = { photograph: "score", generated: "score-agi" };

/** The form; emits "change" when a choice was made and "again" when scoring anew is asked for. */
export class Settings extends EventTarget {
  models = [];

  constructor() {
    super();
    this.form = byId("settings");
    this.select = byId("model");
    this.words = byId("prompt");
    this.form.addEventListener("change", () => this.#show());
    this.words.addEventListener("input", () => this.dispatchEvent(new Event("change")));
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.dispatchEvent(new Event("again"));
    });
    this.#show();
  }

  get mode() {
    return this.form.elements.mode.value;
  }

  set mode(mode) {
    this.form.elements.mode.value = mode;
    this.#show();
  }

  get sharedPrompt() {
    return this.words.value.trim();
  }

  /** How an image is to be scored now: {endpoint, model, prompt}. */
  of(item) {
    const generated = this.mode === "generated";
    return {
      endpoint: ENDPOINTS[this.mode],
      model: this.select.value || null,
      prompt: generated ? (item.prompt ?? this.sharedPrompt) || null : null,
    };
  }

  /** The loaded models, once they are known. */
  offer(models) {
    this.models = models;
    this.#show();
  }

  modelOf(name) {
    return this.models.find((model) => model.name === name) ?? null;
  }

  /** Says how many images were scored by other settings. */
  offerAgain(stale) {
    byId("again-row").hidden = stale === 0;
    byId("again").textContent = stale > 1 ? `Score ${stale} images again` : "Score again";
    byId("again-hint").textContent = "with these settings";
  }

  #show() {
    byId("prompt-field").hidden = this.mode !== "generated";
    this.#showModels();
    const chosen = this.modelOf(this.select.value) ?? this.#default();
    byId("about-model").textContent = chosen ? inShort(chosen) : "";
    this.dispatchEvent(new Event("change"));
  }

  #default() {
    return this.models.find((model) => model.default_for.includes(`/${ENDPOINTS[this.mode]}`)) ?? null;
  }

  #showModels() {
    if (!this.models.length) return;
    const [chosen, usual] = [this.select.value, this.#default()];
    const first = h("option", { value: "" }, usual ? `${usual.name} (default)` : "The default");
    const others = this.models.filter((model) => model !== usual);
    this.select.replaceChildren(first, ...others.map((model) => h("option", { value: model.name }, model.name)));
    this.select.value = others.some((model) => model.name === chosen) ? chosen : "";
    this.select.disabled = this.models.length < 2;
  }
}
