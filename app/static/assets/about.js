// What is to be known of a model before its scores are believed: its data, its measured figures.

import { h } from "./dom.js";
import { HEADS, isNumber, listing, percent } from "./formatting.js";

/** One line: the data that it learned from and how well it ranks. */
export function inShort(model) {
  const measured = HEADS.filter((head) => isNumber(model.metrics[`${head}_srcc`]))
    .map((head) => `${head} ${model.metrics[`${head}_srcc`].toFixed(2)}`);
  const learned = model.trained_on.length ? `Learned from ${listing(model.trained_on)}. ` : "";
  const ranks = measured.length
    ? `Rank correlation with people on images it had not seen: ${listing(measured)}.`
    : "No figures were measured for it.";
  return learned + ranks;
}

/** What its own figures warn of. */
export function warnings(model) {
  const { metrics } = model;
  const found = [];
  for (const head of HEADS) {
    const [srcc, floor] = [metrics[`${head}_srcc`], metrics[`floor_${head}_srcc`]];
    if (isNumber(floor)) found.push(`Without looking at the image: ${head} ${floor.toFixed(2)} instead of ${srcc.toFixed(2)}.`);
  }
  const [srcc, permuted] = [metrics.consistency_srcc, metrics.consistency_srcc_permuted_prompts];
  if (isNumber(permuted)) found.push(`With the prompts exchanged among the images: consistency ${permuted.toFixed(2)} instead of ${srcc.toFixed(2)}.`);
  const own = metrics.own_prompt_beats_another;
  if (isNumber(own)) found.push(`An image’s own prompt beats another one in ${percent(own)} of pairs; chance is 50\u00a0%.`);
  return found;
}

/** How often its likeliest scene or distortion is the right one; empty where that was not measured. */
export function hitRate(model, kind) {
  const [right, floor] = [model?.metrics[`${kind}_accuracy`], model?.metrics[`floor_${kind}_accuracy`]];
  if (!isNumber(right)) return "";
  const compared = isNumber(floor) ? `; always naming the commonest: ${percent(floor)}` : "";
  return `The first one is right for ${percent(right)} of test images${compared}.`;
}

/** How an answer came about, as a list of terms. */
export function facts(item, model) {
  const { answer, used, requestId, seconds } = item;
  const pairs = [
    ["Model", `${answer.model.name}, revision ${answer.model.revision}`],
    ["Endpoint", `POST /${used.endpoint}`],
    ["Windows", `${answer.crops}${answer.scaled ? ", on the image resized to the model’s limits" : ", at the image’s own size"}`],
    ["Request", `${requestId ?? "–"}, ${seconds.toFixed(2)} s`],
    model ? ["Training", inShort(model)] : null,
    ...(model ? warnings(model).map((words) => ["Mind", words]) : []),
  ];
  return h("details", { class: "fold facts" }, h("summary", {}, "How this score came about"),
    h("dl", {}, pairs.filter(Boolean).map(([term, words]) => h("div", {}, h("dt", {}, term), h("dd", {}, words)))));
}
