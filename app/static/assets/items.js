// The images of the page: what is known of each, and which of them are shown in which order.

import { HEADS, isNumber } from "./formatting.js";

let lastNumber = 0;

/** One image: its file, its prompt (null: the one for all), its state, its answer or problem. */
export class Item {
  number = ++lastNumber;
  state = "new";
  answer = null;
  problem = null;
  requestId = null;
  seconds = null;
  asked = null; // {endpoint, model, prompt} of the last request
  used = null; // the same, of the answer or problem that is held
  version = 0;
  prompt = null;

  constructor(file, path) {
    this.file = file;
    this.path = path;
    this.name = path.split("/").at(-1);
  }

  /** Enters a state: new, waiting, scoring, scored, failed or cancelled. */
  become(state, outcome = {}) {
    // Cancelling a second scoring leaves what the first one gave.
    this.#enter(state === "cancelled" && this.answer ? "scored" : state);
    if (this.state !== state || state === "waiting" || state === "scoring") return;
    this.answer = state === "scored" ? packed(outcome.answer) : null;
    this.problem = outcome.problem ?? null;
    this.requestId = outcome.requestId ?? this.problem?.requestId ?? null;
    this.seconds = outcome.seconds ?? null;
    this.used = this.asked;
  }

  #enter(state) {
    this.state = state;
    this.version += 1;
  }

  /** The score of a head; null without one. */
  head(name) {
    const value = this.answer?.[name];
    return isNumber(value) ? value : null;
  }
}

/** Thousands of answers stay in memory; their windows as five numbers each take a tenth of the room. */
function packed(answer) {
  const { crop_scores: scores, ...rest } = answer;
  const windows = new Float32Array(5 * (scores?.length ?? 0));
  scores?.forEach(({ box, score }, i) => { windows.set([...box, score], 5 * i); });
  return { ...rest, windows };
}

/** The heads that any of the items has. */
export const headsOf = (items) => HEADS.filter((head) => items.some((item) => item.head(head) !== null));

/** How the gallery is looked at. `from` and `to` bound the chosen head; null: no bound. */
export const VIEW = {
  text: "", state: "all", sort: "order", descending: false, head: "quality", from: null, to: null,
};

/** The items that a view shows, in its order; those without a value come last either way. */
export function arrange(items, view) {
  const text = view.text.trim().toLowerCase();
  const shown = items.filter((item) => matches(item, view, text));
  const key = keyOf(view.sort);
  const sign = view.descending ? -1 : 1;
  return shown.sort((a, b) => {
    const [left, right] = [key(a), key(b)];
    if (left === null || right === null) return Number(left === null) - Number(right === null) || a.number - b.number;
    const order = typeof left === "string" ? left.localeCompare(right, "en", { numeric: true }) : left - right;
    return sign * order || a.number - b.number;
  });
}

function keyOf(sort) {
  if (sort === "order") return (item) => item.number;
  if (sort === "name") return (item) => item.path;
  return (item) => item.head(sort);
}

function matches(item, view, text) {
  if (text && !`${item.path}\n${item.used?.prompt ?? ""}`.toLowerCase().includes(text)) return false;
  if (view.state === "scored" && item.state !== "scored") return false;
  if (view.state === "failed" && item.state !== "failed" && item.state !== "cancelled") return false;
  if (view.from === null) return true;
  const value = item.head(view.head);
  return value !== null && binOf(value) >= view.from && binOf(value) <= view.to;
}

export const BINS = 20;

/** The bar of the histogram that a score falls into; 1 belongs to the last. */
export const binOf = (value) => Math.min(BINS - 1, Math.floor(value * BINS));
