// CSV as RFC 4180 has it: prompts in, scores out.

/** Rows of a CSV text as arrays of strings. */
export function parse(text) {
  const rows = [];
  let row = [];
  let field = "";
  let quoted = false;
  const source = text.replace(/^\uFEFF/, "");
  for (let i = 0; i < source.length; i += 1) {
    const c = source[i];
    if (quoted) {
      if (c !== '"') field += c;
      else if (source[i + 1] === '"') { field += '"'; i += 1; } else quoted = false;
    } else if (c === '"' && field === "") quoted = true;
    else if (c === ",") { row.push(field); field = ""; } else if (c === "\n" || c === "\r") {
      if (c === "\r" && source[i + 1] === "\n") i += 1;
      rows.push([...row, field]);
      row = [];
      field = "";
    } else field += c;
  }
  if (field !== "" || row.length) rows.push([...row, field]);
  return rows.filter((cells) => cells.some((cell) => cell !== ""));
}

const baseName = (path) => path.split(/[/\\]/).at(-1);

/** Prompts by file name, of a CSV with the columns image and prompt; as `agiqa score` reads them. */
export class Prompts {
  #byName = new Map();
  #byPath = new Map();

  constructor(text, source) {
    const [head = [], ...rows] = parse(text);
    const names = head.map((name) => name.trim().toLowerCase());
    const [image, prompt] = [names.indexOf("image"), names.indexOf("prompt")];
    if (image < 0 || prompt < 0) throw new Error(`${source} needs the columns image and prompt.`);
    for (const row of rows) {
      this.#byPath.set(row[image] ?? "", row[prompt] ?? "");
      this.#byName.set(baseName(row[image] ?? ""), row[prompt] ?? "");
    }
  }

  get size() {
    return this.#byPath.size;
  }

  /** The prompt of an image; null where the file has none for it. The whole path wins. */
  of(item) {
    return this.#byPath.get(item.path) ?? this.#byName.get(item.name) ?? null;
  }
}

// A spreadsheet takes text that begins so for a formula; the apostrophe makes it text again.
const FORMULA = /^[=+\-@\t\r]/;

function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  const safe = FORMULA.test(value) ? `'${value}` : value;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

// The first six as `agiqa score` writes them.
const COLUMNS = {
  path: (item) => item.path,
  quality: (item) => item.head("quality"),
  alignment: (item) => item.head("alignment"),
  consistency: (item) => item.head("consistency"),
  code: (item) => item.problem?.code ?? (item.state === "scored" ? null : item.state),
  detail: (item) => (item.problem ?? item.answer)?.detail ?? null,
  prompt: (item) => item.used?.prompt ?? null,
  mos: (item) => item.answer?.mos ?? null,
  mos_low: (item) => item.answer?.mos_range[0] ?? null,
  mos_high: (item) => item.answer?.mos_range[1] ?? null,
  scene: (item) => likeliest(item.answer?.scene),
  distortion: (item) => likeliest(item.answer?.distortion),
  crops: (item) => item.answer?.crops ?? null,
  scaled: (item) => item.answer?.scaled ?? null,
  model: (item) => item.answer?.model.name ?? null,
  revision: (item) => item.answer?.model.revision ?? null,
  request_id: (item) => item.requestId,
};

function likeliest(probabilities) {
  const pairs = Object.entries(probabilities ?? {});
  return pairs.length ? pairs.reduce((best, pair) => (pair[1] > best[1] ? pair : best))[0] : null;
}

/** The table of the items, a line each. */
export function table(items) {
  const columns = Object.entries(COLUMNS);
  const rows = items.map((item) => columns.map(([, read]) => cell(read(item))).join(","));
  return `${[Object.keys(COLUMNS).join(","), ...rows].join("\n")}\n`;
}

/** Hands the user a file to keep. */
export function download(text, name) {
  const address = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
