// Light, dark, or as the system. A plain script in the head, so that the first paint has the colours.
(() => {
  const KEY = "agiqa-theme";
  const NAMES = ["system", "light", "dark"];
  const SIGNS = { system: "◐", light: "☀", dark: "☾" };

  // A browser may forbid storage; the choice then lasts as long as the page.
  const stored = () => {
    try { return localStorage.getItem(KEY); } catch { return null; }
  };
  const store = (name) => {
    try { localStorage.setItem(KEY, name); } catch { /* as above */ }
  };

  let current = NAMES.includes(stored()) ? stored() : "system";
  const apply = () => { document.documentElement.dataset.theme = current; };
  apply();

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const show = () => {
      const words = current === "system" ? "as the system" : current;
      button.firstElementChild.textContent = SIGNS[current];
      button.setAttribute("aria-label", `Colours: ${words}`);
      button.title = `Colours: ${words}`;
    };
    button.addEventListener("click", () => {
      current = NAMES[(NAMES.indexOf(current) + 1) % NAMES.length];
      store(current);
      apply();
      show();
    });
    show();
  });
})();
