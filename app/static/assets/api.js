// The service over HTTP: answers, or its problems in its own words.

const KEY = "agiqa-key";
// A proxy may ask for longer; nobody watches a page wait for more.
const LONGEST_WAIT = 120;

/** A refusal or failure; `detail` is the service's sentence, `retryAfter` seconds or null. */
export class Problem extends Error {
  constructor({ status, code, detail, requestId = null, retryAfter = null }) {
    super(detail);
    Object.assign(this, { status, code, detail, requestId, retryAfter });
  }
}

/** Calls of the service; addresses are relative, so that it may live under a prefix. */
export class Api {
  #key = storedKey();

  /** Changes with every new key. */
  keyNumber = 0;

  /** From now on sent with every request; kept for this tab only. */
  useKey(key) {
    this.#key = key;
    this.keyNumber += 1;
    try { sessionStorage.setItem(KEY, key); } catch { /* storage is forbidden; memory will do */ }
  }

  get hasKey() {
    return Boolean(this.#key);
  }

  /** What is loaded. */
  async models() {
    return (await this.#ask("models")).body.models;
  }

  /** Scores of a file: {body, requestId, seconds}. A prompt is for generated images only. */
  async score(file, { endpoint, model, prompt }, signal) {
    const form = new FormData();
    form.append("image", file, file.name || "image");
    if (prompt) form.append("prompt", prompt);
    const query = new URLSearchParams({ detail: "true" });
    if (model) query.set("model", model);
    const started = performance.now();
    const answer = await this.#ask(`${endpoint}?${query}`, { method: "POST", body: form, signal });
    return { ...answer, seconds: (performance.now() - started) / 1000 };
  }

  async #ask(address, options = {}) {
    const headers = this.#key ? { Authorization: `Bearer ${this.#key}` } : {};
    const response = await fetch(address, { ...options, headers }).catch((error) => {
      if (error.name === "AbortError") throw error;
      throw new Problem({
        status: 0,
        code: "unreachable",
        detail: "No answer came: the service can’t be reached, or the file can no longer be read.",
      });
    });
    const requestId = response.headers.get("X-Request-ID");
    const body = await response.json().catch((error) => {
      if (error.name === "AbortError") throw error;
      return null;
    });
    if (response.ok && body) return { body, requestId };
    throw new Problem({
      status: response.status,
      code: body?.code ?? `http_${response.status}`,
      detail: body?.detail ?? `The answer was ${response.status} ${response.statusText}, without a reason.`,
      requestId: body?.request_id ?? requestId,
      retryAfter: waitOf(response),
    });
  }
}

/** Seconds until a request may be sent again; null where sending it again won't help. */
function waitOf(response) {
  if (response.status !== 429 && response.status !== 503) return null;
  const given = response.headers.get("Retry-After") ?? "1";
  const seconds = Number(given);
  const until = Number.isNaN(seconds) ? (Date.parse(given) - Date.now()) / 1000 : seconds;
  return Number.isNaN(until) ? 1 : Math.min(LONGEST_WAIT, Math.max(0, until));
}

function storedKey() {
  try { return sessionStorage.getItem(KEY) ?? ""; } catch { return ""; }
}
