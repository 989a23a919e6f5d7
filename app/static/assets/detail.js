// Everything about one image: the picture with its map, gauges, bars, and how they came about.

import { facts, hitRate } from "./about.js";
import { h } from "./dom.js";
import { bars, gauge } from "./gauges.js";
import { QualityMap } from "./quality-map.js";
import { bytes, title } from "./formatting.js";

let lastNumber = 0;

const WAITING = { new: "Waiting", waiting: "Waiting for its turn …", scoring: "Scoring …" };

/** `actions`: retry(item), prompt(item, words), modelOf(name), ownPrompt(item), sharedPrompt(). */
export class Detail {
  #item = null;
  #drawn = -1;

  constructor(root, actions) {
    this.actions = actions;
    this.map = new QualityMap();
    this.scores = h("div", { class: "scores" });
    this.prompt = this.#makePrompt();
    this.root = h("div", { class: "detail" }, this.map.root, h("div", { class: "findings" }, this.scores, this.prompt));
    root.append(this.root);
  }

  get item() {
    return this.#item;
  }

  show(item) {
    if (item !== this.#item) {
      this.#item = item;
      this.#drawn = -1;
      this.map.open(item.file, item.name);
      this.words.value = item.prompt ?? item.used?.prompt ?? "";
    }
    this.refresh();
  }

  /** Draws again what has changed; the prompt field and its focus stay. */
  refresh() {
    const item = this.#item;
    if (!item) return;
    this.prompt.hidden = !this.actions.ownPrompt(item);
    this.words.placeholder = this.actions.sharedPrompt() || "what the image was generated from";
    this.root.dataset.state = item.state;
    if (item.version === this.#drawn) return;
    this.#drawn = item.version;
    this.map.show(item.answer?.windows ?? new Float32Array());
    this.scores.replaceChildren(...this.#tell(item));
  }

  clear() {
    this.#item = null;
    this.map.clear();
  }

  #makePrompt() {
    lastNumber += 1;
    const name = `prompt-${lastNumber}`;
    this.words = h("textarea", { id: name, rows: "2" });
    return h("form", { class: "own-prompt", onsubmit: (event) => {
      event.preventDefault();
      this.actions.prompt(this.#item, this.words.value.trim());
    } },
    h("label", { for: name, class: "label" }, "Prompt of this image"), this.words,
    h("button", { type: "submit" }, "Score with this prompt"));
  }

  #tell(item) {
    if (item.answer) return this.#tellScores(item);
    if (item.state === "failed" || item.state === "cancelled") return [problemBox(item, this.actions.retry)];
    return [h("p", { class: "pending" }, WAITING[item.state])];
  }

  #tellScores(item) {
    const { answer } = item;
    const model = this.actions.modelOf(answer.model.name);
    const [low, high] = answer.mos_range;
    return [
      h("div", { class: "gauges" }, ...gaugesOf(item)),
      answer.detail ? h("p", { class: "hint" }, answer.detail) : null,
      h("p", { class: "mos" }, "Quality ", h("strong", {}, number(answer.mos)),
        ` on the scale of the opinion scores it learned from, ${number(low)} to ${number(high)}.`),
      item.used.prompt && this.prompt.hidden ? h("p", { class: "asked" }, h("span", { class: "label" }, "Prompt"), h("q", {}, item.used.prompt)) : null,
      ...["scene", "distortion"].map((kind) => (answer[kind] ? bars(title(kind), answer[kind], hitRate(model, kind)) : null)),
      answer.attributes ? bars("Attributes", answer.attributes) : null,
      h("p", { class: "hint" }, sizeOf(item), model?.crop_policy.global_view
        ? " The score also weighs the whole image at once, so it is not just the mean of the map." : ""),
      facts(item, model),
    ].filter(Boolean);
  }
}

const number = (value) => Number(value.toPrecision(3)).toString();

const sizeOf = (item) => `${item.name}, ${bytes(item.file.size)}, ${item.answer.crops} windows.`;

function gaugesOf(item) {
  const { answer, used } = item;
  if (used.endpoint === "score") return [gauge("quality", answer.quality)];
  const silent = "This model does not tell it.";
  const missing = used.prompt ? silent : "Give the prompt to get it.";
  return [
    gauge("quality", answer.quality),
    gauge("alignment", answer.alignment, answer.alignment === null ? silent : null),
    gauge("consistency", answer.consistency, answer.consistency === null ? missing : null),
  ];
}

/** Why an image has no scores, in the service's words, and the way to try again. */
export function problemBox(item, retry) {
  const { problem } = item;
  const request = item.requestId ? `request ${item.requestId}` : "";
  return h("div", { class: "problem" },
    h("p", {}, problem ? problem.detail : "Not scored: cancelled."),
    problem ? h("p", { class: "hint" }, h("code", { title: request }, problem.code), h("span", { class: "request" }, request && ` · ${request}`)) : null,
    h("button", { type: "button", onclick: () => retry(item), "aria-label": `Try ${item.name} again` }, "Try again"));
}
