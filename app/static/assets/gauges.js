// A score as a dial, probabilities as bars.

import { h, s } from "./dom.js";
import { isNumber, percent, score, title } from "./formatting.js";

// An arc of 240 degrees around (60, 60), open at the bottom.
const ARC = "M 16.7 85 A 50 50 0 1 1 103.3 85";
const MOST_BARS = 4;

/** A dial from 0 to 1; without a value an empty one, and `note` says why. */
export function gauge(name, value, note) {
  const known = isNumber(value);
  const meter = known
    ? { role: "meter", "aria-valuemin": "0", "aria-valuemax": "1", "aria-valuenow": value.toFixed(2), "aria-label": title(name), "aria-valuetext": `${score(value)} of 1` }
    : { role: "img", "aria-label": `${title(name)}: none` };
  return h("div", { class: "gauge", "data-head": name },
    h("div", { class: "dial", ...meter },
      s("svg", { viewBox: "0 0 120 100", "aria-hidden": "true", focusable: "false" },
        s("path", { class: "track", d: ARC, pathLength: "100" }),
        known ? s("path", { class: "fill", d: ARC, pathLength: "100", "stroke-dasharray": `${100 * value} 200` }) : null,
        s("text", { class: "number", x: "60", y: "70" }, score(value)),
        s("text", { class: "end", x: "16.7", y: "99" }, "0"),
        s("text", { class: "end", x: "103.3", y: "99" }, "1"))),
    h("p", { class: "gauge-name" }, title(name)),
    note ? h("p", { class: "hint" }, note) : null);
}

/** Bars of named shares, longest first, those after the fourth folded away; `note` stands below. */
export function bars(name, shares, note) {
  const ranked = Object.entries(shares).sort((a, b) => b[1] - a[1]);
  const [first, rest] = [ranked.slice(0, MOST_BARS), ranked.slice(MOST_BARS)];
  return h("section", { class: "bars", "aria-label": name },
    h("h3", {}, name),
    h("ul", {}, first.map(bar)),
    rest.length
      ? h("details", { class: "fold" }, h("summary", {}, `${rest.length} more`), h("ul", {}, rest.map(bar)))
      : null,
    note ? h("p", { class: "hint" }, note) : null);
}

function bar([name, share]) {
  const fill = h("span", { class: "bar-fill" });
  fill.style.width = `${100 * share}%`;
  return h("li", {}, h("span", { class: "bar-name" }, name),
    h("span", { class: "bar", "aria-hidden": "true" }, fill),
    h("span", { class: "bar-value" }, percent(share)));
}
