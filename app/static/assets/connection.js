// Whether the service is there, loading, or wants a key; asks again until it is ready.

const UNREACHABLE_WAIT = 3;

const sleep = (seconds) => new Promise((resolve) => { setTimeout(resolve, 1000 * seconds); });

/** Emits "change"; `state` is connecting, loading, locked, unreachable or ready. */
export class Connection extends EventTarget {
  state = "connecting";
  detail = "";
  models = [];
  #api;
  #askForKey;
  #asking = null;

  constructor(api, askForKey) {
    super();
    this.#api = api;
    this.#askForKey = askForKey;
    this.ready = new Promise((resolve) => { this.#resolve = resolve; });
  }

  #resolve;

  /** Asks for the models until they are known, or until the user gives no key. */
  async open() {
    for (;;) {
      try {
        this.models = await this.#api.models();
        this.#become("ready", "");
        this.#resolve();
        return;
      } catch (problem) {
        if (problem.status === 401) {
          if (await this.unlock(problem)) continue;
          return;
        }
        this.#become(problem.status === 503 ? "loading" : "unreachable", problem.detail);
        await sleep(problem.retryAfter ?? UNREACHABLE_WAIT);
      }
    }
  }

  /** Asks the user for a key, once for all who wait for it; whether one was given. */
  async unlock(problem) {
    this.#become("locked", problem.detail);
    this.#asking ??= this.#askForKey(this.#api.hasKey ? problem.detail : "").finally(() => {
      this.#asking = null;
    });
    const key = await this.#asking;
    if (key === null) return false;
    this.#api.useKey(key);
    this.#become(this.models.length ? "ready" : "connecting", "");
    return true;
  }

  #become(state, detail) {
    this.state = state;
    this.detail = detail;
    this.dispatchEvent(new Event("change"));
  }
}
