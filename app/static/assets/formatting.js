// Numbers and names as people read them.

/** The scores of an image, in the order of every list. */
export const HEADS = ["quality", "alignment", "consistency"];

export const title = (word) => word.charAt(0).toUpperCase() + word.slice(1);

/** A score in [0, 1] with two digits; a dash where there is none. */
export const score = (value) => (isNumber(value) ? value.toFixed(2) : "–");

export const percent = (value) => `${Math.round(100 * value)}\u00a0%`;

export const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** "1 image", "2 images". */
export const count = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

/** Bytes in the unit that leaves one to three digits before the point. */
export function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB"];
  const power = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, n)) / 10));
  return `${(n / 1024 ** power).toFixed(power ? 1 : 0)} ${units[power]}`;
}

/** A time left, roughly. */
export function duration(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

/** "a", "a and b", "a, b and c". */
export function listing(words) {
  if (words.length < 2) return words.join("");
  return `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}
