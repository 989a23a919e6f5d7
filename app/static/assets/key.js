// Asks for an API key in a dialog.

import { byId } from "./dom.js";

/** The key that the user gives, or null; `why` is what the service said to the last one. */
export function askForKey(why) {
  const [dialog, input] = [byId("key"), byId("key-input")];
  byId("key-why").textContent = why;
  input.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  input.focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      resolve(dialog.returnValue === "use" && input.value.trim() ? input.value.trim() : null);
      input.value = "";
    }, { once: true });
  });
}
