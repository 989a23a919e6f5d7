// The composition root of the page: puts the parts together and holds the list of images.

import { Api } from "./api.js";
import { Connection } from "./connection.js";
import { Prompts } from "./csv.js";
import { Detail } from "./detail.js";
import { announce, byId, throttled } from "./dom.js";
import { manyExamples, oneExample, promptExamples } from "./example.js";
import { Gallery } from "./gallery.js";
import { listen } from "./drop-and-paste.js";
import { Item } from "./items.js";
import { askForKey } from "./key.js";
import { Progress } from "./progress.js";
import { ScoringQueue } from "./queue.js";
import { Settings } from "./settings.js";
import { Viewer } from "./viewer.js";
import { count } from "./formatting.js";

const REDRAW_MS = 150;

let items = [];
let prompts = null;

const api = new Api();
const settings = new Settings();
const connection = new Connection(api, askForKey);
const queue = new ScoringQueue(scoreItem);

const actions = {
  open: (item) => viewer.open(item),
  retry: (item) => queue.add([item]),
  prompt: (item, words) => { item.prompt = words; queue.add([item]); },
  modelOf: (name) => settings.modelOf(name),
  // For a lone image the prompt for all does as well.
  ownPrompt: (item) => settings.mode === "generated" && (items.length > 1 || item.prompt !== null),
  sharedPrompt: () => settings.sharedPrompt,
};
const single = new Detail(byId("single"), actions);
const gallery = new Gallery(byId("gallery"), () => items, actions);
const viewer = new Viewer(() => gallery.shown, actions);
const progress = new Progress(() => items, queue);
const redraw = throttled(draw, REDRAW_MS);

async function scoreItem(item, signal) {
  await Promise.race([connection.ready, aborted(signal)]);
  signal.throwIfAborted();
  item.asked = settings.of(item);
  for (;;) {
    const key = api.keyNumber;
    try {
      const { body, ...rest } = await api.score(item.file, item.asked, signal);
      return { answer: body, ...rest };
    } catch (problem) {
      if (problem.status !== 401) throw problem;
      // Requests that were on their way with the last key go again with the one given since.
      if (key === api.keyNumber && !(await connection.unlock(problem))) throw problem;
    }
  }
}

const aborted = (signal) => new Promise((resolve) => {
  signal.addEventListener("abort", resolve, { once: true });
});

async function take(entries, tables) {
  for (const file of tables) await readPrompts(file);
  const added = entries.map(({ file, path }) => new Item(file, path));
  for (const item of added) item.prompt = prompts?.of(item) ?? null;
  items = [...items, ...added];
  if (added.length) announce(`${count(added.length, "image")} added.`);
  queue.add(added);
  draw();
}

async function readPrompts(file) {
  try {
    prompts = new Prompts(await file.text(), file.name);
  } catch (error) {
    notify(error.message);
    return;
  }
  settings.mode = "generated";
  for (const item of items) item.prompt = prompts.of(item) ?? item.prompt;
  notify(`${file.name}: ${count(prompts.size, "prompt")}, given to the images of the same name.`);
}

function notify(words) {
  const notice = byId("notice");
  notice.textContent = words;
  notice.hidden = !words;
  if (words) announce(words);
}

function clear() {
  queue.cancel();
  items = [];
  prompts = null;
  single.clear();
  gallery.reset();
  notify("");
  draw();
  byId("choose").focus();
}

/** Scored images whose settings are no longer those of the form. */
const stale = () => items.filter((item) => {
  if (item.state !== "scored") return false;
  const wanted = settings.of(item);
  return ["endpoint", "model", "prompt"].some((name) => item.used[name] !== wanted[name]);
});

function draw() {
  const holds = ["none", "one"][items.length] ?? "many";
  document.body.dataset.holds = holds;
  byId("clear").hidden = holds === "none";
  byId("single").hidden = holds !== "one";
  byId("gallery").hidden = holds !== "many";
  if (holds === "one") single.show(items[0]);
  else single.clear();
  if (holds === "many") gallery.refresh();
  viewer.refresh();
  progress.refresh();
  settings.offerAgain(queue.busy ? 0 : stale().length);
}

const SERVICE = {
  connecting: "Connecting", loading: "Loading the models", locked: "API key needed", unreachable: "Not reachable", ready: "Ready",
};

function showConnection() {
  byId("service").dataset.state = connection.state;
  if (byId("service-text").textContent !== SERVICE[connection.state]) announce(SERVICE[connection.state]);
  byId("service-text").textContent = SERVICE[connection.state];
  byId("service").title = connection.detail;
  byId("enter-key").hidden = connection.state !== "locked";
  if (connection.state === "ready") settings.offer(connection.models);
  const trouble = ["loading", "unreachable"].includes(connection.state) ? connection.detail : "";
  byId("trouble").textContent = trouble;
  byId("trouble").hidden = !trouble;
}

connection.addEventListener("change", showConnection);
queue.addEventListener("change", () => { document.body.dataset.busy = String(queue.busy); redraw(); });
queue.addEventListener("idle", () => {
  draw();
  progress.finish();
  document.body.dataset.busy = "false";
});
settings.addEventListener("change", redraw);
settings.addEventListener("again", () => queue.add(stale()));
byId("enter-key").addEventListener("click", () => connection.open());
byId("example-one").addEventListener("click", async () => take(await oneExample(), []));
byId("example-many").addEventListener("click", async () => take(await manyExamples(), []));
byId("example-prompts").addEventListener("click", async () => {
  const { entries, tables } = await promptExamples();
  await take(entries, tables);
});
byId("clear").addEventListener("click", clear);
listen(take);
draw();
connection.open();
