// The picture with its quality map: colours over it, a window under the pointer or the arrow keys.

import { drawScale, viridis } from "./colour.js";
import { h } from "./dom.js";
import { score } from "./formatting.js";
import { Windows } from "./windows.js";

// Differences smaller than this are not stretched over the whole scale.
const LEAST_SPAN = 0.2;
const MOST_PIXELS = 1024;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// How maps are looked at, the same for every image of this page.
const look = { on: true, opacity: 0.55, whole: false };

let lastNumber = 0;

/** `root` holds picture, controls and table; `show` draws the windows, `clear` lets the file go. */
export class QualityMap {
  #windows = new Windows(new Float32Array());
  #current = -1;
  #address = null;

  constructor() {
    lastNumber += 1;
    const name = `map-${lastNumber}`;
    this.image = h("img", { alt: "", draggable: "false" });
    this.canvas = h("canvas", { class: "map", "aria-hidden": "true" });
    this.tag = h("span", { class: "tag" });
    this.frame = h("div", { class: "frame", hidden: true }, this.tag);
    this.placeholder = h("p", { class: "placeholder", hidden: true });
    this.stage = h("div", { class: "stage", role: "group", tabindex: "0", "aria-describedby": `${name}-readout` },
      this.image, this.placeholder, this.canvas, this.frame);
    this.readout = h("output", { class: "readout", id: `${name}-readout`, "aria-live": "polite" });
    this.controls = this.#makeControls();
    this.rows = h("tbody");
    this.table = h("details", { class: "fold" }, h("summary", {}, "Windows as a table"),
      h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Quality of every window" },
        h("table", {}, h("thead", {}, h("tr", {}, ["Quality", "x", "y", "Width", "Height"].map(
          (name_) => h("th", { scope: "col" }, name_)))), this.rows)));
    this.root = h("figure", { class: "quality-map" }, h("div", { class: "mat" }, this.stage),
      h("figcaption", {}, this.controls, this.readout, this.table));
    this.#listen();
  }

  /** Shows a file; the map comes with `show`. */
  open(file, name) {
    this.clear();
    this.image.alt = name;
    this.image.hidden = false;
    this.placeholder.hidden = true;
    this.#address = URL.createObjectURL(file);
    this.image.src = this.#address;
  }

  /** Draws the windows of an answer; without any, the picture stays alone. */
  show(data) {
    this.#windows = new Windows(data);
    this.#select(-1);
    const any = this.#windows.length > 0;
    for (const part of [this.controls, this.table, this.readout]) part.hidden = !any;
    this.#fit();
    this.#draw();
    this.stage.setAttribute("aria-label", any ? this.#summary() : "The image");
  }

  /** Lets go of the file. */
  clear() {
    this.image.removeAttribute("src");
    if (this.#address) URL.revokeObjectURL(this.#address);
    this.#address = null;
  }

  #makeControls() {
    this.toggle = h("input", { type: "checkbox", role: "switch" });
    this.slider = h("input", { type: "range", min: "0.1", max: "1", step: "0.05" });
    this.scale = h("select", {}, h("option", { value: "own" }, "this image"), h("option", { value: "whole" }, "0 to 1"));
    return h("div", { class: "map-controls" },
      h("label", { class: "switch" }, this.toggle, h("span", {}, "Quality map")), this.#makeLegend(),
      h("label", {}, h("span", { class: "label" }, "Opacity"), this.slider),
      h("label", {}, h("span", { class: "label" }, "Colours span"), this.scale));
  }

  #makeLegend() {
    const colours = h("canvas", { width: "160", height: "1", class: "scale", "aria-hidden": "true" });
    drawScale(colours);
    this.low = h("span");
    this.high = h("span");
    return h("p", { class: "legend" }, h("span", { class: "unseen" }, "Colours from dark, "), this.low, colours,
      h("span", { class: "unseen" }, " to bright, "), this.high);
  }

  #listen() {
    this.toggle.addEventListener("change", () => { look.on = this.toggle.checked; this.#draw(); });
    this.slider.addEventListener("input", () => { look.opacity = Number(this.slider.value); this.#draw(); });
    this.scale.addEventListener("change", () => { look.whole = this.scale.value === "whole"; this.#draw(); });
    this.image.addEventListener("load", () => this.#fit());
    this.image.addEventListener("error", () => { if (this.#address) this.#standIn(); });
    this.stage.addEventListener("pointermove", (event) => this.#point(event));
    this.stage.addEventListener("pointerdown", (event) => this.#point(event));
    this.stage.addEventListener("pointerleave", () => this.#select(-1));
    this.stage.addEventListener("blur", () => this.#select(-1));
    this.stage.addEventListener("keydown", (event) => this.#step(event));
    this.table.addEventListener("toggle", () => { if (this.table.open) this.#fillTable(); });
  }

  #standIn() {
    const kind = this.image.alt.split(".").at(-1).toUpperCase();
    this.image.hidden = true;
    this.placeholder.hidden = false;
    this.placeholder.textContent = `This browser can’t show ${kind} files; the service can read more formats.`;
  }

  #size() {
    const { naturalWidth: width, naturalHeight: height } = this.image;
    return width && !this.image.hidden ? { width, height } : this.#windows.extent;
  }

  #fit() {
    const { width, height } = this.#size();
    this.stage.style.setProperty("--ratio", width / height);
    this.stage.style.setProperty("--most", `${2 * Math.max(width, 112)}px`);
    this.#draw();
  }

  #range() {
    const { low, high } = this.#windows.range;
    if (look.whole) return { low: 0, high: 1 };
    const spare = Math.max(0, LEAST_SPAN - (high - low)) / 2;
    const from = Math.min(1 - LEAST_SPAN, Math.max(0, low - spare));
    return { low: Math.min(low, from), high: Math.max(high, Math.min(1, from + LEAST_SPAN)) };
  }

  #draw() {
    [this.toggle.checked, this.slider.value] = [look.on, look.opacity];
    this.scale.value = look.whole ? "whole" : "own";
    this.canvas.hidden = !look.on || !this.#windows.length;
    // Colours of the picture would read as colours of the map.
    this.image.classList.toggle("grey", !this.canvas.hidden);
    this.canvas.style.opacity = look.opacity;
    if (!this.#windows.length) return;
    const { low, high } = this.#range();
    [this.low.textContent, this.high.textContent] = [score(low), score(high)];
    const size = this.#size();
    const zoom = Math.min(1, MOST_PIXELS / Math.max(size.width, size.height));
    this.canvas.width = Math.max(1, Math.round(size.width * zoom));
    this.canvas.height = Math.max(1, Math.round(size.height * zoom));
    const context = this.canvas.getContext("2d");
    for (const cell of this.#windows.cells()) {
      context.fillStyle = viridis((cell.score - low) / (high - low));
      const [x, y] = [Math.round(cell.x * zoom), Math.round(cell.y * zoom)];
      context.fillRect(x, y, Math.round((cell.x + cell.width) * zoom) - x, Math.round((cell.y + cell.height) * zoom) - y);
    }
  }

  #point(event) {
    const box = this.stage.getBoundingClientRect();
    const { width, height } = this.#size();
    const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    this.#select(this.#windows.under(x * width, y * height));
  }

  #step(event) {
    if (!this.#windows.length) return;
    const move = ARROWS[event.key];
    if (!move && event.key !== "Home" && event.key !== "End") return;
    // Arrow keys turn the pages of the dialog elsewhere.
    event.preventDefault();
    event.stopPropagation();
    if (event.key === "Home" || this.#current < 0) this.#select(0);
    else if (event.key === "End") this.#select(this.#windows.length - 1);
    else this.#select(this.#windows.beside(this.#current, ...move));
  }

  #select(i) {
    this.#current = i;
    this.frame.hidden = i < 0;
    if (i < 0) {
      this.readout.textContent = this.#windows.length ? "Point at the image, or focus it and use the arrow keys, to read a window." : "";
      return;
    }
    const w = this.#windows.at(i);
    const { width, height } = this.#size();
    const place = { left: w.x / width, top: w.y / height, width: w.width / width, height: w.height / height };
    for (const [side, part] of Object.entries(place)) this.frame.style[side] = `${100 * part}%`;
    this.tag.textContent = score(w.score);
    this.readout.textContent = `Window ${i + 1} of ${this.#windows.length}: quality ${score(w.score)} (x ${w.x}, y ${w.y}, ${w.width} × ${w.height} px)`;
  }

  #summary() {
    const { low, high } = this.#windows.range;
    return `Quality map of ${this.#windows.length} windows, from ${score(low)} to ${score(high)}; arrow keys move between them`;
  }

  #fillTable() {
    const ranked = this.#windows.all().sort((a, b) => a.score - b.score);
    this.rows.replaceChildren(...ranked.map((w) => h("tr", {},
      h("td", {}, score(w.score)), [w.x, w.y, w.width, w.height].map((n) => h("td", {}, String(n))))));
  }
}
